"""The team that works during a storm, and run after run for it."""

from __future__ import annotations

import asyncio
import re
from contextlib import aclosing
from pathlib import Path

import msgspec

from shanty_cli.start import AGENT, Ids, start
from shanty_protocol import Outcome, ThreadReplied
from shanty_protocol.ids import ROOT_THREAD
from shanty_runtime.bus import Bus
from shanty_runtime.team import Team

TEAM = Path(__file__).parent / "team"

BOOKED = ("book 13", "book 16", "book 3", "book 5", "book 8")
"""What every run has to leave in the ledger, besides what may stay unknown."""
MAY_BE_UNKNOWN = ("ring", "post")
SUMMARY = re.compile(r"booked 29(?P<unknown>(?:, (?:ring|post) unknown)*); counted 16")


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    run: str
    outcome: Outcome | None
    """None where it did not end in time."""


class Workload:
    """Keeps `in_flight` runs going until it is told to finish; then waits for those that are under way."""

    def __init__(self, bus: Bus, team: Team, name: str, in_flight: int) -> None:
        self.bus, self.team, self.name = bus, team, name
        self.ended: list[Ended] = []
        self._started = 0
        self._finishing = False
        self._under_way: dict[str, asyncio.Task[None]] = {}
        for _ in range(in_flight):
            self._begin()

    async def finish(self, within_s: float) -> None:
        """Start no more, and give those under way this long."""
        self._finishing = True
        deadline_s = asyncio.get_running_loop().time() + within_s
        while self._under_way and (left_s := deadline_s - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._under_way.values(), timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        self.ended += [Ended(run=run, outcome=None) for run in self._under_way]
        await self.stop()

    async def stop(self) -> None:
        self._finishing = True
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self) -> None:
        self._started += 1
        run = f"0-{self.name}-{self._started}"
        self._under_way[run] = asyncio.create_task(self._see_through(run))

    async def _see_through(self, run: str) -> None:
        ids = Ids(run, "request-1")
        await start(self.bus, ids, self.team, run, ())
        outcome = await self._outcome(run)
        self.ended.append(Ended(run=run, outcome=outcome))
        del self._under_way[run]
        if not self._finishing:
            self._begin()

    async def _outcome(self, run: str) -> Outcome:
        async with aclosing(self.bus.feed.follow(run)) as entries:
            async for stored in entries:
                address = stored.address
                if (address.to, address.thread) == (AGENT, ROOT_THREAD) and isinstance(stored.entry, ThreadReplied):
                    return stored.entry.outcome
        raise AssertionError("a feed does not end by itself")
