"""What `shanty doctor` looks at besides: is the server well, is there space, are all copies there, does work wait."""

from __future__ import annotations

import asyncio
import shutil
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from shanty_cli.text import one_line, size
from shanty_protocol import AgentCard
from shanty_protocol.streams import entry_stream, file_stream, timer_stream
from shanty_runtime.bus import Bus
from shanty_runtime.bus.jetstream import manage
from shanty_runtime.errors import BusError, BusRefused

NEARLY_FULL = 0.8
LEAST_FREE_BYTES = 512 * 2**20
"""Free space on the disk of a server that runs on this machine."""
MONITOR_TIMEOUT_S = 2.0
DISK_FULL = ("no space left on device", "disk quota exceeded")

ARCHIVE = "take old runs off the bus with `shanty runs archive --delete`"
ROOM = f"{ARCHIVE}, or give the streams more with `shanty init-bus --max-bytes`"
RESTART = (
    "free space on its disk, then restart nats-server: until then a stream whose write has failed answers nobody. "
    "Services need no restart, and go on where they were. A max_file_store well below the size of the disk refuses "
    "writes before that happens"
)
UNSEEN = "set SHANTY_NATS_MONITOR_URL to the server's monitoring address"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "bad", "unknown"]
    found: str
    mend: str = ""


# The server


class _Health(msgspec.Struct, frozen=True):
    status: str = ""
    error: str = ""


class _Limits(msgspec.Struct, frozen=True):
    max_storage: int = 0
    store_dir: str = ""


class _Used(msgspec.Struct, frozen=True):
    storage: int = 0


class _JetStream(msgspec.Struct, frozen=True):
    config: _Limits = _Limits()
    stats: _Used = _Used()


class _Varz(msgspec.Struct, frozen=True):
    server_name: str = ""
    slow_consumers: int = 0
    jetstream: _JetStream = _JetStream()


# Made here, and not in the threads that ask: see `shanty_runtime.bus.durability`.
_health_decoder = msgspec.json.Decoder(_Health)
_varz_decoder = msgspec.json.Decoder(_Varz)


async def server_health(monitor_urls: str) -> Check:
    """What the servers say of themselves, each by its monitoring port."""
    if not monitor_urls:
        return Check(name="server health", state="unknown", found="the server's health cannot be seen", mend=UNSEEN)
    urls = [url.strip().rstrip("/") for url in monitor_urls.split(",")]
    found = await asyncio.gather(*(asyncio.to_thread(_health, url) for url in urls))
    sick = [f"{url}: {said}" for url, said in zip(urls, found, strict=True) if said]
    if not sick:
        return Check(name="server health", state="ok", found="every server says it is well")
    told = "; ".join(sick)
    if any(sign in told for sign in DISK_FULL):
        return Check(name="server health", state="bad", found=f"the server's disk is full: {told}", mend=RESTART)
    mend = "start the server, or read its log: it says what it waits for"
    return Check(name="server health", state="bad", found=told, mend=mend)


def _health(monitor_url: str) -> str:
    """Why a server is not well; empty where it is."""
    try:
        with urllib.request.urlopen(f"{monitor_url}/healthz", timeout=MONITOR_TIMEOUT_S):
            return ""
    except urllib.error.HTTPError as error:
        with error:
            body = error.read()
    except (OSError, ValueError) as error:
        return f"it does not answer: {error}"
    try:
        return _health_decoder.decode(body).error or "it says that it is not well"
    except msgspec.DecodeError:
        return one_line(body.decode(errors="replace"))


async def slow_consumers(monitor_urls: str) -> AsyncIterator[Check]:
    """Only where there were any: the server counts them for as long as it runs."""
    for server in await _servers(monitor_urls):
        if server.slow_consumers:
            yield Check(
                name="slow consumers",
                state="unknown",
                found=f"{server.server_name} has hung up on {server.slow_consumers} that did not read what it sent",
                mend="harmless where somebody stopped a terminal that followed a run; a service that is hung up on "
                "has too little CPU, and says that it connected again",
            )


async def _servers(monitor_urls: str) -> list[_Varz]:
    urls = [url.strip().rstrip("/") for url in monitor_urls.split(",") if url.strip()]
    found = await asyncio.gather(*(asyncio.to_thread(_varz, url) for url in urls))
    return [each for each in found if each is not None]


def _varz(monitor_url: str) -> _Varz | None:
    try:
        with urllib.request.urlopen(f"{monitor_url}/varz", timeout=MONITOR_TIMEOUT_S) as answer:
            return _varz_decoder.decode(answer.read())
    except (OSError, ValueError):
        return None  # the check of its health says so


# Space


class _State(msgspec.Struct, frozen=True):
    bytes: int = 0


class _Config(msgspec.Struct, frozen=True):
    max_bytes: int = -1
    max_age: int = 0
    """In nanoseconds; 0 where nothing is too old."""
    num_replicas: int = 1


class _Peer(msgspec.Struct, frozen=True):
    name: str
    offline: bool = False
    current: bool = True


class _Cluster(msgspec.Struct, frozen=True):
    leader: str = ""
    replicas: tuple[_Peer, ...] = ()


class Stream(msgspec.Struct, frozen=True):
    """What the server says of a stream."""

    config: _Config
    state: _State
    cluster: _Cluster = _Cluster()


class _AccountLimits(msgspec.Struct, frozen=True):
    max_storage: int = -1


class _Account(msgspec.Struct, frozen=True):
    storage: int = 0
    limits: _AccountLimits = _AccountLimits()


async def streams_of(bus: Bus, lanes: Sequence[str]) -> dict[str, Stream | BusError]:
    names = [name for lane in lanes for name in (entry_stream(lane), timer_stream(lane), file_stream(lane))]
    found: dict[str, Stream | BusError] = {}
    for name in names:
        try:
            found[name] = msgspec.convert(await manage(bus.connection, f"STREAM.INFO.{name}"), Stream)
        except BusError as error:
            found[name] = error
    return found


async def space(bus: Bus, monitor_urls: str, streams: dict[str, Stream | BusError]) -> Check:
    """How near each limit is: a stream's, the account's, the server's, and the disk's where it is this machine's."""
    fullest, tight = 0.0, []
    for what, used_bytes, most_bytes, mend in [
        *_limits_of_streams(streams),
        *await _limit_of_account(bus),
        *_limits_of_servers(await _servers(monitor_urls)),
    ]:
        part = used_bytes / most_bytes
        fullest = max(fullest, part)
        if part >= NEARLY_FULL:
            tight.append((f"{what} is {part:.0%} full ({size(used_bytes)} of {size(most_bytes)})", mend))
    if tight:
        mends = dict.fromkeys(mend for _, mend in tight)
        return Check(name="space", state="bad", found="; ".join(found for found, _ in tight), mend="; ".join(mends))
    return Check(name="space", state="ok", found=f"the fullest of what has a limit is {fullest:.0%} full")


Limit = tuple[str, int, int, str]
"""What it is of, what is used of it, how much it is, and how it is raised."""


def _limits_of_streams(streams: dict[str, Stream | BusError]) -> list[Limit]:
    known = [(name, each) for name, each in streams.items() if isinstance(each, Stream)]
    return [
        (name, each.state.bytes, each.config.max_bytes, ROOM) for name, each in known if each.config.max_bytes > 0
    ]


async def _limit_of_account(bus: Bus) -> list[Limit]:
    try:
        account = msgspec.convert(await manage(bus.connection, "INFO"), _Account)
    except BusError:
        return []
    if account.limits.max_storage <= 0:
        return []
    mend = f"{ARCHIVE}, or raise max_file of the account in the server's configuration"
    return [("what this account may store", account.storage, account.limits.max_storage, mend)]


def _limits_of_servers(servers: Sequence[_Varz]) -> list[Limit]:
    found: list[Limit] = []
    mend = f"{ARCHIVE}, or raise max_file_store in the server's configuration"
    for server in servers:
        limits, used_bytes = server.jetstream.config, server.jetstream.stats.storage
        if limits.max_storage > 0:
            found.append((f"the store of {server.server_name}", used_bytes, limits.max_storage, mend))
        store = Path(limits.store_dir)
        if limits.store_dir and store.is_dir():  # it runs on this machine, or this machine has such a directory too
            disk = shutil.disk_usage(store)
            if disk.free < LEAST_FREE_BYTES:
                free = (
                    f"free space on it: a write that fails there stops its stream until {server.server_name} restarts"
                )
                found.append((f"the disk of {store}", disk.used, disk.used + disk.free, free))
    return found


# Copies and leaders


def copies(streams: dict[str, Stream | BusError]) -> Check | None:
    """Where streams have several copies: is each led, and is each copy there? None where there is one server."""
    lost: list[str] = []
    replicated = False
    for name, stream in streams.items():
        if isinstance(stream, BusRefused):
            continue  # this account may not look, or it is not there: the layout says so
        if isinstance(stream, BusError):
            replicated = True
            lost.append(f"{name} has no leader, or it does not answer")
        elif stream.config.num_replicas > 1:
            replicated = True
            away = [peer.name for peer in stream.cluster.replicas if peer.offline or not peer.current]
            if away:
                lost.append(f"{name} lacks its copy on {', '.join(away)}")
    if not replicated:
        return None
    if not lost:
        return Check(name="copies", state="ok", found="every stream has a leader and all its copies")
    return Check(
        name="copies",
        state="bad",
        found="; ".join(lost),
        mend="start the servers that are missing; work goes on while more than half of them are up, and else waits",
    )


# What waits


def waiting_work(cards: Sequence[AgentCard]) -> Check | None:
    """What services say on their cards about why they wait. None where nobody does."""
    waiting = [f"{card.agent} ({card.replica}): {card.waits_for}" for card in cards if card.waits_for]
    if not waiting:
        return None
    return Check(
        name="waiting work",
        state="bad",
        found="; ".join(map(one_line, waiting)),
        mend="make room, as the checks above say; services go on by themselves",
    )
