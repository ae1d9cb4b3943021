from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from shanty_cli.demo import TEAM
from shanty_runtime.team import load_team
from shanty_runtime.testing.claude import ClaudeServer, play
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
    the_readme_shows_what_is_said(done.err)


def the_readme_shows_what_is_said(said: str) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    shown = readme.partition("What happened:")[2].partition("```")[0]
    vary = re.compile(r"\d[\d.,:]*|\b(logs|metrics|deploys|tickets|lead)-\d\b")
    lines = {vary.sub("#", line).strip() for line in said.splitlines()}
    closing = [vary.sub("#", line).strip() for line in shown.splitlines() if line.strip()]
    assert len(closing) >= 4
    for line in closing:
        assert line in lines, f"the demo does not say: {line}"


@pytest.mark.timeout(180)
@pytest.mark.slow
async def test_the_demo_is_played_with_claude_where_it_is_asked_for(tmp_path: Path) -> None:
    team = load_team(Path(__file__).parents[2] / TEAM)
    async with ClaudeServer(play(team)) as server:
        done = await asyncio.to_thread(
            Shanty(tmp_path), "demo", "--model", "claude", ANTHROPIC_BASE_URL=server.url, ANTHROPIC_API_KEY="a-key"
        )

    assert done.code == 0, done.out + done.err
    assert "Every agent speaks with sonnet" in done.out
    assert {body["model"] for body in server.bodies} == {"claude-sonnet-5-5"}
    assert "make demo MODEL=claude" not in done.out
