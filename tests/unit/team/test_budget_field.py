"""`budget:` of a team and of its agents: what a run may spend, and what a delegation is usually granted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shanty_protocol import Budget
from shanty_runtime.agent import Profile
from shanty_runtime.config import read_settings
from shanty_runtime.errors import TeamError
from shanty_runtime.profiles import profile_of
from shanty_runtime.team import load_team

Write = Callable[[Mapping[str, str | bytes | None]], Path]

TEAM = "apiVersion: shanty/v1\nname: harbour\nspecialists: [stowage, price-check]\n"


def stowage(*settings: str) -> str:
    return "\n".join(["---", "description: Plans where cargo goes", *settings, "---", "You plan the cargo."])


def profile(folder: Path, agent: str) -> Profile:
    team, nothing = load_team(folder), Any
    rehearsed = msgspec.structs.replace(read_settings(), model="rehearsal")
    played = msgspec.structs.replace(team, rehearsals={name: lambda turn: "done" for name in ("lead", "stowage")})
    return profile_of(played, team.agent(agent), rehearsed, nothing, nothing)  # type: ignore[arg-type]  # not called


def test_a_team_limits_its_runs_and_an_agent_says_what_it_is_usually_granted(write_team: Write) -> None:
    folder = write_team(
        {
            "team.yaml": TEAM + "budget: {usd: 2.5, tokens: 2000000, seconds: 600}\n",
            "agents/stowage.md": stowage("budget: {modelCalls: 12, tool_calls: 30, threads: 2}"),
        }
    )
    lead = profile(folder, "lead")
    assert lead.budget == Budget(cost_microusd=2_500_000, tokens=2_000_000, wall_s=600)
    assert lead.contracts["stowage"].budget == Budget(model_calls=12, tool_calls=30, threads=2)
    assert lead.contracts["price-check"].budget is None
    # A run is limited once, at its root.
    assert profile(folder, "stowage").budget is None


def test_a_team_that_says_nothing_limits_nothing(write_team: Write) -> None:
    assert profile(write_team({"agents/stowage.md": stowage()}), "lead").budget is None
    assert load_team(write_team({"team.yaml": TEAM + "budget: {}\n"})).budget is None


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("budget: {dollars: 5}", "unknown key dollars"),
        ("budget: 5", "expected keys and values, got 5"),
        ("budget: {usd: free}", 'usd: expected a number of US dollars, got "free"'),
        ("budget: {usd: 0}", "usd: expected more than 0 and at most 1000000 US dollars, got 0"),
        ("budget: {tokens: 2.5}", "tokens: expected an integer, got 2.5"),
        ("budget: {tokens: 0}", "tokens: expected an integer from 1 to"),
    ],
)
def test_a_wrong_budget_is_reported_where_it_is_written(write_team: Write, written: str, says: str) -> None:
    for files, at in (
        ({"team.yaml": f"{TEAM}{written}\n"}, "team.yaml:4:"),
        ({"agents/stowage.md": stowage(written)}, "agents/stowage.md:3:"),
    ):
        with pytest.raises(TeamError) as refused:
            load_team(write_team(files))
        (problem,) = map(str, refused.value.problems)
        assert at in problem and says in problem
