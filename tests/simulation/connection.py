"""A worker's way to the server that is simulated: what it asks for goes through the world, and so may go wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from typing import TYPE_CHECKING

import msgspec

from shanty_runtime.bus import BusSettings
from shanty_runtime.bus.connection import Connection, Listening
from shanty_runtime.bus.elections import Elections
from shanty_runtime.bus.wire import Heard, Incoming
from shanty_runtime.errors import BusUnavailable
from simulation.loop import Process
from simulation.server import NEXT

if TYPE_CHECKING:
    from simulation.world import World

Answered = asyncio.Future[list[Incoming]]
"""What comes back to whoever has asked."""

LEASE_S = 5
REQUEST_TIMEOUT_S = 1.0


class SimulatedConnection(Connection):
    """A worker's way to the server. Everything that passes is a point at which a fault may happen."""

    def __init__(self, world: World, process: Process) -> None:
        self.settings = BusSettings(name=process.name, lease_s=LEASE_S, request_timeout_s=REQUEST_TIMEOUT_S)
        self.on_reconnect = []
        self.elections = Elections()
        self.world, self.process = world, process
        self.up = True
        self.cut = False
        """Nothing gets through, whether that is known here or not."""
        self.breaks, self._noticed = 0, 0
        self._client = _Line()  # type: ignore[assignment]  # all that `persist` asks of a client
        self._available = asyncio.Event()
        self._available.set()
        self.appended_at_s = -1.0
        self._inboxes = 0
        self._heard: dict[str, Heard] = {}
        self._waiting: dict[Answered, None] = {}
        self._kept: list[tuple[str, bytes, Mapping[str, str]]] = []

    @property
    def connected(self) -> bool:
        return self.up

    @property
    def server_address(self) -> tuple[str, int] | None:
        return None

    async def open(self) -> None:
        return

    async def close(self) -> None:
        self._client.closing = True
        self.up = False

    async def request(
        self, subject: str, data: bytes = b"", headers: Mapping[str, str] | None = None, *, timeout_s: float = 0.0
    ) -> Incoming:
        return (await self._asked_of(subject, data, headers, timeout_s))[0]

    async def converse(
        self,
        subject: str,
        data: bytes,
        hear: Callable[[Incoming], bool],
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float = 0.0,
    ) -> None:
        for answer in await self._asked_of(subject, data, headers, timeout_s):
            if hear(answer):
                return

    async def _asked_of(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None, timeout_s: float
    ) -> list[Incoming]:
        if not self.up:
            raise BusUnavailable("not connected")
        answered: Answered = self.world.loop.create_future()
        self._waiting[answered] = None
        try:
            self.world.send(self, subject, data, headers or {}, None, answered, timeout_s or REQUEST_TIMEOUT_S)
            return await answered
        finally:
            del self._waiting[answered]

    async def publish(
        self, subject: str, data: bytes = b"", headers: Mapping[str, str] | None = None, *, reply: str = ""
    ) -> None:
        if subject.startswith("shanty.live."):
            return
        if not self.up:
            self._kept.append((subject, data, headers or {}))
            return
        heard = self._heard.get(reply.rpartition(".")[0]) if reply else None
        self.world.send(self, subject, data, headers or {}, heard, None, 0.0)

    async def listen(self, subject: str, heard: Heard, *, queue: str = "") -> Listening:
        self._heard[subject.removesuffix(".*")] = heard
        listening = _Listening(self, subject, None)
        if subject.startswith("shanty.feed."):
            listening.heard = subject.removesuffix(">"), self.process, heard
            self.world.server.listeners.append(listening.heard)
        if queue:
            listening.answering = Answering(self, heard, copy_context())
            self.world.questions.answering.append(listening.answering)
        return listening

    async def flush(self) -> None:
        return

    def new_inbox(self) -> str:
        self._inboxes += 1
        return f"_INBOX.{self.process.name}.{self._inboxes}"

    def watch_denial(self, subject: str, denied: object) -> None:
        return

    def notice(self) -> None:
        """Learn what has become of the connection. A process that stood still learns all of it at once."""
        if self._noticed != self.breaks:
            self._noticed = self.breaks
            self._lose()
        if not self.cut and not self.up:
            self._find()

    def forget(self) -> None:
        """Know nobody any more: its process is buried."""
        self.on_reconnect.clear()
        self._heard.clear()
        self._waiting.clear()

    def _lose(self) -> None:
        self.up = False
        self._available.clear()
        for answered in list(self._waiting):
            if not answered.done():
                answered.set_exception(BusUnavailable("the connection broke"))

    def _find(self) -> None:
        self.up = True
        self._available.set()
        kept, self._kept = self._kept, []
        for subject, data, headers in kept:
            if not subject.startswith(NEXT):
                self.world.send(self, subject, data, headers, None, None, 0.0)
        for tell in list(self.on_reconnect):
            tell()


class Answering(msgspec.Struct, frozen=True, eq=False):
    """One of those who answer questions, in turns."""

    connection: SimulatedConnection
    heard: Heard
    context: Context
    """In which it hears them: what it begins then is its process's."""


class _Line:
    opened = True
    closing = False


class _Listening(Listening):
    _connection: SimulatedConnection
    heard: tuple[str, Process, Heard] | None = None
    answering: Answering | None = None

    async def stop(self) -> None:
        world = self._connection.world
        if self.heard in world.server.listeners:
            world.server.listeners.remove(self.heard)
        if self.answering in world.questions.answering:
            world.questions.answering.remove(self.answering)
