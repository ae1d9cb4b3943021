"""`shanty lint`: every problem of a team's folder at once, or what is in it."""

from __future__ import annotations

from pathlib import Path

from shanty_cli.exits import DONE, USAGE
from shanty_cli.output import Output
from shanty_cli.text import clean, plural
from shanty_runtime.errors import TeamError
from shanty_runtime.team import Team, load_team


def lint(folder: Path, out: Output) -> int:
    try:
        team = load_team(folder)
    except TeamError as error:
        if out.json:
            out.data(error.problems)
        for problem in () if out.json else error.problems:
            print(clean(str(problem)), file=out.stderr)
        return USAGE
    if out.json:
        out.data([])
        return DONE
    out.show(clean(what_is_in(team)))
    for agent in team.agents:
        if agent.not_honoured:
            out.say(f"note: {agent.name}: {', '.join(agent.not_honoured)} is understood and has no effect here")
    return DONE


def what_is_in(team: Team) -> str:
    """The team in one line."""
    names = ", ".join(
        f"{agent.name} (Python)" if agent.handler is not None else agent.name for agent in team.specialists
    )
    parts = [
        f"lead {team.lead.name}",
        f"{plural(len(team.specialists), 'specialist')}{f': {names}' if names else ''}",
        plural(len(team.tools), "tool of its own", "tools of its own"),
        "a rehearsal" if team.rehearsals else "no rehearsal",
    ]
    return f"team {team.name} is right: {'; '.join(parts)}"
