"""Whether something has come, for one who does something else meanwhile. Waiting for it takes no task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class News:
    def __init__(self) -> None:
        self.come = False
        """Since `clear`."""
        self.tell: Callable[[], None] | None = None
        """Called at once with every news."""
        self._waiting: asyncio.Future[None] | None = None

    def put(self) -> None:
        self.come = True
        if self.tell is not None:
            self.tell()
        self.wake()

    def clear(self) -> None:
        self.come = False

    def wake(self) -> None:
        """Have whoever waits look, though nothing has come."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def wait(self, most_s: float | None = None) -> None:
        """Until something has come, somebody says `wake`, or the time is over. One at a time may wait."""
        if self.come:
            return
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        over = None if most_s is None else loop.call_later(most_s, self.wake)
        try:
            await self._waiting
        finally:
            self._waiting = None
            if over is not None:
                over.cancel()
