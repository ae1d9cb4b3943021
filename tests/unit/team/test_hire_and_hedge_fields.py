"""`hire:` of a team, which adds the agent that hosts hired ones, and `hedge:` of an agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shanty_cli.fleet import members_of
from shanty_cli.lint import what_is_in
from shanty_cli.team_values import values_of
from shanty_protocol.ids import HOST
from shanty_protocol.zones import Access, zones_of
from shanty_runtime.agent import HirePolicy, Profile
from shanty_runtime.config import read_settings
from shanty_runtime.errors import TeamError
from shanty_runtime.profiles import profile_of
from shanty_runtime.team import load_team

Write = Callable[[Mapping[str, str | bytes | None]], Path]

TEAM = "apiVersion: shanty/v1\nname: harbour\nspecialists: [stowage, price-check]\n"
BOOKS = '''\
"""Tools, of which one can do harm."""

import msgspec

from shanty_runtime import ToolContext, tool


class Crate(msgspec.Struct, frozen=True, kw_only=True):
    name: str


@tool(effect="read")
async def weigh(args: Crate, context: ToolContext) -> int:
    """Weighs a crate."""
    return 1


@tool(effect="irreversible")
async def ship(args: Crate, context: ToolContext) -> int:
    """Ships a crate."""
    return 1
'''


def stowage(*settings: str) -> str:
    return "\n".join(["---", "description: Plans where cargo goes", *settings, "---", "You plan the cargo."])


def profile(folder: Path, agent: str) -> Profile:
    team, nothing = load_team(folder), Any
    rehearsed = msgspec.structs.replace(read_settings(), model="rehearsal")
    names = ("lead", "stowage", HOST)
    played = msgspec.structs.replace(team, rehearsals={name: lambda turn: "done" for name in names})
    return profile_of(played, team.agent(agent), rehearsed, nothing, nothing)  # type: ignore[arg-type]  # not called


def problem_of(folder: Path) -> str:
    with pytest.raises(TeamError) as refused:
        load_team(folder)
    (problem,) = refused.value.problems
    return str(problem)


def test_a_team_that_hires_has_a_host_with_the_tools_and_models_of_its_policy(write_team: Write) -> None:
    hire = "hire: {atMost: 3, tools: [weigh, Read], models: [haiku, sonnet]}\n"
    folder = write_team({"team.yaml": TEAM + hire})
    policy = HirePolicy(at_most=3, tools=("read_file", "weigh"), models=("haiku", "sonnet"))
    lead, host = profile(folder, "lead"), profile(folder, HOST)
    assert [agent.name for agent in load_team(folder).specialists] == ["stowage", "price-check", HOST]
    assert lead.hire == host.hire == policy
    assert host.hosts and list(host.tools) == ["read_file", "weigh"] and list(host.models) == ["haiku", "sonnet"]
    assert "hire_specialist" in [card.name for card in lead.verbs] and HOST not in lead.contracts
    # Whoever is hired hires nobody, and neither does any specialist.
    for agent in (HOST, "stowage"):
        assert "hire_specialist" not in [card.name for card in profile(folder, agent).verbs]
    assert profile(folder, "stowage").hire is None


def test_a_team_that_says_nothing_hires_nobody(write_team: Write) -> None:
    folder = write_team({})
    lead = profile(folder, "lead")
    assert lead.hire is None and "hire_specialist" not in [card.name for card in lead.verbs]
    assert HOST not in [agent.name for agent in load_team(folder).agents]


@pytest.mark.parametrize(
    ("written", "model"),
    [("model: opus\nhire: {models: [haiku]}\n", "inherit"), ("hire: {models: [haiku]}\n", "haiku")],
)
def test_hired_ones_have_the_teams_model_or_the_first_of_the_policy(
    write_team: Write, written: str, model: str
) -> None:
    assert load_team(write_team({"team.yaml": TEAM + written})).agent(HOST).model == model


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("hire: {atMost: 0}", "atMost: expected an integer from 1 to 100, got 0"),
        ("hire: {most: 2}", "unknown key most"),
        ("hire: 5", "expected keys and values, got 5"),
        ("hire: {tools: [weihg]}", 'hire: "weihg" is no tool of the workspace or of tools.py; did you mean weigh?'),
        ("hire: {tools: [delegate]}", 'hire: "delegate" is no tool of the workspace or of tools.py'),
        ("hire: {tools: weigh}", "tools: expected a list"),
    ],
)
def test_a_policy_that_is_wrong_is_refused_with_its_place(write_team: Write, written: str, says: str) -> None:
    assert says in problem_of(write_team({"team.yaml": f"{TEAM}{written}\n"}))


def test_no_agent_of_a_team_has_the_name_of_the_host(write_team: Write) -> None:
    text = "apiVersion: shanty/v1\nname: harbour\nspecialists: [specialist]\n"
    folder = write_team({"team.yaml": text, "agents/specialist.md": stowage()})
    assert "specialist is reserved" in problem_of(folder)


def test_the_host_has_a_zone_of_its_own_and_answers_to_the_lead() -> None:
    zones = zones_of("harbour", "lead", {"stowage": Access(), HOST: Access()})
    (zone,) = [each for each in zones.guests if each.principal == HOST]
    assert zone.account == "HARBOUR_SPECIALIST"
    assert "shanty.0.lead.*.*.specialist.*" in {grant.subject for grant in zone.grants}


def test_whatever_starts_a_team_starts_its_host(write_team: Write) -> None:
    team = load_team(write_team({"team.yaml": TEAM + "hire: {atMost: 3}\n"}))
    assert [(each.agent, each.module) for each in members_of(team, {})][-1] == (HOST, "shanty_specialist")
    assert values_of(team)["specialists"][-1] == {"name": HOST}
    assert "2 specialists: stowage, price-check (Python); it may hire 3 more for a run" in what_is_in(team)


# Hedging


def test_an_agent_says_after_which_time_a_second_thread_gets_its_brief(write_team: Write) -> None:
    folder = write_team({"agents/stowage.md": stowage("hedge: {afterS: 90}", "tools: [weigh]")})
    contracts = profile(folder, "lead").contracts
    assert (contracts["stowage"].hedge_after_s, contracts["price-check"].hedge_after_s) == (90.0, None)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["tools: [weigh, ship]"], "harmless when it is done twice, and ship may not be"),
        ([], "harmless when it is done twice, and ship may not be"),
        (["tools: []", "specialists: [price-check]"], "it leads others, and what they do is done twice"),
        (
            ["tools: []", "mcpServers:", "  hub: {command: hub, allow: [look, book], effect: {look: read}}"],
            "those of hub may not be",
        ),
        (["tools: []", "mcpServers:", '  hub: {command: hub, allow: "*"}'], "those of hub may not be"),
    ],
)
def test_what_can_do_harm_when_it_is_done_twice_is_not_hedged(
    write_team: Write, settings: list[str], says: str
) -> None:
    folder = write_team({"agents/stowage.md": stowage(*settings, "hedge: {after_s: 90}"), "tools.py": BOOKS})
    problem = problem_of(folder)
    assert says in problem and "agents/stowage.md" in problem


def test_tools_of_a_server_that_are_declared_harmless_may_be_hedged(write_team: Write) -> None:
    server = ["mcpServers:", "  hub: {command: hub, allow: [look], effect: {look: read}}"]
    folder = write_team({"agents/stowage.md": stowage("tools: [weigh]", "hedge: {afterS: 5}", *server)})
    assert load_team(folder).agent("stowage").hedge_after_s == 5


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("hedge: {}", "afterS is missing"),
        ("hedge: {afterS: 0}", "expected more than 0 and at most 86400 seconds, got 0"),
        ("hedge: {afterS: soon}", "expected a number of seconds"),
    ],
)
def test_a_time_that_is_wrong_is_refused(write_team: Write, written: str, says: str) -> None:
    assert says in problem_of(write_team({"agents/stowage.md": stowage("tools: [weigh]", written)}))
