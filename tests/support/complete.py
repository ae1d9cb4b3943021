"""What every span has to say, by its operation: from OpenTelemetry's conventions, and ours where they are silent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from shanty_protocol import ModelReplied
from shanty_runtime.bus import Stored
from shanty_runtime.telemetry import names
from support.otlp import Receiver, Span

INTERNAL, CLIENT, PRODUCER, CONSUMER = 1, 3, 4, 5

_MESSAGING = {
    "messaging.system",
    "messaging.operation.name",
    "messaging.operation.type",
    "messaging.destination.name",
    "messaging.destination.template",
    "messaging.message.id",
    "messaging.message.conversation_id",
    "messaging.message.body.size",
    "server.address",
    "server.port",
    "gen_ai.agent.name",
    "shanty.lane",
}
_GENERATIVE = {"gen_ai.operation.name"}
_OF_AN_AGENT = _GENERATIVE | {"gen_ai.agent.name"}
_CALLED = {"gen_ai.caller.type", "gen_ai.caller.name"}

REQUIRED: dict[str, tuple[int, set[str]]] = {
    "publish": (PRODUCER, _MESSAGING | {"shanty.thread.id", "shanty.recipient"}),
    "process": (CONSUMER, _MESSAGING | {"messaging.consumer.group.name", "messaging.nats.delivery_count"}),
    "invoke_workflow": (INTERNAL, _GENERATIVE | {"gen_ai.workflow.name"}),
    "invoke_agent": (
        INTERNAL,
        _OF_AN_AGENT | {"gen_ai.agent.id", "gen_ai.agent.description", "gen_ai.agent.version", "shanty.thread.id"},
    ),
    "chat": (
        CLIENT,
        _OF_AN_AGENT
        | {
            "gen_ai.provider.name",
            "gen_ai.request.model",
            "gen_ai.request.max_tokens",
            "gen_ai.response.model",
            "gen_ai.response.finish_reasons",
            "gen_ai.usage.input_tokens",
            "gen_ai.usage.output_tokens",
            "gen_ai.usage.cache_read.input_tokens",
            "gen_ai.usage.cache_write.input_tokens",
        },
    ),
    "execute_tool": (
        INTERNAL,
        _OF_AN_AGENT | {"gen_ai.tool.name", "gen_ai.tool.type", "gen_ai.tool.call.id", "gen_ai.tool.description"},
    ),
}
"""Kind and attributes of each operation's spans."""

RESOURCE = {
    "service.name",
    "service.namespace",
    "service.instance.id",
    "service.version",
    "shanty.agent.name",
    "telemetry.sdk.name",
}


def missing(span: Span, lead: str = "lead") -> set[str]:
    """What a span lacks. Whatever it has must be in the vocabulary, and none of it is content."""
    operation = span.name.split(" ")[0]
    kind, required = REQUIRED[operation]
    assert span.kind == kind, span.name
    assert (span.scope, span.schema_url) == (names.SCOPE, names.SCHEMA_URL), span.name
    assert span.attributes.keys() <= names.ATTRIBUTES.keys(), span.name
    assert not span.attributes.keys() & names.CONTENT, span.name
    assert None not in span.attributes.values() and "" not in span.attributes.values(), span.name
    wanted = required | {"gen_ai.conversation.id"}
    if operation == "invoke_agent" and span.agent != lead:
        wanted = wanted | _CALLED
    if span.attributes.get("gen_ai.provider.name") == "anthropic":
        wanted = wanted | {"gen_ai.response.id"}
    return (wanted - span.attributes.keys()) | (RESOURCE - span.resource.keys())


def assert_complete(receiver: Receiver, entries: Iterable[Stored], run: str, lead: str = "lead") -> None:
    """Every span of a run says what it has to, and each reply of a model has exactly one."""
    spans = list(receiver.spans.values())
    assert {span.name.split(" ")[0] for span in spans} == set(REQUIRED)
    assert {(span.name, lacks) for span in spans for lacks in missing(span, lead)} == set()
    assert {span.attributes["gen_ai.conversation.id"] for span in spans} == {run}
    replied = Counter(one.address.agent for one in entries if isinstance(one.entry, ModelReplied))
    assert Counter(span.agent for span in spans if span.name.startswith("chat ")) == replied
