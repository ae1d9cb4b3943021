"""One connection to an MCP server, in bounded memory, whose calls end in an outcome and never in an exception.

The SDK's own transports hold a whole message before anybody can look at its size, and a broken request of one call
takes the calls beside it down. So the process is read here, line by line with a limit, and the bodies of HTTP
answers are counted while they arrive.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import re
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import metadata
from typing import Any, TypeAlias

import anyio
import httpx2
import mcp_types as types
import msgspec
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from pydantic import TypeAdapter, ValidationError

from shanty_runtime.tools.mcp_server import Address, Answered, Command, Listed, NotAnswered, Unreachable

logger = logging.getLogger("shanty.mcp")

# At any level below this the SDK writes whole messages, and what it cannot read, into the log.
logging.getLogger("mcp").setLevel(logging.CRITICAL)
# And this the address of each request, with whatever is in its query.
logging.getLogger("httpx2").setLevel(logging.WARNING)

EFFECT_KEY = "shanty/effect-key"
MOST_PAGES = 20
MOST_TOOLS = 1_000
STDERR_CHARACTERS = 500
EXIT_S = 2.0
"""How long a server process may take to leave once its input is closed, and again once it is told to."""
HEAD_BYTES = 512
SKIPPED_BYTES = 2**28
"""A line that is longer than this, too, is given up together with its server."""
INHERITED = ("HOME", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "USER", "LANG", "SYSTEMROOT")
"""All that a server process gets of our environment: our own credentials are in it."""

TOO_LARGE = -32051
NOT_SENT = -32052
LOST = -32053
_ANSWERED_ID = re.compile(rb'"id"\s*:\s*(\d{1,18})\s*[,}]')
_CALL_RESULT: TypeAdapter[types.CallToolResult | types.InputRequiredResult] = TypeAdapter(
    types.CallToolResult | types.InputRequiredResult
)
_CUT_OFF = frozenset({types.PARSE_ERROR, types.CONNECTION_CLOSED})
"""What the SDK makes of a body that was given up while it arrived; why, it says in the message only."""
_AMBIGUOUS = frozenset(
    {types.CONNECTION_CLOSED, types.PARSE_ERROR, types.INTERNAL_ERROR, types.INVALID_REQUEST, LOST}
)

Streams: TypeAlias = tuple[
    MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]
]


class Connection:
    """Open from `open` to `close`. Its calls may run side by side."""

    def __init__(self, name: str, to: Command | Address, *, limit_bytes: int, redact: Callable[[str], str]) -> None:
        self.name = name
        self._limit_bytes = limit_bytes
        self._redact = redact
        self._opened: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._closing = asyncio.Event()
        self._to = to
        self._broken = False
        self._in_flight = 0
        self._retired = False
        # In a context of its own: it outlives the call, and the span, that happens to open it.
        self._holder = asyncio.create_task(self._hold(), name=f"mcp-{name}", context=contextvars.Context())

    @property
    def usable(self) -> bool:
        return not (self._broken or self._holder.done() or self._closing.is_set())

    @property
    def closed(self) -> bool:
        return self._holder.done()

    async def open(self, within_s: float) -> None:
        """Raises Unreachable."""
        try:
            async with asyncio.timeout(within_s):
                await asyncio.shield(self._opened)
        except TimeoutError:
            raise Unreachable(f"it did not get ready within {within_s:g} s") from None

    def retire(self) -> None:
        """Take no new calls, and close once those under way have ended."""
        self._broken = self._retired = True
        if not self._in_flight:
            self._closing.set()

    async def close(self) -> None:
        """May be called twice."""
        self._closing.set()
        if not self._opened.done():
            self._holder.cancel()
        await asyncio.wait([self._holder])
        if self._opened.done() and not self._opened.cancelled():
            self._opened.exception()

    async def _hold(self) -> None:
        """Enter and leave the client in one task, as it asks for; calls come from others."""
        try:
            async with Client(
                self._transport(),
                cache=None,
                client_info=types.Implementation(name="shanty", version=metadata.version("shanty-runtime")),
            ) as client:
                self._opened.set_result(client)
                await self._closing.wait()
        except asyncio.CancelledError:
            self._say_unreachable("it was stopped")
        # Whatever goes wrong inside the SDK or the server is a connection that is not there.
        except Exception as error:
            self._say_unreachable(self._redact(_reason(error)))
        finally:
            self._broken = True

    def _say_unreachable(self, reason: str) -> None:
        if not self._opened.done():
            self._opened.set_exception(Unreachable(reason))

    def _transport(self) -> Any:
        if isinstance(self._to, Address):
            return _http(self._to, self._limit_bytes)
        return _stdio(self.name, self._to, self._limit_bytes, self._redact, self._mark_broken)

    def _mark_broken(self) -> None:
        self._broken = True

    async def tools(self, within_s: float) -> tuple[Listed, ...]:
        """What the server offers now. Raises Unreachable."""
        found: list[Listed] = []
        cursor: str | None = None
        try:
            async with asyncio.timeout(within_s):
                for _ in range(MOST_PAGES):
                    page = await self._opened.result().list_tools(cursor=cursor)
                    found += [
                        Listed(name=each.name, description=each.description or "", input_schema=each.input_schema)
                        for each in page.tools
                    ]
                    cursor = page.next_cursor
                    if cursor is None or len(found) > MOST_TOOLS:
                        return tuple(found)
        except TimeoutError:
            raise Unreachable(f"it did not list its tools within {within_s:g} s") from None
        except MCPError as error:
            self._broken = self._broken or error.code in _AMBIGUOUS
            raise Unreachable(f"it did not list its tools: {self._redact(error.message)}") from None
        except (ValidationError, RuntimeError) as error:
            raise Unreachable(f"its list of tools cannot be read: {type(error).__name__}") from None
        return tuple(found)

    async def call(
        self, name: str, arguments: dict[str, Any], *, key: str, within_s: float
    ) -> Answered | NotAnswered:
        """Call a tool once. `key` travels with the call: the same for every repetition of it."""
        if not self.usable:
            return NotAnswered(why="not_sent", detail="the connection is closed")
        meta: Any = {EFFECT_KEY: key}  # the trace context joins it in the SDK
        request = types.CallToolRequest(
            params=types.CallToolRequestParams(name=name, arguments=arguments, _meta=meta)
        )
        self._in_flight += 1
        try:
            # The inner limit tells the server, the outer one holds where even telling it hangs.
            async with asyncio.timeout(within_s + 1):
                result = await self._opened.result().session.send_request(
                    request, _CALL_RESULT, request_read_timeout_seconds=within_s
                )
        except TimeoutError:
            return NotAnswered(why="late")
        except MCPError as error:
            return self._refused(error)
        except (ValidationError, RuntimeError, ValueError) as error:
            return NotAnswered(why="lost", detail=f"its answer cannot be read ({type(error).__name__})")
        finally:
            self._in_flight -= 1
            if self._retired and not self._in_flight:
                self._closing.set()
        if isinstance(result, types.InputRequiredResult):
            return Answered(text="the tool asks for input of a person, which is not supported here", is_error=True)
        return Answered(text=_text_of(result), is_error=result.is_error)

    def _refused(self, error: MCPError) -> Answered | NotAnswered:
        if error.code == types.REQUEST_TIMEOUT:
            return NotAnswered(why="late")
        if error.code == TOO_LARGE or (error.code in _CUT_OFF and "exceed" in error.message):
            return NotAnswered(why="too_large")
        if error.code == NOT_SENT:
            return NotAnswered(why="not_sent", detail=error.message)
        if error.code in _AMBIGUOUS:
            self._broken = True
            return NotAnswered(why="lost", detail=error.message)
        return Answered(text=f"the server refused the call: {error.message} ({error.code})", is_error=True)


def _reason(error: BaseException) -> str:
    """The first cause of a group, in words that quote nothing a server or a client sent."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, FileNotFoundError):
        return f"the command {error.filename!r} does not exist"
    if isinstance(error, MCPError):
        return f"it refused the connection: {error.message}"
    return type(error).__name__


def _text_of(result: types.CallToolResult) -> str:
    parts = [_part(part) for part in result.content]
    if not parts and result.structured_content is not None:
        return msgspec.json.encode(result.structured_content).decode()
    return "\n".join(parts)


def _part(part: types.ContentBlock) -> str:
    match part:
        case types.TextContent():
            return part.text
        case types.EmbeddedResource(resource=types.TextResourceContents() as resource):
            return f"[{resource.uri}]\n{resource.text}"
        case types.ResourceLink():
            return f"[{part.name}: {part.uri}]"
        case types.ImageContent() | types.AudioContent():
            return f"[{part.mime_type}, {len(part.data) * 3 // 4} bytes, left out: only text is taken]"
        case _:
            return "[content that is not text was left out]"


# A server process


@asynccontextmanager
async def _stdio(
    name: str, start: Command, limit_bytes: int, redact: Callable[[str], str], ended: Callable[[], None]
) -> AsyncIterator[Streams]:
    """Start a process and talk to it in lines of JSON."""
    process = await asyncio.create_subprocess_exec(
        start.command,
        *start.args,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        cwd=start.folder,
        env={**{name: os.environ[name] for name in INHERITED if name in os.environ}, **start.env},
        limit=limit_bytes,
        start_new_session=True,
    )
    received, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, to_send = anyio.create_memory_object_stream[SessionMessage](0)
    tasks = [
        asyncio.create_task(_read_lines(name, process, received, ended)),
        asyncio.create_task(_write_lines(process, to_send)),
        asyncio.create_task(_drain_stderr(name, process, redact)),
    ]
    try:
        yield incoming, outgoing
    finally:
        for stream in (incoming, outgoing):
            stream.close()
        await asyncio.shield(asyncio.create_task(_stop(process, tasks)))
        received.close()
        to_send.close()


async def _read_lines(
    name: str,
    process: Process,
    received: MemoryObjectSendStream[SessionMessage | Exception],
    ended: Callable[[], None],
) -> None:
    with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        while (line := await _line(process)) is not None:
            message = _message(name, line)
            if message is not None:
                await received.send(SessionMessage(message))
    ended()
    received.close()


def _message(name: str, line: bytes) -> types.JSONRPCMessage | None:
    if not line.strip():
        return None
    try:
        return types.jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError:
        # What it printed may be anything, so it is not repeated.
        logger.warning("MCP server %s wrote a line of %d bytes that is not a message", name, len(line))
        return None


async def _line(process: Process) -> bytes | None:
    """The next line; in place of one that is too long, the error its caller is told. None at the end."""
    assert process.stdout is not None
    try:
        return await process.stdout.readuntil(b"\n")
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError:
        head = await process.stdout.read(HEAD_BYTES)
    found = _ANSWERED_ID.search(head)
    if found is None or not await _skip_line(process.stdout):
        return None
    error = {"code": TOO_LARGE, "message": "the answer is too large"}
    return msgspec.json.encode({"jsonrpc": "2.0", "id": int(found[1]), "error": error})


async def _skip_line(stdout: asyncio.StreamReader) -> bool:
    """Read past the rest of a line without keeping it."""
    skipped = 0
    while skipped < SKIPPED_BYTES:
        try:
            await stdout.readuntil(b"\n")
            return True
        except asyncio.LimitOverrunError as error:
            skipped += len(await stdout.read(max(error.consumed, 1)))
        except asyncio.IncompleteReadError:
            return False
    return False


async def _write_lines(process: Process, to_send: MemoryObjectReceiveStream[SessionMessage]) -> None:
    assert process.stdin is not None
    # A process that has ended is noticed by the one who reads it.
    with contextlib.suppress(ConnectionError, anyio.ClosedResourceError):
        async for message in to_send:
            text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
            process.stdin.write(f"{text}\n".encode())
            await process.stdin.drain()


async def _drain_stderr(name: str, process: Process, redact: Callable[[str], str]) -> None:
    assert process.stderr is not None
    while True:
        try:
            line = await process.stderr.readline()
        except ValueError:  # too long for a line, and dropped by the reader
            continue
        if not line:
            return
        logger.debug("MCP server %s says: %s", name, redact(line.decode(errors="replace"))[:STDERR_CHARACTERS])


async def _stop(process: Process, tasks: list[asyncio.Task[None]]) -> None:
    """Close its input; what has not left by then is told to leave, and then killed, with all it started."""
    reading, writing, draining = tasks
    writing.cancel()
    if process.stdin is not None:
        process.stdin.close()
    for each in (None, signal.SIGTERM, signal.SIGKILL):
        if each is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, each)
        if await _left(process):
            break
    reading.cancel()
    draining.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    # A grandchild may hold the pipes open; they are closed on our side whatever it does.
    transport = getattr(process, "_transport", None)
    if transport is not None:
        transport.close()


async def _left(process: Process) -> bool:
    # Not wait_for(process.wait()): that also waits for the end of pipes a grandchild may hold.
    try:
        async with asyncio.timeout(EXIT_S):
            await process.wait()
    except TimeoutError:
        return process.returncode is not None
    return True


# A server behind a URL


def _http(to: Address, limit_bytes: int) -> AbstractAsyncContextManager[Any]:
    @asynccontextmanager
    async def connected() -> AsyncIterator[Any]:
        timeout = httpx2.Timeout(10.0, read=None)  # a call has a limit of its own
        async with httpx2.AsyncClient(
            headers=dict(to.headers), timeout=timeout, transport=_CountedTransport(limit_bytes), trust_env=False
        ) as client:
            async with streamable_http_client(to.url, http_client=client, max_sse_event_size=limit_bytes) as streams:
                yield streams

    return connected()


class _CountedTransport(httpx2.AsyncBaseTransport):
    """Counts what arrives, and answers for a server that cannot be reached.

    An exception here would end the SDK's whole session, with every other call that is under way in it.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._inner = httpx2.AsyncHTTPTransport(retries=0)
        self._limit_bytes = limit_bytes

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        # A compressed answer could be any size.
        request.headers["accept-encoding"] = "identity"
        try:
            response = await self._inner.handle_async_request(request)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            return _error_response(NOT_SENT, f"it cannot be reached ({type(error).__name__})")
        except httpx2.TransportError as error:
            return _error_response(LOST, f"the connection broke ({type(error).__name__})")
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            return _error_response(LOST, "it sent a compressed answer, which was not asked for")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        is_stream = response.headers.get("content-type", "").lower().startswith("text/event-stream")
        # Of a stream of events each is limited by the SDK.
        response.stream = _CountedStream(response.stream, None if is_stream else self._limit_bytes)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _TooLarge(httpx2.StreamError):
    def __init__(self) -> None:
        super().__init__("the answer exceeds the limit")


class _Broken(httpx2.StreamError):
    def __init__(self) -> None:
        super().__init__("the connection broke")


class _CountedStream(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, limit_bytes: int | None) -> None:
        self._inner = inner
        self._limit_bytes = limit_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        arrived = 0
        try:
            async for chunk in self._inner:
                arrived += len(chunk)
                if self._limit_bytes is not None and arrived > self._limit_bytes:
                    raise _TooLarge
                yield chunk
        except httpx2.TransportError:
            raise _Broken from None

    async def aclose(self) -> None:
        await self._inner.aclose()


def _error_response(code: int, message: str) -> httpx2.Response:
    return httpx2.Response(502, json={"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}})
