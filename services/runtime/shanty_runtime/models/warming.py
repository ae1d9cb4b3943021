"""One call goes first where many would begin with the same words.

A provider keeps a prompt's beginning only once its first answer has begun. Twenty threads of one agent that are
opened at once would each pay for the same system prompt and tools; so the first of them is let ahead, and the others
follow as soon as its answer begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

KEPT_S = 240.0
"""How long a beginning is taken to be kept. The provider keeps it five minutes from its last use."""
MAX_WAIT_S = 30.0
"""How long a call waits at most for the one ahead of it."""
MAX_BEGINNINGS = 256


class Warming:
    def __init__(self) -> None:
        self._warm_until_s: dict[str, float] = {}
        self._ahead: dict[str, asyncio.Future[None]] = {}

    @contextlib.asynccontextmanager
    async def turn(self, beginning: str) -> AsyncIterator[Callable[[], None]]:
        """Around a call; yields what to call once its answer has begun. Waits where another call goes ahead."""
        ahead = self._ahead.get(beginning)
        if ahead is None and time.monotonic() >= self._warm_until_s.get(beginning, 0.0):
            ahead = self._ahead[beginning] = asyncio.get_running_loop().create_future()
        elif ahead is not None:
            await asyncio.wait([ahead], timeout=MAX_WAIT_S)
            ahead = None

        def begun() -> None:
            self._warm_until_s.pop(beginning, None)  # put at the end: the oldest is dropped first
            self._warm_until_s[beginning] = time.monotonic() + KEPT_S
            if len(self._warm_until_s) > MAX_BEGINNINGS:
                self._warm_until_s.pop(next(iter(self._warm_until_s)))
            self._let_follow(beginning, ahead)

        try:
            yield begun
        finally:
            self._let_follow(beginning, ahead)

    def _let_follow(self, beginning: str, mine: asyncio.Future[None] | None) -> None:
        """Only the call that went ahead lets the others go, whether it was answered or failed."""
        if mine is not None and not mine.done():
            mine.set_result(None)
            del self._ahead[beginning]
