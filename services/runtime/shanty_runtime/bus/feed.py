"""The feed: entries as they are stored, for whoever watches.

The server sends every stored entry again on a subject without any memory. `hear` gives that as it comes. `follow`
takes it only as a sign that there is something new and reads the stream itself, so it misses nothing, doubles
nothing and keeps the order, over restarts and lost connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable

from shanty_protocol import ProtocolError, subjects
from shanty_protocol.ids import lane_of
from shanty_protocol.streams import entry_stream
from shanty_runtime.bus import jetstream
from shanty_runtime.bus.backoff import Backoff
from shanty_runtime.bus.connection import Connection, Listening
from shanty_runtime.bus.jetstream import authored
from shanty_runtime.bus.journals import Stored, as_stored
from shanty_runtime.bus.wire import Incoming

logger = logging.getLogger("shanty.bus")

SEQUENCE = "Nats-Sequence"
STREAM = "Nats-Stream"
CHECK_S = 5.0
"""How often the stream is looked at although nothing was heard: a sign may get lost between two servers."""
LAG_TRIES = 20
"""How often an entry that was announced is looked for before it is taken for deleted."""


class Feed:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def follow(self, run: str, from_seq: int = 0) -> AsyncGenerator[Stored, None]:
        """Every entry of a run from `from_seq` on, in the order they were stored; then each as it is stored.

        Ends only when it is closed. To go on later, begin at the last entry's `seq` + 1.
        """
        signs = _Signs()
        listening = await self._connection.listen(subjects.run_feed(run), signs.hear)
        self._connection.on_reconnect.append(signs.news.set)
        next_seq = max(from_seq, 1)
        try:
            while True:
                signs.news.clear()
                async for message in self._read_on(run, next_seq):
                    next_seq = message.seq + 1
                    yield message
                await signs.more_than(next_seq - 1)
        finally:
            self._connection.on_reconnect.remove(signs.news.set)
            await listening.stop()

    async def hear(self, run: str, agent: str, heard: Callable[[Stored], None]) -> Listening:
        """Call `heard` with an agent's mail in a run the moment it is stored. Some may be missed; no delivery is.

        Until the listening is stopped. Mail that cannot be read is left to whoever it is delivered to.
        """

        def hear(message: Incoming) -> None:
            if message.times(STREAM) > 1:
                return  # a copy that the server wrote as the answer to somebody's request, and then sent again
            try:
                address = subjects.parse_entry(message.subject)
                stored = Stored(address, int(message.headers[SEQUENCE]), message.data, authored(message.headers))
                stored.entry  # noqa: B018  # read here, so that `heard` need not expect that it cannot be
            except (ProtocolError, KeyError, ValueError) as error:
                logger.debug("heard something else on %s: %s", message.subject, error)
                return
            heard(stored)

        return await self._connection.listen(subjects.mail_feed(run, agent), hear)

    async def _read_on(self, run: str, from_seq: int) -> AsyncGenerator[Stored, None]:
        stream, filter_subject = entry_stream(lane_of(run)), subjects.run_filter(run)
        async for message in jetstream.read_on(self._connection, stream, filter_subject, from_seq):
            try:
                stored = as_stored(message)
            except ProtocolError as error:
                logger.warning("passed over in run %s: %s", run, error)
                continue
            yield stored


class _Signs:
    """What the feed said last. Lossy, so it only ever makes us look."""

    def __init__(self) -> None:
        self.news = asyncio.Event()
        self.newest_seq = 0
        self._lag = Backoff(first_s=0.005, most_s=0.2)

    def hear(self, message: Incoming) -> None:
        with contextlib.suppress(ValueError):
            self.newest_seq = max(self.newest_seq, int(message.headers.get(SEQUENCE, "0")))
        self.news.set()

    async def more_than(self, seq: int) -> None:
        """Return when there may be an entry after `seq`."""
        if self.newest_seq > seq and self._lag.tries < LAG_TRIES:
            await self._lag.pause()  # it was announced, but the replica that answered does not have it yet
            return
        self.newest_seq = 0
        self._lag = Backoff(first_s=0.005, most_s=0.2)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CHECK_S):
                await self.news.wait()
