"""What time it is by the server's clock, whatever this machine's own says.

Deadlines are worked out by a service and kept by the server, which sends the timer. Were their clocks ten minutes
apart, a deadline of one minute would be over when it was set. So every answer that says when it was made (those about
streams and consumers do) tells how far the server's clock is from our monotonic one, which nobody can set; an answer
is as exact as it was quick. Until the first of them the time is this machine's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from shanty_runtime.bus.backoff import Backoff
from shanty_runtime.errors import BusError
from shanty_runtime.telemetry import metrics

if TYPE_CHECKING:
    from shanty_runtime.bus.connection import Connection

LOOK_S = 30.0
"""How often a service asks. The server's own clock may be set, and ours stands still while the machine sleeps."""
DRIFT = 0.0005
"""How much two clocks may gain on each other, as a part of the time that passes."""


class Clock:
    """Any number may read it. `told` is for whoever has an answer of the server."""

    def __init__(self) -> None:
        self._least_s = 0.0
        self._most_s = 0.0
        """What has to be added to the monotonic time lies between these two."""
        self._told_at_s: float | None = None

    @property
    def known(self) -> bool:
        """Whether the server has said what time it is."""
        return self._told_at_s is not None

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        if self._told_at_s is None:
            return int(time.time() * 1000)
        return int((time.monotonic() + (self._least_s + self._most_s) / 2) * 1000)

    def ahead_s(self) -> float:
        """How far this machine's clock is ahead of the server's; 0 where that is not known."""
        return time.time() - self.now_ms() / 1000 if self.known else 0.0

    def told(self, answer: dict[str, Any], asked_s: float, heard_s: float) -> None:
        """The server answered; the two times are of the monotonic clock, before the question and after the answer."""
        try:
            said_s = msgspec.convert(answer["ts"], datetime).timestamp()
        except (KeyError, msgspec.ValidationError, OverflowError, OSError):
            return
        least_s, most_s = said_s - heard_s, said_s - asked_s
        if self._told_at_s is not None:
            gained_s = DRIFT * (heard_s - self._told_at_s)
            before_s, after_s = self._least_s - gained_s, self._most_s + gained_s
            if before_s <= most_s and least_s <= after_s:
                least_s, most_s = max(least_s, before_s), min(most_s, after_s)
        self._least_s, self._most_s, self._told_at_s = least_s, most_s, heard_s


async def watch_clock(connection: Connection, ask: Callable[[], Awaitable[object]]) -> None:
    """Have the server say what time it is every `LOOK_S`, and whenever the connection is back, until cancelled."""
    back = asyncio.Event()
    connection.on_reconnect.append(back.set)
    failures = Backoff(first_s=1.0, most_s=LOOK_S)
    try:
        while True:
            back.clear()
            try:
                await ask()
                failures.tries, wait_s = 0, LOOK_S
                metrics.clock_ahead(connection.clock.ahead_s())
            except BusError:
                wait_s = failures.next_s()  # what was known before holds, and the drift is small
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await back.wait()
    finally:
        connection.on_reconnect.remove(back.set)
