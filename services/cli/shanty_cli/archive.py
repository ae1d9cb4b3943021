"""Runs as files, and off the bus.

A run is removed only once an archive of it holds all of it, is sound, and nobody is at work on it any more.
"""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from pathlib import Path

from shanty_cli.dev_bus import Home, answered, bus_settings, existing_bus
from shanty_cli.exits import DONE, FAILED, UsageError
from shanty_cli.lookup import archived_entries, archived_view, view_of
from shanty_cli.output import Output
from shanty_cli.report import ending, report
from shanty_cli.text import size
from shanty_cli.view import RunView
from shanty_cli.watch import take
from shanty_protocol.zones import INSTALLER
from shanty_runtime.archive import EntryLine, FileLine, read_archive
from shanty_runtime.bus import Bus
from shanty_runtime.bus.removal import newest_of, remove_run
from shanty_runtime.verify import audit_of_archive, write_archive

QUIET_S = 86_400
"""How long nothing may have been written to a run that is removed while a thread of it has not replied."""


async def ended_before(bus: Bus, lanes: tuple[str, ...], before_ms: int) -> list[str]:
    """Runs that have ended and that nothing was written to from then on, oldest first."""
    looked_at: dict[str, bool] = {}
    for lane in lanes:
        async for stored in answered(bus.journals.first_entries(lane), "the list of runs"):
            run = stored.address.run
            if run not in looked_at:
                view = await view_of(bus, run)
                looked_at[run] = view.outcome is not None and view.newest_at_ms < before_ms
    return [run for run, ended in looked_at.items() if ended]


async def archive_one(
    bus: Bus, run: str, file: Path, contents: bool, delete: bool, nats_url: str, out: Output
) -> dict[str, object]:
    if not (delete and is_there(file)):
        await write_archive(bus, run, file, contents=contents)
    problem = await _remove(bus, run, file, nats_url) if delete else ""
    if not out.json:
        print(f"{run} is in {file}, {size(_size_bytes(file))}", file=out.stdout)
        if delete:
            out.say(f"{run} stays on the bus: {problem}" if problem else f"{run} is removed from the bus")
    return {"run": run, "file": str(file), "removed": delete and not problem, "problem": problem}


async def _remove(bus: Bus, run: str, file: Path, nats_url: str) -> str:
    """Remove a run that is archived. Gives the reason where that must not be."""
    found = existing_bus(nats_url, Home())
    if found is None:
        return await _remove_unless_needed(bus, run, file)
    async with Bus(bus_settings(found, INSTALLER)) as installer:
        return await _remove_unless_needed(installer, run, file)


async def _remove_unless_needed(bus: Bus, run: str, file: Path) -> str:
    reason = await reason_to_keep(bus, run, file, int(time.time() * 1000))
    if not reason:
        await remove_run(bus, run)
    return reason


async def reason_to_keep(bus: Bus, run: str, file: Path, now_ms: int) -> str:
    """Why a run must stay where it is; empty where it may be removed."""
    audit, problem = audit_of_archive(file)
    if problem is not None:
        return f"its archive is not whole: {problem}"
    if audit.run != run:
        return f"{file} is an archive of {audit.run}"
    if not audit.is_sound:
        return f"its archive is not sound: `shanty verify {file}` says what is wrong"
    if not audit.replied:
        return "it has not ended"
    if audit.open_delegations and now_ms - archived_view(file).newest_at_ms < QUIET_S * 1000:
        return f"thread {audit.open_delegations[0].thread} of it may still be at work"
    newest = await newest_of(bus, run)
    archived = {EntryLine: 0, FileLine: 0}
    for line in read_archive(file):
        if isinstance(line, EntryLine | FileLine):
            archived[type(line)] = max(archived[type(line)], line.seq)
    if newest.entry > archived[EntryLine] or newest.file > archived[FileLine]:
        return "something was written to it since it was archived"
    return ""


def replay(file: Path, out: Output) -> int:
    """Show a run in an archive as it went, and how it ended."""
    view, screen = RunView(run=""), out.screen()
    with screen:
        for stored in archived_entries(file):
            view.run = stored.address.run
            screen.happened(view, take(view, stored))
        screen.refresh(view, view.newest_at_ms)
    if out.json:
        out.data(report(view))
    elif view.outcome is not None:
        out.show(ending(view))
    return FAILED if view.outcome is None else DONE


def is_there(file: Path) -> bool:
    return file.exists()


def _size_bytes(file: Path) -> int:
    return file.stat().st_size


def day_ms(day: str) -> int:
    try:
        parsed = date.fromisoformat(day)
    except ValueError as error:
        raise UsageError(f"--before {day}: write a day as 2026-10-01") from error
    return int(datetime(parsed.year, parsed.month, parsed.day, tzinfo=UTC).timestamp() * 1000)


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--to {folder}: {error.strerror}; with --before it is a folder") from error
