"""Every name that spans, attributes and metrics of Shanty have. A name stands here before it is used.

Names of OpenTelemetry's conventions for generative AI and for messaging come first; what they lack
is under `shanty.`. None of them holds content (no prompt, no argument, no result, no text of an exception) but those
of `CONTENT`, which are set where SHANTY_CAPTURE_CONTENT asks for it and nowhere else.

`SPANS`, `ATTRIBUTES` and `METRICS` are the same vocabulary as data, for documentation and dashboards.
"""

from __future__ import annotations

from typing import Literal

import msgspec

SCOPE = "shanty"
"""The instrumentation scope of every span and metric."""

SCHEMA_URL = "https://opentelemetry.io/schemas/gen-ai-dev/1.42.0-dev"
"""The conventions for generative AI as they stood when these names were taken from them."""

MESSAGING_SYSTEM_NATS = "nats"
"""Not one of the values the messaging conventions register, so it is used as a custom value."""


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    """In UCUM, as OpenTelemetry writes it: `s`, `{token}`, `{thread}`."""
    sentence: str
    attributes: tuple[str, ...] = ()
    """What its series are told apart by. Each takes few values, and always the same few: never a run or a thread."""
    boundaries: tuple[float, ...] = ()
    """The buckets of a histogram."""


SPANS: dict[str, str] = {}
ATTRIBUTES: dict[str, str] = {}
METRICS: dict[str, Metric] = {}
CONTENT: set[str] = set()
"""The attributes that hold what was said, asked and answered. They are also in ATTRIBUTES."""


def _span(operation: str, sentence: str) -> str:
    SPANS[operation] = sentence
    return operation


def _attribute(name: str, sentence: str) -> str:
    ATTRIBUTES[name] = sentence
    return name


def _content(name: str, sentence: str) -> str:
    CONTENT.add(name)
    return _attribute(name, sentence)


def _metric(
    name: str,
    kind: Literal["counter", "gauge", "histogram"],
    unit: str,
    sentence: str,
    *attributes: str,
    boundaries: tuple[float, ...] = (),
) -> str:
    METRICS[name] = Metric(kind=kind, unit=unit, sentence=sentence, attributes=attributes, boundaries=boundaries)
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
GEN_AI_AGENT_ID = _attribute("gen_ai.agent.id", "`<team>/<agent>`.")
GEN_AI_AGENT_DESCRIPTION = _attribute("gen_ai.agent.description", "What the agent is for, from its definition.")
GEN_AI_AGENT_VERSION = _attribute("gen_ai.agent.version", "A digest of its prompt, model, tools and contract.")
GEN_AI_CALLER_TYPE = _attribute("gen_ai.caller.type", "`agent`, where an agent delegated what is worked on.")
GEN_AI_CALLER_NAME = _attribute("gen_ai.caller.name", "The agent that delegated it.")
GEN_AI_PROVIDER_NAME = _attribute("gen_ai.provider.name", "Who runs the model, such as anthropic.")
GEN_AI_REQUEST_MODEL = _attribute("gen_ai.request.model", "The model that was asked for.")
GEN_AI_REQUEST_MAX_TOKENS = _attribute("gen_ai.request.max_tokens", "Room for the reply, in tokens.")
GEN_AI_RESPONSE_ID = _attribute("gen_ai.response.id", "The provider's own id of the reply.")
GEN_AI_RESPONSE_FIRST_CHUNK = _attribute(
    "gen_ai.response.time_to_first_chunk", "Seconds until the reply's first words; none where it has no words."
)
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
GEN_AI_TOOL_DESCRIPTION = _attribute("gen_ai.tool.description", "What the model is told of the tool.")
GEN_AI_TOKEN_TYPE = _attribute("gen_ai.token.type", "input or output.")

GEN_AI_SYSTEM_INSTRUCTIONS = _content("gen_ai.system_instructions", "The system prompt, as JSON.")
GEN_AI_INPUT_MESSAGES = _content("gen_ai.input.messages", "What the model was sent, as JSON.")
GEN_AI_OUTPUT_MESSAGES = _content("gen_ai.output.messages", "What the model replied, as JSON.")
GEN_AI_TOOL_CALL_ARGUMENTS = _content("gen_ai.tool.call.arguments", "The arguments of a call, as JSON.")
GEN_AI_TOOL_CALL_RESULT = _content("gen_ai.tool.call.result", "What the call gave.")

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
MESSAGING_BODY_SIZE = _attribute("messaging.message.body.size", "Bytes of the message, its headers not counted.")
MESSAGING_DELIVERY_COUNT = _attribute(
    "messaging.nats.delivery_count", "How often the message was delivered; more than 1 is a redelivery."
)

SERVER_ADDRESS = _attribute("server.address", "The host of the NATS server this process is connected to.")
SERVER_PORT = _attribute("server.port", "Its port.")

ERROR_TYPE = _attribute("error.type", "The type of the exception or the error code; never its text.")

SHANTY_LANE = _attribute("shanty.lane", "The shard the run lives in.")
SHANTY_THREAD_ID = _attribute("shanty.thread.id", "The thread: its place in the run's tree.")
SHANTY_RECIPIENT = _attribute("shanty.recipient", "The agent an entry is addressed to, or log, dead or operators.")
SHANTY_CANCELLED = _attribute("shanty.cancelled", "True where the work was cancelled, which is not an error.")
SHANTY_STATUS = _attribute("shanty.status", "How a delegation was answered: ok, partial, failed, refused and so on.")
SHANTY_LIMIT = _attribute("shanty.limit", "Which limit was reached: the protocol's code for it.")
SHANTY_CODE = _attribute("shanty.code", "Why a mail is a dead letter: one of the protocol's codes.")
SHANTY_OUTCOME = _attribute(
    "shanty.outcome",
    "How a worker's hold on a thread ended: rested, handed_back (it is draining), busy (another worker has it), "
    "fenced (another worker took it), failed, or unreadable.",
)
SHANTY_QUEUE = _attribute("shanty.queue", "mail or timers.")
SHANTY_STATE = _attribute("shanty.state", "pending (nobody has it yet) or in_hand (somebody has, and is not done).")
SHANTY_CACHE = _attribute("shanty.cache", "read or write.")
SHANTY_CAUSE = _attribute(
    "shanty.cause", "full (the server says that there is no space) or silent (it is connected, and does not answer)."
)
SHANTY_TRIGGER = _attribute("shanty.trigger", "What starts runs by itself, by its name in team.yaml.")
SHANTY_AGENT_NAME = _attribute("shanty.agent.name", "The agent a process plays. Of the resource.")

_TO_AN_HOUR = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
_TO_TEN_MINUTES = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_MODEL = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600)
_TO_A_DAY = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600, 14_400, 86_400)
_TOKENS = (1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576)
_LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

DELEGATIONS_SENT = _metric(
    "shanty.delegations.sent",
    "counter",
    "{delegation}",
    "Delegations this agent was sent, counted by who sends.",
    GEN_AI_AGENT_NAME,
)
DELEGATIONS_REPLIED = _metric(
    "shanty.delegations.replied",
    "counter",
    "{delegation}",
    "Replies this agent gave, by status.",
    GEN_AI_AGENT_NAME,
    SHANTY_STATUS,
)
DELEGATION_DURATION = _metric(
    "shanty.delegation.duration",
    "histogram",
    "s",
    "From when a delegation was sent to when it was replied to, by status. Follow-ups are not counted.",
    GEN_AI_AGENT_NAME,
    SHANTY_STATUS,
    boundaries=_TO_A_DAY,
)
QUEUE_MESSAGES = _metric(
    "shanty.queue.messages",
    "gauge",
    "{message}",
    "Messages in an agent's queue, as each replica of the lead sees it; so for agents without a replica, too.",
    GEN_AI_AGENT_NAME,
    SHANTY_LANE,
    SHANTY_QUEUE,
    SHANTY_STATE,
)
QUEUE_OLDEST_AGE = _metric(
    "shanty.queue.oldest.age",
    "gauge",
    "s",
    "Age of the oldest mail nobody has taken yet, 0 where there is none, as each replica of the lead sees it.",
    GEN_AI_AGENT_NAME,
    SHANTY_LANE,
)
MAIL_WAIT = _metric(
    "shanty.mail.wait",
    "histogram",
    "s",
    "How long a mail lay in the stream before it was first delivered.",
    GEN_AI_AGENT_NAME,
    boundaries=_TO_AN_HOUR,
)
MAIL_REDELIVERED = _metric(
    "shanty.mail.redelivered",
    "counter",
    "{message}",
    "Deliveries of mail that had been delivered before.",
    GEN_AI_AGENT_NAME,
)
MAIL_REJECTED = _metric(
    "shanty.mail.rejected",
    "counter",
    "{message}",
    "Mails set aside as dead letters, and threads given up, by code.",
    GEN_AI_AGENT_NAME,
    SHANTY_CODE,
)
ACTIVATIONS = _metric(
    "shanty.activations",
    "counter",
    "{activation}",
    "Times a worker had a thread in hand, by how that ended.",
    GEN_AI_AGENT_NAME,
    SHANTY_OUTCOME,
)
THREADS_ACTIVE = _metric(
    "shanty.threads.active", "gauge", "{thread}", "Threads this replica works on right now.", GEN_AI_AGENT_NAME
)
THREADS_TAKEN_OVER = _metric(
    "shanty.threads.taken_over",
    "counter",
    "{thread}",
    "Threads taken over from a worker that is gone.",
    GEN_AI_AGENT_NAME,
)
BUDGETS_EXHAUSTED = _metric(
    "shanty.budgets.exhausted",
    "counter",
    "{thread}",
    "Times a thread had spent all it may, by which limit: a delegation ends then, a run waits for people.",
    GEN_AI_AGENT_NAME,
    SHANTY_LIMIT,
)
TRIGGERS_FIRED = _metric(
    "shanty.triggers.fired",
    "counter",
    "{run}",
    "Runs that schedules and messages have started, by trigger.",
    SHANTY_TRIGGER,
)
TRIGGERS_FAILED = _metric(
    "shanty.triggers.failed",
    "counter",
    "{message}",
    "Messages that could start no run and are dead letters, by trigger (none: no trigger has the subject) and code.",
    SHANTY_TRIGGER,
    SHANTY_CODE,
)
PEOPLE_ASKED = _metric(
    "shanty.people.asked",
    "counter",
    "{request}",
    "Approvals, questions and requests for more budget that threads of this agent put to people.",
    GEN_AI_AGENT_NAME,
)
PEOPLE_SETTLED = _metric(
    "shanty.people.settled",
    "counter",
    "{request}",
    "Those of them that wait no more: decided, answered, granted, expired or void. What was asked less this waits.",
    GEN_AI_AGENT_NAME,
)
LEASES_LOST = _metric(
    "shanty.leases.lost",
    "counter",
    "{lease}",
    "Leases that somebody else had, or nobody, when their holder renewed them.",
    GEN_AI_AGENT_NAME,
)
BUS_CONNECTED = _metric("shanty.bus.connected", "gauge", "1", "1 while this process is connected to NATS, else 0.")
BUS_RECONNECTS = _metric(
    "shanty.bus.reconnects", "counter", "{reconnect}", "Times the connection to NATS was made again."
)
BUS_DURABLE = _metric(
    "shanty.bus.durable",
    "gauge",
    "1",
    "1 where an ack is known to mean the disk, 0 where it does not or nobody knows.",
)
BUS_WAITS = _metric(
    "shanty.bus.waiting",
    "gauge",
    "{request}",
    "What this process has asked of the bus and it does not take now: it is full, or silent. Tried until it does.",
    SHANTY_CAUSE,
)
CLOCK_AHEAD = _metric(
    "shanty.clock.ahead", "gauge", "s", "How far this machine's clock is ahead of the server's; less than 0: behind."
)
MODEL_COST = _metric(
    "shanty.model.cost",
    "counter",
    "{USD}",
    "What model calls have cost, by the price list in force.",
    GEN_AI_AGENT_NAME,
    GEN_AI_REQUEST_MODEL,
)
MODEL_UNPRICED = _metric(
    "shanty.model.unpriced",
    "counter",
    "{call}",
    "Model calls that the price list has no price for.",
    GEN_AI_AGENT_NAME,
    GEN_AI_REQUEST_MODEL,
)
MODEL_CACHE_TOKENS = _metric(
    "shanty.model.cache.tokens",
    "counter",
    "{token}",
    "Input tokens read from the provider's cache, and written to it.",
    GEN_AI_AGENT_NAME,
    GEN_AI_REQUEST_MODEL,
    SHANTY_CACHE,
)
MODEL_DURATION = _metric(
    "gen_ai.client.operation.duration",
    "histogram",
    "s",
    "How long one call of a model took; what failed has an error type.",
    GEN_AI_OPERATION_NAME,
    GEN_AI_PROVIDER_NAME,
    GEN_AI_REQUEST_MODEL,
    GEN_AI_AGENT_NAME,
    ERROR_TYPE,
    boundaries=_MODEL,
)
TOKEN_USAGE = _metric(
    "gen_ai.client.token.usage",
    "histogram",
    "{token}",
    "Tokens of one call of a model, by type; those read from and written to the cache are input.",
    GEN_AI_OPERATION_NAME,
    GEN_AI_PROVIDER_NAME,
    GEN_AI_REQUEST_MODEL,
    GEN_AI_AGENT_NAME,
    GEN_AI_TOKEN_TYPE,
    boundaries=_TOKENS,
)
TOOL_DURATION = _metric(
    "gen_ai.execute_tool.duration",
    "histogram",
    "s",
    "How long one call of a tool took; what failed has an error type. A tool the agent does not have is `unknown`.",
    GEN_AI_TOOL_NAME,
    GEN_AI_AGENT_NAME,
    ERROR_TYPE,
    boundaries=_TO_TEN_MINUTES,
)
MESSAGES_SENT = _metric(
    "messaging.client.sent.messages",
    "counter",
    "{message}",
    "Messages this process had stored.",
    MESSAGING_DESTINATION_TEMPLATE,
    MESSAGING_SYSTEM,
)
PROCESS_DURATION = _metric(
    "messaging.process.duration",
    "histogram",
    "s",
    "How long one mail or timer was worked on.",
    MESSAGING_DESTINATION_TEMPLATE,
    MESSAGING_SYSTEM,
    GEN_AI_AGENT_NAME,
    ERROR_TYPE,
    boundaries=_TO_A_DAY,
)
EVENT_LOOP_LAG = _metric(
    "shanty.event_loop.lag",
    "histogram",
    "s",
    "How late the event loop does what is due. Leases and acks wait for it.",
    boundaries=_LAG,
)

_PROMETHEUS_UNITS = {"s": "_seconds"}


def prometheus_name(metric: str) -> str:
    """A metric's name as Prometheus shows it, such as `messaging_process_duration_seconds`."""
    known = METRICS[metric]
    suffix = "_total" if known.kind == "counter" else ""
    return metric.replace(".", "_") + _PROMETHEUS_UNITS.get(known.unit, "") + suffix
