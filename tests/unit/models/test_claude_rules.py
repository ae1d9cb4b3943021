"""The scripted server refuses what the API would refuse: each rule with a request that breaks it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shanty_runtime.testing.claude_rules import problems_with_request

HEADERS = {"authorization": "Bearer k", "anthropic-version": "2026-10-21"}
GO = {"role": "user", "content": [{"type": "text", "text": "go"}]}
MARK = {"type": "ephemeral"}


def problems(headers: dict[str, str] = HEADERS, **changes: Any) -> list[str]:
    body = {"model": "claude-opus-5-5", "max_tokens": 10, "stream": True, "messages": [GO]} | changes
    kept = {name: value for name, value in body.items() if value is not ...}
    return list(problems_with_request("/v1/messages", headers, json.dumps(kept).encode()))


def use(*ids: str) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "tool_use", "id": i, "name": "look", "input": {}} for i in ids]}


def results(*ids: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": i, "content": "x"} for i in ids]}


def tool(name: str = "look", **changes: Any) -> dict[str, Any]:
    return {"name": name, "description": "d", "input_schema": {"type": "object"}} | changes


def test_a_proper_request_has_no_problems() -> None:
    transcript = [GO, use("a", "b"), results("b", "a"), use("c"), results("c")]
    assert problems(messages=transcript, tools=[tool()], cache_control=MARK, thinking={"type": "adaptive"}) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"headers": {"anthropic-version": "2026-10-21"}}, "header authorization is missing"),
        ({"headers": {"authorization": "Bearer k"}}, "header anthropic-version is missing"),
        ({"max_tokens": ...}, "max_tokens: Field required"),
        ({"max_tokens": "many"}, "max_tokens: Input should be a valid integer"),
        ({"temperature": 0.5}, "temperature was removed"),
        ({"surprise": 1}, "surprise: extra inputs are not permitted"),
        ({"output_config": {"effort": "extreme"}}, "output_config.effort: Input should be 'low'"),
        ({"thinking": {"type": "sometimes"}}, "thinking"),
        ({"tools": [{"name": "look"}]}, "tools.0"),
        ({"tools": [tool("not allowed")]}, "tool name 'not allowed' is not allowed"),
        ({"tools": [tool(), tool()]}, "two tools have the same name"),
        ({"tools": [tool(f"t{n}", cache_control=MARK) for n in range(5)]}, "there are 5 cache marks"),
        ({"messages": []}, "the first message must be the user's"),
        ({"messages": [use("a"), results("a")]}, "the first message must be the user's"),
        ({"messages": [GO, {"role": "assistant", "content": [{"type": "text", "text": "x"}]}]}, "must not be the"),
        ({"messages": [{"role": "user", "content": []}]}, "messages.0: content must not be empty"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": " "}]}]}, "non-whitespace text"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0"),
        ({"messages": [GO, use("a", "b"), results("a")]}, "messages.2: tool_use b has no tool_result"),
        ({"messages": [GO, use("a"), GO]}, "messages.2: tool_use a has no tool_result"),
        ({"messages": [GO, use("a"), results("a", "a")]}, "messages.2: two tool_results for one tool_use"),
        ({"messages": [GO, use("a"), results("a", "z")]}, "messages.2: tool_result for z without such a tool_use"),
        ({"messages": [GO, use("a"), results("a"), use("a"), results("a")]}, "tool_use id 'a' is used twice"),
        (
            {"messages": [GO, use("a"), {"role": "user", "content": GO["content"] + results("a")["content"]}]},
            "messages.2: tool_result blocks must come first",
        ),
        ({"messages": [GO, {**use("a"), "role": "user"}]}, "messages.1: only the assistant uses tools"),
    ],
)
def test_each_rule_has_a_request_that_breaks_it(changes: dict[str, Any], sentence: str) -> None:
    found = problems(**changes)
    assert any(sentence in problem for problem in found), found


def test_a_body_that_is_not_json_is_a_problem() -> None:
    assert "the body is not JSON" in next(problems_with_request("/v1/messages", HEADERS, b"{"))
