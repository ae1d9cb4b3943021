from __future__ import annotations

import pytest

from shanty_runtime import Move, Turn, call
from shanty_runtime.errors import ModelError
from shanty_runtime.models import Message, ModelRequest, RehearsalModel


def request(*messages: Message) -> ModelRequest:
    return ModelRequest(agent="logs", system="", messages=messages, tools=())


def text(words: str) -> Message:
    return Message("user", ({"type": "text", "text": words},))


async def test_a_rehearsal_sees_the_brief_and_what_its_tools_returned() -> None:
    def logs(turn: Turn) -> Move:
        mined = turn.result("mine")
        if mined is None:
            return call("mine", path=turn.input["path"])
        return call("submit_result", summary=f"{mined['lines']} lines for: {turn.section('objective')}")

    model = RehearsalModel(logs)
    brief = text('<objective>\nfind it\n</objective>\n<input>\n{"path":"a.log"}\n</input>')
    first = await model.reply(request(brief))
    assert first.blocks == ({"type": "tool_use", "id": "call-1-1", "name": "mine", "input": {"path": "a.log"}},)
    answer = Message("user", ({"type": "tool_result", "tool_use_id": "call-1-1", "content": '{"lines": 7}'},))
    second = await model.reply(request(brief, Message("assistant", first.blocks), answer))
    assert second.blocks[0]["input"] == {"summary": "7 lines for: find it"}
    assert second.stop_reason == "tool_use"


async def test_asked_again_with_the_same_transcript_it_makes_the_same_calls_with_the_same_ids() -> None:
    model = RehearsalModel(lambda turn: [call("look", at=1), call("look", at=2)])
    assert (await model.reply(request(text("go")))).blocks == (await model.reply(request(text("go")))).blocks


async def test_a_failed_call_is_not_taken_for_a_result() -> None:
    seen: list[object] = []

    def logs(turn: Turn) -> Move:
        seen.append((turn.result("look"), [result.is_error for result in turn.results]))
        return "done"

    used = Message("assistant", ({"type": "tool_use", "id": "a", "name": "look", "input": {}},))
    failed = Message("user", ({"type": "tool_result", "tool_use_id": "a", "content": "no", "is_error": True},))
    reply = await RehearsalModel(logs).reply(request(text("go"), used, failed))
    assert seen == [(None, [True])]
    assert (reply.blocks, reply.stop_reason) == (({"type": "text", "text": "done"},), "end_turn")


async def test_a_rehearsal_that_stumbles_is_a_model_error_that_names_the_agent() -> None:
    def logs(turn: Turn) -> Move:
        raise KeyError("lines")

    with pytest.raises(ModelError, match="the rehearsal of logs failed: KeyError"):
        await RehearsalModel(logs).reply(request(text("go")))
