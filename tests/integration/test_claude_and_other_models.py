"""What every model promises, whoever is behind it: the same questions to each of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from shanty_runtime.models.anthropic import ClaudeApi, ClaudeModel
from shanty_runtime.models.base import Message, Model, ModelReply, ModelRequest
from shanty_runtime.models.rehearsal import RehearsalModel
from shanty_runtime.models.replay import RecordingModel, ReplayModel
from shanty_runtime.team import load_team
from shanty_runtime.testing.claude import ClaudeServer, play, text
from support.crew import TEAMS

HELLO = load_team(TEAMS / "hello")
GREETER = HELLO.agent("greeter")
BRIEF = Message("user", (text("<objective>\nGreet everybody\n</objective>"),))
GO = ModelRequest(agent="greeter", thread="0-1", system=GREETER.prompt, messages=(BRIEF,), tools=())


def answered(reply: ModelReply) -> ModelRequest:
    """The next request of a thread that was given this reply."""
    results = tuple(
        {"type": "tool_result", "tool_use_id": block["id"], "content": '{"greeting": "Ahoy"}'}
        for block in reply.blocks
        if block["type"] == "tool_use"
    )
    messages = (BRIEF, Message("assistant", reply.blocks), Message("user", results))
    return msgspec.structs.replace(GO, messages=messages)


@pytest.fixture(params=["rehearsal", "claude", "recording", "replay"])
async def model(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Model]:
    rehearsed = RehearsalModel(HELLO.rehearsal_for("greeter"))
    recording = RecordingModel(rehearsed, tmp_path / "run.jsonl")
    match request.param:
        case "rehearsal":
            yield rehearsed
        case "recording":
            yield recording
        case "replay":
            await recording.reply(answered(await recording.reply(GO)))
            yield ReplayModel(tmp_path / "run.jsonl")
        case "claude":
            async with ClaudeServer(play(HELLO)) as server, ClaudeApi(api_key="k", base_url=server.url) as api:
                yield ClaudeModel("claude-sonnet-5-5", api)
                server.assert_valid()


async def test_a_reply_is_plain_json_with_calls_that_have_ids_of_their_own(model: Model) -> None:
    reply = await model.reply(GO)
    assert msgspec.json.decode(msgspec.json.encode(reply), type=ModelReply) == reply
    calls = [block for block in reply.blocks if block["type"] == "tool_use"]
    assert reply.stop_reason == "tool_use"
    assert len({call["id"] for call in calls}) == len(calls) == 2
    assert reply.usage.input_tokens > 0


async def test_a_thread_goes_on_from_its_transcript_alone(model: Model) -> None:
    first = await model.reply(GO)
    second = await model.reply(answered(first))
    (call,) = [block for block in second.blocks if block["type"] == "tool_use"]
    assert call["name"] == "report_progress"


async def test_the_same_question_has_the_same_answer(model: Model) -> None:
    assert (await model.reply(GO)).blocks == (await model.reply(GO)).blocks


async def test_a_longer_conversation_has_more_tokens(model: Model) -> None:
    longer = msgspec.structs.replace(GO, messages=(Message("user", (text("Greet everybody! " * 500),)),))
    assert await model.count_tokens(longer) > await model.count_tokens(GO) + 1_000
