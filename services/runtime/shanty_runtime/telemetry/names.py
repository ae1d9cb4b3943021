"""Every name that spans, attributes and metrics of Shanty have. A name stands here before it is used.

Names of OpenTelemetry's conventions for generative AI and for messaging come first; what they lack
is under `shanty.`. None of them holds content: no prompt, no argument, no result, no text of an exception.

`SPANS`, `ATTRIBUTES` and `METRICS` are the same vocabulary as data, for documentation and dashboards.
"""

from __future__ import annotations

from typing import Literal

import msgspec

SCOPE = "shanty"
"""The instrumentation scope of every span."""

MESSAGING_SYSTEM_NATS = "nats"
"""Not one of the values the messaging conventions register, so it is used as a custom value."""


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    """In UCUM, as OpenTelemetry writes it: `s`, `{token}`, `{thread}`."""
    sentence: str


SPANS: dict[str, str] = {}
ATTRIBUTES: dict[str, str] = {}
METRICS: dict[str, Metric] = {}


def _span(operation: str, sentence: str) -> str:
    SPANS[operation] = sentence
    return operation


def _attribute(name: str, sentence: str) -> str:
    ATTRIBUTES[name] = sentence
    return name


def _metric(name: str, kind: Literal["counter", "gauge", "histogram"], unit: str, sentence: str) -> str:
    METRICS[name] = Metric(kind=kind, unit=unit, sentence=sentence)
    return name


# A span is named `<operation> <what>`: a subject's template, or the name of an agent, model, tool or team.
INVOKE_WORKFLOW = _span("invoke_workflow", "A team works on a run, for as long as this process has it. INTERNAL.")
INVOKE_AGENT = _span("invoke_agent", "An agent works on one of its threads until it replies or waits. INTERNAL.")
CHAT = _span("chat", "One call of a model, retries included. CLIENT.")
EXECUTE_TOOL = _span("execute_tool", "One call of a tool. INTERNAL.")
PUBLISH = _span("publish", "An entry, a timer or a file is written to the bus, retries included. PRODUCER.")
PROCESS = _span(
    "process", "One mail or timer is worked on, until it is settled. CONSUMER, child of the publish span."
)

GEN_AI_OPERATION_NAME = _attribute(
    "gen_ai.operation.name", "What is done: chat, execute_tool, invoke_agent or invoke_workflow."
)
GEN_AI_CONVERSATION_ID = _attribute("gen_ai.conversation.id", "The run. On every span there is.")
GEN_AI_WORKFLOW_NAME = _attribute("gen_ai.workflow.name", "The team.")
GEN_AI_AGENT_NAME = _attribute("gen_ai.agent.name", "The agent that acts; the author of what is published.")
GEN_AI_PROVIDER_NAME = _attribute("gen_ai.provider.name", "Who runs the model, such as anthropic.")
GEN_AI_REQUEST_MODEL = _attribute("gen_ai.request.model", "The model that was asked for.")
GEN_AI_RESPONSE_MODEL = _attribute("gen_ai.response.model", "The model that answered.")
GEN_AI_RESPONSE_FINISH_REASONS = _attribute("gen_ai.response.finish_reasons", "Why the model stopped.")
GEN_AI_USAGE_INPUT_TOKENS = _attribute(
    "gen_ai.usage.input_tokens", "All input tokens, those read from and written to the cache included."
)
GEN_AI_USAGE_OUTPUT_TOKENS = _attribute("gen_ai.usage.output_tokens", "Output tokens.")
GEN_AI_USAGE_CACHE_READ = _attribute("gen_ai.usage.cache_read.input_tokens", "Input tokens read from the cache.")
GEN_AI_USAGE_CACHE_WRITE = _attribute("gen_ai.usage.cache_write.input_tokens", "Input tokens written to the cache.")
GEN_AI_TOOL_NAME = _attribute("gen_ai.tool.name", "The tool.")
GEN_AI_TOOL_TYPE = _attribute("gen_ai.tool.type", "Always `function`: the call is carried out on our side.")
GEN_AI_TOOL_CALL_ID = _attribute("gen_ai.tool.call.id", "The id the model gave to the call.")

MESSAGING_SYSTEM = _attribute("messaging.system", "Always `nats`.")
MESSAGING_OPERATION_NAME = _attribute("messaging.operation.name", "publish or process.")
MESSAGING_OPERATION_TYPE = _attribute("messaging.operation.type", "send or process.")
MESSAGING_DESTINATION_NAME = _attribute("messaging.destination.name", "The subject.")
MESSAGING_DESTINATION_TEMPLATE = _attribute(
    "messaging.destination.template", "The subject with its variable parts in braces; it names the span."
)
MESSAGING_CONSUMER_GROUP = _attribute("messaging.consumer.group.name", "The durable consumer the mail came through.")
MESSAGING_CONVERSATION_ID = _attribute("messaging.message.conversation_id", "`<run>/<thread>`.")
MESSAGING_MESSAGE_ID = _attribute("messaging.message.id", "The message's sequence in its stream.")
MESSAGING_DELIVERY_COUNT = _attribute(
    "messaging.nats.delivery_count", "How often the message was delivered; more than 1 is a redelivery."
)

ERROR_TYPE = _attribute("error.type", "The type of the exception or the error code; never its text.")

SHANTY_LANE = _attribute("shanty.lane", "The shard the run lives in.")
SHANTY_THREAD_ID = _attribute("shanty.thread.id", "The thread: its place in the run's tree.")
SHANTY_RECIPIENT = _attribute("shanty.recipient", "The agent an entry is addressed to, or log, dead or operators.")
SHANTY_CANCELLED = _attribute("shanty.cancelled", "True where the work was cancelled, which is not an error.")

MODEL_DURATION = _metric(
    "gen_ai.client.operation.duration",
    "histogram",
    "s",
    "How long one call of a model took, retries included.",
)
TOKEN_USAGE = _metric("gen_ai.client.token.usage", "histogram", "{token}", "Tokens of one call of a model, by type.")
TOOL_DURATION = _metric("gen_ai.execute_tool.duration", "histogram", "s", "How long one call of a tool took.")
MESSAGES_SENT = _metric("messaging.client.sent.messages", "counter", "{message}", "Messages the bus has stored.")
PROCESS_DURATION = _metric(
    "messaging.process.duration", "histogram", "s", "How long one mail or timer was worked on."
)
THREADS_ACTIVE = _metric("shanty.threads.active", "gauge", "{thread}", "Threads this replica works on right now.")
THREADS_REPLIED = _metric("shanty.threads.replied", "counter", "{thread}", "Replies sent, by status.")
THREADS_TAKEN_OVER = _metric(
    "shanty.threads.taken_over", "counter", "{thread}", "Threads taken over from a worker that is gone."
)
LEASES_LOST = _metric("shanty.leases.lost", "counter", "{lease}", "Leases that ran out while their holder worked.")
MAIL_REJECTED = _metric("shanty.mail.rejected", "counter", "{message}", "Mails set aside as dead letters, by code.")

_PROMETHEUS_UNITS = {"s": "_seconds"}


def prometheus_name(metric: str) -> str:
    """A metric's name as Prometheus shows it, such as `messaging_process_duration_seconds`."""
    known = METRICS[metric]
    suffix = "_total" if known.kind == "counter" else ""
    return metric.replace(".", "_") + _PROMETHEUS_UNITS.get(known.unit, "") + suffix
