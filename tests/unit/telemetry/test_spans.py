from __future__ import annotations

import asyncio

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from shanty_protocol import (
    ChunkAddress,
    EntryAddress,
    FileAddress,
    LiveAddress,
    TimerAddress,
    Usage,
)
from shanty_runtime.errors import ModelError, ToolError
from shanty_runtime.telemetry import (
    agent_span,
    inject,
    model_span,
    names,
    process_span,
    publish_span,
    span_context_of,
    tool_span,
    workflow_span,
)
from shanty_runtime.telemetry.metrics import RunAddress

DELEGATION = EntryAddress("logs", "0-r7", "0", "lead", 4)
TIMER = TimerAddress("due", "lead", "0-r7", "0", "due")
ENTRY_TEMPLATE = "shanty.{lane}.{to}.{run}.{thread}.{agent}.{n}"
TIMER_TEMPLATE = "shanty.timer.{lane}.{phase}.{agent}.{run}.{thread}.{id}"


def edges(spans: tuple[ReadableSpan, ...]) -> dict[str, str | None]:
    """The name of each span's parent, by the span's own name."""
    by_id = {span.context.span_id: span.name for span in spans if span.context}
    return {span.name: by_id[span.parent.span_id] if span.parent else None for span in spans}


def only(recorded: InMemorySpanExporter) -> ReadableSpan:
    (span,) = recorded.get_finished_spans()
    return span


def delegate() -> dict[str, str]:
    """What the lead's process does for one delegation: the headers its mail carries."""
    with (
        workflow_span("incident", "0-r7"),
        agent_span("lead", "0-r7", "0"),
        tool_span("lead", "0-r7", "delegate", "call-1"),
        publish_span(DELEGATION),
    ):
        return inject()


def test_a_delegation_is_one_trace_across_two_processes(recorded: InMemorySpanExporter) -> None:
    headers = delegate()
    with (
        process_span(DELEGATION, headers),
        agent_span("logs", "0-r7", "0-1"),
        model_span("logs", "0-r7", "rehearsal"),
    ):
        pass
    spans = recorded.get_finished_spans()
    publish, process = f"publish {ENTRY_TEMPLATE}", f"process {ENTRY_TEMPLATE}"
    assert edges(spans) == {
        "invoke_workflow incident": None,
        "invoke_agent lead": "invoke_workflow incident",
        "execute_tool delegate": "invoke_agent lead",
        publish: "execute_tool delegate",
        process: publish,
        "invoke_agent logs": process,
        "chat rehearsal": "invoke_agent logs",
    }
    assert {span.name: span.kind for span in spans} == {
        "invoke_workflow incident": SpanKind.INTERNAL,
        "invoke_agent lead": SpanKind.INTERNAL,
        "execute_tool delegate": SpanKind.INTERNAL,
        publish: SpanKind.PRODUCER,
        process: SpanKind.CONSUMER,
        "invoke_agent logs": SpanKind.INTERNAL,
        "chat rehearsal": SpanKind.CLIENT,
    }
    assert len({span.context.trace_id for span in spans if span.context}) == 1


def test_a_process_span_links_to_its_sender_and_to_what_else_led_there(recorded: InMemorySpanExporter) -> None:
    headers = delegate()
    with process_span(DELEGATION, headers):
        earlier = span_context_of(inject())
    assert earlier is not None
    with process_span(DELEGATION, headers, [earlier], delivered=2):
        pass
    sender = span_context_of(headers)
    assert sender is not None
    span = recorded.get_finished_spans()[-1]
    assert [link.context.span_id for link in span.links] == [sender.span_id, earlier.span_id]
    assert span.attributes is not None
    assert span.attributes["messaging.nats.delivery_count"] == 2


def test_mail_without_a_context_begins_a_trace(recorded: InMemorySpanExporter) -> None:
    with agent_span("lead", "0-r7", "0"), process_span(DELEGATION, {"traceparent": "nonsense"}):
        pass
    process, _ = recorded.get_finished_spans()
    assert process.parent is None
    assert process.links == ()


def test_a_publish_span_says_where_to(recorded: InMemorySpanExporter) -> None:
    with publish_span(DELEGATION) as span:
        span.stored(17)
    assert dict(only(recorded).attributes or {}) == {
        "messaging.system": "nats",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": "shanty.0.logs.0-r7.0.lead.4",
        "messaging.destination.template": ENTRY_TEMPLATE,
        "messaging.message.conversation_id": "0-r7/0",
        "messaging.message.id": "17",
        "gen_ai.conversation.id": "0-r7",
        "gen_ai.agent.name": "lead",
        "shanty.lane": "0",
        "shanty.recipient": "logs",
        "shanty.thread.id": "0",
    }


def test_a_process_span_of_a_mail_says_who_works_on_it(recorded: InMemorySpanExporter) -> None:
    with process_span(DELEGATION, {}, seq=17):
        pass
    assert dict(only(recorded).attributes or {}) == {
        "messaging.system": "nats",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "shanty.0.logs.0-r7.0.lead.4",
        "messaging.destination.template": ENTRY_TEMPLATE,
        "messaging.consumer.group.name": "mail-logs",
        "messaging.message.conversation_id": "0-r7/0",
        "messaging.message.id": "17",
        "messaging.nats.delivery_count": 1,
        "gen_ai.conversation.id": "0-r7",
        "gen_ai.agent.name": "logs",
        "shanty.lane": "0",
        "shanty.recipient": "logs",
    }


def test_a_process_span_of_a_timer_says_whose_it_is(recorded: InMemorySpanExporter) -> None:
    with process_span(TIMER, {}):
        pass
    span = only(recorded)
    assert span.name == f"process {TIMER_TEMPLATE}"
    attributes = dict(span.attributes or {})
    assert attributes["messaging.consumer.group.name"] == "timers-lead"
    assert attributes["gen_ai.agent.name"] == "lead"
    assert attributes["shanty.thread.id"] == "0"


@pytest.mark.parametrize(
    ("address", "template"),
    [
        (DELEGATION, ENTRY_TEMPLATE),
        (TIMER, TIMER_TEMPLATE),
        (FileAddress("0-r7", "lead", "memo.md", 1), "shanty.file.{lane}.{run}.{agent}.version.{path}.{n}"),
        (ChunkAddress("0-r7", "lead", "a" * 64, 0), "shanty.file.{lane}.{run}.{agent}.chunk.{digest}.{i}"),
        (LiveAddress("0-r7", "0", "lead"), "shanty.live.{run}.{thread}.{agent}"),
    ],
)
def test_a_span_is_named_by_the_template_of_its_subject(
    recorded: InMemorySpanExporter, address: RunAddress, template: str
) -> None:
    with publish_span(address):
        pass
    span = only(recorded)
    assert span.name == f"publish {template}"
    assert (span.attributes or {})["messaging.destination.name"] == address.subject


def test_a_model_span_counts_cached_tokens_as_input(recorded: InMemorySpanExporter) -> None:
    usage = Usage(input_tokens=10, output_tokens=5, cache_read_tokens=100, cache_write_tokens=7)
    with model_span("logs", "0-r7", "claude-x", provider="anthropic", max_tokens=16_000) as span:
        span.model_replied(
            model="claude-x-1", stop_reason="tool_use", usage=usage, reply_id="msg-1", first_words_after_s=0.25
        )
    assert dict(only(recorded).attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.conversation.id": "0-r7",
        "gen_ai.agent.name": "logs",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-x",
        "gen_ai.request.max_tokens": 16_000,
        "gen_ai.response.id": "msg-1",
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.response.model": "claude-x-1",
        "gen_ai.response.finish_reasons": ("tool_use",),
        "gen_ai.usage.input_tokens": 117,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 100,
        "gen_ai.usage.cache_write.input_tokens": 7,
    }


def test_agent_tool_and_workflow_spans_carry_what_viewers_ask_for(recorded: InMemorySpanExporter) -> None:
    with agent_span("logs", "0-r7", "0-1"):
        pass
    with tool_span("logs", "0-r7", "mine_logs", "call-2"):
        pass
    with workflow_span("incident", "0-r7"):
        pass
    agent, tool, workflow = (dict(span.attributes or {}) for span in recorded.get_finished_spans())
    assert agent == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.conversation.id": "0-r7",
        "gen_ai.agent.name": "logs",
        "shanty.thread.id": "0-1",
    }
    assert tool == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.conversation.id": "0-r7",
        "gen_ai.agent.name": "logs",
        "gen_ai.tool.name": "mine_logs",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": "call-2",
    }
    assert workflow == {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.conversation.id": "0-r7",
        "gen_ai.workflow.name": "incident",
    }


def test_an_agent_span_says_who_asked_if_that_was_an_agent(recorded: InMemorySpanExporter) -> None:
    about = {"team": "incident", "description": "Reads logs.", "version": "4f1c"}
    with agent_span("logs", "0-r7", "0-1", caller=("lead", "0"), **about):
        pass
    with agent_span("lead", "0-r7", "0", caller=("cli", "request-1"), **about):
        pass
    asked, started = (dict(span.attributes or {}) for span in recorded.get_finished_spans())
    assert asked["gen_ai.agent.id"] == "incident/logs"
    assert (asked["gen_ai.agent.description"], asked["gen_ai.agent.version"]) == ("Reads logs.", "4f1c")
    assert (asked["gen_ai.caller.type"], asked["gen_ai.caller.name"]) == ("agent", "lead")
    assert "gen_ai.caller.type" not in started and "gen_ai.caller.name" not in started


def test_what_failed_is_told_by_its_code_rather_than_by_the_exception_that_carries_it(
    recorded: InMemorySpanExporter,
) -> None:
    with pytest.raises(ModelError), model_span("logs", "0-r7", "claude-x") as span:
        span.failed("overloaded")
        raise ModelError("busy", kind="overloaded")
    assert (only(recorded).attributes or {})["error.type"] == "overloaded"


def test_an_exception_leaves_its_type_and_not_its_text(recorded: InMemorySpanExporter) -> None:
    with (
        pytest.raises(ToolError),
        agent_span("logs", "0-r7", "0-1"),
        tool_span("logs", "0-r7", "fetch", "call-1"),
    ):
        raise ToolError("token canary-5f1c was refused")
    for span in recorded.get_finished_spans():
        assert span.status.status_code is StatusCode.ERROR
        assert (span.attributes or {})["error.type"] == "shanty_runtime.errors.ToolError"
        assert span.events == ()
        assert "canary" not in span.to_json()


def test_a_failure_told_by_a_value_is_marked_too(recorded: InMemorySpanExporter) -> None:
    with tool_span("logs", "0-r7", "fetch", "call-1") as span:
        span.failed("tool_error")
    assert only(recorded).status.status_code is StatusCode.ERROR
    assert (only(recorded).attributes or {})["error.type"] == "tool_error"


async def test_cancellation_is_not_an_error(recorded: InMemorySpanExporter) -> None:
    started = asyncio.Event()

    async def work() -> None:
        with agent_span("logs", "0-r7", "0-1"):
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert only(recorded).status.status_code is StatusCode.UNSET
    assert (only(recorded).attributes or {})["shanty.cancelled"] is True


def test_every_name_in_use_is_in_the_vocabulary(recorded: InMemorySpanExporter) -> None:
    with process_span(TIMER, delegate(), seq=1), model_span("logs", "0-r7", "rehearsal") as span:
        span.model_replied(model="rehearsal", stop_reason="end_turn", usage=Usage())
        span.failed("model_failed")
    for each in recorded.get_finished_spans():
        assert each.name.split(" ")[0] in names.SPANS
        assert set(each.attributes or {}) <= set(names.ATTRIBUTES)
        assert (each.attributes or {})["gen_ai.conversation.id"] == "0-r7"


def test_a_name_outside_the_vocabulary_is_refused(recorded: InMemorySpanExporter) -> None:
    with (
        tool_span("logs", "0-r7", "fetch", "call-1") as span,
        pytest.raises(AssertionError, match="is not in telemetry/names"),
    ):
        span.set("my.own", "name")


def test_metrics_have_the_names_prometheus_shows() -> None:
    shown = {metric: names.prometheus_name(metric) for metric in names.METRICS}
    assert shown["messaging.process.duration"] == "messaging_process_duration_seconds"
    assert shown["gen_ai.client.token.usage"] == "gen_ai_client_token_usage"
    assert shown["shanty.delegations.replied"] == "shanty_delegations_replied_total"
    assert shown["shanty.bus.connected"] == "shanty_bus_connected"
    assert len(set(shown.values())) == len(shown)
