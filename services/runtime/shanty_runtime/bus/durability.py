"""Does an ack of this server mean that the message is on the disk?

By default a NATS server flushes every two minutes, after acking: a power cut loses what was acked since. Only
`sync_always` of its configuration tells (`sync_interval` reports two minutes either way), and only the monitoring
port or the system account shows that.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import msgspec

from shanty_runtime.bus.wire import Incoming
from shanty_runtime.errors import BusError

if TYPE_CHECKING:
    from shanty_runtime.bus.bus import Bus

OLDEST_SERVER = (2, 15, 1)
"""Older ones have storage and security faults that were mended since."""
LOOK_TIMEOUT_S = 2.0

NOBODY_LOOKS = "this account may not ask, and no monitoring address is set (SHANTY_NATS_MONITOR_URL)"
FIX = "set `jetstream { sync_interval: always }` in the server's configuration"


class Durability(msgspec.Struct, frozen=True, kw_only=True):
    """`verified` is None where nobody may look."""

    verified: bool | None
    reason: str


class _Config(msgspec.Struct, frozen=True):
    sync_always: bool = False


class _JetStream(msgspec.Struct, frozen=True):
    config: _Config | None = None


class _Varz(msgspec.Struct, frozen=True):
    server_name: str = ""
    jetstream: _JetStream = _JetStream()


class _Seen(msgspec.Struct, frozen=True):
    """What servers say of themselves."""

    servers: tuple[_Varz, ...]
    unseen: tuple[str, ...] = ()
    """Those that were to be asked and did not answer, each with the reason."""

    @property
    def enough(self) -> bool:
        return len(self.servers) > len(self.unseen)


class _SystemAnswer(msgspec.Struct, frozen=True):
    data: _Varz | None = None


# Not built in the threads that ask: msgspec looks at a type when it first has to decode one, and where several
# threads have it do so at once it may take the process down with it (seen with 0.22).
_varz = msgspec.json.Decoder(_Varz)
_system_answers = msgspec.json.Decoder(_SystemAnswer)


async def durability(bus: Bus, monitor_url: str = "") -> Durability:
    """Look by the monitoring ports (several, separated by commas) or, if there are none, by the system account.

    Of several, a majority has to answer, as it has to for the cluster to work at all: a service has to be able to
    start while one of three servers is down. Every one that answers has to be durable.
    """
    version = bus.connection.server_version
    if _numbers(version) < OLDEST_SERVER:
        oldest = ".".join(map(str, OLDEST_SERVER))
        return Durability(verified=False, reason=f"nats-server {version} is older than {oldest}: upgrade it")
    if not monitor_url and bus.settings.zone == "agent":
        return Durability(verified=None, reason=NOBODY_LOOKS)
    seen = await (_over_http(monitor_url) if monitor_url else _over_system_account(bus))
    lax = [server.server_name for server in seen.servers if not _is_durable(server)]
    if lax:
        return Durability(verified=False, reason=f"{', '.join(lax)} acks before it flushes: {FIX}")
    if not seen.enough:
        return Durability(verified=None, reason="; ".join(seen.unseen))
    number = len(seen.servers)
    flush = f"{number} of {number + len(seen.unseen)} servers flush before they ack"
    return Durability(verified=True, reason="; ".join((flush, *seen.unseen)))


def _is_durable(server: _Varz) -> bool:
    return server.jetstream.config is not None and server.jetstream.config.sync_always


async def _over_http(monitor_urls: str) -> _Seen:
    found = await asyncio.gather(*(_ask(url.strip()) for url in monitor_urls.split(",")))
    return _Seen(
        servers=tuple(each for each in found if isinstance(each, _Varz)),
        unseen=tuple(each for each in found if isinstance(each, str)),
    )


async def _ask(url: str) -> _Varz | str:
    """What a server says of itself, or why that is not known."""
    try:
        return _varz.decode(await asyncio.to_thread(_fetch, f"{url.rstrip('/')}/varz"))
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        return f"{url} cannot be read: {error}"


def _fetch(url: str) -> bytes:
    if not url.startswith(("http://", "https://")):
        raise ValueError("it is not an http address")
    with urllib.request.urlopen(url, timeout=LOOK_TIMEOUT_S) as answer:
        body: bytes = answer.read()
        return body


async def _over_system_account(bus: Bus) -> _Seen:
    found: list[_Varz] = []

    def hear(answer: Incoming) -> bool:
        with contextlib.suppress(msgspec.MsgspecError):
            if (server := _system_answers.decode(answer.data).data) is not None:
                found.append(server)
        return False

    # Every server of a cluster answers, and nobody says which answer is the last.
    with contextlib.suppress(BusError):
        await bus.connection.converse("$SYS.REQ.SERVER.PING.VARZ", b"", hear, timeout_s=0.5)
    return _Seen(servers=tuple(found), unseen=() if found else (NOBODY_LOOKS,))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("-")[0])[:3])
