"""The spans of a run, as context managers: nothing else in the runtime touches OpenTelemetry's tracing.

    with process_span(delivery.address, delivery.headers):
        with agent_span("logs", run, thread):
            with model_span("logs", run, model.name) as span:
                reply = await model.reply(request)
                span.model_replied(model=reply.model, stop_reason=reply.stop_reason, usage=reply.usage)
            with publish_span(address) as span:
                placed = await journals.append(address, entry, inject())
                span.stored(placed.stored.seq)

A span that an exception leaves has the status ERROR and the exception's type. Its text is not recorded, for it
may hold a secret. Cancellation is not an error. Prompts, arguments and results are recorded where
SHANTY_CAPTURE_CONTENT=spans asks for it, without secrets and cut to a size; by default they are not.

The work on a mail, the call of a model and that of a tool are also timed here, for `metrics`.

Where nothing is configured to record spans, these do nothing, except that `process_span` hands the sender's
context on: a trace does not break at a service that records none.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode

from shanty_protocol import EntryAddress, LiveAddress, TimerAddress, Usage
from shanty_protocol.headers import TRACEPARENT
from shanty_protocol.ids import is_agent_thread, lane_of
from shanty_runtime.telemetry import content, metrics, names
from shanty_runtime.telemetry.metrics import TEMPLATES, RunAddress
from shanty_runtime.telemetry.propagate import extract

AttributeValue = str | bool | int | float | Sequence[str]

_tracer = trace.get_tracer(names.SCOPE, schema_url=names.SCHEMA_URL)
_capturing = False
_nothing = False


def capture_content(on: bool) -> None:
    """Whether spans carry what models and tools are told and say. Off until this is called."""
    global _capturing
    _capturing = on


class OpenSpan:
    """A span that has begun. Everything said to it is dropped where nothing records it."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self.error_type = ""
        """Why it failed; empty while it has not."""

    def set(self, name: str, value: AttributeValue) -> None:
        """Set an attribute; its name is one of `names.ATTRIBUTES`, its value is never content."""
        assert name in names.ATTRIBUTES, f"{name} is not in telemetry/names.py"
        self._span.set_attribute(name, value)

    def failed(self, error_type: str) -> None:
        """Mark the span as failed where no exception says so: an error code, such as `turn_limit`."""
        self.error_type = error_type
        self._span.set_attribute(names.ERROR_TYPE, error_type)
        self._span.set_status(Status(StatusCode.ERROR, error_type))

    def stored(self, seq: int, size_bytes: int = 0) -> None:
        """The message was stored: its sequence in the stream, and the size of its body."""
        self._span.set_attribute(names.MESSAGING_MESSAGE_ID, str(seq))
        if size_bytes:
            self._span.set_attribute(names.MESSAGING_BODY_SIZE, size_bytes)

    def model_asked(self, *, system: str, messages: content.Transcript) -> None:
        """What a model is sent, if that is captured."""
        if _capturing and self._span.is_recording():
            self._span.set_attribute(names.GEN_AI_SYSTEM_INSTRUCTIONS, content.instructions(system))
            self._span.set_attribute(names.GEN_AI_INPUT_MESSAGES, content.messages(messages))

    def model_said(self, blocks: Sequence[content.Block], stop_reason: str) -> None:
        """What a model replied, if that is captured."""
        if _capturing and self._span.is_recording():
            self._span.set_attribute(names.GEN_AI_OUTPUT_MESSAGES, content.reply(blocks, stop_reason))

    def tool_asked(self, arguments: Mapping[str, Any]) -> None:
        """What a tool is called with, if that is captured."""
        if _capturing and self._span.is_recording():
            self._span.set_attribute(names.GEN_AI_TOOL_CALL_ARGUMENTS, content.arguments(arguments))

    def tool_gave(self, result: str) -> None:
        """What a tool's call gave, if that is captured."""
        if _capturing and self._span.is_recording():
            self._span.set_attribute(names.GEN_AI_TOOL_CALL_RESULT, content.shown(result))

    def model_replied(
        self,
        *,
        model: str,
        stop_reason: str,
        usage: Usage,
        reply_id: str = "",
        first_words_after_s: float | None = None,
    ) -> None:
        # By convention the input tokens of a span include the cached ones, which `Usage` counts apart.
        all_input_tokens = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
        if reply_id:
            self._span.set_attribute(names.GEN_AI_RESPONSE_ID, reply_id)
        if first_words_after_s is not None:
            self._span.set_attribute(names.GEN_AI_RESPONSE_FIRST_CHUNK, first_words_after_s)
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


Server = tuple[str, int]
"""Host and port."""

_NOT_RECORDED = nullcontext(OpenSpan(trace.INVALID_SPAN))


def publish_span(address: RunAddress, *, server: Server | None = None) -> AbstractContextManager[OpenSpan]:
    """Around the write of a message. Take `inject()` inside it: receivers continue from this span."""
    return _publish_span(address, server) if recording() else _NOT_RECORDED


@contextmanager
def _publish_span(address: RunAddress, server: Server | None) -> Iterator[OpenSpan]:
    attributes = _addressed(address, server, operation=names.PUBLISH, operation_type="send")
    attributes[names.GEN_AI_AGENT_NAME] = address.agent
    if isinstance(address, EntryAddress | TimerAddress | LiveAddress):
        attributes[names.SHANTY_THREAD_ID] = address.thread
    name = f"{names.PUBLISH} {TEMPLATES[type(address)]}"
    with _span(name, SpanKind.PRODUCER, attributes) as span:
        yield span


@contextmanager
def continued(headers: Mapping[str, str]) -> Iterator[None]:
    """What begins inside is part of the trace these headers name, if they name one."""
    with trace.use_span(trace.get_current_span(extract(headers))):
        yield


def process_span(
    address: EntryAddress | TimerAddress,
    headers: Mapping[str, str],
    links: Sequence[SpanContext] = (),
    *,
    seq: int = 0,
    delivered: int = 1,
    size_bytes: int = 0,
    server: Server | None = None,
) -> AbstractContextManager[OpenSpan]:
    """Around all work on one mail or timer: a child of the span the message was created in, and linked to it.

    `links` are further spans that led here, such as the one an earlier delivery was processed in.
    """
    if not recording() and TRACEPARENT not in headers:
        return _Processing(address)
    return _process_span(address, headers, links, seq=seq, delivered=delivered, size_bytes=size_bytes, server=server)


class _Processing:
    """Work on a mail or timer that nobody traces, here or before: it is timed all the same."""

    def __init__(self, address: EntryAddress | TimerAddress) -> None:
        self._address = address
        self._span = OpenSpan(trace.INVALID_SPAN)
        self._began_s = time.monotonic()

    def __enter__(self) -> OpenSpan:
        return self._span

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, Exception) and not self._span.error_type:
            self._span.failed(_type_name(error))
        lasted_s = time.monotonic() - self._began_s
        metrics.message_processed(self._address, _recipient(self._address), lasted_s, self._span.error_type)


def _recipient(address: EntryAddress | TimerAddress) -> str:
    return address.to if isinstance(address, EntryAddress) else address.agent


@contextmanager
def _process_span(
    address: EntryAddress | TimerAddress,
    headers: Mapping[str, str],
    links: Sequence[SpanContext],
    *,
    seq: int,
    delivered: int,
    size_bytes: int,
    server: Server | None,
) -> Iterator[OpenSpan]:
    recipient = _recipient(address)
    span = OpenSpan(trace.INVALID_SPAN)
    began_s = time.monotonic()
    try:
        creation = extract(headers)
        sender = trace.get_current_span(creation)
        if not recording():
            with trace.use_span(sender), _failing(span):
                yield span
            return
        attributes = _addressed(address, server, operation=names.PROCESS, operation_type="process")
        attributes[names.GEN_AI_AGENT_NAME] = recipient
        queue = "mail" if isinstance(address, EntryAddress) else "timers"
        attributes[names.MESSAGING_CONSUMER_GROUP] = f"{queue}-{recipient}"
        attributes[names.MESSAGING_DELIVERY_COUNT] = delivered
        if isinstance(address, TimerAddress):
            # The thread in an entry's address is its author's; that of its receiver is in the body.
            attributes[names.SHANTY_THREAD_ID] = address.thread
        if seq:
            attributes[names.MESSAGING_MESSAGE_ID] = str(seq)
        if size_bytes:
            attributes[names.MESSAGING_BODY_SIZE] = size_bytes
        origins = [context for context in (sender.get_span_context(), *links) if context.is_valid]
        name = f"{names.PROCESS} {TEMPLATES[type(address)]}"
        with _span(name, SpanKind.CONSUMER, attributes, parent=creation, origins=origins) as span:
            yield span
    finally:
        metrics.message_processed(address, recipient, time.monotonic() - began_s, span.error_type)


@contextmanager
def workflow_span(team: str, run: str) -> Iterator[OpenSpan]:
    """Around what a team's lead does for a run in one go."""
    attributes = _generative(names.INVOKE_WORKFLOW, run)
    attributes[names.GEN_AI_WORKFLOW_NAME] = team
    with _span(f"{names.INVOKE_WORKFLOW} {team}", SpanKind.INTERNAL, attributes) as span:
        yield span


@contextmanager
def agent_span(
    agent: str,
    run: str,
    thread: str,
    *,
    team: str = "",
    description: str = "",
    version: str = "",
    caller: tuple[str, str] | None = None,
) -> Iterator[OpenSpan]:
    """Around an activation: an agent works on one of its threads until it replies or waits.

    `caller` is the agent and thread that opened it.
    """
    attributes = _generative(names.INVOKE_AGENT, run, agent)
    attributes[names.SHANTY_THREAD_ID] = thread
    if team:
        attributes[names.GEN_AI_AGENT_ID] = f"{team}/{agent}"
    if description:
        attributes[names.GEN_AI_AGENT_DESCRIPTION] = description
    if version:
        attributes[names.GEN_AI_AGENT_VERSION] = version
    if caller is not None and is_agent_thread(caller[1]):
        # The conventions know agents and workflows as callers: who starts a run is neither.
        attributes[names.GEN_AI_CALLER_TYPE] = "agent"
        attributes[names.GEN_AI_CALLER_NAME] = caller[0]
    with _span(f"{names.INVOKE_AGENT} {agent}", SpanKind.INTERNAL, attributes) as span:
        yield span


@contextmanager
def model_span(
    agent: str, run: str, model: str, *, name: str = "", provider: str = "", max_tokens: int | None = None
) -> Iterator[OpenSpan]:
    """Around one call of a model. A model nobody provides, such as a rehearsal, is its own provider.

    `name` is what the agent is called where that is another than the one its metrics are counted under.
    """
    provider = provider or model
    attributes = _generative(names.CHAT, run, name or agent)
    attributes[names.GEN_AI_PROVIDER_NAME] = provider
    attributes[names.GEN_AI_REQUEST_MODEL] = model
    if max_tokens is not None:
        attributes[names.GEN_AI_REQUEST_MAX_TOKENS] = max_tokens
    began_s = time.monotonic()
    with _span(f"{names.CHAT} {model}", SpanKind.CLIENT, attributes) as span:
        try:
            with _failing(span):
                yield span
        finally:
            metrics.model_called(agent, model, provider, time.monotonic() - began_s, span.error_type)


@contextmanager
def tool_span(
    agent: str,
    run: str,
    tool: str,
    call_id: str,
    *,
    name: str = "",
    description: str = "",
    asked_in: Mapping[str, str] | None = None,
) -> Iterator[OpenSpan]:
    """Around one call of a tool. A result that is an error is told with `failed`. `name` is as for a model.

    `asked_in` has the headers of a message that asked for the call, where another process did.
    """
    attributes = _generative(names.EXECUTE_TOOL, run, name or agent)
    attributes[names.GEN_AI_TOOL_NAME] = tool
    attributes[names.GEN_AI_TOOL_TYPE] = "function"
    attributes[names.GEN_AI_TOOL_CALL_ID] = call_id
    if description:
        attributes[names.GEN_AI_TOOL_DESCRIPTION] = description
    began_s = time.monotonic()
    parent = None if asked_in is None else extract(asked_in)
    with _span(f"{names.EXECUTE_TOOL} {tool}", SpanKind.INTERNAL, attributes, parent=parent) as span:
        try:
            with _failing(span):
                yield span
        finally:
            metrics.tool_called(agent, tool, time.monotonic() - began_s, span.error_type)


@contextmanager
def _span(
    name: str,
    kind: SpanKind,
    attributes: dict[str, AttributeValue],
    *,
    parent: Context | None = None,
    origins: Sequence[SpanContext] = (),
) -> Iterator[OpenSpan]:
    if not recording():
        yield OpenSpan(trace.INVALID_SPAN)
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
        with _failing(open_span):
            yield open_span


@contextmanager
def _failing(span: OpenSpan) -> Iterator[None]:
    """Note what leaves a span by an exception. Noted once: what a span was told before stands."""
    try:
        yield
    except asyncio.CancelledError:
        span.set(names.SHANTY_CANCELLED, True)
        raise
    except Exception as error:  # whatever it is, it goes on; only its type is noted
        if not span.error_type:
            span.failed(_type_name(error))
        raise


def record_nothing(on: bool) -> None:
    """Whether this process is known to record no spans: then none is thought of. Off until this is called."""
    global _nothing
    _nothing = on


def recording() -> bool:
    """Whether anything takes spans."""
    if _nothing:
        return False
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider | trace.NoOpTracerProvider)


def _generative(operation: str, run: str, agent: str = "") -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        names.GEN_AI_OPERATION_NAME: operation,
        names.GEN_AI_CONVERSATION_ID: run,
    }
    if agent:
        attributes[names.GEN_AI_AGENT_NAME] = agent
    return attributes


def _addressed(
    address: RunAddress, server: Server | None, *, operation: str, operation_type: str
) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        names.MESSAGING_SYSTEM: names.MESSAGING_SYSTEM_NATS,
        names.MESSAGING_OPERATION_NAME: operation,
        names.MESSAGING_OPERATION_TYPE: operation_type,
        names.MESSAGING_DESTINATION_NAME: address.subject,
        names.MESSAGING_DESTINATION_TEMPLATE: TEMPLATES[type(address)],
        names.GEN_AI_CONVERSATION_ID: address.run,
        names.SHANTY_LANE: lane_of(address.run),
    }
    if isinstance(address, EntryAddress | TimerAddress | LiveAddress):
        attributes[names.MESSAGING_CONVERSATION_ID] = f"{address.run}/{address.thread}"
    if isinstance(address, EntryAddress):
        attributes[names.SHANTY_RECIPIENT] = address.to
    if server is not None:
        attributes[names.SERVER_ADDRESS], attributes[names.SERVER_PORT] = server
    return attributes


def _type_name(error: Exception) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
