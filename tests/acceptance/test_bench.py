"""The bench runs and writes what it is asked for. What the figures are is seen on a quiet machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

TESTS = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_short_bench_writes_its_ratios_for_both_settings(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--no-peers", "--no-plot", "--out", str(out)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    found = msgspec.json.decode(out.read_bytes(), type=dict[str, Any])
    for name in ("p50_ratio", "throughput_ratio", "cpu_ratio"):
        assert set(found[name]) == {"always", "default"} and all(ratio > 0 for ratio in found[name].values())
    assert found["fanout20_ratio"] > 0 and found["lanes4_ratio"] > 0 and found["peers"] == {}
    delegations = [way for way in found["ways"] if way["name"] == "delegation"]
    assert all(way["stored_bytes"] > 2 * 1024 for way in delegations), "two entries, with 1 KiB in each"
