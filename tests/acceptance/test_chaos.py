from __future__ import annotations

from pathlib import Path

import pytest

from support.commands import Shanty

NOTHING_WRONG = {"lost": 0, "repeated_effects": 0, "repeated_model_calls": 0, "unanswered": 0, "problems": []}


@pytest.mark.timeout(180)
def test_a_small_storm_loses_and_repeats_nothing_and_says_so_in_one_line(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    done = Shanty(tmp_path)("chaos", "--seed", "3", "--kills", "5", "--keep", str(kept))
    assert done.code == 0, done.err
    assert "5 kills (1 of nats-server)" in done.out
    assert "trying again" not in done.err, "what it does itself is no news"
    assert "0 lost, 0 repeated effects, 0 repeated model calls, 0 unanswered; worst recovery" in done.out
    faults = (kept / "faults.jsonl").read_text().splitlines()
    assert sum('"kind":"kill"' in fault for fault in faults) == 5


@pytest.mark.timeout(180)
def test_a_storm_on_three_servers_reports_as_json(tmp_path: Path) -> None:
    kept = str(tmp_path / "kept")
    done = Shanty(tmp_path)("chaos", "--seed", "12", "--kills", "4", "--nodes", "3", "--keep", kept, "-o", "json")
    assert done.code == 0, done.err + done.out
    report = done.json
    assert {name: report[name] for name in NOTHING_WRONG} == NOTHING_WRONG
    assert (report["kills"], report["nodes"], report["seed"]) == (4, 3, 12)
    assert report["runs"] > 0
    assert report["worst_recovery_s"] > 0
    assert report["worst_recovery_s"] >= report["worst_takeover_s"]


def test_a_storm_does_not_write_into_a_folder_that_has_something(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    done = Shanty(tmp_path)("chaos", "--keep", str(tmp_path))
    assert done.code == 2
    assert "it is not empty" in done.err
    assert [each.name for each in tmp_path.iterdir()] == ["precious"]
