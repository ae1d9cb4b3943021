"""`shanty lint`: every problem of a team's folder at once, or what is in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from shanty_cli.exits import DONE, USAGE, NotRunning, UsageError
from shanty_cli.output import Output
from shanty_cli.text import clean, plural
from shanty_protocol.ids import HOST
from shanty_runtime.errors import ConfigError, TeamError
from shanty_runtime.team import AgentDefinition, Team, load_team
from shanty_runtime.tools.mcp import accept
from shanty_runtime.tools.mcp_pins import LOCK_FILE
from shanty_runtime.tools.mcp_server import Unreachable


async def lint(folder: Path, out: Output, *, accept_mcp: bool = False) -> int:
    try:
        team = load_team(folder)
    except TeamError as error:
        if out.json:
            out.data(error.problems)
        for problem in () if out.json else error.problems:
            print(clean(str(problem)), file=out.stderr)
        return USAGE
    accepted = await accept_tools(team) if accept_mcp else ()
    if out.json:
        out.data([])
        for sentence in accepted:
            out.say(sentence)
        return DONE
    for sentence in (what_is_in(team), *tree_of(team), *accepted):
        out.show(clean(sentence))
    for agent in team.agents:
        if agent.not_honoured:
            out.say(f"note: {agent.name}: {', '.join(agent.not_honoured)} is understood and has no effect here")
    return DONE


def what_is_in(team: Team) -> str:
    """The team in one line."""
    listed = [agent for agent in team.specialists if agent.name != HOST and not agent.judges]
    names = ", ".join(f"{agent.name} (Python)" if agent.handler is not None else agent.name for agent in listed)
    hires = () if team.hire is None else (f"it may hire {team.hire.at_most} more for a run",)
    parts = [
        f"lead {team.lead.name}",
        f"{plural(len(listed), 'specialist')}{f': {names}' if names else ''}",
        *hires,
        *_judged(team),
        plural(len(team.tools), "tool of its own", "tools of its own"),
        "a rehearsal" if team.rehearsals else "no rehearsal",
    ]
    if team.triggers:
        names = ", ".join(f"{trigger.name} ({trigger.what})" for trigger in team.triggers)
        parts.append(f"{plural(len(team.triggers), 'trigger')}: {names}")
    return f"team {team.name} is right: {'; '.join(parts)}"


def _judged(team: Team) -> tuple[str, ...]:
    if team.grading is None:
        return ()
    by = plural(len(team.grading.criteria), "criterion", "criteria") if team.grading.criteria else "what a run brings"
    return (f"a grader that judges by {by}, {plural(team.grading.max_rounds, 'time')} at most",)


def tree_of(team: Team) -> tuple[str, ...]:
    """Who leads whom, a level further in for each below the lead; nothing where the lead alone leads."""
    if not any(agent.specialists for agent in team.specialists):
        return ()

    def below(leader: AgentDefinition, indent: str) -> Iterator[str]:
        yield f"{indent}{leader.name}"
        for agent in team.roster_of(leader):
            yield from below(agent, f"{indent}  ")

    return tuple(below(team.lead, "  "))


async def accept_tools(team: Team) -> tuple[str, ...]:
    """Pin what the team's MCP servers offer now. Gives what there is to say of it."""
    servers = {agent.name: agent.mcp_servers for agent in team.agents if agent.mcp_servers}
    if not servers:
        return (f"team {team.name} has no MCP servers: there is nothing to accept",)
    lock = team.folder / LOCK_FILE
    try:
        found = await accept(servers, team.folder)
    except ConfigError as error:
        if isinstance(error.__cause__, Unreachable):  # nothing is wrong with the team
            raise NotRunning(str(error)) from error
        raise
    except OSError as error:
        raise UsageError(f"{lock} cannot be written: {error.strerror}") from error
    if not found:
        return (f"{lock} has the tools of the MCP servers as they are: there is nothing to accept",)
    return (*found, f"accepted in {lock}")
