"""One connection to NATS that keeps its promises over restarts of the server.

nats-py reads and writes the protocol; what a service has to rely on is put right here, and in client.py:

* a request that is in flight when the connection breaks fails at once, as BusUnavailable
* a write the account may not make raises PermissionDenied at once; the server only sends an error of its own
* an error the server sends never closes the client for good: it connects again, for ever, with jitter
* a login that is refused is told at once at the start; later it is tried again, with what is on the disk by then
* TLS that was asked for is never left out because the server does not offer it
* a flush that times out does not end the read loop (nats-py 2.16 sets a result on a cancelled future), one that is
  cancelled ends, and a flush covers what was sent before it
* nothing of nats-py is raised to the outside

Messages are handed to plain functions straight from the parser, without a queue or a task of their own: whoever
listens decides what to keep.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from typing import Any, TypeVar

import nats.errors
from nats.aio.client import Server

from shanty_protocol.streams import LEADER_ELECTED, MAX_MESSAGE_BYTES
from shanty_runtime.bus.backoff import Backoff
from shanty_runtime.bus.client import NatsClient
from shanty_runtime.bus.clock import Clock
from shanty_runtime.bus.elections import Elections
from shanty_runtime.bus.login import check_files
from shanty_runtime.bus.pressure import Pressure
from shanty_runtime.bus.refusals import refusal_of
from shanty_runtime.bus.settings import BusSettings
from shanty_runtime.bus.wire import Heard, Incoming, command_line, header_block
from shanty_runtime.errors import (
    BusError,
    BusFull,
    BusRefused,
    BusUnavailable,
    PayloadTooLarge,
    PermissionDenied,
    ShantyError,
)
from shanty_runtime.telemetry import metrics

logger = logging.getLogger("shanty.bus")

DEFAULT_PORT = 4222
PING_INTERVAL_S = 10
PINGS_OUTSTANDING = 2
RECONNECT_FIRST_S = 0.05
RECONNECT_MOST_S = 2.0
RECONNECT_REFUSED_MOST_S = 10.0
"""Longest pause of somebody who is not let in: new credentials are put on the disk by hand, or by an operator."""
MAX_WAITING_BYTES = 8 * 2**20
"""Most that is kept for the server while it is slow or away."""

EXPIRY_CHECK_S = 0.1
"""How much later than it should a request may be given up that is not answered."""
LEADERLESS_S = 1.0
"""A request that has waited for so long when a leader is elected was asked of the one before."""

NO_RESPONDERS = 503

# nats-py lower-cases what the server says, so subjects are compared in lower case.
_DENIED = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"')

T = TypeVar("T")


Reconnected = Callable[[], None]


class Connection:
    """`open` returns when connected or raises; `close` may be called twice, and before `open`."""

    def __init__(self, settings: BusSettings) -> None:
        self.settings = settings
        self.on_reconnect: list[Reconnected] = []
        self.elections = Elections()
        """When it is worth trying again."""
        self.elections.on_elected.append(self._on_elected)
        self._client = NatsClient(self.settings, self)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked: dict[str, _Asked] = {}
        self._asked_count = 0
        self._address_of: tuple[object, tuple[str, int] | None] = None, None
        self._expiring: asyncio.TimerHandle | None = None
        self._answers = ""
        self._denial_watchers: dict[str, Callable[[PermissionDenied], None]] = {}
        self._denied_subscriptions: set[str] = set()
        self._not_let_in: asyncio.Future[ShantyError] | None = None
        self._refused = False
        self._last_error = ""
        self._available = asyncio.Event()

    # Life

    async def open(self) -> None:
        if self._client.opened and not self._client.closing:
            return
        check_files(self.settings)
        self._client = NatsClient(self.settings, self)
        self._client.opened = True
        self._refused = False
        self._loop = asyncio.get_running_loop()
        self._not_let_in = self._loop.create_future()
        connecting = asyncio.create_task(self._connect())
        waiting: set[asyncio.Future[Any]] = {connecting, self._not_let_in}
        try:
            await asyncio.wait(waiting, timeout=self.settings.connect_timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                raise self._why_not_connected()
            await connecting
            self._answers = f"{self.new_inbox()}."
            await self.listen(f"{self._answers}*", self._on_answer)
            with contextlib.suppress(PermissionDenied):  # its account is of before: it looks by itself
                await self.listen(LEADER_ELECTED, self.elections.hear)
            self._available.set()
            metrics.bus_connected(True)
        except BaseException:
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
            await self.close()
            raise
        finally:
            self._not_let_in = None

    async def close(self) -> None:
        """Write out what is buffered, then hang up. Requests still in flight fail."""
        client = self._client
        if client.closing or client._flush_queue is None:  # closed before, or never connected
            return
        client.closing = True
        self._available.set()
        metrics.bus_connected(False)
        try:
            await self.flush()
        except BusUnavailable:
            client.hang_up()
        # nats-py cancels its own reconnecting while that waits for the old socket to close, and then waits for the
        # same: its close ends in a CancelledError that nobody asked for. In a task of its own that is only a result.
        await asyncio.gather(asyncio.create_task(client.close()), return_exceptions=True)
        self._fail_requests("the connection was closed")
        if self._expiring is not None:
            self._expiring.cancel()
            self._expiring = None

    @cached_property
    def clock(self) -> Clock:
        """What time it is for everybody who uses this bus."""
        return Clock()

    @cached_property
    def pressure(self) -> Pressure:
        """What waits because the bus does not take it now."""
        return Pressure()

    @property
    def connected(self) -> bool:
        return bool(self._client.is_connected)

    @property
    def server_version(self) -> str:
        return str(self._client._server_info.get("version", ""))

    @property
    def server_address(self) -> tuple[str, int] | None:
        server = self._client._current_server
        if server is None or not self.connected:
            return None
        if server is not self._address_of[0]:  # a URL is taken apart once
            host = server.uri.hostname
            self._address_of = server, None if host is None else (host, server.uri.port or DEFAULT_PORT)
        return self._address_of[1]

    @property
    def max_payload(self) -> int:
        return int(self._client.max_payload)

    # Sending

    async def request(
        self, subject: str, data: bytes = b"", headers: Mapping[str, str] | None = None, *, timeout_s: float = 0.0
    ) -> Incoming:
        """Send a message and await the one answer to it. Raises BusUnavailable where none came in time."""
        asked = self._ask(subject, data, None, headers, timeout_s)
        try:
            if self._client.has_to_wait:
                await self._client.flushed()
            return await asked.done
        finally:
            self._forget(asked)

    async def converse(
        self,
        subject: str,
        data: bytes,
        hear: Callable[[Incoming], bool],
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float = 0.0,
    ) -> None:
        """Send a message that has many answers. `hear` gets each one and says True to the last.

        Raises BusUnavailable where nothing more came for `timeout_s`.
        """
        asked = self._ask(subject, data, hear, headers, timeout_s)
        try:
            if self._client.has_to_wait:
                await self._client.flushed()
            await asked.done
        finally:
            self._forget(asked)

    def _ask(
        self,
        subject: str,
        data: bytes,
        hear: Callable[[Incoming], bool] | None,
        headers: Mapping[str, str] | None,
        timeout_s: float,
    ) -> _Asked:
        """Send a message that is answered. Whoever asks says `_forget` in the end."""
        if not self._client.is_connected:
            raise BusUnavailable(f"not connected to {self.settings.where}: {self._last_error or 'trying again'}")
        self._asked_count += 1
        assert self._loop is not None, "it is connected"
        reply, timeout_s = f"{self._answers}{self._asked_count}", timeout_s or self.settings.request_timeout_s
        asked = _Asked(self._loop, reply, subject, hear, timeout_s)
        self._send(subject, data, asked.reply, headers)
        self._asked[asked.reply] = asked
        if self._expiring is None:
            self._expiring = self._loop.call_later(EXPIRY_CHECK_S, self._expire)
        return asked

    def _forget(self, asked: _Asked) -> None:
        """Nobody waits any more. asyncio would complain of an error that nobody looked at."""
        del self._asked[asked.reply]
        if asked.failed:
            asked.done.exception()

    def _expire(self) -> None:
        """Give up what has waited for too long. One timer looks at all: most are answered before it does."""
        self._expiring = None
        for asked in self._asked.values():
            asked.expire(asked.timeout_s)
        if self._asked and self._loop is not None:
            self._expiring = self._loop.call_later(EXPIRY_CHECK_S, self._expire)

    async def persist(self, what: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try until it works or is cancelled. An outage or a lack of space is waited out; anything else raises."""
        try:
            return await attempt()
        except (BusUnavailable, BusFull) as error:
            first = error
        backoff = Backoff()
        try:
            return await self._try_again(what, attempt, first, backoff)
        finally:
            self.pressure.over(backoff)

    async def _try_again(
        self, what: str, attempt: Callable[[], Awaitable[T]], error: BusError, backoff: Backoff
    ) -> T:
        while True:
            if self._client.closing or not self._client.opened:
                raise error
            if self._available.is_set():
                self.pressure.refused(backoff, backoff.tries + 1, what, error)
                await self.elections.pause(backoff)
            else:
                await self._available.wait()
            try:
                return await attempt()
            except (BusUnavailable, BusFull) as again:
                error = again

    async def publish(
        self, subject: str, data: bytes = b"", headers: Mapping[str, str] | None = None, *, reply: str = ""
    ) -> None:
        """Send a message and await nothing. While the connection is away it is kept, up to a limit."""
        self._send(subject, data, reply, headers)
        if self._client.has_to_wait:
            await self._client.flushed()

    def _send(self, subject: str, data: bytes, reply: str, headers: Mapping[str, str] | None) -> None:
        block = header_block(headers) if headers else b""
        size_bytes = len(block) + len(data)
        if size_bytes > MAX_MESSAGE_BYTES or size_bytes > self._client._max_payload:
            limit_bytes = min(self.max_payload, MAX_MESSAGE_BYTES)
            raise PayloadTooLarge(f"the message on {subject}", size_bytes, limit_bytes)
        try:
            self._client.send(command_line(subject, reply, len(block), size_bytes), block, data)
        except nats.errors.Error as error:
            raise translated(f"publishing on {subject}", error) from error

    # Hearing

    async def listen(self, subject: str, heard: Heard, *, queue: str = "") -> Listening:
        """Call `heard` for every message on a subject. Once this returns, nothing sent later is missed."""
        client = self._client
        # The number it is about to get: what arrives before `subscribe` returns must find its listener.
        number = client._sid + 1
        client.heard[number] = heard
        try:
            sub = await client.subscribe(subject, queue)
        except nats.errors.Error as error:
            del client.heard[number]
            raise translated(f"subscribing to {subject}", error) from error
        listening = Listening(self, subject, sub)
        # The server handles one connection's commands in order: its pong says that it has our interest. While the
        # connection is away there is nothing to wait for: the client subscribes again when it is back.
        with contextlib.suppress(BusUnavailable):
            await self.flush()
        if subject.lower() in self._denied_subscriptions:
            self._denied_subscriptions.discard(subject.lower())
            await listening.stop()
            raise PermissionDenied(f"subscribing to {subject}", 0, "this account may not hear it")
        return listening

    async def flush(self) -> None:
        """Return once the server has seen everything sent so far."""
        if not self.connected:
            raise BusUnavailable("not connected")
        # nats-py's own waits in a way that, in Python 3.11, loses a cancellation that comes together with the pong.
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self.settings.request_timeout_s):
                await self._client._send_ping(answered)
                await answered
        except TimeoutError as error:
            raise BusUnavailable("flush: the server did not answer") from error
        except (nats.errors.Error, OSError) as error:
            raise translated("flush", error) from error

    def new_inbox(self) -> str:
        return str(self._client.new_inbox())

    def watch_denial(self, subject: str, denied: Callable[[PermissionDenied], None] | None) -> None:
        """Call `denied` if the server refuses what is published on `subject`; None stops watching."""
        if denied is None:
            self._denial_watchers.pop(subject.lower(), None)
        else:
            self._denial_watchers[subject.lower()] = denied

    # What the client tells us

    def _on_answer(self, answer: Incoming) -> None:
        if (asked := self._asked.get(answer.subject)) is not None:
            asked.take(answer)

    def _on_elected(self) -> None:
        for asked in self._asked.values():
            asked.expire(min(asked.timeout_s, LEADERLESS_S))

    def _on_denied(self, verb: str, subject: str) -> None:
        if verb == "subscription":
            is_told = subject != LEADER_ELECTED.lower()  # who may not hear of elections looks by itself
            logger.log(logging.WARNING if is_told else logging.DEBUG, "this account may not hear %s", subject)
            self._denied_subscriptions.add(subject)
            return
        asking = [asked for asked in self._asked.values() if asked.subject.lower() == subject]
        for asked in asking:
            asked.fail(PermissionDenied(f"publishing on {asked.subject}", 0, "this account may not do that"))
        watcher = self._denial_watchers.get(subject)
        if watcher is None and not asking:
            logger.error("this account may not publish %s", subject)
        if watcher is not None:
            watcher(PermissionDenied(f"publishing on {subject}", 0, "this account may not do that"))

    def disconnected(self) -> None:
        if not self._client.closing:
            self._available.clear()
            metrics.bus_connected(False)
            logger.warning("connection to NATS lost; trying again")
        self._fail_requests("the connection broke")

    def reconnected(self) -> None:
        self._refused = False
        logger.info("connected to NATS again")
        metrics.bus_reconnected()
        self._available.set()
        for tell in list(self.on_reconnect):
            tell()

    def failed(self, error: Exception) -> None:
        said = str(error) or type(error).__name__
        self._last_error = said
        if (found := _DENIED.search(said)) is not None:
            self._on_denied(found[1], found[2])
            return
        refusal = refusal_of(error, self.settings)
        if self._not_let_in is not None:
            if refusal is not None and not self._not_let_in.done():
                self._not_let_in.set_result(refusal)
            return
        if refusal is None:
            logger.log(logging.DEBUG if isinstance(error, OSError) else logging.WARNING, "NATS: %s", said)
        elif not self._refused:
            # Once, and not at every try: what follows is the same until somebody renews the credentials.
            logger.error("%s; trying again with what is on the disk by then", refusal)
        self._refused = refusal is not None or self._refused

    # Details

    async def _connect(self) -> None:
        settings = self.settings
        try:
            await self._client.connect(
                [url.strip() for url in settings.url.split(",")],
                name=settings.name,
                user=settings.user or None,
                password=settings.password or None,
                tls_handshake_first=settings.tls_first,
                inbox_prefix=settings.inbox_prefix,
                max_reconnect_attempts=-1,
                reconnect_to_server_handler=self._pick_server,
                reconnect_time_wait=RECONNECT_FIRST_S,  # type: ignore[arg-type]  # annotated int, used as seconds
                connect_timeout=2,
                ping_interval=PING_INTERVAL_S,
                max_outstanding_pings=PINGS_OUTSTANDING,
                pending_size=MAX_WAITING_BYTES,
                error_cb=self._client.on_error,
                disconnected_cb=self._client.on_disconnect,
                reconnected_cb=self._client.on_reconnect,
                closed_cb=self._client.on_closed,
            )
        except (nats.errors.Error, OSError) as error:
            raise translated(f"connecting to {self.settings.where}", error) from error

    def _why_not_connected(self) -> ShantyError:
        assert self._not_let_in is not None
        if self._not_let_in.done():
            return self._not_let_in.result()
        waited = f"within {self.settings.connect_timeout_s:g} s"
        because = f": {self._last_error}" if self._last_error else ""
        return BusUnavailable(f"no NATS server answered at {self.settings.where} {waited}{because}")

    def _pick_server(self, servers: list[Server], _info: dict[str, Any]) -> tuple[Server | None, float]:
        """Any server of the cluster, after a pause that grows with the tries it has had and is jittered."""
        server = random.choice(servers)
        most_s = RECONNECT_REFUSED_MOST_S if self._refused else RECONNECT_MOST_S
        ceiling_s = min(most_s, RECONNECT_FIRST_S * 2 ** min(server.reconnects, 10))
        return server, random.uniform(RECONNECT_FIRST_S / 5, ceiling_s)

    def _fail_requests(self, why: str) -> None:
        for asked in self._asked.values():
            asked.fail(BusUnavailable(f"{why} before {asked.subject} was answered"))


class Listening:
    """Interest in a subject. After `stop` returns nothing more is heard."""

    def __init__(self, connection: Connection, subject: str, sub: Any) -> None:
        self.subject = subject
        self._connection = connection
        self._sub = sub

    async def stop(self) -> None:
        client = self._connection._client
        if self._sub._id not in client.heard:
            return
        try:
            await self._sub.unsubscribe()
            if client.is_connected:
                # What was on its way when we said so still arrives before this returns.
                await self._connection.flush()
        except (nats.errors.Error, BusError) as error:
            logger.debug("unsubscribing from %s: %s", self.subject, error)
        finally:
            client.heard.pop(self._sub._id, None)


class _Asked:
    """A request that waits for its answers."""

    __slots__ = ("done", "failed", "hear", "heard_at_s", "reply", "subject", "timeout_s")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        reply: str,
        subject: str,
        hear: Callable[[Incoming], bool] | None,
        timeout_s: float,
    ) -> None:
        self.reply = reply
        self.subject = subject
        self.hear = hear
        """None where there is one answer."""
        self.timeout_s = timeout_s
        self.done: asyncio.Future[Incoming] = loop.create_future()
        self.failed = False
        self.heard_at_s = time.monotonic()

    def take(self, answer: Incoming) -> None:
        if self.done.done():
            return
        if answer.status == NO_RESPONDERS:
            self.fail(BusUnavailable(f"nobody answers on {self.subject}"))
            return
        if self.hear is None:
            self.done.set_result(answer)
            return
        self.heard_at_s = time.monotonic()
        try:
            complete = self.hear(answer)
        except Exception as error:
            # Whatever is wrong with an answer concerns whoever asked, not the loop that reads the connection.
            self.fail(error)
            return
        if complete:
            self.done.set_result(answer)

    def expire(self, after_s: float) -> None:
        if self.heard_at_s + after_s <= time.monotonic():
            self.fail(BusUnavailable(f"no answer on {self.subject} within {after_s:g} s"))

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.failed = True
            self.done.set_exception(error)


def translated(what: str, error: Exception) -> BusError:
    """An exception of nats-py as one of ours."""
    match error:
        case nats.errors.BadSubjectError():
            return BusRefused(what, 0, str(error).removeprefix("nats: "))
        case _:
            return BusUnavailable(f"{what}: {str(error).removeprefix('nats: ') or type(error).__name__}")
