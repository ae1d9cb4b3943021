"""The scripted Claude itself: what tests rely on."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic

from shanty_runtime.errors import ModelError
from shanty_runtime.models.anthropic import ClaudeApi, ClaudeModel
from shanty_runtime.models.base import Message, ModelRequest
from shanty_runtime.team import load_team
from shanty_runtime.testing.claude import Answer, ClaudeServer, Script, Status, play, reply, text, tool_use
from support.crew import TEAMS

GO = [{"role": "user", "content": "go"}]


async def ask(server: ClaudeServer, **parameters: Any) -> Any:
    """As any other client would, without streaming."""
    wanted: dict[str, Any] = {"model": "claude-opus-5-5", "max_tokens": 10, "messages": GO, **parameters}
    async with AsyncAnthropic(api_key="k", base_url=server.url, max_retries=0, open_telemetry=False) as client:
        return await client.messages.create(**wanted)


async def test_a_client_that_does_not_stream_gets_the_whole_message() -> None:
    call = tool_use("look", n=1)
    async with ClaudeServer([reply(text("I look"), call)]) as server:
        message = await ask(server)
    assert [block.to_dict(mode="json") for block in message.content] == [text("I look"), call]
    assert (message.stop_reason, message.usage.output_tokens) == ("tool_use", 5)
    server.assert_valid()


async def test_a_script_is_used_up_from_the_front() -> None:
    async with ClaudeServer([reply(text("one")), Status(529, "overloaded_error")]) as server:
        assert (await ask(server)).content[0].text == "one"
        with pytest.raises(anthropic.OverloadedError):
            await ask(server)
        with pytest.raises(anthropic.BadRequestError, match="the script is at its end"):
            await ask(server)
    assert [request.id for request in server.requests] == ["req_0001", "req_0002", "req_0003"]


async def test_a_request_the_api_would_refuse_is_refused_and_not_valid() -> None:
    async with ClaudeServer([reply(text("never said"))]) as server:
        with pytest.raises(anthropic.BadRequestError, match=r"messages\.0: content must not be empty"):
            await ask(server, messages=[{"role": "user", "content": []}])
    with pytest.raises(AssertionError, match=r"request 1: messages\.0: content must not be empty"):
        server.assert_valid()


async def test_a_script_that_stumbles_comes_out() -> None:
    def stumble(body: dict[str, Any]) -> Answer:
        raise KeyError(body["model"])

    async with ClaudeServer(stumble) as server:
        with pytest.raises(anthropic.BadRequestError, match="the script failed: KeyError: 'claude-opus-5-5'"):
            await ask(server)
    with pytest.raises(AssertionError, match="the script failed"):
        server.assert_valid()


async def test_a_server_that_was_not_asked_is_not_taken_for_a_proof() -> None:
    async with ClaudeServer([]) as server:
        pass
    with pytest.raises(AssertionError, match="nothing was asked"):
        server.assert_valid()


HELLO = load_team(TEAMS / "hello")


async def spoken(script: Script, system: str) -> Any:
    brief = Message("user", (text("<objective>\nGreet everybody\n</objective>"),))
    request = ModelRequest(agent="", system=system, messages=(brief,), tools=())
    async with ClaudeServer(script) as server, ClaudeApi(api_key="k", base_url=server.url) as api:
        return await ClaudeModel("claude-sonnet-5-5", api).reply(request)


async def test_a_rehearsal_speaks_for_the_agent_whose_prompt_it_is() -> None:
    got = await spoken(play(HELLO), HELLO.agent("greeter").prompt + "\n\nYou are the specialist.")
    assert [block["type"] for block in got.blocks] == ["thinking", "tool_use", "tool_use"]
    assert [block["input"] for block in got.blocks[1:]] == [{"name": "Ada"}, {"name": "Grace"}]
    lead = await spoken(play(HELLO, think=False), HELLO.lead.prompt)
    assert [block["name"] for block in lead.blocks] == ["delegate", "delegate", "wait_for_replies"]


async def test_a_prompt_of_no_agent_is_refused() -> None:
    with pytest.raises(ModelError, match="answered 400"):
        await spoken(play(HELLO), "You are somebody else.")
