from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.metrics.export import HistogramDataPoint

from shanty_protocol import (
    Brief,
    Budget,
    BudgetExhausted,
    BudgetRequested,
    ChunkAddress,
    DelegationSent,
    Entry,
    EntryAddress,
    FileAddress,
    Outcome,
    Spent,
    ThreadFailed,
    ThreadReplied,
    ThreadTakenOver,
    TimerAddress,
    Usage,
)
from shanty_runtime.errors import ToolError
from shanty_runtime.telemetry import (
    lag,
    metrics,
    model_span,
    names,
    process_span,
    tool_span,
    watch_event_loop,
)
from shanty_runtime.testing import until
from support import metered


@pytest.fixture(autouse=True)
def metered_process() -> Iterator[None]:
    metered.begin()
    yield


def write(agent: str, entry: Entry, to: str) -> None:
    metrics.entry_written(EntryAddress(to, "0-r", "0", agent, 3), entry, int((time.time() - 90) * 1000))


def test_a_delegation_is_counted_by_who_sends_it_and_by_who_replies() -> None:
    now_ms = int(time.time() * 1000)
    write("lead-a", DelegationSent(at_ms=now_ms, to_thread="0-1", brief=Brief(objective="go")), "logs-a")
    outcome = Outcome(status="partial")
    write("logs-a", ThreadReplied(at_ms=now_ms, to_thread="0", outcome=outcome, answers=""), "lead-a")
    assert metered.values(names.DELEGATIONS_SENT, gen_ai_agent_name="logs-a") == {(): 1}
    assert metered.values(names.DELEGATIONS_REPLIED, gen_ai_agent_name="logs-a") == {("partial",): 1}
    lasted = metered.histogram(names.DELEGATION_DURATION, gen_ai_agent_name="logs-a", shanty_status="partial")
    assert (lasted.count, 90 <= lasted.sum < 100) == (1, True)


def test_a_reply_whose_delegation_was_answered_before_is_counted_and_not_timed() -> None:
    metrics.delegation_replied("logs-b", "ok")
    assert metered.values(names.DELEGATIONS_REPLIED, gen_ai_agent_name="logs-b") == {("ok",): 1}
    assert metered.series(names.DELEGATION_DURATION, gen_ai_agent_name="logs-b") == {}


def test_a_takeover_is_counted_and_a_thread_that_is_given_up_is_a_dead_letter() -> None:
    write("logs-c", ThreadTakenOver(at_ms=1), "log")
    write("logs-c", ThreadFailed(at_ms=1, code="crash_loop", reason="five died"), "dead")
    assert metered.values(names.THREADS_TAKEN_OVER, gen_ai_agent_name="logs-c") == {(): 1}
    assert metered.values(names.MAIL_REJECTED, gen_ai_agent_name="logs-c") == {("crash_loop",): 1}


def test_a_budget_that_is_spent_is_counted_by_what_ran_out() -> None:
    limits, spent = Budget(tokens=5), Spent(tokens=9)
    write("logs-q", BudgetExhausted(at_ms=1, code="token_limit", limits=limits, spent=spent), "log")
    write("logs-q", BudgetRequested(at_ms=1, code="time_limit", limits=limits, spent=spent), "operators")
    assert metered.values(names.BUDGETS_EXHAUSTED, gen_ai_agent_name="logs-q") == {
        ("time_limit",): 1,
        ("token_limit",): 1,
    }


def test_the_wait_of_a_mail_ends_with_its_first_delivery_and_later_ones_are_redeliveries() -> None:
    for delivered in (1, 2, 3):
        metrics.mail_delivered("logs-d", delivered, time.time() - 2)
    wait = metered.histogram(names.MAIL_WAIT, gen_ai_agent_name="logs-d")
    assert (wait.count, 2 <= wait.sum < 3) == (1, True)
    assert metered.values(names.MAIL_REDELIVERED, gen_ai_agent_name="logs-d") == {(): 2}


def test_a_mail_that_seems_to_come_from_the_future_has_not_waited() -> None:
    metrics.mail_delivered("logs-e", 1, time.time() + 60)
    assert metered.histogram(names.MAIL_WAIT, gen_ai_agent_name="logs-e").sum == 0


def test_every_counter_of_an_agent_is_there_before_anything_happens() -> None:
    metrics.agent_begins("lead-f", "claude-f", ["logs-f"])
    assert metered.values(names.MAIL_REJECTED, gen_ai_agent_name="lead-f")[("invalid_message",)] == 0
    assert metered.values(names.ACTIVATIONS, gen_ai_agent_name="lead-f")[("failed",)] == 0
    assert metered.values(names.DELEGATIONS_REPLIED, gen_ai_agent_name="lead-f")[("unreachable",)] == 0
    assert metered.values(names.DELEGATIONS_SENT, gen_ai_agent_name="logs-f") == {(): 0}
    assert metered.values(names.MODEL_UNPRICED, gen_ai_agent_name="lead-f") == {("claude-f",): 0}
    assert metered.values(names.LEASES_LOST, gen_ai_agent_name="lead-f") == {(): 0}
    assert metered.values(names.BUDGETS_EXHAUSTED, gen_ai_agent_name="lead-f")[("cost_limit",)] == 0


def test_what_was_asked_of_people_less_what_is_settled_is_what_waits() -> None:
    metrics.agent_begins("clerk-p", "claude-p", [])
    for before, after in ((0, 2), (2, 2), (2, 1), (1, 2), (2, 0)):
        metrics.people_wait("clerk-p", before, after)
    assert metered.values(names.PEOPLE_ASKED, gen_ai_agent_name="clerk-p") == {(): 3}
    assert metered.values(names.PEOPLE_SETTLED, gen_ai_agent_name="clerk-p") == {(): 3}


def test_what_was_seen_of_a_queue_vanishes_when_nobody_has_looked_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    metrics.queue_seen("logs-g", "0", "mail", pending=3, in_hand=1)
    metrics.oldest_mail_seen("logs-g", "0", 7.5)
    assert metered.values(names.QUEUE_MESSAGES, gen_ai_agent_name="logs-g") == {
        ("0", "mail", "pending"): 3,
        ("0", "mail", "in_hand"): 1,
    }
    assert metered.values(names.QUEUE_OLDEST_AGE, gen_ai_agent_name="logs-g") == {("0",): 7.5}
    monkeypatch.setattr(metrics, "STALE_S", 0.0)
    assert metered.values(names.QUEUE_MESSAGES, gen_ai_agent_name="logs-g") == {}
    assert metered.values(names.QUEUE_OLDEST_AGE, gen_ai_agent_name="logs-g") == {}


def test_a_model_call_is_timed_by_what_became_of_it_and_its_tokens_are_counted_by_type() -> None:
    with model_span("logs-h", "0-r", "claude-h", provider="anthropic"):
        pass
    with model_span("logs-h", "0-r", "claude-h", provider="anthropic") as span:
        span.failed("overloaded")
    calls = metered.series(names.MODEL_DURATION, gen_ai_agent_name="logs-h", gen_ai_provider_name="anthropic")
    assert set(calls) == {("chat", "claude-h"), ("chat", "claude-h", "overloaded")}
    usage = Usage(input_tokens=10, output_tokens=5, cache_read_tokens=100, cache_write_tokens=7)
    metrics.model_replied("logs-h", "claude-h", "anthropic", usage)
    tokens = {
        kind: metered.histogram(names.TOKEN_USAGE, gen_ai_agent_name="logs-h", gen_ai_token_type=kind).sum
        for kind in ("input", "output")
    }
    assert tokens == {"input": 117, "output": 5}
    cached = metered.values(names.MODEL_CACHE_TOKENS, gen_ai_agent_name="logs-h", gen_ai_request_model="claude-h")
    assert cached == {("read",): 100, ("write",): 7}


def test_what_a_call_cost_adds_up_and_a_call_without_a_price_is_counted_instead() -> None:
    for cost_microusd in (1_500_000, 250_000, None):
        metrics.model_paid("logs-i", "claude-i", cost_microusd)
    assert metered.values(names.MODEL_COST, gen_ai_agent_name="logs-i") == {("claude-i",): 1.75}
    assert metered.values(names.MODEL_UNPRICED, gen_ai_agent_name="logs-i") == {("claude-i",): 1}


def test_a_tool_call_is_timed_by_what_became_of_it() -> None:
    with tool_span("logs-j", "0-r", "mine_logs", "call-1") as span:
        span.failed("tool_error")
    with pytest.raises(ToolError), tool_span("logs-j", "0-r", "mine_logs", "call-2"):
        raise ToolError("no")
    with tool_span("logs-j", "0-r", "mine_logs", "call-3"):
        pass
    assert set(metered.series(names.TOOL_DURATION, gen_ai_agent_name="logs-j")) == {
        ("mine_logs",),
        ("mine_logs", "tool_error"),
        ("mine_logs", "shanty_runtime.errors.ToolError"),
    }


def test_work_on_a_mail_is_timed_also_where_no_span_records_it() -> None:
    delegation, timer = (
        EntryAddress("logs-k", "0-r", "0", "lead", 4),
        TimerAddress("due", "logs-k", "0-r", "0", "due"),
    )
    with process_span(delegation, {}):
        pass
    with pytest.raises(ToolError), process_span(timer, {}):
        raise ToolError("no")
    entry = "shanty.{lane}.{to}.{run}.{thread}.{agent}.{n}"
    due = "shanty.timer.{lane}.{phase}.{agent}.{run}.{thread}.{id}"
    assert set(metered.series(names.PROCESS_DURATION, gen_ai_agent_name="logs-k")) == {
        (entry, "nats"),
        (due, "nats", "shanty_runtime.errors.ToolError"),
    }


async def test_an_event_loop_that_is_held_up_is_seen_to_be_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag, "INTERVAL_S", 0.01)
    before = sum(point.sum for point in histograms(names.EVENT_LOOP_LAG))
    watching = asyncio.create_task(watch_event_loop())
    await asyncio.sleep(0)
    time.sleep(0.3)  # noqa: ASYNC251  # this is what it is about
    await until(lambda: sum(point.sum for point in histograms(names.EVENT_LOOP_LAG)) > before + 0.2)
    watching.cancel()


def histograms(metric: str) -> list[HistogramDataPoint]:
    return [point for point in metered.series(metric).values() if isinstance(point, HistogramDataPoint)]


def everything_of_a_run(run: str) -> None:
    """What services tell of one run, with everything in it that differs from run to run."""
    lead, logs = EntryAddress("logs-l", run, "0", "lead-l", 1), EntryAddress("lead-l", run, "0-1", "logs-l", 2)
    timer = TimerAddress("set", "lead-l", run, "0", f"due-{run}")
    file, chunk = FileAddress(run, "logs-l", f"{run}.md", 1), ChunkAddress(run, "logs-l", run.rjust(64, "0"), 0)
    for address in (lead, logs, timer, file, chunk):
        metrics.message_stored(address)
    metrics.entry_written(lead, DelegationSent(at_ms=1, to_thread="0-1", brief=Brief(objective=run)), 0)
    outcome = Outcome(status="ok", summary=run)
    metrics.entry_written(logs, ThreadReplied(at_ms=1, to_thread="0", outcome=outcome, answers=lead.subject), 1)
    metrics.mail_delivered("logs-l", 1, 0.0)
    metrics.mail_rejected("logs-l", "invalid_message")
    metrics.activation_ended("logs-l", "rested")
    metrics.threads_active("logs-l", 1)
    metrics.lease_lost("logs-l")
    metrics.queue_seen("logs-l", "0", "mail", pending=1, in_hand=0)
    metrics.oldest_mail_seen("logs-l", "0", 1.0)
    metrics.event_loop_late(0.001)
    with process_span(lead, {}), model_span("logs-l", run, "claude-l", provider="anthropic"):
        metrics.model_replied("logs-l", "claude-l", "anthropic", Usage())
        metrics.model_paid("logs-l", "claude-l", 1)
    with tool_span("logs-l", run, "mine_logs", f"call-{run}"):
        pass


@pytest.mark.parametrize("runs", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_ever_so_many_runs_have_as_many_series_as_one(runs: int) -> None:
    everything_of_a_run("0-first")
    series, sent = metered.series_count(), metered.values(names.DELEGATIONS_SENT, gen_ai_agent_name="logs-l")
    for number in range(runs):
        everything_of_a_run(f"0-run-{number}")
    assert metered.series_count() == series
    assert metered.values(names.DELEGATIONS_SENT, gen_ai_agent_name="logs-l") == {(): sent[()] + runs}


def test_every_metric_is_described_and_every_attribute_of_one_is_in_the_vocabulary() -> None:
    for name, metric in names.METRICS.items():
        assert metric.sentence.endswith("."), name
        assert set(metric.attributes) <= set(names.ATTRIBUTES), name
        assert (metric.kind == "histogram") == bool(metric.boundaries), name
        assert list(metric.boundaries) == sorted(set(metric.boundaries)), name
