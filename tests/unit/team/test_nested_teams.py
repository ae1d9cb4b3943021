"""Specialists that lead others: what their teams are, and what is wrong with some."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from shanty_cli.lint import tree_of
from shanty_runtime.bus import Bus, BusSettings
from shanty_runtime.config import Settings
from shanty_runtime.profiles import card_of, profile_of
from shanty_runtime.team import TeamError, load_team

Write = Callable[[Mapping[str, str | bytes | None]], Path]


def nested(
    rosters: Mapping[str, str], *, lead: str = "a", limits: str = "", of_lead: str = ""
) -> dict[str, str | bytes | None]:
    """A team whose lead leads `lead`, and whose other agents have these rosters."""
    files: dict[str, str | bytes | None] = {
        "team.yaml": f"apiVersion: shanty/v1\nname: harbour\nspecialists: [{lead}]\nlimits: {{{limits}}}\n",
        "agents/lead.md": f"---\ndescription: Leads\n{of_lead}---\nLead.\n",
        "rehearsal.py": "",
    }
    for name, roster in rosters.items():
        front = f"specialists: {roster}\n" if roster else ""
        files[f"agents/{name}.md"] = f"---\ndescription: Is {name}\n{front}---\nWork.\n"
    return files


def test_a_team_has_everybody_whom_somebody_leads_level_by_level(write_team: Write) -> None:
    team = load_team(write_team(nested({"a": "[c, d]", "b": "[d]", "c": "", "d": ""}, lead="a, b")))

    assert [agent.name for agent in team.specialists] == ["a", "b", "c", "d"]
    assert {agent.role for agent in team.specialists} == {"specialist"}
    assert [agent.name for agent in team.roster_of(team.agent("a"))] == ["c", "d"]
    assert {name: team.leads_of(name) for name in "abcd"} == {
        "a": ("lead",),
        "b": ("lead",),
        "c": ("a",),
        "d": ("a", "b"),
    }
    assert tree_of(team) == ("  lead", "    a", "      c", "      d", "    b", "      d")


def test_whoever_leads_has_the_verbs_contracts_and_roster_of_a_lead(write_team: Write) -> None:
    rehearsal = "def lead(turn): ...\n\n\na = c = lead\n"
    files = nested({"a": "[c]", "c": ""}, limits="max_depth: 2") | {"rehearsal.py": rehearsal}
    team, settings = load_team(write_team(files)), Settings(model="rehearsal")
    bus = Bus(BusSettings())
    profiles = {agent.name: profile_of(team, agent, settings, bus.roster, bus.memory) for agent in team.agents}
    verbs = {name: {card.name for card in profile.verbs} for name, profile in profiles.items()}
    assert verbs["a"] == (verbs["lead"] - {"ask_human"}) | verbs["c"]
    assert {name: list(profile.contracts) for name, profile in profiles.items()} == {
        "lead": ["a"],
        "a": ["c"],
        "c": [],
    }
    assert [name for name, profile in profiles.items() if "list_specialists" in profile.tools] == ["lead", "a"]
    assert {profile.max_depth for profile in profiles.values()} == {2}
    assert card_of(team.agent("a"), profiles["a"], settings, active=0).specialists == ("c",)


WRONG = {
    "nobody of that name": (
        nested({"a": "[scribe, b]", "scribbe": "", "b": ""}),
        ["agents/a.md:3:15"],
        "agent scribe has no file agents/scribe.md",
        "did you mean scribbe?",
    ),
    "itself": (
        nested({"a": "[a]"}),
        ["agents/a.md:3:15"],
        "a cannot be a specialist of its own",
        "remove it",
    ),
    "the lead": (nested({"a": "[lead]"}), ["agents/a.md:3:15"], "lead is the lead", "remove it"),
    "twice": (nested({"a": "[b, b]", "b": ""}), ["agents/a.md:3:18"], "b is listed twice", "keep one"),
    "no list": (nested({"a": "b", "b": ""}), ["agents/a.md:3:14"], "specialists: expected a list", "[first"),
    "a circle": (
        nested({"a": "[b]", "b": "[c]", "c": "[a]"}),
        ["agents/c.md:3:15"],
        "a would lead itself: a → b → c → a",
        "take a off this roster",
    ),
    "a circle beside the way to it": (
        nested({"a": "[b]", "b": "[c]", "c": "[b]"}),
        ["agents/c.md:3:15"],
        "b would lead itself: b → c → b",
        "take b off this roster",
    ),
    "too deep": (
        nested({"a": "[b]", "b": "[c]", "c": "[d]", "d": ""}),
        ["agents/c.md:3:15"],
        "d is 4 levels below the lead, and maxDepth is 3",
        "take a level out of lead → a → b → c → d, or raise maxDepth",
    ),
    "too deep by one of two ways": (
        nested({"a": "[b]", "b": "[c]", "c": ""}, lead="c, a", limits="max_depth: 2"),
        ["agents/b.md:3:15"],
        "c is 3 levels below the lead, and maxDepth is 2",
        "lead → a → b → c",
    ),
    "in the lead's own file": (
        nested({"a": ""}, of_lead="specialists: [a]\n"),
        ["agents/lead.md:3:14"],
        "the lead's specialists are not named here",
        "name them in team.yaml",
    ),
}


@pytest.mark.parametrize(("files", "at", "says", "hint"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_roster_is_refused_with_the_place_the_reason_and_a_hint(
    write_team: Write, files: dict[str, str | bytes | None], at: list[str], says: str, hint: str
) -> None:
    with pytest.raises(TeamError) as refused:
        load_team(write_team(files))

    found = refused.value.problems
    assert [f"{problem.path}:{problem.line}:{problem.column}" for problem in found] == at, found
    assert says in found[0].message
    assert hint in found[0].hint
