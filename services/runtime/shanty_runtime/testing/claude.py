"""A scripted Claude: real HTTP and server-sent events on a port of its own, and every failure on demand.

    script = [reply(tool_use("look", n=1)), Status(529, "overloaded_error"), reply(text("done"))]
    async with ClaudeServer(script) as claude:
        model = ClaudeModel("claude-opus-5-5", ClaudeApi(api_key="test", base_url=claude.url))
        ...
    claude.assert_valid()

A script is a list, used up from the front, or a function of the request's body. Processes are pointed at the server
by ANTHROPIC_BASE_URL. `play(team)` is a script that has the team's rehearsal speak for Claude, so that a whole team
runs through the real client.

Every request is kept, and checked as the API would: one it would refuse is refused here as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from shanty_runtime.models.base import Message, ModelRequest, ToolCard, estimated_tokens
from shanty_runtime.models.rehearsal import RehearsalModel
from shanty_runtime.team import Team
from shanty_runtime.testing.claude_answers import (
    EVENT_STREAM,
    Answer,
    Cut,
    ErrorEvent,
    Hang,
    Raw,
    Reply,
    Status,
    error_body,
    event_bytes,
    refusal,
    reply,
    stream_bytes,
    stream_events,
    text,
    thinking,
    tool_use,
    whole_message,
)
from shanty_runtime.testing.claude_rules import problems_with_request

__all__ = [
    "Answer",
    "ClaudeServer",
    "Cut",
    "ErrorEvent",
    "Hang",
    "Raw",
    "Received",
    "Reply",
    "Script",
    "Status",
    "play",
    "refusal",
    "reply",
    "stream_bytes",
    "stream_events",
    "text",
    "thinking",
    "tool_use",
]

Script = Callable[[dict[str, Any]], Answer | Awaitable[Answer]]


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """One request, as it came."""

    id: str
    """What the server called it, in its header `request-id`."""
    path: str
    headers: dict[str, str]
    body: bytes
    problems: tuple[str, ...]
    """What the API would not have taken, or what the script stumbled over."""

    @property
    def content(self) -> dict[str, Any]:
        decoded: dict[str, Any] = json.loads(self.body)
        return decoded

    @property
    def reply_headers(self) -> dict[str, str]:
        return {"request-id": self.id}


def play(team: Team, *, think: bool = True) -> Script:
    """The team's rehearsal, speaking for Claude. Which agent is asked follows from the system prompt: it begins with
    the agent's own. `think` puts a thinking block before each move, which has to come back as it was."""

    async def speak(body: dict[str, Any]) -> Answer:
        system = prompt_of(body)
        asked = [agent for agent in team.agents if not agent.handler and system.startswith(agent.prompt.strip())]
        if not asked:
            return Status(400, "invalid_request_error", f"no agent of team {team.name} has this system prompt")
        agent = max(asked, key=lambda each: len(each.prompt.strip()))
        request = model_request(agent.name, system, body)
        played = await RehearsalModel(team.rehearsal_for(agent.name)).reply(request)
        thought = [thinking(f"what {agent.name} does next")] if think else []
        return reply(*thought, *played.blocks, stop_reason=played.stop_reason, usage=played.usage)

    return speak


def prompt_of(body: dict[str, Any]) -> str:
    """The system prompt of a request's body."""
    return "".join(block["text"] for block in body.get("system", []))


def model_request(agent: str, system: str, body: dict[str, Any]) -> ModelRequest:
    """The request a body was made from."""
    return ModelRequest(
        agent=agent,
        system=system,
        messages=tuple(Message(each["role"], tuple(each["content"])) for each in body["messages"]),
        tools=tuple(
            ToolCard(name=tool["name"], description=tool["description"], input_schema=tool["input_schema"])
            for tool in body.get("tools", [])
        ),
        max_tokens=body["max_tokens"],
    )


class ClaudeServer:
    """Answers POST /v1/messages, streaming or not, and /v1/messages/count_tokens."""

    def __init__(self, script: Script | Sequence[Answer]) -> None:
        self.requests: list[Received] = []
        """Every request for a message or a count, in the order they came."""
        self.arrived = asyncio.Event()
        """Set with every request; clear it to wait for the next."""
        self._script = script if callable(script) else _used_up(script)
        self._socket = socket.create_server(("127.0.0.1", 0))
        routes = [
            Route("/v1/messages", self._messages, methods=["POST"]),
            Route("/v1/messages/count_tokens", self._count_tokens, methods=["POST"]),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes),
            log_config=None,
            log_level="critical",
            access_log=False,
            lifespan="off",
            # A hanging answer is cut off when the server stops.
            timeout_graceful_shutdown=0,
        )
        self._server = _Server(config)
        self._serving: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """For ANTHROPIC_BASE_URL."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """What was asked for a message, decoded."""
        return [each.content for each in self.requests if each.path == "/v1/messages"]

    def assert_valid(self) -> None:
        """Every request was one the API would have taken, and there was one."""
        assert self.requests, "nothing was asked"
        problems = [
            f"request {number}: {problem}"
            for number, received in enumerate(self.requests, 1)
            for problem in received.problems
        ]
        assert not problems, "\n".join(problems)

    async def start(self) -> None:
        self._serving = asyncio.create_task(self._server.serve([self._socket]))

    async def stop(self) -> None:
        self._server.ending.set()
        if self._serving is not None:
            await self._serving
            self._serving = None
        self._socket.close()

    async def __aenter__(self) -> ClaudeServer:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def _count_tokens(self, request: Request) -> Response:
        received = await self._keep(request)
        if received.problems:
            return _refused(received)
        body = received.content
        count = estimated_tokens([body.get("system"), body.get("tools"), body["messages"]])
        return JSONResponse({"input_tokens": count}, headers=received.reply_headers)

    async def _messages(self, request: Request) -> Response:
        received = await self._keep(request)
        if received.problems:
            return _refused(received)
        body = received.content
        match await self._answer(received):
            case Status() as status:
                return _error_response(received, status)
            case Reply() as answer if not body.get("stream"):
                return JSONResponse(whole_message(answer, body["model"]), headers=received.reply_headers)
            case answer:
                return _Stream(answer, body["model"], received.reply_headers)

    async def _answer(self, received: Received) -> Answer:
        try:
            answer = self._script(received.content)
            return await answer if inspect.isawaitable(answer) else answer
        except Exception as error:
            # A script is a test's own code: whatever is wrong with it has to come out, and not as a busy provider.
            problem = f"the script failed: {type(error).__name__}: {error}"
            self.requests[self.requests.index(received)] = msgspec.structs.replace(received, problems=(problem,))
            return Status(400, "invalid_request_error", problem)

    async def _keep(self, request: Request) -> Received:
        body = await request.body()
        headers = dict(request.headers)
        problems = tuple(problems_with_request(request.url.path, headers, body))
        identity = f"req_{len(self.requests) + 1:04}"
        received = Received(id=identity, path=request.url.path, headers=headers, body=body, problems=problems)
        self.requests.append(received)
        self.arrived.set()
        return received


class _Server(uvicorn.Server):
    """Leaves the process's signals alone, and ends at once where uvicorn would look every tenth of a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ending = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.ending.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _used_up(answers: Sequence[Answer]) -> Script:
    left = list(answers)

    def next_answer(body: dict[str, Any]) -> Answer:
        return left.pop(0) if left else Status(400, "invalid_request_error", "the script is at its end")

    return next_answer


def _error_response(received: Received, status: Status) -> Response:
    headers = {**received.reply_headers, **status.headers}
    return JSONResponse(error_body(status, received.id), status.status, headers)


def _refused(received: Received) -> Response:
    return _error_response(received, Status(400, "invalid_request_error", received.problems[0]))


class _Stream(Response):
    """A body that is sent as its script says."""

    def __init__(self, answer: Reply | Cut | ErrorEvent | Hang | Raw, model: str, headers: dict[str, str]) -> None:
        super().__init__(headers=headers, media_type=answer.content_type if isinstance(answer, Raw) else EVENT_STREAM)
        del self.headers["content-length"]
        self.answer, self.model = answer, model

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if isinstance(self.answer, Hang) and self.answer.reply is None:
            await _client_gone(receive)
            return
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        match self.answer:
            case Reply():
                for event in stream_events(self.answer, self.model):
                    await asyncio.sleep(self.answer.pause_s)
                    await _send(send, event_bytes(event))
            case Cut(answer, at_byte, clean):
                await _send(send, stream_bytes(answer, self.model)[:at_byte])
                if not clean:
                    # Returning before the body is at its end makes uvicorn break the connection.
                    return
            case ErrorEvent(answer, kind, after_events, message):
                events = list(stream_events(answer, self.model))[:after_events]
                events.append({"type": "error", "error": {"type": kind, "message": message}})
                await _send(send, b"".join(map(event_bytes, events)))
            case Hang(answer, at_byte):
                assert answer is not None, "a silence without a reply was served above"
                await _send(send, stream_bytes(answer, self.model)[:at_byte])
                await _client_gone(receive)
                return
            case Raw(body):
                await _send(send, body)
        await send({"type": "http.response.body", "body": b""})


async def _send(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _client_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
