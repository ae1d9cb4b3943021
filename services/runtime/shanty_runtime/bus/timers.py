"""Durable timers: messages the server delivers later, to whichever replica is there then.

A timer is a scheduled message in a stream of its own. Each has one address, and what is set there last holds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

from shanty_protocol import Timer, TimerAddress
from shanty_protocol.codec import encode, message_headers
from shanty_runtime.bus import jetstream
from shanty_runtime.bus.connection import Connection
from shanty_runtime.bus.jetstream import TTL
from shanty_runtime.telemetry import metrics

SCHEDULE = "Nats-Schedule"
TARGET = "Nats-Schedule-Target"


class Timers:
    """Every call waits out an outage of the bus; cancel it to give up."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def set(
        self,
        address: TimerAddress,
        timer: Timer,
        at_ms: int,
        headers: Mapping[str, str] = {},
        *,
        before: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Have the timer sent at a time, in milliseconds since 1970; at once if that has passed.

        It arrives a few tenths of a second late. Setting it again replaces it; once it was sent, it is sent again.
        `before` is awaited before each try, and what it raises is raised.
        """
        assert address.phase == "set", "a timer is set at its `set` address and arrives at its `due` address"
        scheduled = {
            **message_headers(timer),
            **headers,
            SCHEDULE: f"@at {_rfc3339(at_ms)}",
            TARGET: TimerAddress("due", address.agent, address.run, address.thread, address.id).subject,
        }
        await self._store(address, encode(timer), scheduled, before)

    async def cancel(self, address: TimerAddress, *, before: Callable[[], Awaitable[None]] | None = None) -> None:
        """Have it not sent. One that was sent already stays sent. `before` as in `set`."""
        assert address.phase == "set", "a timer is cancelled where it was set"
        # A subject of this stream has one message: a plain one takes the place of the scheduled one, then expires.
        await self._store(address, b"", {TTL: "1s"}, before)

    async def _store(
        self,
        address: TimerAddress,
        data: bytes,
        headers: Mapping[str, str],
        before: Callable[[], Awaitable[None]] | None,
    ) -> None:
        subject = address.subject

        async def storing() -> None:
            if before is not None:
                await before()
            await jetstream.publish(self._connection, subject, data, headers)

        await self._connection.persist(f"setting {subject}", storing)
        metrics.message_stored(address)


def _rfc3339(at_ms: int) -> str:
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
