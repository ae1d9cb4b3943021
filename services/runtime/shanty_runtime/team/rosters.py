"""Who leads whom. The lead's specialists are named in team.yaml; a specialist that names some itself leads those."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from shanty_runtime.team.fields import Fields
from shanty_runtime.team.positions import Located
from shanty_runtime.team.problems import Problems


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """An agent, and where a file of the team names it."""

    name: str
    path: str
    at: Located


def read_roster(fields: Fields, path: str, leader: str, lead: str) -> tuple[Named, ...]:
    """The specialists that a file names for an agent, each once. `lead` is the team's."""
    seen: dict[str, Named] = {}
    for at in fields.listed("specialists") or ():
        name = fields.agent_name(at)
        if name is None:
            continue
        if name == lead:
            fields.report(at, f"{name} is the lead, and cannot be a specialist too", "remove it from specialists")
        elif name == leader:
            fields.report(at, f"{name} cannot be a specialist of its own", "remove it from specialists")
        elif name in seen:
            fields.report(at, f"{name} is listed twice", f"the first is in line {seen[name].at.line}; keep one")
        else:
            seen[name] = Named(name=name, path=path, at=at)
    return tuple(seen.values())


def check_tree(problems: Problems, lead: str, rosters: Mapping[str, tuple[Named, ...]], max_depth: int) -> None:
    """Report where agents lead each other in a circle, and who stands deeper below the lead than a thread may."""
    walked: dict[str, int] = {}

    def walk(way: tuple[str, ...]) -> None:
        depth = len(way)
        if walked.get(way[-1], -1) >= depth:
            return
        walked[way[-1]] = depth
        for named in rosters.get(way[-1], ()):
            longer = (*way, named.name)
            if named.name in way:
                circle = " → ".join(longer[way.index(named.name) :])
                message = f"{named.name} would lead itself: {circle}"
                _report(problems, named, message, f"take {named.name} off this roster")
            elif depth > max_depth:
                message = f"{named.name} is {depth} levels below the lead, and maxDepth is {max_depth}"
                hint = f"take a level out of {' → '.join(longer)}, or raise maxDepth in the limits of team.yaml"
                _report(problems, named, message, hint)
            else:
                walk(longer)

    walk((lead,))


def _report(problems: Problems, named: Named, message: str, hint: str) -> None:
    problems.add(named.path, named.at.line, named.at.column, message, hint)
