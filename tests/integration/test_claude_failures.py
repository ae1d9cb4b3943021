"""Everything that can go wrong in a call of Claude, and the one error it becomes. A call is never made again here."""

from __future__ import annotations

import asyncio
import itertools
import socket
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import msgspec
import pytest

from shanty_runtime.errors import ModelError, ModelFailure
from shanty_runtime.models.anthropic import ClaudeApi, ClaudeModel
from shanty_runtime.models.base import Message, ModelRequest
from shanty_runtime.testing.claude import (
    Answer,
    ClaudeServer,
    Cut,
    ErrorEvent,
    Hang,
    Raw,
    Script,
    Status,
    reply,
    stream_bytes,
    stream_events,
    text,
    thinking,
    tool_use,
)
from shanty_runtime.testing.claude_answers import event_bytes

MODEL = "claude-opus-5-5"
SECRET = "the-launch-code-is-0000"
KEY = "sk-ant-do-not-show"
GO = ModelRequest(agent="logs", system="s", messages=(Message("user", (text(SECRET),)),), tools=())
SAID = reply(text("well then"), tool_use("look", n=1))


@asynccontextmanager
async def scripted(script: Script | list[Answer], idle_s: float = 30.0) -> AsyncIterator[tuple[ClaudeServer, Any]]:
    async with (
        ClaudeServer(script) as server,
        ClaudeApi(api_key=KEY, base_url=server.url, idle_s=idle_s) as api,
    ):
        yield server, ClaudeModel(MODEL, api)


async def failure(answer: Answer, idle_s: float = 30.0) -> ModelError:
    async with scripted([answer], idle_s) as (server, model):
        with pytest.raises(ModelError) as caught:
            await model.reply(GO)
    assert len(server.requests) == 1, "a call is made once"
    return caught.value


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table of failures."""

    answer: Answer
    kind: ModelFailure
    says: str
    retry_after_s: float | None = None


def status(code: int, type: str, message: str = "", error_code: str = "", **headers: str) -> Status:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Status(code, type, f"{message} {SECRET}", error_code, names)


ROWS = {
    "rate limit": Row(
        answer=status(429, "rate_limit_error", retry_after="17"),
        kind="rate_limited",
        says="claude-opus-5-5 answered 429 rate_limit_error (request req_0001)",
        retry_after_s=17,
    ),
    "rate limit in milliseconds": Row(
        answer=status(429, "rate_limit_error", retry_after_ms="250", retry_after="1"),
        kind="rate_limited",
        says="429 rate_limit_error",
        retry_after_s=0.25,
    ),
    "ramp limit": Row(
        answer=status(429, "rate_limit_error", "slow down", "ramp_limit_exceeded", retry_after="4"),
        kind="rate_limited",
        says="429 rate_limit_error ramp_limit_exceeded",
        retry_after_s=4,
    ),
    "limit without an end": Row(
        answer=status(429, "rate_limit_error"), kind="overloaded", says="429 rate_limit_error"
    ),
    "spending cap by code": Row(
        answer=status(429, "rate_limit_error", "", "enforced_spend_limit_reached"),
        kind="spend_limit",
        says="429 rate_limit_error enforced_spend_limit_reached",
    ),
    "spending cap by its words": Row(
        answer=status(429, "rate_limit_error", "You have reached your monthly spend limit."),
        kind="spend_limit",
        says="429 rate_limit_error",
    ),
    "rate limit that speaks of usage": Row(
        answer=status(429, "rate_limit_error", "You are near your usage limits.", retry_after="2"),
        kind="rate_limited",
        says="429 rate_limit_error",
        retry_after_s=2,
    ),
    "spending cap as a bad request": Row(
        answer=status(400, "invalid_request_error", "You have reached your specified API usage limits."),
        kind="configuration",
        says="400 invalid_request_error",
    ),
    "no credit": Row(
        answer=status(400, "invalid_request_error", "Your credit balance is too low."),
        kind="configuration",
        says="400 invalid_request_error",
    ),
    "key": Row(
        answer=status(401, "authentication_error"),
        kind="configuration",
        says="answered 401 authentication_error (request req_0001); check ANTHROPIC_API_KEY",
    ),
    "billing": Row(
        answer=status(402, "billing_error"),
        kind="configuration",
        says="402 billing_error (request req_0001); check the",
    ),
    "permission": Row(answer=status(403, "permission_error"), kind="configuration", says="403 permission_error"),
    "model name": Row(
        answer=status(404, "not_found_error"),
        kind="configuration",
        says="404 not_found_error (request req_0001); check the model's name",
    ),
    "request timeout": Row(answer=status(408, "timeout_error"), kind="transient", says="408 timeout_error"),
    "conflict": Row(answer=status(409, "conflict_error"), kind="transient", says="409 conflict_error"),
    "request too large": Row(answer=status(413, "request_too_large"), kind="too_large", says="413 request_too_large"),
    "prompt too long": Row(
        answer=status(400, "invalid_request_error", "prompt is too long: 213000 tokens > 200000 maximum"),
        kind="too_large",
        says="400 invalid_request_error",
    ),
    "prompt and limit too long": Row(
        answer=status(400, "invalid_request_error", "input length and `max_tokens` exceed context limit: 1 + 2 > 3"),
        kind="too_large",
        says="400 invalid_request_error",
    ),
    "bad request": Row(
        answer=status(400, "invalid_request_error", "messages.3.content.0: unexpected `tool_use_id`:"),
        kind="invalid",
        says="400 invalid_request_error at messages.3.content.0 (request req_0001)",
    ),
    "unprocessable": Row(answer=status(422, "invalid_request_error"), kind="invalid", says="422"),
    "unknown status": Row(answer=status(418, "teapot_error"), kind="invalid", says="418 teapot_error"),
    "server error": Row(answer=status(500, "api_error"), kind="transient", says="500 api_error"),
    "bad gateway": Row(answer=status(502, "api_error"), kind="transient", says="502 api_error"),
    "unavailable": Row(
        answer=status(503, "api_error", retry_after="9"), kind="transient", says="503 api_error", retry_after_s=9
    ),
    "gateway timeout": Row(answer=status(504, "timeout_error"), kind="transient", says="504 timeout_error"),
    "overloaded": Row(answer=status(529, "overloaded_error"), kind="overloaded", says="529 overloaded_error"),
    "overloaded by type": Row(answer=status(500, "overloaded_error"), kind="overloaded", says="500 overloaded_error"),
    "overloaded in the stream": Row(
        answer=ErrorEvent(SAID, "overloaded_error", message=SECRET),
        kind="overloaded",
        says="claude-opus-5-5 broke off its reply with overloaded_error (request req_0001)",
    ),
    "overloaded at the end of the stream": Row(
        answer=ErrorEvent(SAID, "overloaded_error", after_events=len(list(stream_events(SAID, MODEL))) - 1),
        kind="overloaded",
        says="broke off its reply with overloaded_error",
    ),
    "server error in the stream": Row(
        answer=ErrorEvent(SAID, "api_error"), kind="transient", says="broke off its reply with api_error"
    ),
    "timeout in the stream": Row(
        answer=ErrorEvent(SAID, "timeout_error"), kind="transient", says="broke off its reply with timeout_error"
    ),
    "rate limit in the stream": Row(
        answer=ErrorEvent(SAID, "rate_limit_error"), kind="overloaded", says="broke off its reply with rate_limit"
    ),
    "bad request in the stream": Row(
        answer=ErrorEvent(SAID, "invalid_request_error"), kind="invalid", says="broke off its reply with invalid_req"
    ),
    "key in the stream": Row(
        answer=ErrorEvent(SAID, "authentication_error"), kind="configuration", says="with authentication_error"
    ),
    "unknown error in the stream": Row(
        answer=ErrorEvent(SAID, "error_of_the_future"), kind="invalid", says="with error_of_the_future"
    ),
    "error in the stream that cannot be read": Row(
        answer=Raw(b"event: error\ndata: oops {\n\n"), kind="transient", says="broke off its reply with an error"
    ),
    "no event at all": Row(answer=Raw(b""), kind="transient", says="ended before its reply was complete"),
    "an event that is not JSON": Row(
        answer=Raw(b"event: message_start\ndata: {nope\n\n"),
        kind="transient",
        says="cannot be read (JSONDecodeError)",
    ),
    "bytes that are not text": Row(
        answer=Raw(b"event: message_start\ndata: \xff\xfe\n\n"),
        kind="transient",
        says="cannot be read (UnicodeDecodeError)",
    ),
    "events in no order": Row(
        answer=Raw(
            b"".join(itertools.islice(map(event_bytes, stream_events(SAID, MODEL)), 2))
            + event_bytes({"type": "content_block_stop", "index": 7})
        ),
        kind="transient",
        says="cannot be read (IndexError)",
    ),
    "a page in place of events": Row(
        answer=Raw(b"<html>sign in</html>", "text/html; charset=utf-8"),
        kind="configuration",
        says="what answers for claude-opus-5-5 sends text/html in place of events",
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
async def test_each_failure_says_why_and_tells_nothing_of_key_or_content(row: Row) -> None:
    error = await failure(row.answer)
    assert (error.kind, error.retry_after_s) == (row.kind, row.retry_after_s)
    assert row.says in str(error)
    told = str(error) + "".join(traceback.format_exception(error))
    assert SECRET not in told and KEY not in told


async def test_a_date_to_come_back_at_is_a_wait() -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    error = await failure(status(429, "rate_limit_error", retry_after=at))
    assert error.kind == "rate_limited"
    assert error.retry_after_s is not None and 50 < error.retry_after_s <= 60


@pytest.mark.parametrize("said", ["soon", "nan", "inf"])
async def test_a_wait_nobody_can_read_is_none(said: str) -> None:
    error = await failure(status(529, "overloaded_error", retry_after=said))
    assert error.retry_after_s is None


async def test_silence_before_the_reply_is_a_failure_after_a_while() -> None:
    error = await failure(Hang(), idle_s=0.2)
    assert (error.kind, str(error)) == ("transient", "claude-opus-5-5 sent nothing for 0.2 s")


async def test_silence_in_the_middle_of_a_reply_is_a_failure_after_a_while() -> None:
    error = await failure(Hang(SAID, at_byte=600), idle_s=0.2)
    assert error.kind == "transient"
    assert str(error) == "claude-opus-5-5 fell silent in the middle of its reply (request req_0001)"


async def test_a_call_that_is_given_up_leaves_the_client_fit_for_the_next() -> None:
    async with scripted([Hang(SAID, at_byte=600), reply(text("next"))]) as (server, model):
        waiting = asyncio.create_task(model.reply(GO))
        await asyncio.wait_for(server.arrived.wait(), 10)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await model.reply(GO)).blocks == (text("next"),)


async def test_a_slow_reply_is_not_a_silent_one() -> None:
    slow = reply(text("one two three four five six seven eight nine ten"), pause_s=0.1)
    async with scripted([slow], idle_s=0.6) as (_, model):
        got = await model.reply(GO)
    assert got.blocks == slow.content


async def test_an_address_where_nobody_answers_is_a_failure_that_may_pass() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with ClaudeApi(api_key=KEY, base_url=f"http://127.0.0.1:{port}") as api:
        with pytest.raises(ModelError, match="claude-opus-5-5 cannot be reached: ConnectError") as caught:
            await ClaudeModel(MODEL, api).reply(GO)
    assert caught.value.kind == "transient"


async def test_counting_fails_as_replying_does() -> None:
    unknown_tool_result = {"type": "tool_result", "tool_use_id": "toolu_9", "content": "x"}
    asked = msgspec.structs.replace(GO, messages=(Message("user", (unknown_tool_result,)),))
    async with scripted([]) as (_, model):
        with pytest.raises(ModelError, match="answered 400 invalid_request_error") as caught:
            await model.count_tokens(asked)
    assert caught.value.kind == "invalid"


CALLS = reply(
    thinking("three at once"),
    text("three: Größe 船"),
    *(tool_use("look", path=f"{name}.log") for name in ("api", "web", "db")),
)


def places_to_cut() -> Iterator[int]:
    """Before, after and inside of each event of a reply with three calls, and between the bytes of a character."""
    body = stream_bytes(CALLS, MODEL)
    end = 0
    for event in stream_events(CALLS, MODEL):
        start, end = end, end + len(event_bytes(event))
        yield from (start, (start + end) // 2, end - 1)
    yield body.index("船".encode()) + 1
    yield body.index("ö".encode()) + 1


@pytest.mark.parametrize("clean", [True, False], ids=["ended", "broken"])
async def test_a_stream_that_is_cut_anywhere_is_never_a_reply(clean: bool) -> None:
    whole = len(stream_bytes(CALLS, MODEL))
    places = sorted(set(places_to_cut()))
    assert len(places) > 60 and places[-1] == whole - 1
    async with scripted([Cut(CALLS, place, clean=clean) for place in places]) as (server, model):
        for place in places:
            with pytest.raises(ModelError) as caught:
                await model.reply(GO)
            assert caught.value.kind == "transient", f"cut at byte {place} of {whole}: {caught.value}"
    assert len(server.requests) == len(places)


async def test_the_same_stream_uncut_is_a_reply() -> None:
    async with scripted([Raw(stream_bytes(CALLS, MODEL))]) as (_, model):
        assert (await model.reply(GO)).blocks == CALLS.content


def without(kind: str, last: bool = True) -> bytes:
    """The stream of three calls without the last, or the first, event of a kind."""
    events = list(stream_events(CALLS, MODEL))
    found = [number for number, event in enumerate(events) if event["type"] == kind]
    del events[found[-1 if last else 0]]
    return b"".join(map(event_bytes, events))


@pytest.mark.parametrize("kind", ["message_start", "content_block_stop", "message_delta", "message_stop"])
async def test_a_stream_that_lacks_an_event_is_never_a_reply(kind: str) -> None:
    for last in (True, False):
        assert (await failure(Raw(without(kind, last)))).kind == "transient"


@pytest.mark.parametrize("arguments", ['{"path": "a.l', "[1]", '"a"', '{"path": nul}', "{} {}"])
async def test_a_call_whose_arguments_are_no_object_is_never_a_reply(arguments: str) -> None:
    broken = {**tool_use("look"), "input": arguments}
    assert (await failure(reply(broken, tool_use("look", n=1)))).kind == "transient"
    assert (await failure(reply(tool_use("look", n=1), broken))).kind == "transient"


async def test_a_piece_of_a_call_before_the_last_block_is_never_a_reply_whatever_the_reason() -> None:
    broken = {**tool_use("look"), "input": '{"path": "a.l'}
    assert (await failure(reply(broken, tool_use("look", n=1), stop_reason="max_tokens"))).kind == "transient"
