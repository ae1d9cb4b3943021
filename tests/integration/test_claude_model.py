"""What is sent to Claude, and what its replies become. The other side is real HTTP with a script behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from shanty_protocol import Usage
from shanty_runtime.models.anthropic import ClaudeApi, ClaudeModel
from shanty_runtime.models.base import Message, ModelReply, ModelRequest, ToolCard
from shanty_runtime.testing.claude import Answer, ClaudeServer, Script, refusal, reply, text, thinking, tool_use

MODEL = "claude-opus-5-5"
LOOK = ToolCard(name="look", description="Looks.", input_schema={"type": "object", "properties": {}})
OPEN = ToolCard(name="open", description="Opens.", input_schema={"type": "object", "properties": {}})


def user(*blocks: dict[str, Any]) -> Message:
    return Message("user", blocks)


def result(identity: str, content: str = "done") -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": identity, "content": content}


def request(*messages: Message) -> ModelRequest:
    return ModelRequest(
        agent="logs", system="You read logs.", messages=messages or (user(text("go")),), tools=(LOOK, OPEN)
    )


@asynccontextmanager
async def scripted(
    script: Script | Sequence[Answer], name: str = MODEL
) -> AsyncIterator[tuple[ClaudeServer, ClaudeModel]]:
    async with ClaudeServer(script) as server, ClaudeApi(api_key="sk-test", base_url=server.url) as api:
        yield server, ClaudeModel(name, api)
        server.assert_valid()


class Ear:
    def __init__(self) -> None:
        self.heard: list[tuple[int, str]] = []
        self.began = asyncio.Event()

    def text(self, text: str, offset: int) -> None:
        self.heard.append((offset, text))
        self.began.set()


async def test_a_reply_is_what_the_api_sent_block_for_block() -> None:
    blocks = (
        thinking("first the times, then the names", signature="EqQBCgIYAhIM"),
        {"type": "redacted_thinking", "data": "b3BhcXVl"},
        text("I look at both. Ünïcode too: 船乗り"),
        {"type": "block_of_the_future", "payload": {"deep": [1, None, "x"]}},
        tool_use("look", path="a.log", limit=3),
        tool_use("open"),
    )
    usage = Usage(input_tokens=10, output_tokens=7, cache_read_tokens=100, cache_write_tokens=7)
    async with scripted([reply(*blocks, usage=usage)]) as (_, model):
        got = await model.reply(request())
    assert got.id
    assert got == ModelReply(blocks=blocks, stop_reason="tool_use", model=MODEL, usage=usage, id=got.id)


@pytest.mark.parametrize(
    "answer",
    [
        reply(text("all done")),
        reply(text("a, b"), stop_reason="stop_sequence"),
        reply(tool_use("look", n=1)),
        reply(text("half a sen"), stop_reason="max_tokens"),
        reply(text("I go on"), stop_reason="pause_turn"),
        reply(text("no room le"), stop_reason="model_context_window_exceeded"),
        reply(text("anything"), stop_reason="reason_of_the_future"),
        reply(stop_reason="end_turn"),
        refusal("cyber", "this could harm somebody"),
        refusal(),
    ],
    ids=lambda answer: f"{answer.stop_reason}-{len(answer.content)}",
)
async def test_every_stop_reason_comes_out_as_it_is(answer: Any) -> None:
    async with scripted([answer]) as (server, model):
        got = await model.reply(request())
    assert (got.blocks, got.stop_reason, got.stop_details) == (
        answer.content,
        answer.stop_reason,
        answer.stop_details,
    )
    assert len(server.requests) == 1


async def test_a_call_cut_off_by_the_limit_comes_with_its_stop_reason() -> None:
    whole = tool_use("look", n=1)
    piece = {**tool_use("open"), "input": '{"path": "a.l'}
    async with scripted([reply(whole, piece, stop_reason="max_tokens")]) as (_, model):
        got = await model.reply(request())
    assert (got.stop_reason, got.blocks[0], got.blocks[1]["id"]) == ("max_tokens", whole, piece["id"])


async def test_what_the_api_sent_is_sent_back_verbatim() -> None:
    blocks = (thinking("hm", signature="c2ln"), text("now"), tool_use("look", n=1), tool_use("open"))
    results = user(*(result(block["id"]) for block in blocks[2:]))
    async with scripted([reply(*blocks), reply(text("done"))]) as (server, model):
        first = await model.reply(request())
        await model.reply(request(user(text("go")), Message("assistant", first.blocks), results))
    assert server.bodies[1]["messages"][1] == {"role": "assistant", "content": list(blocks)}
    assert server.bodies[1]["messages"][2]["content"] == list(results.content)


async def test_system_prompt_and_tools_are_the_same_bytes_at_every_turn() -> None:
    first, second = tool_use("look"), tool_use("open")
    transcript = [user(text("go"))]
    async with scripted([reply(first), reply(second), reply(text("done"))]) as (server, model):
        for _ in range(3):
            got = await model.reply(request(*transcript))
            answers = [result(block["id"]) for block in got.blocks if block["type"] == "tool_use"]
            transcript += [Message("assistant", got.blocks), user(*answers)]
    tails = {received.body[received.body.index(b'"system":') :] for received in server.requests}
    assert len(tails) == 1
    tail = tails.pop()
    assert tail.index(b'"tools":') and b"You read logs." in tail and b"Opens." in tail


async def test_the_cache_is_marked_after_the_prefix_that_threads_share_and_at_the_end() -> None:
    async with scripted([reply(text("done"))]) as (server, model):
        await model.reply(request())
    (body,) = server.bodies
    mark = {"type": "ephemeral"}
    assert body["cache_control"] == mark
    assert body["system"] == [{"type": "text", "text": "You read logs.", "cache_control": mark}]
    # Both marks move or stand outside of the transcript, which therefore stays the same bytes from turn to turn.
    assert "cache_control" not in json.dumps([body["messages"], body["tools"]])


async def test_without_a_cache_nothing_is_marked() -> None:
    async with scripted([reply(text("done"))]) as (server, model):
        await model.reply(msgspec.structs.replace(request(), cache=False))
    assert b"cache_control" not in server.requests[0].body


async def test_what_no_model_takes_back_is_left_out() -> None:
    said = Message("assistant", (text(""), tool_use("look", _id="toolu_1")))
    transcript = (user(text("go")), said, user(result("toolu_1")), Message("assistant", ()), user(text("go on")))
    async with scripted([reply(text("done"))]) as (server, model):
        await model.reply(request(*transcript))
    assert [(each["role"], len(each["content"])) for each in server.bodies[0]["messages"]] == [
        ("user", 1),
        ("assistant", 1),
        ("user", 1),
        ("user", 1),
    ]


async def test_text_is_heard_piece_by_piece_while_the_reply_is_made() -> None:
    ear = Ear()
    answer = reply(thinking("quietly"), text("I look at the logs first."), text(" Then I tell."), pause_s=0.02)
    async with scripted([answer]) as (_, model):
        replying = asyncio.create_task(model.reply(request(), stream=ear))
        await asyncio.wait_for(ear.began.wait(), 5)
        assert not replying.done()
        await replying
    heard = "".join(piece for _, piece in ear.heard)
    assert heard == "I look at the logs first. Then I tell."
    assert all(heard[offset:].startswith(piece) for offset, piece in ear.heard)
    assert sum(len(piece) for _, piece in ear.heard) == len(heard)
    assert len(ear.heard) > 2


async def test_our_trace_is_not_told_to_the_api() -> None:
    tracer = TracerProvider().get_tracer("test")
    async with scripted([reply(text("done"))]) as (server, model):
        with trace.use_span(tracer.start_span("model call")):
            await model.reply(request())
    assert not {"traceparent", "tracestate", "baggage"} & server.requests[0].headers.keys()


async def test_key_and_address_are_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ClaudeServer([reply(text("done"))]) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-from-the-environment")
        async with ClaudeApi() as api:
            await ClaudeModel(MODEL, api).reply(request())
    assert server.requests[0].headers["authorization"] == "Bearer sk-from-the-environment"


async def test_a_gateway_of_ones_own_is_asked_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    async with ClaudeServer([reply(text("done"))]) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        async with ClaudeApi() as api:
            got = await ClaudeModel(MODEL, api).reply(request())
    assert got.blocks == (text("done"),)


async def test_tokens_are_counted_over_what_would_be_sent() -> None:
    async with scripted([reply(text("done"))]) as (server, model):
        short = await model.count_tokens(request())
        long = await model.count_tokens(request(user(text("go " * 1_000))))
        await model.reply(request())
    assert long > short + 500
    counted, _, sent = (received.content for received in server.requests)
    assert server.requests[0].path == "/v1/messages/count_tokens"
    assert counted == {key: value for key, value in sent.items() if key not in ("max_tokens", "stream")}


async def test_agents_of_one_process_ask_side_by_side_over_one_client() -> None:
    waiting = asyncio.Barrier(10)

    async def together(body: dict[str, Any]) -> Answer:
        said = body["messages"][0]["content"][0]["text"]
        if said != "first":
            await asyncio.wait_for(waiting.wait(), 10)
        return reply(text(said))

    async with scripted(together) as (_, model):
        # One goes ahead, so that the others find the beginning they share kept.
        await model.reply(request(user(text("first"))))
        asked = [request(user(text(f"number {n}"))) for n in range(10)]
        got = await asyncio.gather(*map(model.reply, asked))
    assert [each.blocks[0]["text"] for each in got] == [f"number {n}" for n in range(10)]
