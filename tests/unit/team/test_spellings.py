"""Keys of more than one word: both spellings are read, and people are shown the one the README has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from shanty_runtime.team import TeamError, load_team

Write = Callable[[Mapping[str, str | bytes | None]], Path]

TEAM = "apiVersion: shanty/v1\nname: harbour\n"
TOOLS = (
    "import msgspec\nfrom shanty_runtime.tools import ToolContext, tool\n\n\n"
    "class Crate(msgspec.Struct):\n    label: str\n\n\n"
    '@tool(effect="read")\nasync def weigh(args: Crate, context: ToolContext) -> None:\n    "Weighs."\n'
)
PLACES = {
    "team.yaml": "KEY: 1",
    "limits": "limits: {KEY: 1}",
    "budget": "budget: {KEY: 1}",
    "hire": "hire: {KEY: 1}",
    "outcome": "outcome: {KEY: 1}",
    "a criterion": "outcome: {criteria: [{KEY: 1}]}",
    "the grader": "outcome: {grader: {KEY: 1}}",
    "a trigger": "triggers: [{KEY: 1}]",
    "a rule": "permissions: {weigh: {auto: {KEY: {label: {equals: a}}}}}",
    "a comparison": "permissions: {weigh: {auto: {allowIf: {label: {KEY: 1}}}}}",
    "an agent": "KEY: 1",
    "hedge": "hedge: {KEY: 1}",
    "an MCP server": "mcpServers: {github: {KEY: 1}}",
}
OF_AGENTS = ("an agent", "hedge", "an MCP server")

each_place = pytest.mark.parametrize("place", PLACES)


def problems(write_team: Write, place: str, key: str) -> list[tuple[str, str]]:
    """Message and hint of each, where that key is written in that place and is the only one there."""
    line = PLACES[place].replace("KEY", key)
    changed = {"tools.py": TOOLS}
    if place in OF_AGENTS:
        changed["agents/stowage.md"] = f"---\n{line}\n---\nPrompt\n"
    else:
        changed["team.yaml"] = f"{TEAM}{line}\n"
    try:
        load_team(write_team(changed))
    except TeamError as error:
        return [(problem.message, problem.hint) for problem in error.problems]
    return []


def listed(write_team: Write, place: str) -> list[str]:
    """The keys that are named to somebody who has written one that is none of them."""
    hint = next(hint for message, hint in problems(write_team, place, "xyzzy") if "xyzzy" in message)
    return hint.removeprefix("the keys are ").removeprefix("there are ").split(", ")


@each_place
def test_every_key_that_is_listed_may_be_written(write_team: Write, place: str) -> None:
    for key in listed(write_team, place):
        said = [message for message, _ in problems(write_team, place, key)]
        assert not [message for message in said if "unknown" in message], key


@each_place
def test_keys_are_listed_once_and_as_the_readme_writes_them(write_team: Write, place: str) -> None:
    keys = listed(write_team, place)

    assert len(keys) == len(set(keys)) > 0
    assert [key for key in keys if "_" in key] == []


@pytest.mark.parametrize(
    ("place", "key"),
    [
        ("limits", "max_turns"),
        ("budget", "tool_calls"),
        ("hire", "at_most"),
        ("outcome", "max_rounds"),
        ("a trigger", "catch_up"),
        ("a rule", "allow_if"),
        ("a comparison", "less_than"),
        ("an agent", "ask_human"),
        ("hedge", "after_s"),
        ("an MCP server", "timeout_s"),
    ],
)
def test_the_other_spelling_is_read_as_well(write_team: Write, place: str, key: str) -> None:
    first, *others = key.split("_")
    camel = first + "".join(word.capitalize() for word in others)

    assert camel in listed(write_team, place)
    for spelling in (key, camel):
        assert not [message for message, _ in problems(write_team, place, spelling) if "unknown" in message]


def test_a_missing_key_is_named_as_it_is_written(write_team: Write) -> None:
    line = "---\ndescription: Plans\nhedge: {}\n---\nPrompt\n"
    with pytest.raises(TeamError) as refused:
        load_team(write_team({"agents/stowage.md": line}))

    assert [(problem.message, problem.hint) for problem in refused.value.problems] == [
        ("afterS is missing", "write hedge: {afterS: 60}")
    ]


def test_of_two_spellings_the_listed_one_is_recommended(write_team: Write) -> None:
    with pytest.raises(TeamError) as refused:
        load_team(write_team({"team.yaml": f"{TEAM}limits: {{max_turns: 3, maxTurns: 3}}\n"}))

    assert [problem.hint for problem in refused.value.problems] == ["keep one of them, such as maxTurns"]


def test_a_key_of_another_kind_of_trigger_is_named_as_it_was_written(write_team: Write) -> None:
    trigger = "goal: x\ntriggers: [{name: a, subject: alerts.a, catchUp: all}]\n"
    with pytest.raises(TeamError) as refused:
        load_team(write_team({"team.yaml": TEAM + trigger}))

    assert [problem.message for problem in refused.value.problems] == ["catchUp is for triggers that have a schedule"]
