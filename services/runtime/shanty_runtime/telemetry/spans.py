"""The spans of a run, as context managers: nothing else in the runtime touches OpenTelemetry.

    with process_span(delivery.address, delivery.headers):
        with agent_span("logs", run, thread):
            with model_span("logs", run, model.name) as span:
                reply = await model.reply(request)
                span.model_replied(model=reply.model, stop_reason=reply.stop_reason, usage=reply.usage)
            with publish_span(address) as span:
                placed = await journals.append(address, entry, inject())
                span.stored(placed.stored.seq)

A span that an exception leaves has the status ERROR and the exception's type. Its text is not recorded, for it
may hold a secret, and neither are prompts, arguments or results. Cancellation is not an error.

Where nothing is configured to record spans, these do nothing, except that `process_span` hands the sender's
context on: a trace does not break at a service that records none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode

from shanty_protocol import (
    ChunkAddress,
    EntryAddress,
    FileAddress,
    LiveAddress,
    TimerAddress,
    Usage,
)
from shanty_protocol.ids import lane_of
from shanty_runtime.telemetry import names
from shanty_runtime.telemetry.propagate import extract

AttributeValue = str | bool | int | float | Sequence[str]

RunAddress = EntryAddress | TimerAddress | FileAddress | ChunkAddress | LiveAddress
"""Addresses of messages that belong to a run, and so to its trace."""

_TEMPLATES: dict[type[RunAddress], str] = {
    EntryAddress: "shanty.{lane}.{to}.{run}.{thread}.{agent}.{n}",
    TimerAddress: "shanty.timer.{lane}.{phase}.{agent}.{run}.{thread}.{id}",
    FileAddress: "shanty.file.{lane}.{run}.{agent}.version.{path}.{n}",
    ChunkAddress: "shanty.file.{lane}.{run}.{agent}.chunk.{digest}.{i}",
    LiveAddress: "shanty.live.{run}.{thread}",
}

_tracer = trace.get_tracer(names.SCOPE)


class OpenSpan:
    """A span that has begun. Everything said to it is dropped where nothing records it."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def set(self, name: str, value: AttributeValue) -> None:
        """Set an attribute; its name is one of `names.ATTRIBUTES`, its value is never content."""
        assert name in names.ATTRIBUTES, f"{name} is not in telemetry/names.py"
        self._span.set_attribute(name, value)

    def failed(self, error_type: str) -> None:
        """Mark the span as failed where no exception says so: an error code, such as `turn_limit`."""
        self._span.set_attribute(names.ERROR_TYPE, error_type)
        self._span.set_status(Status(StatusCode.ERROR, error_type))

    def stored(self, seq: int) -> None:
        """The message was stored, and this is its sequence in the stream."""
        self._span.set_attribute(names.MESSAGING_MESSAGE_ID, str(seq))

    def model_replied(self, *, model: str, stop_reason: str, usage: Usage) -> None:
        # By convention the input tokens of a span include the cached ones, which `Usage` counts apart.
        all_input_tokens = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
        self._span.set_attributes(
            {
                names.GEN_AI_RESPONSE_MODEL: model,
                names.GEN_AI_RESPONSE_FINISH_REASONS: (stop_reason,),
                names.GEN_AI_USAGE_INPUT_TOKENS: all_input_tokens,
                names.GEN_AI_USAGE_OUTPUT_TOKENS: usage.output_tokens,
                names.GEN_AI_USAGE_CACHE_READ: usage.cache_read_tokens,
                names.GEN_AI_USAGE_CACHE_WRITE: usage.cache_write_tokens,
            }
        )


_UNRECORDED = OpenSpan(trace.INVALID_SPAN)


@contextmanager
def publish_span(address: RunAddress) -> Iterator[OpenSpan]:
    """Around the write of a message. Take `inject()` inside it: receivers continue from this span."""
    if not _recording():
        yield _UNRECORDED
        return
    attributes = _addressed(address, operation=names.PUBLISH, operation_type="send")
    if not isinstance(address, LiveAddress):
        attributes[names.GEN_AI_AGENT_NAME] = address.agent
    if isinstance(address, EntryAddress | TimerAddress | LiveAddress):
        attributes[names.SHANTY_THREAD_ID] = address.thread
    name = f"{names.PUBLISH} {_TEMPLATES[type(address)]}"
    with _span(name, SpanKind.PRODUCER, attributes) as span:
        yield span


@contextmanager
def process_span(
    address: EntryAddress | TimerAddress,
    headers: Mapping[str, str],
    links: Sequence[SpanContext] = (),
    *,
    seq: int = 0,
    delivered: int = 1,
) -> Iterator[OpenSpan]:
    """Around all work on one mail or timer: a child of the span the message was created in, and linked to it.

    `links` are further spans that led here, such as the one an earlier delivery was processed in.
    """
    creation = extract(headers)
    sender = trace.get_current_span(creation)
    if not _recording():
        with trace.use_span(sender):
            yield _UNRECORDED
        return
    recipient = address.to if isinstance(address, EntryAddress) else address.agent
    attributes = _addressed(address, operation=names.PROCESS, operation_type="process")
    attributes[names.GEN_AI_AGENT_NAME] = recipient
    queue = "mail" if isinstance(address, EntryAddress) else "timers"
    attributes[names.MESSAGING_CONSUMER_GROUP] = f"{queue}-{recipient}"
    attributes[names.MESSAGING_DELIVERY_COUNT] = delivered
    if isinstance(address, TimerAddress):
        # The thread in an entry's address is its author's; that of its receiver is in the body.
        attributes[names.SHANTY_THREAD_ID] = address.thread
    if seq:
        attributes[names.MESSAGING_MESSAGE_ID] = str(seq)
    origins = [context for context in (sender.get_span_context(), *links) if context.is_valid]
    name = f"{names.PROCESS} {_TEMPLATES[type(address)]}"
    with _span(name, SpanKind.CONSUMER, attributes, parent=creation, origins=origins) as span:
        yield span


@contextmanager
def workflow_span(team: str, run: str) -> Iterator[OpenSpan]:
    """Around what a team's lead does for a run in one go."""
    attributes = _generative(names.INVOKE_WORKFLOW, run)
    attributes[names.GEN_AI_WORKFLOW_NAME] = team
    with _span(f"{names.INVOKE_WORKFLOW} {team}", SpanKind.INTERNAL, attributes) as span:
        yield span


@contextmanager
def agent_span(agent: str, run: str, thread: str) -> Iterator[OpenSpan]:
    """Around an activation: an agent works on one of its threads until it replies or waits."""
    attributes = _generative(names.INVOKE_AGENT, run, agent)
    attributes[names.SHANTY_THREAD_ID] = thread
    with _span(f"{names.INVOKE_AGENT} {agent}", SpanKind.INTERNAL, attributes) as span:
        yield span


@contextmanager
def model_span(agent: str, run: str, model: str, *, provider: str = "") -> Iterator[OpenSpan]:
    """Around one call of a model. A model nobody provides, such as a rehearsal, is its own provider."""
    attributes = _generative(names.CHAT, run, agent)
    attributes[names.GEN_AI_PROVIDER_NAME] = provider or model
    attributes[names.GEN_AI_REQUEST_MODEL] = model
    with _span(f"{names.CHAT} {model}", SpanKind.CLIENT, attributes) as span:
        yield span


@contextmanager
def tool_span(agent: str, run: str, tool: str, call_id: str) -> Iterator[OpenSpan]:
    """Around one call of a tool. A result that is an error is told with `failed`."""
    attributes = _generative(names.EXECUTE_TOOL, run, agent)
    attributes[names.GEN_AI_TOOL_NAME] = tool
    attributes[names.GEN_AI_TOOL_TYPE] = "function"
    attributes[names.GEN_AI_TOOL_CALL_ID] = call_id
    with _span(f"{names.EXECUTE_TOOL} {tool}", SpanKind.INTERNAL, attributes) as span:
        yield span


@contextmanager
def _span(
    name: str,
    kind: SpanKind,
    attributes: dict[str, AttributeValue],
    *,
    parent: Context | None = None,
    origins: Sequence[SpanContext] = (),
) -> Iterator[OpenSpan]:
    if not _recording():
        yield _UNRECORDED
        return
    links = [Link(origin) for origin in origins]
    with _tracer.start_as_current_span(
        name,
        context=parent,
        kind=kind,
        attributes=attributes,
        links=links,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        open_span = OpenSpan(span)
        try:
            yield open_span
        except asyncio.CancelledError:
            open_span.set(names.SHANTY_CANCELLED, True)
            raise
        except Exception as error:  # whatever it is, it goes on; only its type is noted
            open_span.failed(_type_name(error))
            raise


def _recording() -> bool:
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider | trace.NoOpTracerProvider)


def _generative(operation: str, run: str, agent: str = "") -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        names.GEN_AI_OPERATION_NAME: operation,
        names.GEN_AI_CONVERSATION_ID: run,
    }
    if agent:
        attributes[names.GEN_AI_AGENT_NAME] = agent
    return attributes


def _addressed(address: RunAddress, *, operation: str, operation_type: str) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        names.MESSAGING_SYSTEM: names.MESSAGING_SYSTEM_NATS,
        names.MESSAGING_OPERATION_NAME: operation,
        names.MESSAGING_OPERATION_TYPE: operation_type,
        names.MESSAGING_DESTINATION_NAME: address.subject,
        names.MESSAGING_DESTINATION_TEMPLATE: _TEMPLATES[type(address)],
        names.GEN_AI_CONVERSATION_ID: address.run,
        names.SHANTY_LANE: lane_of(address.run),
    }
    if isinstance(address, EntryAddress | TimerAddress | LiveAddress):
        attributes[names.MESSAGING_CONVERSATION_ID] = f"{address.run}/{address.thread}"
    if isinstance(address, EntryAddress):
        attributes[names.SHANTY_RECIPIENT] = address.to
    return attributes


def _type_name(error: Exception) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
