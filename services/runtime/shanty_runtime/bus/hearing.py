"""What is heard and may be missed: kept for a slow reader up to a limit, then the oldest is dropped."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from shanty_runtime.bus.connection import Listening
from shanty_runtime.bus.wire import Incoming

logger = logging.getLogger("shanty.bus")

MAX_UNREAD = 1_024

T = TypeVar("T")


class Hearing(Generic[T]):
    """`async for` gives what was heard since this was made, until `close`.

    What was heard is looked at when it is read: `read` gives None for what is of no interest by then.
    """

    def __init__(self, read: Callable[[Incoming], T | None]) -> None:
        self._read = read
        self._unread: deque[Incoming] = deque()
        self._news = asyncio.Event()
        self._closed = False
        self._listening: Listening | None = None
        self.dropped = 0

    def put(self, heard: Incoming) -> None:
        if len(self._unread) == MAX_UNREAD:
            self._unread.popleft()
            self.dropped += 1
        self._unread.append(heard)
        self._news.set()

    def attach(self, listening: Listening) -> None:
        self._listening = listening

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._news.set()
        if self._listening is not None:
            await self._listening.stop()
        if self.dropped:
            logger.info("%d messages were heard faster than they were read, and dropped", self.dropped)

    def __aiter__(self) -> Hearing[T]:
        return self

    async def __anext__(self) -> T:
        while True:
            while self._unread:
                if (found := self._read(self._unread.popleft())) is not None:
                    return found
            if self._closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
