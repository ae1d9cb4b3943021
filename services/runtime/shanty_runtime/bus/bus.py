"""The bus: one connection, and everything Shanty does over it."""

from __future__ import annotations

from shanty_protocol.streams import entry_stream, timer_stream
from shanty_runtime.bus.clock import Clock, watch_clock
from shanty_runtime.bus.connection import Connection
from shanty_runtime.bus.effects import Effects
from shanty_runtime.bus.feed import Feed
from shanty_runtime.bus.files import Files
from shanty_runtime.bus.jetstream import manage
from shanty_runtime.bus.journals import Journals
from shanty_runtime.bus.leases import Leases
from shanty_runtime.bus.live import Live
from shanty_runtime.bus.memory import Documents
from shanty_runtime.bus.pull import Kind, Pull
from shanty_runtime.bus.roster import Roster
from shanty_runtime.bus.settings import BusSettings
from shanty_runtime.bus.timers import Timers


class Bus:
    """`async with Bus(settings) as bus`, or `start` and `stop`.

    `start` returns when connected or raises; `stop` may be called twice, and before `start`. An outage of the server
    delays what is asked of the bus and makes nothing fail; cancel a call to give it up.
    """

    def __init__(self, settings: BusSettings, connection: Connection | None = None) -> None:
        """`connection`: another way to a server than NATS's own, for a simulation."""
        self.settings = settings
        self.connection = connection or Connection(settings)
        self.journals = Journals(self.connection)
        self.leases = Leases(self.connection, settings.lease_s)
        self.timers = Timers(self.connection)
        self.files = Files(self.connection)
        self.memory = Documents(self.connection)
        self.roster = Roster(self.connection)
        self.feed = Feed(self.connection)
        self.live = Live(self.connection)
        self.effects = Effects(self.connection)
        self._pulls: list[Pull] = []

    @property
    def connected(self) -> bool:
        return self.connection.connected

    @property
    def server_address(self) -> tuple[str, int] | None:
        """Host and port of the server this is connected to, or was."""
        return self.connection.server_address

    @property
    def clock(self) -> Clock:
        """What time it is by the server's clock, as far as it has been asked about anything."""
        return self.connection.clock

    @property
    def waits_for(self) -> str:
        """Why what was asked of the bus waits, in words; empty while nothing does."""
        return self.connection.pressure.reason

    async def watch_clock(self, call: str) -> None:
        """Keep the clock right, until cancelled, by a call of the JetStream API that this account may make."""
        await watch_clock(self.connection, lambda: manage(self.connection, call))

    async def start(self) -> None:
        await self.connection.open()

    async def stop(self) -> None:
        """Close at once. What pulls still have in hand is delivered to somebody else after a while."""
        while self._pulls:
            await self._pulls.pop().stop()
        await self.leases.stop()
        await self.roster.stop()
        self.memory.stop()
        await self.connection.close()

    async def drain(self) -> None:
        """Take no more, put back what is in hand, and stop."""
        for pull in self._pulls:
            await pull.close()
            await pull.release()
        await self.stop()

    async def pull(self, lane: str, agent: str, kind: Kind, max_in_hand: int) -> Pull:
        """A standing pull on an agent's mail or timers. Raises LayoutDrift where the agent has no such consumer."""
        stream = entry_stream(lane) if kind == "mail" else timer_stream(lane)
        return await self._open(Pull(self.connection, stream, f"{kind}-{agent}", max_in_hand))

    async def pull_from(self, stream: str, consumer: str, max_in_hand: int) -> Pull:
        """A standing pull on messages of others, which may be copies the server made. Raises LayoutDrift."""
        return await self._open(Pull(self.connection, stream, consumer, max_in_hand, takes_copies=True))

    async def _open(self, pull: Pull) -> Pull:
        await pull.open()
        self._pulls.append(pull)
        return pull

    async def __aenter__(self) -> Bus:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()
