"""Triggers of a team: what each waits for, what came of it, and a try by hand."""

from __future__ import annotations

import difflib
import secrets
import time
from pathlib import Path
from typing import Literal

import msgspec
from rich.table import Table
from rich.text import Text

from shanty_cli.dev_bus import answering
from shanty_cli.exits import UsageError
from shanty_cli.lookup import view_of
from shanty_cli.output import Output
from shanty_cli.text import at, one_line
from shanty_runtime.bus import Bus
from shanty_runtime.config import read_settings
from shanty_runtime.team import Team
from shanty_runtime.triggers import Firing, Message, Terms, Trigger, Unusable
from shanty_runtime.triggers.schedule import next_time


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A trigger, and what came of it."""

    trigger: str
    kind: Literal["schedule", "subject"]
    waits_for: str
    next_at_ms: int | None = None
    """Of a schedule."""
    run: str = ""
    """The newest it has started."""
    status: str = ""
    started_at_ms: int = 0


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    trigger: str
    run: str
    started: bool
    """False where the key had started it before."""


async def lines(bus: Bus, team: Team) -> list[Line]:
    return [await _line(firing_of(bus, team), trigger) for trigger in team.triggers]


async def fire(firing: Firing, trigger: Trigger, data: bytes, given: str) -> Tried:
    """Raises UsageError where the payload cannot be used."""
    key = given or f"tried-{secrets.token_hex(6)}"
    if trigger.schedule is not None:
        fired = await firing.by_hand(trigger, int(time.time() * 1000), key)
        return Tried(trigger=trigger.name, run=fired.run, started=fired.ours)
    if trigger.key is not None and given:
        raise UsageError(
            f"trigger {trigger.name} takes the key from {trigger.key.path} of the payload: leave out --key"
        )
    found = await firing.on(trigger, Message(subject=trigger.subject, data=data, message_id=key))
    if isinstance(found, Unusable):
        raise UsageError(f"such a message starts no run: {found.reason}")
    return Tried(trigger=trigger.name, run=found.run, started=found.ours)


async def _line(firing: Firing, trigger: Trigger) -> Line:
    async with answering(f"trigger {trigger.name}"):
        found = [await firing.newest(trigger, cause) for cause in ("at", "on")]
        newest = max((each for each in found if each is not None), key=lambda each: each.seq, default=None)
        view = None if newest is None else await view_of(firing.bus, newest.address.run)
    schedule = trigger.schedule
    return Line(
        trigger=trigger.name,
        kind="subject" if schedule is None else "schedule",
        waits_for=trigger.what,
        next_at_ms=None if schedule is None else next_time(schedule, int(time.time() * 1000)),
        run="" if view is None else view.run,
        status="" if view is None else view.status,
        started_at_ms=0 if view is None else view.started_at_ms,
    )


def table(listed: list[Line]) -> Table:
    found = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("trigger", "waits for", "next", "newest run", "status", "started"):
        found.add_column(column, overflow="fold")
    for each in listed:
        due = "" if each.next_at_ms is None else at(each.next_at_ms)
        began = at(each.started_at_ms) if each.run else ""
        cells = (each.trigger, each.waits_for, due, each.run, each.status, began)
        found.add_row(*(Text(one_line(cell)) for cell in cells))
    return found


def show(tried: Tried, out: Output) -> None:
    if out.json:
        out.data(tried)
        return
    begun = "has started" if tried.started else "was started before by the same key"
    out.say(f"run {tried.run} {begun}; follow it with: shanty runs tail {tried.run}")
    print(tried.run, file=out.stdout)


def named(team: Team, name: str) -> Trigger:
    by_name = {trigger.name: trigger for trigger in team.triggers}
    if name in by_name:
        return by_name[name]
    near = difflib.get_close_matches(name, by_name, n=1)
    there = f"did you mean {near[0]}?" if near else f"there are {', '.join(by_name) or 'none'}"
    raise UsageError(f"team {team.name} has no trigger {one_line(name, 60)}; {there}")


def bytes_of(payload: str) -> bytes:
    if not payload.startswith("@"):
        return payload.encode(errors="surrogateescape")
    try:
        return Path(payload[1:]).read_bytes()
    except OSError as error:
        raise UsageError(f"--payload {payload}: {error.strerror}") from error


def firing_of(bus: Bus, team: Team) -> Firing:
    terms = Terms(budget=team.budget, input_schema=team.lead.input_schema)
    lane = read_settings().lanes[0]
    return Firing(bus, team=team.name, lead=team.lead.name, lane=lane, by="cli", terms=terms)
