"""The bus: one connection, and everything Shanty does over it."""

from __future__ import annotations

from shanty_protocol.streams import entry_stream, timer_stream
from shanty_runtime.bus.connection import Connection
from shanty_runtime.bus.feed import Feed
from shanty_runtime.bus.files import Files
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

    def __init__(self, settings: BusSettings) -> None:
        self.settings = settings
        self.connection = Connection(settings)
        self.journals = Journals(self.connection)
        self.leases = Leases(self.connection, settings.lease_s)
        self.timers = Timers(self.connection)
        self.files = Files(self.connection)
        self.memory = Documents(self.connection)
        self.roster = Roster(self.connection)
        self.feed = Feed(self.connection)
        self.live = Live(self.connection)
        self._pulls: list[Pull] = []

    @property
    def connected(self) -> bool:
        return self.connection.connected

    @property
    def server_address(self) -> tuple[str, int] | None:
        """Host and port of the server this is connected to, or was."""
        return self.connection.server_address

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
        pull = Pull(self.connection, stream, f"{kind}-{agent}", max_in_hand)
        await pull.open()
        self._pulls.append(pull)
        return pull

    async def __aenter__(self) -> Bus:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()
