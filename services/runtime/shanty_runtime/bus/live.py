"""Live events: what threads do right now, over core NATS. Sent once, kept nowhere, and never needed."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator

from shanty_protocol import LiveAddress, LiveEvent, ProtocolError, subjects
from shanty_protocol.codec import decode_live, encode, message_headers
from shanty_runtime.bus.connection import Connection
from shanty_runtime.bus.hearing import Hearing
from shanty_runtime.bus.wire import Incoming
from shanty_runtime.errors import BusError

logger = logging.getLogger("shanty.bus")


class Live:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def publish(self, address: LiveAddress, event: LiveEvent) -> None:
        """Tell whoever listens. While the server is away nobody is told, and nothing fails."""
        if not self._connection.connected:
            return
        try:
            await self._connection.publish(address.subject, encode(event), message_headers(event))
        except BusError as error:
            logger.debug("a live event was dropped: %s", error)

    async def follow(self, run: str) -> AsyncGenerator[tuple[LiveAddress, LiveEvent], None]:
        """What a run's threads do from now on. A reader that is too slow misses the oldest."""

        def read(message: Incoming) -> tuple[LiveAddress, LiveEvent] | None:
            try:
                address = subjects.parse(message.subject)
                event = decode_live(message.data, message.headers)
            except ProtocolError as error:
                logger.debug("heard something else on %s: %s", message.subject, error)
                return None
            assert isinstance(address, LiveAddress), "nothing else parses from these subjects"
            return address, event

        hearing = Hearing(read)
        hearing.attach(await self._connection.listen(subjects.run_live(run), hearing.put))
        try:
            async for heard in hearing:
                yield heard
        finally:
            await hearing.close()
