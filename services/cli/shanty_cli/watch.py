"""Watching a run: what is stored of it, then what is stored as it happens, until its lead has answered.

The feed is the truth and is complete; the live events only say what a thread does between two entries, and a watcher
that misses them shows less and nothing wrong.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Protocol

from shanty_cli.exits import NotRunning
from shanty_cli.view import Happening, RunView, apply, note, note_unreadable
from shanty_protocol import ProtocolError
from shanty_runtime.bus import Bus, Stored

REFRESH_S = 0.125
SILENT_BUS_S = 30.0
"""How long the bus may be away before a watcher gives up. Nothing is lost by it: the run goes on without us."""


class Screen(Protocol):
    """Where a run is shown."""

    def __enter__(self) -> object: ...

    def __exit__(self, *exc: object) -> None: ...

    def happened(self, view: RunView, happenings: tuple[Happening, ...]) -> None:
        """Show what has just happened; the view has it already."""

    def refresh(self, view: RunView, now_ms: int) -> None:
        """Show the view as it is now."""


Step = Callable[[Stored, RunView], Awaitable[None]]
"""Is told of each entry once the view has it."""


async def watch(bus: Bus, view: RunView, screen: Screen, *, step: Step | None = None) -> None:
    """Follow a run from its first entry until it has ended; one that goes on once more, until it has ended again."""
    so_far = RunView(run=view.run)
    await replay(bus, so_far)
    wanted = len(so_far.replies) + (so_far.outcome is None)
    with screen:
        async with _beside(_follow_live(bus, view)), _beside(_refresh(bus, view, screen)) as refreshing:
            await _first_of(_follow_entries(bus, view, screen, step, wanted), refreshing)
        screen.refresh(view, now_ms())


async def replay(bus: Bus, view: RunView) -> None:
    """Everything that is stored of a run so far."""
    async for stored in bus.journals.run_entries(view.run):
        take(view, stored)


def take(view: RunView, stored: Stored) -> tuple[Happening, ...]:
    try:
        entry = stored.entry
    except ProtocolError:
        note_unreadable(view)
        return ()
    return apply(view, stored.address, entry)


def now_ms() -> int:
    return int(time.time() * 1000)


async def _follow_entries(bus: Bus, view: RunView, screen: Screen, step: Step | None, replies: int) -> None:
    """Until the run has given so many answers."""
    async with aclosing(bus.feed.follow(view.run)) as entries:
        async for stored in entries:
            happenings = take(view, stored)
            if happenings:
                screen.happened(view, happenings)
            if step is not None:
                await step(stored, view)
            if view.outcome is not None and len(view.replies) >= replies:
                return


async def _follow_live(bus: Bus, view: RunView) -> None:
    async with aclosing(bus.live.follow(view.run)) as events:
        async for address, event in events:
            note(view, address, event)


async def _refresh(bus: Bus, view: RunView, screen: Screen) -> None:
    heard_s = time.monotonic()
    while True:
        screen.refresh(view, now_ms())
        await asyncio.sleep(REFRESH_S)
        if bus.connected:
            heard_s = time.monotonic()
        elif time.monotonic() - heard_s > SILENT_BUS_S:
            raise NotRunning(f"the bus has been away for {SILENT_BUS_S:g} s; the run goes on once it is back")


@asynccontextmanager
async def _beside(work: Awaitable[None]) -> AsyncIterator[asyncio.Future[None]]:
    """Work that goes on during the block and ends with it."""
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _first_of(work: Awaitable[None], other: asyncio.Future[None]) -> None:
    """Wait for the work, unless the other ends first: then raise what it raised."""
    async with _beside(work) as working:
        await asyncio.wait({working, other}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
        else:
            await other
