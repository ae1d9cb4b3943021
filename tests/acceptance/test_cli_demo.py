from __future__ import annotations

from pathlib import Path

import pytest

from support.commands import Shanty


@pytest.mark.timeout(180)
def test_the_demo_shows_what_it_claims(tmp_path: Path) -> None:
    shanty = Shanty(tmp_path)
    done = shanty("demo", "--keep", "kept", "-o", "json")
    assert done.out, done.err
    report = done.json
    victim = next(each for each in report["threads"] if each["thread"] == report["killed"]["thread"])
    kept = Shanty(tmp_path / "kept")

    assert (done.code, report["failures"]) == (0, []), done.err
    assert len(report["processes"]) >= 6
    assert report["processes"][report["killed"]["replica"]] == report["killed"]["pid"]
    assert victim["replicas"] == [report["killed"]["replica"], report["taken_over_by"]]
    assert report["first_cause"] == report["truth"]
    assert "kill -9" in done.err and "taken over by" in done.err
    assert (tmp_path / "kept/memo.md").read_text().startswith("#")
    assert kept("runs", "show", report["run"], "-o", "json").json["status"] == "completed"
