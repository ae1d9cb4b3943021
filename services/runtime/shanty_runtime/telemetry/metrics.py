"""What is counted and measured, as functions named for what happened: nothing else in the runtime touches metrics.

    metrics.delegation_replied("logs", "ok", at_ms)
    metrics.mail_rejected("logs", "invalid_input")

The instruments are OpenTelemetry's and are made when this is imported, from `names.METRICS`. They do nothing until
`setup` has a provider read them. Counters and gauges are kept here and read by the provider when somebody asks, which
costs a tenth of handing it every single step: a delegation takes a dozen of them.

A value given to an attribute is one of few, and known beforehand: an agent of the team, a status, a code.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Literal, get_args

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from shanty_protocol import (
    BudgetExhausted,
    BudgetRequested,
    ChunkAddress,
    DelegationSent,
    Entry,
    EntryAddress,
    FileAddress,
    LiveAddress,
    ThreadFailed,
    ThreadReplied,
    ThreadTakenOver,
    TimerAddress,
    Usage,
)
from shanty_protocol.errors import CODES
from shanty_protocol.ids import DEAD
from shanty_protocol.parts import Status
from shanty_runtime.telemetry import names
from shanty_runtime.telemetry.histograms import Histogram

RunAddress = EntryAddress | TimerAddress | FileAddress | ChunkAddress | LiveAddress
"""Addresses of messages that belong to a run, and so to its trace."""

TEMPLATES: dict[type[RunAddress], str] = {
    EntryAddress: "shanty.{lane}.{to}.{run}.{thread}.{agent}.{n}",
    TimerAddress: "shanty.timer.{lane}.{phase}.{agent}.{run}.{thread}.{id}",
    FileAddress: "shanty.file.{lane}.{run}.{agent}.version.{path}.{n}",
    ChunkAddress: "shanty.file.{lane}.{run}.{agent}.chunk.{digest}.{i}",
    LiveAddress: "shanty.live.{run}.{thread}.{agent}",
}

STALE_S = 30.0
"""What was seen of a queue is not repeated for longer: old figures are worse than none."""

UNKNOWN_TOOL = "unknown"
NO_TRIGGER = "none"

TRIGGER_FAILURES = ("invalid_message", "invalid_input")
"""Why a message may start no run."""

LIMITS = ("token_limit", "cost_limit", "model_call_limit", "tool_call_limit", "time_limit")
"""What a thread may run out of."""

ActivationEnd = Literal["rested", "handed_back", "busy", "fenced", "failed", "unreadable"]
"""How a worker's hold on a thread ended."""

_meter = metrics.get_meter(names.SCOPE, schema_url=names.SCHEMA_URL)


class _Kept:
    """A counter or a gauge: its series, kept here until they are read."""

    def __init__(self, metric: str) -> None:
        known = names.METRICS[metric]
        self.attributes = known.attributes
        self.series: dict[tuple[str, ...], float] = {}
        make = _meter.create_observable_counter if known.kind == "counter" else _meter.create_observable_gauge
        make(metric, [self._observe], known.unit, known.sentence)

    def add(self, amount: float, *values: str) -> None:
        self.series[values] = self.series.get(values, 0) + amount

    def set(self, value: float, *values: str) -> None:
        self.series[values] = value

    def _observe(self, options: CallbackOptions) -> Iterable[Observation]:
        # As a list at once: who reads may be another thread.
        return [Observation(value, dict(zip(self.attributes, key, strict=True))) for key, value in self._current()]

    def _current(self) -> list[tuple[tuple[str, ...], float]]:
        return list(self.series.items())


class _Seen(_Kept):
    """A gauge of something elsewhere, whose series are dropped when it has not been seen for a while."""

    def __init__(self, metric: str) -> None:
        super().__init__(metric)
        self._seen_s: dict[tuple[str, ...], float] = {}

    def set(self, value: float, *values: str) -> None:
        super().set(value, *values)
        self._seen_s[values] = time.monotonic()

    def _current(self) -> list[tuple[tuple[str, ...], float]]:
        oldest_s = time.monotonic() - STALE_S
        return [(key, value) for key, value in super()._current() if self._seen_s[key] > oldest_s]


def _histogram(metric: str) -> Histogram:
    return Histogram(_meter, metric)


_delegations_sent = _Kept(names.DELEGATIONS_SENT)
_delegations_replied = _Kept(names.DELEGATIONS_REPLIED)
_delegation_duration = _histogram(names.DELEGATION_DURATION)
_queue_messages = _Seen(names.QUEUE_MESSAGES)
_queue_oldest_age = _Seen(names.QUEUE_OLDEST_AGE)
_stream_used = _Seen(names.STREAM_USED)
_mail_wait = _histogram(names.MAIL_WAIT)
_mail_redelivered = _Kept(names.MAIL_REDELIVERED)
_mail_rejected = _Kept(names.MAIL_REJECTED)
_activations = _Kept(names.ACTIVATIONS)
_threads_active = _Kept(names.THREADS_ACTIVE)
_threads_taken_over = _Kept(names.THREADS_TAKEN_OVER)
_budgets_exhausted = _Kept(names.BUDGETS_EXHAUSTED)
_triggers_fired = _Kept(names.TRIGGERS_FIRED)
_triggers_failed = _Kept(names.TRIGGERS_FAILED)
_people_asked = _Kept(names.PEOPLE_ASKED)
_people_settled = _Kept(names.PEOPLE_SETTLED)
_leases_lost = _Kept(names.LEASES_LOST)
_bus_connected = _Kept(names.BUS_CONNECTED)
_bus_reconnects = _Kept(names.BUS_RECONNECTS)
_bus_durable = _Kept(names.BUS_DURABLE)
_bus_waits = _Kept(names.BUS_WAITS)
_clock_ahead = _Kept(names.CLOCK_AHEAD)
_model_cost = _Kept(names.MODEL_COST)
_model_unpriced = _Kept(names.MODEL_UNPRICED)
_model_cache_tokens = _Kept(names.MODEL_CACHE_TOKENS)
_model_duration = _histogram(names.MODEL_DURATION)
_token_usage = _histogram(names.TOKEN_USAGE)
_tool_duration = _histogram(names.TOOL_DURATION)
_messages_sent = _Kept(names.MESSAGES_SENT)
_process_duration = _histogram(names.PROCESS_DURATION)
_event_loop_lag = _histogram(names.EVENT_LOOP_LAG)


# Threads and delegations


def agent_begins(agent: str, model: str, specialists: Iterable[str]) -> None:
    """A worker begins to take mail. Every counter begins at 0: a rate does not see a series that begins at 1.

    `model` is empty for an agent that is Python code.
    """
    _threads_active.add(0, agent)
    for counter in (_mail_redelivered, _threads_taken_over, _leases_lost, _people_asked, _people_settled):
        counter.add(0, agent)
    for code in CODES:
        _mail_rejected.add(0, agent, code)
    for outcome in get_args(ActivationEnd):
        _activations.add(0, agent, outcome)
    for limit in LIMITS:
        _budgets_exhausted.add(0, agent, limit)
    for status in get_args(Status):
        _delegations_replied.add(0, agent, status)
    for specialist in specialists:
        _delegations_sent.add(0, specialist)
    if model:
        for paid in (_model_cost, _model_unpriced):
            paid.add(0, agent, model)
        for cache in ("read", "write"):
            _model_cache_tokens.add(0, agent, model, cache)


def entry_written(address: EntryAddress, entry: Entry, opened_at_ms: int) -> None:
    """A thread's entry was stored, by us. `opened_at_ms`: when the delegation was sent that it may answer; else 0."""
    match entry:
        case DelegationSent():
            _delegations_sent.add(1, address.to)
        case ThreadReplied():
            delegation_replied(address.agent, entry.outcome.status, opened_at_ms)
        case ThreadTakenOver():
            _threads_taken_over.add(1, address.agent)
        case BudgetExhausted() | BudgetRequested():
            _budgets_exhausted.add(1, address.agent, entry.code)
        case ThreadFailed() if address.to == DEAD:
            mail_rejected(address.agent, entry.code)
        case _:
            pass


def trigger_begins(trigger: str) -> None:
    """A replica of a lead begins to watch it. Its counters begin at 0, as those of an agent do."""
    _triggers_fired.add(0, trigger)
    for code in TRIGGER_FAILURES:
        _triggers_failed.add(0, trigger, code)


def trigger_fired(trigger: str) -> None:
    _triggers_fired.add(1, trigger)


def trigger_failed(trigger: str, code: str) -> None:
    """`trigger` is one of the team's, or `NO_TRIGGER`."""
    _triggers_failed.add(1, trigger, code)


def delegation_replied(agent: str, status: str, sent_at_ms: int = 0) -> None:
    _delegations_replied.add(1, agent, status)
    if sent_at_ms:
        lasted_s = max(0.0, time.time() - sent_at_ms / 1000)
        _delegation_duration.record(lasted_s, agent, status)


def activation_ended(agent: str, outcome: ActivationEnd) -> None:
    _activations.add(1, agent, outcome)


def threads_active(agent: str, count: int) -> None:
    _threads_active.set(count, agent)


def people_wait(agent: str, before: int, after: int) -> None:
    """So many requests of a thread wait for people now, and waited before its newest entry."""
    (_people_asked if after > before else _people_settled).add(abs(after - before), agent)


def lease_lost(agent: str) -> None:
    _leases_lost.add(1, agent)


# Mail and the bus


def mail_delivered(agent: str, delivered: int, stored_at_s: float) -> None:
    """A mail reached its worker, for the `delivered`-th time."""
    if delivered > 1:
        _mail_redelivered.add(1, agent)
    else:
        # The server's clock and ours may differ.
        _mail_wait.record(max(0.0, time.time() - stored_at_s), agent)


def mail_rejected(agent: str, code: str) -> None:
    _mail_rejected.add(1, agent, code)


def message_stored(address: RunAddress) -> None:
    _messages_sent.add(1, TEMPLATES[type(address)], names.MESSAGING_SYSTEM_NATS)


def message_processed(address: RunAddress, agent: str, lasted_s: float, error_type: str) -> None:
    _process_duration.record(lasted_s, TEMPLATES[type(address)], names.MESSAGING_SYSTEM_NATS, agent, error_type)


def queue_seen(agent: str, lane: str, queue: str, *, pending: int, in_hand: int) -> None:
    _queue_messages.set(pending, agent, lane, queue, "pending")
    _queue_messages.set(in_hand, agent, lane, queue, "in_hand")


def oldest_mail_seen(agent: str, lane: str, age_s: float) -> None:
    """0 where no mail waits."""
    _queue_oldest_age.set(age_s, agent, lane)


def stream_seen(stream: str, used: float) -> None:
    """`used` is from 0 to 1."""
    _stream_used.set(used, stream)


def bus_connected(connected: bool) -> None:
    _bus_connected.set(int(connected))
    _bus_reconnects.add(0)
    for cause in ("full", "silent"):
        _bus_waits.add(0, cause)


def bus_reconnected() -> None:
    _bus_connected.set(1)
    _bus_reconnects.add(1)


def bus_durable(verified: bool) -> None:
    _bus_durable.set(int(verified))


def bus_waits(cause: str, count: int) -> None:
    """So many requests are tried again and again, because the bus is `full` or `silent`."""
    _bus_waits.set(count, cause)


def clock_ahead(ahead_s: float) -> None:
    _clock_ahead.set(ahead_s)


# Models and tools


def model_called(agent: str, model: str, provider: str, lasted_s: float, error_type: str) -> None:
    _model_duration.record(lasted_s, names.CHAT, provider, model, agent, error_type)


def model_replied(agent: str, model: str, provider: str, usage: Usage) -> None:
    input_tokens = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    _token_usage.record(input_tokens, names.CHAT, provider, model, agent, "input")
    _token_usage.record(usage.output_tokens, names.CHAT, provider, model, agent, "output")
    _model_cache_tokens.add(usage.cache_read_tokens, agent, model, "read")
    _model_cache_tokens.add(usage.cache_write_tokens, agent, model, "write")


def model_paid(agent: str, model: str, cost_microusd: int | None) -> None:
    """What a call cost; None where the price list does not say."""
    if cost_microusd is None:
        _model_unpriced.add(1, agent, model)
    else:
        _model_cost.add(cost_microusd / 1_000_000, agent, model)


def tool_called(agent: str, tool: str, lasted_s: float, error_type: str) -> None:
    """`tool` is one of the agent's, or `UNKNOWN_TOOL`."""
    _tool_duration.record(lasted_s, tool, agent, error_type)


# The process


def event_loop_late(late_s: float) -> None:
    _event_loop_lag.record(late_s)
