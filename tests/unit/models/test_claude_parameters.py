from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shanty_protocol import Usage
from shanty_runtime.models.anthropic import allows_strict, call_parameters
from shanty_runtime.models.base import Message, ModelRequest, ToolCard
from shanty_runtime.models.capabilities import claude_aliases, claude_name
from shanty_runtime.models.prices import prices_in_force
from shanty_runtime.thread.verbs import LEAD_VERBS, verb_cards

GO = ModelRequest(
    agent="logs", system="s", messages=(Message("user", ({"type": "text", "text": "go"},)),), tools=(), effort="high"
)
RESULT = {
    "type": "object",
    "properties": {"bursts": {"type": "array", "items": {"type": "integer"}}},
    "required": ["bursts"],
    "additionalProperties": False,
}


def asked(**changes: Any) -> ModelRequest:
    return msgspec.structs.replace(GO, **changes)


@pytest.mark.parametrize(
    ("model", "thinking", "sent"),
    [
        ("claude-sonnet-5-5", "summarized", {"type": "adaptive", "display": "summarized"}),
        ("claude-sonnet-5-5", "omitted", {"type": "adaptive", "display": "omitted"}),
        ("claude-sonnet-5-5", "off", {"type": "disabled"}),
        ("claude-opus-5-5", "summarized", {"type": "adaptive", "display": "summarized"}),
        # This one always thinks: told not to, it would refuse the request.
        ("claude-opus-5-5", "off", {"type": "adaptive", "display": "omitted"}),
        ("claude-haiku-4-5", "summarized", None),
        ("claude-haiku-4-5-20251001", "off", None),
        ("claude-opus-9", "summarized", {"type": "adaptive", "display": "summarized"}),
    ],
)
def test_thinking_is_asked_for_as_the_model_takes_it(model: str, thinking: str, sent: Any) -> None:
    assert call_parameters(model, asked(thinking=thinking)).get("thinking") == sent


@pytest.mark.parametrize(
    ("model", "effort", "sent"),
    [
        ("claude-opus-5-5", "high", {"effort": "high"}),
        ("claude-opus-5-5", None, None),
        ("claude-opus-4-5", "low", {"effort": "low"}),
        ("claude-haiku-4-5", "high", None),
    ],
)
def test_effort_is_sent_to_models_that_take_it(model: str, effort: Any, sent: Any) -> None:
    assert call_parameters(model, asked(effort=effort)).get("output_config") == sent


def test_nothing_is_sent_that_the_api_has_removed_or_that_is_ours_alone() -> None:
    sent = call_parameters("claude-sonnet-5-5", asked(thread="0-1"))
    assert sorted(sent) == ["cache_control", "messages", "model", "output_config", "system", "thinking"]


def test_handing_in_a_typed_result_is_strict_and_no_other_call_is() -> None:
    cards = verb_cards(LEAD_VERBS, RESULT)
    sent = call_parameters("claude-sonnet-5-5", asked(tools=cards))["tools"]
    assert [tool["name"] for tool in sent if tool.get("strict")] == ["submit_result"]
    assert [tool["input_schema"] for tool in sent] == [card.input_schema for card in cards]


@pytest.mark.parametrize(
    "result",
    [None, {"type": "object", "properties": {"n": {"type": "integer"}}}, {**RESULT, "patternProperties": {}}],
)
def test_handing_in_a_result_that_may_be_anything_is_not_strict(result: Any) -> None:
    sent = call_parameters("claude-sonnet-5-5", asked(tools=verb_cards(LEAD_VERBS, result)))["tools"]
    assert not any("strict" in tool for tool in sent)


def closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "allowed"),
    [
        (closed(n={"type": "integer"}), True),
        (closed(n={"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}), True),
        (closed(n={"enum": ["a", "b"], "default": "a"}), True),
        (closed(n=closed(m={"type": "array", "items": closed(x={"type": "string"})})), True),
        ({"type": "object", "properties": {}}, False),
        (closed(n={"type": "object"}), False),
        (closed(n={"type": "array", "items": {"type": "object", "additionalProperties": True}}), False),
        (closed(n={"anyOf": [{"type": "object"}, {"type": "null"}]}), False),
        (closed(n={"type": "integer", "minimum": 1}), False),
        (closed(n={"type": "string", "pattern": "a+"}), False),
        (closed(n={"type": ["string", "null"]}), False),
        (closed(n={"$ref": "#/$defs/N"}) | {"$defs": {"N": {"type": "integer"}}}, False),
        (closed(n={}), False),
        (closed(n=True), False),
        (closed() | {"properties": {f"n{n}": {"type": "integer"} for n in range(24)}}, True),
        (closed() | {"properties": {f"n{n}": {"type": "integer"} for n in range(25)}}, False),
    ],
)
def test_a_schema_is_strict_where_the_api_can_hold_a_model_to_it(schema: dict[str, Any], allowed: bool) -> None:
    assert allows_strict(schema) is allowed


def test_a_tool_keeps_its_schema_as_it_is() -> None:
    card = ToolCard(name="look", description="Looks.", input_schema=closed(n={"type": "integer"}))
    (tool,) = call_parameters("claude-sonnet-5-5", asked(tools=(card,)))["tools"]
    assert tool == {"name": "look", "description": "Looks.", "input_schema": card.input_schema}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("sonnet", "claude-sonnet-5-5"),
        ("claude-opus-5-5", "claude-opus-5-5"),
        ("claude-of-the-future", "claude-of-the-future"),
        ("rehearsal", None),
        ("gpt", None),
        ("", None),
    ],
)
def test_a_name_means_a_claude_model_or_none(name: str, meant: str | None) -> None:
    assert claude_name(name) == meant


def test_every_short_name_means_a_model_that_has_a_price() -> None:
    for alias in claude_aliases():
        model = claude_name(alias)
        assert model is not None
        used = Usage(input_tokens=1, output_tokens=1, cache_read_tokens=1, cache_write_tokens=1)
        assert prices_in_force("").cost_micro_usd(model, used, 1_795_000_000_000) is not None
