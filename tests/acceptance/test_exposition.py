"""What alerts and dashboards are written against is what a running team exposes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.crew import Replica, crew
from support.promql import TARGET_LABELS, measured

PROMTOOL = Path(__file__).parents[2] / "deploy/prometheus/promtool.sh"
OURS = ("shanty_", "gen_ai_", "messaging_")


@pytest.mark.slow
async def test_what_a_team_exposes_is_what_rules_and_dashboards_know_and_promtool_finds_no_fault(
    tmp_path: Path,
) -> None:
    async with crew("hello", tmp_path, {"lead": 1, "greeter": 1, "counter": 1}) as team:
        await team.start("0-run")
        await team.reply("0-run")
        pages = [await asyncio.to_thread(exposed, replica) for replica in team.replicas]

    known = measured()
    seen = set()
    for page in pages:
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                if sample.name.startswith(OURS):
                    assert set(sample.labels) <= known[sample.name] - TARGET_LABELS, sample.name
                    seen.add(sample.name)
        assert await asyncio.to_thread(faults, page) == ""
    assert len(seen) > 30


def exposed(replica: Replica) -> str:
    lines = [json.loads(line) for line in replica.log.read_text().splitlines() if line.startswith("{")]
    (port,) = [line["http_port"] for line in lines if "http_port" in line]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        page: str = answer.read().decode()
    return page


def faults(page: str) -> str:
    """What promtool has to say about names, units and help texts."""
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=page, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr if done.returncode else done.stdout
