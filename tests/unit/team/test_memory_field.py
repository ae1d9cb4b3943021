"""`memory:` in an agent's front matter: what it may do with what outlives runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shanty_runtime.config import read_settings
from shanty_runtime.errors import TeamError
from shanty_runtime.profiles import profile_of
from shanty_runtime.team import load_team
from shanty_runtime.tools.memory import TOOLS_OF, Access

Write = Callable[[Mapping[str, str | bytes | None]], Path]


def agent_file(*settings: str) -> str:
    return "\n".join(["---", "description: Plans where cargo goes", *settings, "---", "You plan the cargo."])


def memory_tools_of(folder: Path) -> tuple[str, ...]:
    offered = load_team(folder).agent("stowage").tools
    return tuple(name for name in offered if name in TOOLS_OF["write"])


@pytest.mark.parametrize(
    ("settings", "access"),
    [
        ([], "none"),
        (["memory: none"], "none"),
        (["memory: read"], "read"),
        (["memory: write"], "write"),
        (["memory: read", "tools: [read_file]"], "read"),
        (["memory: write", "tools: [search_memory, write_memory]"], "write"),
    ],
)
def test_an_agent_has_the_memory_tools_of_its_access(write_team: Write, settings: list[str], access: Access) -> None:
    folder = write_team({"agents/stowage.md": agent_file(*settings)})

    assert load_team(folder).agent("stowage").memory == access
    assert memory_tools_of(folder) == TOOLS_OF[access]


def test_a_memory_tool_may_be_taken_away_again(write_team: Write) -> None:
    folder = write_team({"agents/stowage.md": agent_file("memory: write", "disallowedTools: [list_memory]")})
    assert memory_tools_of(folder) == ("search_memory", "read_memory", "write_memory")


@pytest.mark.parametrize("place", ["user", "project", "local"])
def test_where_claude_code_keeps_notes_gives_no_access_here(write_team: Write, place: str) -> None:
    folder = write_team({"agents/stowage.md": agent_file(f"memory: {place}")})
    agent = load_team(folder).agent("stowage")
    assert (agent.memory, agent.not_honoured) == ("none", ("memory",))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            ["memory: wrte"],
            'agents/stowage.md:3:9: memory: expected one of none, read, write, got "wrte"; did you mean write?',
        ),
        (
            ["tools: [read_file, search_memory]"],
            "agents/stowage.md:3:20: search_memory needs access to the memory; add `memory: read`",
        ),
        (
            ["memory: read", "tools: [write_memory]"],
            "agents/stowage.md:4:9: write_memory needs access to the memory; add `memory: write`",
        ),
    ],
)
def test_a_wrong_memory_field_is_reported_where_it_stands(
    write_team: Write, settings: list[str], problem: str
) -> None:
    with pytest.raises(TeamError) as refused:
        load_team(write_team({"agents/stowage.md": agent_file(*settings)}))
    assert [str(each) for each in refused.value.problems] == [problem]


def test_a_tool_of_the_team_cannot_take_the_name_of_a_memory_tool(write_team: Write) -> None:
    tools = (
        "import msgspec\n\nfrom shanty_runtime.tools import ToolContext, tool\n\n\n"
        "class Crate(msgspec.Struct):\n    label: str\n\n\n"
        '@tool(effect="read")\nasync def read_memory(args: Crate, context: ToolContext) -> int:\n'
        '    """Reads."""\n    return 1\n'
    )
    with pytest.raises(TeamError, match="tool read_memory has the name of a built-in tool"):
        load_team(write_team({"tools.py": tools, "agents/stowage.md": agent_file()}))


@pytest.mark.parametrize("access", TOOLS_OF)
def test_an_agent_is_played_with_the_memory_tools_of_its_access(write_team: Write, access: Access) -> None:
    team = load_team(write_team({"agents/lead.md": agent_file(f"memory: {access}")}))
    settings = msgspec.structs.replace(read_settings({}), model="rehearsal")
    nobody: Any = None

    profile = profile_of(team, team.lead, settings, roster=nobody, memory=nobody)

    assert {name for name in profile.tools if name in TOOLS_OF["write"]} == set(TOOLS_OF[access])
