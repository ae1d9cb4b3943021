from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shanty_runtime.models.base import Message
from shanty_runtime.telemetry import content, model_span, names, tool_span
from shanty_runtime.telemetry.spans import capture_content

CANARY = "canary-5f1c-in-the-environment"
TRANSCRIPT = (
    Message("user", ({"type": "text", "text": f"look, but do not say {CANARY}"},)),
    Message("assistant", ({"type": "tool_use", "id": "t1", "name": "grep", "input": {"deep": [{"key": CANARY}]}},)),
    Message("user", ({"type": "tool_result", "tool_use_id": "t1", "content": f"found {CANARY}"},)),
)


@pytest.fixture
def capturing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CANARY_TOKEN", CANARY)
    capture_content(True)
    yield
    capture_content(False)


def converse() -> None:
    with model_span("logs", "0-r7", "claude-x", provider="anthropic") as span:
        span.model_asked(system=f"You are {CANARY}.", messages=TRANSCRIPT)
        span.model_said(({"type": "thinking", "thinking": "hm"}, {"type": "text", "text": CANARY}), "end_turn")
    with tool_span("logs", "0-r7", "grep", "t1") as span:
        span.tool_asked({"pattern": CANARY, "times": 3})
        span.tool_gave(f"found {CANARY}")


def attributes(recorded: InMemorySpanExporter) -> dict[str, Any]:
    return {name: value for span in recorded.get_finished_spans() for name, value in (span.attributes or {}).items()}


def test_content_is_captured_where_it_is_asked_for_in_the_form_of_the_conventions(
    recorded: InMemorySpanExporter, capturing: None
) -> None:
    converse()
    found = attributes(recorded)
    assert found.keys() >= names.CONTENT
    assert json.loads(found["gen_ai.system_instructions"]) == [{"type": "text", "content": "You are [redacted]."}]
    assert json.loads(found["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "look, but do not say [redacted]"}]},
        {
            "role": "assistant",
            "parts": [
                {"type": "tool_call", "id": "t1", "name": "grep", "arguments": {"deep": [{"key": "[redacted]"}]}}
            ],
        },
        {"role": "user", "parts": [{"type": "tool_call_response", "id": "t1", "response": "found [redacted]"}]},
    ]
    assert json.loads(found["gen_ai.output.messages"]) == [
        {
            "role": "assistant",
            "parts": [{"type": "reasoning", "content": "hm"}, {"type": "text", "content": "[redacted]"}],
            "finish_reason": "end_turn",
        }
    ]
    assert json.loads(found["gen_ai.tool.call.arguments"]) == {"pattern": "[redacted]", "times": 3}
    assert found["gen_ai.tool.call.result"] == "found [redacted]"


def test_no_content_is_captured_unless_it_is_asked_for(recorded: InMemorySpanExporter) -> None:
    converse()
    assert not attributes(recorded).keys() & names.CONTENT
    assert CANARY not in "".join(span.to_json() for span in recorded.get_finished_spans())


def test_a_long_text_is_cut_after_its_secrets_are_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY_TOKEN", CANARY)
    edge = "x" * (content.MAX_TEXT_CHARACTERS - 5)
    shown = content.shown(f"{edge}{CANARY}{edge}")
    assert "canar" not in shown
    assert shown.startswith(f"{edge}[reda")
    assert shown.endswith("characters]") and len(shown) < content.MAX_TEXT_CHARACTERS + 100


def test_of_a_long_transcript_the_newest_messages_are_shown_and_the_rest_is_counted() -> None:
    text = "y" * content.MAX_TEXT_CHARACTERS
    transcript = [Message("user", ({"type": "text", "text": f"{number} {text}"},)) for number in range(100)]
    shown = content.messages(transcript)
    assert len(shown) < content.MAX_MESSAGES_CHARACTERS * 1.1
    note, *told = json.loads(shown)
    assert note["parts"][0]["content"] == f"[{100 - len(told)} earlier messages are not shown]"
    assert told[-1]["parts"][0]["content"].startswith("99 ") and len(told) > 5


def test_what_no_convention_knows_and_what_is_nested_without_end_do_no_harm() -> None:
    nested: Any = "bottom"
    for _ in range(50):
        nested = {"down": nested}
    assert json.loads(content.arguments({"a": nested}))
    blocks = ({"type": "redacted_thinking", "data": "secret"}, {"type": "new_kind", "payload": object()})
    (reply,) = json.loads(content.reply(blocks, "end_turn"))
    assert reply["parts"] == [{"type": "redacted_thinking"}, {"type": "new_kind"}]
