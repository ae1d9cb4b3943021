"""JetStream has a leader again: the moment to ask again what nobody answered.

A stream or a consumer whose leader has died answers nobody until its servers have elected another one: they begin to
after four to nine seconds of silence (nats-server, raft.go), and say when they have (docs.nats.io, JetStream
advisories). Whoever waits for a leader hears of it here, and looks by itself from time to time: what servers say they
say once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from shanty_runtime.bus.backoff import Backoff
from shanty_runtime.bus.wire import Incoming

TOGETHER_S = 0.1
"""Each stream and each consumer elects a leader of its own, many of them at about the same time: what happens within
this is told as one. Part of it is waited, a random one, so that not everybody comes back at once."""


class Elections:
    """Hears the servers' advisories for one connection."""

    def __init__(self) -> None:
        self.on_elected: list[Callable[[], None]] = []
        self._elected = asyncio.Event()
        self._telling: asyncio.TimerHandle | None = None

    async def pause(self, backoff: Backoff) -> None:
        """Wait as long as `backoff` says, or until a leader is elected."""
        try:
            async with asyncio.timeout(backoff.next_s()):
                await self._elected.wait()
        except TimeoutError:
            return
        backoff.tries = 0  # nobody has tried this leader

    def hear(self, _advisory: Incoming) -> None:
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(random.uniform(0.0, TOGETHER_S), self._tell)

    def _tell(self) -> None:
        self._telling = None
        elected, self._elected = self._elected, asyncio.Event()
        elected.set()
        for tell in list(self.on_elected):
            tell()
