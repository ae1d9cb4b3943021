"""What the bus does not take now, as one thing: who waits, for how long, and why.

Every write waits out a lack of space by itself. Seen from outside that is not a hundred writes that fail but one
server that is full: so there is one line in the log when it begins and one when it is over, one metric, and one
sentence for the roster's card.
"""

from __future__ import annotations

import logging
import time
from typing import Literal

from shanty_runtime.errors import BusError, BusFull
from shanty_runtime.telemetry import metrics

logger = logging.getLogger("shanty.bus")

Cause = Literal["full", "silent"]
"""`full`: the server says that there is no space. `silent`: it is connected, and does not answer."""

SILENT_TRIES = 5
"""A request may get lost with a leader, or a server that restarts. So many in a row are told to people."""
SAY_AGAIN_S = 60.0
"""A stream at its edge takes one write and refuses the next: that is told once a minute at most."""


class Pressure:
    """One for each connection."""

    def __init__(self) -> None:
        self._waiting: dict[object, Cause] = {}
        self._reason = ""
        self._since_s = 0.0
        self._said = False
        self._said_at_s = float("-inf")

    @property
    def reason(self) -> str:
        """Why work waits, in words; empty while nothing does."""
        return self._reason if self._waiting else ""

    def refused(self, who: object, tries: int, what: str, error: BusError) -> None:
        """What will be tried again did not succeed, for the `tries`-th time."""
        if isinstance(error, BusFull):
            cause: Cause = "full"
        elif tries >= SILENT_TRIES:
            cause = "silent"
        else:
            return
        if not self._waiting:
            self._since_s = time.monotonic()
        self._waiting[who] = cause
        self._reason = f"{what}: {error}" if cause == "silent" else str(error)
        self._measure()
        if not self._said and time.monotonic() - self._said_at_s >= SAY_AGAIN_S:
            self._said, self._said_at_s = True, time.monotonic()
            logger.warning("work waits for the bus, and goes on by itself once it can: %s", self._reason)

    def over(self, who: object) -> None:
        """It succeeded, or was given up."""
        if self._waiting.pop(who, None) is None:
            return
        self._measure()
        if self._said and not self._waiting:
            self._said = False
            lasted_s = time.monotonic() - self._since_s
            logger.info("work does not wait for the bus any more; it did for %.1f s", lasted_s)

    def _measure(self) -> None:
        causes = list(self._waiting.values())
        metrics.bus_waits("full", causes.count("full"))
        metrics.bus_waits("silent", causes.count("silent"))
