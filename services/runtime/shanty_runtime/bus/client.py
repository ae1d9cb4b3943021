"""nats-py's client with its holes closed. Nothing here decides what is done about what it learns."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from typing import Any, Protocol

import nats.errors
from nats.aio.client import PING_PROTO, Client

from shanty_runtime.bus.login import Login, read_login, tls_context, wants_tls
from shanty_runtime.bus.refusals import NotLetIn
from shanty_runtime.bus.settings import BusSettings
from shanty_runtime.bus.wire import Heard, MessageParser, Unread
from shanty_runtime.errors import ConfigError

logger = logging.getLogger("shanty.bus")

WRITE_BUFFER_BYTES = 64 * 2**10
"""What the socket has not taken yet, from which on nothing is added to it."""


class Owner(Protocol):
    """Who is told."""

    def failed(self, error: Exception) -> None:
        """The server said so, or the socket."""

    def disconnected(self) -> None: ...

    def reconnected(self) -> None: ...


class NatsClient(Client):
    """Everything it learns goes to its owner."""

    def __init__(self, settings: BusSettings, owner: Owner) -> None:
        super().__init__()
        self.settings = settings
        self.owner = owner
        self.opened = False
        self.closing = False
        self.heard: dict[int, Heard] = {}
        self._ps = MessageParser(self, self.take)
        self._writing_soon = False

    def send(self, command: bytes, headers: bytes, data: bytes) -> None:
        """Instead of `publish`, which checks every header's name, and swallows a cancellation while it waits.

        Whoever sends says `flushed` where `has_to_wait` is true then.
        """
        if self._flush_queue is None or self.is_closed:
            raise nats.errors.ConnectionClosedError
        if self._pending_data_size + len(data) > self._max_pending_size and not self.is_connected:
            raise nats.errors.OutboundBufferLimitError
        frame = b"".join((command, headers, data, b"\r\n"))
        self._pending.append(frame)
        self._pending_data_size += len(frame)
        if not self._writing_soon:
            self._writing_soon = True
            asyncio.get_running_loop().call_soon(self._write_out)

    @property
    def has_to_wait(self) -> bool:
        """Whether more is kept for the server than should be."""
        return bool(self._pending_data_size > self._max_pending_size)

    async def flushed(self) -> None:
        assert self._flush_queue is not None, "something was sent"
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._flush_queue.put(done)
        await done

    def _write_out(self) -> None:
        """Write what was sent since the event loop came by last, all at once."""
        self._writing_soon = False
        if not self._pending or not self.is_connected or self._flush_queue is None:
            return  # what is kept is written once it is connected again
        writer = getattr(self._transport, "_io_writer", None)
        if writer is None or writer.transport.get_write_buffer_size() > WRITE_BUFFER_BYTES:
            # nats-py's flusher waits until the socket takes more.
            if self._flush_queue.empty():
                self._flush_queue.put_nowait(asyncio.get_running_loop().create_future())
            return
        frames, self._pending, self._pending_data_size = self._pending, [], 0
        # A socket that was closed under us says so to whoever reads it. What was under way is lost as in any break.
        with contextlib.suppress(OSError, RuntimeError):
            writer.write(b"".join(frames))

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        self.take(sid, subject, reply, data, headers or b"")

    def take(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        heard = self.heard.get(sid)
        if heard is None:
            return
        try:
            heard(Unread(subject.decode(), reply.decode(), data, headers))
        except Exception:
            # Raised any further it would end the read loop, and the connection would be deaf.
            logger.exception("hearing a message on %r failed", subject)

    # What nats-py reads once, or not at all, is read here at every connect.

    async def _connect_to_server(self, s: Any) -> None:
        self.hang_up()  # nats-py leaves the socket of a login that was refused to the garbage collector
        await super()._connect_to_server(s)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        settings = self.settings
        if initial_connection and wants_tls(settings) and not settings.tls_first:
            if not (info.get("tls_required") or info.get("tls_available")):
                raise NotLetIn(f"{settings.where} does not speak TLS, and is not spoken to without it")
            info["tls_required"] = True  # nats-py would stay in the clear where TLS is only offered
        await super()._process_info(info, initial_connection=initial_connection)

    @property
    def ssl_context(self) -> ssl.SSLContext:
        try:
            return tls_context(self.settings)
        except ConfigError as error:
            raise NotLetIn(str(error)) from error

    def _connect_command(self) -> bytes:
        try:
            login: Login = read_login(self.settings)
        except ConfigError as error:
            raise NotLetIn(str(error)) from error
        self._auth_configured = self._auth_configured or login.key is not None or bool(login.token)
        self._signature_cb = None if login.key is None else login.sign
        self._user_jwt_cb = (lambda: bytearray(login.jwt.encode())) if login.jwt else None
        self._public_nkey = None if login.key is None else login.key.public
        self.options["token"] = login.token or None
        return bytes(super()._connect_command())

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        # nats-py writes the ping around the commands that are still buffered, so its pong proves nothing about them.
        self._pongs.append(future or asyncio.get_running_loop().create_future())
        await self._send_command(PING_PROTO)
        await self._flush_pending()

    async def _process_pong(self) -> None:
        if self._pongs:
            waiting = self._pongs.pop(0)
            if not waiting.done():
                waiting.set_result(True)
            self._pongs_received += 1
        self._pings_outstanding = 0

    async def _process_err(self, err_msg: str) -> None:
        error = nats.errors.Error(f"nats: {err_msg.strip(chr(39))}")
        self.owner.failed(error)
        if "permissions violation" not in err_msg:
            # The server hangs up after any other error. nats-py would close for good.
            await self._process_op_err(error)

    async def _process_op_err(self, e: Exception) -> None:
        if not self.is_closed and not self.is_reconnecting:
            self.hang_up()
        await super()._process_op_err(e)

    def hang_up(self) -> None:
        """Drop the socket with all that was to be written: its close would wait for a peer that may be gone."""
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    async def on_error(self, error: Exception) -> None:
        self.owner.failed(error)

    async def on_disconnect(self) -> None:
        # A ping left over from the old connection would have its pong taken for that of a later one.
        self._pending = [command for command in self._pending if command != PING_PROTO]
        self._pending_data_size = sum(map(len, self._pending))
        self.owner.disconnected()

    async def on_reconnect(self) -> None:
        self.owner.reconnected()

    async def on_closed(self) -> None:
        if not self.closing:
            logger.error("the connection to NATS was closed for good")
