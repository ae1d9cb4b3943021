"""Looking at runs that are stored: which there are, what happened in one, every entry of it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from shanty_cli.dev_bus import answered, answering
from shanty_cli.exits import UsageError
from shanty_cli.text import one_line
from shanty_cli.view import RunStatus, RunView
from shanty_cli.watch import replay, take
from shanty_protocol import DelegationSent, ProtocolError
from shanty_protocol.codec import kind_of
from shanty_protocol.ids import checked_run
from shanty_runtime.archive import EntryLine, read_archive
from shanty_runtime.bus import Bus, Stored
from shanty_runtime.bus.journals import as_stored

MOST_RUNS_LOOKED_AT = 10_000
MOST_RUNS_NAMED = 1_000
"""Among how many of the newest one with a similar name is looked for."""


class RunLine(msgspec.Struct, frozen=True, kw_only=True):
    """A run in a list."""

    run: str
    status: RunStatus
    started_at_ms: int
    ended_at_ms: int
    goal: str


async def newest_ids(bus: Bus, lanes: tuple[str, ...]) -> list[str]:
    """Some of the newest runs that somebody has begun as a lead does, the newest first."""
    found: dict[str, None] = {}
    for lane in lanes:
        async for stored in answered(bus.journals.first_entries(lane, newest_first=True), "the list of runs"):
            found[stored.address.run] = None
            if len(found) >= MOST_RUNS_NAMED:
                break
    return list(found)


async def newest_runs(bus: Bus, lanes: tuple[str, ...], limit: int) -> list[RunLine]:
    """The newest first. A run counts once the agent that was asked for it has begun: anybody may write the rest."""
    lines: list[RunLine] = []
    for lane in lanes:
        lines += await _newest_of_lane(bus, lane, limit)
    return sorted(lines, key=lambda line: line.started_at_ms, reverse=True)[:limit]


async def _newest_of_lane(bus: Bus, lane: str, limit: int) -> list[RunLine]:
    lines: list[RunLine] = []
    looked_at: dict[str, RunView] = {}
    async for stored in answered(bus.journals.first_entries(lane, newest_first=True), "the list of runs"):
        run = stored.address.run
        if run not in looked_at:
            looked_at[run] = await view_of(bus, run)
        if looked_at[run].lead == stored.address.agent:
            lines.append(line_of(looked_at[run]))
        if len(lines) >= limit or len(looked_at) >= MOST_RUNS_LOOKED_AT:
            break
    return lines


def line_of(view: RunView) -> RunLine:
    return RunLine(
        run=view.run,
        status=view.status,
        started_at_ms=view.started_at_ms,
        ended_at_ms=view.ended_at_ms,
        goal=one_line(view.goal),
    )


async def view_of(bus: Bus, run: str) -> RunView:
    view = RunView(run=run)
    await replay(bus, view)
    return view


def archive_named(text: str) -> Path | None:
    """The archive that is meant, where a run may be named by its id or by an archive of it. An id has no dot."""
    return Path(text) if "." in text or "/" in text else None


def archived_entries(file: Path, thread: str = "") -> Iterator[Stored]:
    """Every entry of an archive that has an address. Raises ArchiveError."""
    for line in read_archive(file):
        if isinstance(line, EntryLine):
            try:
                stored = as_stored(line.message)
            except ProtocolError:
                continue
            if thread in ("", stored.address.thread):
                yield stored


def archived_view(file: Path) -> RunView:
    view = RunView(run="")
    for stored in archived_entries(file):
        view.run = stored.address.run
        take(view, stored)
    return view


async def known_run(bus: Bus, run: str, lanes: tuple[str, ...]) -> str:
    """The id, if there is such a run. Raises UsageError that names the nearest ones."""
    try:
        checked_run(run)
    except ProtocolError:
        pass
    else:
        async with answering(f"run {run}"):
            async for _ in bus.journals.run_entries(run):
                return run
    there = await newest_ids(bus, lanes)
    near = difflib.get_close_matches(run, there, n=3, cutoff=0.4) or there[:3]
    said = f"; near to it: {', '.join(near)}" if near else "; there is no run at all"
    raise UsageError(f"there is no run {one_line(run, 60)}{said}")


async def entries_of(bus: Bus, run: str, thread: str) -> list[Stored]:
    """Everything stored of a run, or of one of its threads, in the order it was stored."""
    stored = [each async for each in bus.journals.run_entries(run)]
    if not thread:
        return stored
    chosen = [each for each in stored if each.address.thread == thread]
    if not chosen:
        threads = sorted({each.address.thread for each in stored})
        raise UsageError(f"run {run} has no thread {one_line(thread, 60)}; there are {', '.join(threads)}")
    return chosen


def raw(stored: Stored) -> dict[str, Any]:
    """An entry as it is stored, with its place."""
    return {
        "subject": stored.address.subject,
        "seq": stored.seq,
        "headers": dict(stored.headers),
        "entry": msgspec.json.decode(stored.data),
    }


def told(stored: Stored) -> tuple[str, str, str, int]:
    """Kind, writer and a few words about an entry, and when it was written."""
    try:
        entry = stored.entry
    except ProtocolError as error:
        return "unreadable", "", one_line(error.detail, 80), 0
    words = ""
    if isinstance(entry, DelegationSent):
        words = f"to {stored.address.to} {entry.to_thread}: {entry.brief.label or entry.brief.objective}"
    else:
        for name in ("text", "name", "code"):
            words = words or str(getattr(entry, name, ""))
        if (outcome := getattr(entry, "outcome", None)) is not None:
            words = f"{outcome.status}: {outcome.summary}"
    return kind_of(entry), one_line(entry.by, 40), one_line(words, 100), entry.at_ms
