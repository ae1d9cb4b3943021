"""Which bus a command talks to.

1. the one that --nats-url or SHANTY_NATS_URL names
2. the one that `shanty dev`, run in this directory, has written to .shanty/dev.json
3. a server of its own on the store in .shanty/store, for as long as the command takes

One process at a time has the store: it holds the lock on .shanty/store.lock and writes its address beside it, so
that a command which only reads finds it. A process that is killed loses its lock, and nothing has to be cleaned up.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from shanty_cli.exits import NotRunning
from shanty_protocol import AgentCard
from shanty_protocol.ids import OPERATORS
from shanty_runtime.bus import Bus, BusSettings, EmbeddedServer, Stored, login_of
from shanty_runtime.config import Settings, read_settings

STORE_MAX_BYTES = 2 * 2**30
"""Bound of each of the streams in a store of our own: together they stay below what the server may use."""
READER_DEADLINE_S = 10.0
"""How long a command that reads the store may keep it from one that wants to run something on it."""
ANSWER_DEADLINE_S = 15.0
"""How long a command waits for a bus that is connected and does not answer: most often its layout is missing."""
POLL_S = 0.05
PROBE_TIMEOUT_S = 0.5

Use = Literal["dev", "run", "read"]


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """A process that has a bus, and where it is."""

    pid: int
    nats_url: str
    monitor_url: str = ""
    team: str = ""
    use: Use = "dev"

    @property
    def alive(self) -> bool:
        """Whether the process is there and its server takes connections."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # it is there, and somebody else's
        return answers(self.nats_url)


_holders = msgspec.json.Decoder(Holder)


class Home:
    """The .shanty folder of a directory."""

    def __init__(self, directory: Path | None = None) -> None:
        self.folder = (directory or Path.cwd()) / ".shanty"

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def dev(self) -> Holder | None:
        """The `shanty dev` that runs in this directory."""
        holder = _read_holder(self.folder / "dev.json")
        return holder if holder is not None and holder.alive else None

    @contextlib.contextmanager
    def announced(self, holder: Holder) -> Iterator[None]:
        """Let commands run in this directory find a bus."""
        path = self.folder / "dev.json"
        _write_holder(path, holder)
        try:
            yield
        finally:
            if _read_holder(path) == holder:
                path.unlink(missing_ok=True)

    @property
    def holder(self) -> Holder | None:
        """Who has the store, if it is so far that it can be talked to."""
        holder = _read_holder(self.folder / "store.json")
        return holder if holder is not None and holder.alive else None

    def hold(self, holder: Holder) -> None:
        _write_holder(self.folder / "store.json", holder)

    @contextlib.contextmanager
    def locked(self) -> Iterator[bool]:
        """Whether the store is ours until the end of the block."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "store.lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            try:
                yield True
            finally:
                (self.folder / "store.json").unlink(missing_ok=True)


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A bus, and what a command has to know about it."""

    nats_url: str
    monitor_url: str
    ours: bool
    """It is a server of our own, which nobody else takes work from."""
    kept: bool = True
    """What is stored on it stays when the command is over."""


def settings_with(nats_url: str) -> Settings:
    """The environment's settings, with the bus that was found in place of the environment's."""
    settings = read_settings()
    return msgspec.structs.replace(settings, nats_url=nats_url) if nats_url else settings


def bus_settings(found: Found, principal: str = OPERATORS) -> BusSettings:
    """How this program logs in: as operators, unless it makes streams. Without logins it makes no difference.

    What is set for another server is of no use on one of our own.
    """
    if found.ours:
        return BusSettings(url=found.nats_url, name="cli")
    return login_of(principal, settings_with(found.nats_url), name="cli")


def existing_bus(nats_url: str, home: Home) -> Found | None:
    """The bus that is named, or the one `shanty dev` runs here."""
    if nats_url:
        return Found(nats_url=nats_url, monitor_url=read_settings().nats_monitor_url, ours=False)
    if (dev := home.dev()) is not None:
        return Found(nats_url=dev.nats_url, monitor_url=dev.monitor_url, ours=False)
    return None


@contextlib.asynccontextmanager
async def own_server(home: Home, use: Use, team: str = "") -> AsyncIterator[Found]:
    """A server on this directory's store, or on a store that is thrown away where another process has that one."""
    async with contextlib.AsyncExitStack() as stack:
        kept = await _lock(home, stack)
        server = EmbeddedServer(store_dir=home.store) if kept else EmbeddedServer()
        await stack.enter_async_context(server)
        if kept:
            home.hold(
                Holder(pid=os.getpid(), nats_url=server.url, monitor_url=server.monitor_url, team=team, use=use)
            )
        yield Found(nats_url=server.url, monitor_url=server.monitor_url, ours=True, kept=kept)


@contextlib.asynccontextmanager
async def readable_bus(nats_url: str, home: Home) -> AsyncIterator[Bus]:
    """A connection for a command that only looks. Without any bus, the store of this directory is served for it."""
    found = existing_bus(nats_url, home) or await _store_in_use(home)
    if found is not None:
        async with Bus(bus_settings(found)) as bus:
            yield bus
        return
    if not home.store.exists():
        raise NotRunning(
            f"there is no bus to look at: no --nats-url, no SHANTY_NATS_URL, no `shanty dev` in this directory, and "
            f"nothing was run here before ({home.store} is not there)"
        )
    async with own_server(home, "read") as own, Bus(bus_settings(own)) as bus:
        yield bus


@contextlib.asynccontextmanager
async def live_bus(nats_url: str, home: Home) -> AsyncIterator[Bus | None]:
    """A connection to a bus that agents may be on; None where there is no such bus."""
    found = existing_bus(nats_url, home) or await _store_in_use(home)
    if found is None:
        yield None
        return
    async with Bus(bus_settings(found)) as bus:
        yield bus


@contextlib.asynccontextmanager
async def answering(what: str) -> AsyncIterator[None]:
    """Calls of the bus wait out any outage; a command that only looks does not."""
    try:
        async with asyncio.timeout(ANSWER_DEADLINE_S):
            yield
    except TimeoutError:
        raise NotRunning(
            f"{what} could not be read within {ANSWER_DEADLINE_S:g} s: see `shanty doctor`; `shanty init-bus` makes "
            "what is missing"
        ) from None


async def answered(stored: AsyncIterator[Stored], what: str) -> AsyncIterator[Stored]:
    """Entries that are read one after the other, however many there are: the bus has to answer for each in time."""
    while True:
        async with answering(what):
            try:
                one = await anext(stored)
            except StopAsyncIteration:
                return
        yield one


async def cards_of(bus: Bus) -> tuple[AgentCard, ...]:
    async with answering("the roster"):
        return await bus.roster.cards()


async def _lock(home: Home, stack: contextlib.AsyncExitStack) -> bool:
    """Take the store's lock; wait for it only while somebody holds it who is about to let go."""
    deadline = asyncio.get_running_loop().time() + READER_DEADLINE_S
    while not stack.enter_context(home.locked()):
        holder = home.holder
        waits = holder is None or holder.use == "read"
        if not waits or asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(POLL_S)
    return True


async def _store_in_use(home: Home) -> Found | None:
    """The server of whoever runs something on the store; None where nobody has it.

    A command that only reads lets go soon and would take its server along: that one is waited for.
    """
    if not home.folder.exists():
        return None  # looking leaves no trace
    deadline = asyncio.get_running_loop().time() + READER_DEADLINE_S
    while True:
        with home.locked() as ours:
            if ours:
                return None
        if (holder := home.holder) is not None and holder.use != "read":
            return Found(nats_url=holder.nats_url, monitor_url=holder.monitor_url, ours=True)
        if asyncio.get_running_loop().time() > deadline:
            raise NotRunning(f"another process has had {home.store} for {READER_DEADLINE_S:g} s without serving it")
        await asyncio.sleep(POLL_S)


def answers(nats_url: str) -> bool:
    """Whether somebody takes connections at the first address of a NATS URL."""
    parts = urlsplit(nats_url.partition(",")[0])
    try:
        with socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 4222), PROBE_TIMEOUT_S):
            return True
    except OSError:
        return False


def _read_holder(path: Path) -> Holder | None:
    try:
        return _holders.decode(path.read_bytes())
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _write_holder(path: Path, holder: Holder) -> None:
    """In one step, so that nobody reads a half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}.new")
    fresh.write_bytes(msgspec.json.encode(holder) + b"\n")
    fresh.replace(path)
