"""Mail of the runs that are worked on here, heard the moment it is stored, whichever replica it is delivered to.

Only work that goes on under a lease listens: what a replica is about to answer at once needs to hear nothing more,
and mail of everybody else's runs is not sent here. A thread that rests is often woken again soon, so the runs that
were worked on last are listened to a little longer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable

from shanty_runtime.bus import Bus, Listening, Stored
from shanty_runtime.errors import BusError

logger = logging.getLogger("shanty.thread")

MOST_RESTING = 64
"""Runs that are listened to although nothing of theirs is worked on."""


class Ears:
    """Counts who listens to which run: each `listen` is ended by one `stop`."""

    def __init__(self, bus: Bus, agent: str, heard: Callable[[Stored], None]) -> None:
        self._bus, self._agent, self._heard = bus, agent, heard
        self._counts: dict[str, int] = {}
        self._resting: OrderedDict[str, None] = OrderedDict()
        self._listening: dict[str, asyncio.Task[Listening]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def listen(self, run: str) -> None:
        """Soon: what is missed until then is delivered."""
        self._counts[run] = self._counts.get(run, 0) + 1
        self._resting.pop(run, None)
        if run not in self._listening:
            self._listening[run] = asyncio.create_task(self._bus.feed.hear(run, self._agent, self._heard))

    def stop(self, run: str) -> None:
        left = self._counts.pop(run) - 1
        if left:
            self._counts[run] = left
            return
        self._resting[run] = None
        if len(self._resting) > MOST_RESTING:
            self._end(self._resting.popitem(last=False)[0])

    def _end(self, run: str) -> None:
        ending = asyncio.create_task(_stop(self._listening.pop(run)))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


async def _stop(listening: asyncio.Task[Listening]) -> None:
    try:
        await (await listening).stop()
    except BusError as error:
        logger.debug("mail was not heard while it was stored: %s", error)
