"""What services show at /metrics and write to stderr, while they do what they are there for."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from shanty_runtime.telemetry import names
from shanty_runtime.telemetry.names import prometheus_name
from support.crew import Crew, crew, until
from support.otlp import TRACE_ID, Receiver
from support.scrape import exposition, label_values, log_lines, problems, samples, scrape, total

SENT, REPLIED = prometheus_name(names.DELEGATIONS_SENT), prometheus_name(names.DELEGATIONS_REPLIED)
LASTED = f"{prometheus_name(names.DELEGATION_DURATION)}_count"
WAITED = f"{prometheus_name(names.MAIL_WAIT)}_count"
CALLS = f"{prometheus_name(names.MODEL_DURATION)}_count"
TOOLS = f"{prometheus_name(names.TOOL_DURATION)}_count"
REJECTED, ENDED = prometheus_name(names.MAIL_REJECTED), prometheus_name(names.ACTIVATIONS)
ACTIVE = prometheus_name(names.THREADS_ACTIVE)
QUEUE = prometheus_name(names.QUEUE_MESSAGES)
OLDEST = prometheus_name(names.QUEUE_OLDEST_AGE)
HISTOGRAM = re.compile(r"_(?:bucket|count|sum)$")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"LEDGER_FILE": str(tmp_path / "ledger.txt"), "MODEL_CALLS_FILE": str(tmp_path / "model-calls.txt")}


async def at_rest(running: Crew) -> dict[str, str]:
    """What every agent shows once none of them has anything in hand."""
    shown: dict[str, str] = {}

    async def resting() -> bool:
        shown.update({each.agent: await exposition(each) for each in running.replicas})
        return all(total(samples(text), ACTIVE) == 0 for text in shown.values()) and all(
            total(samples(shown["lead"]), QUEUE, gen_ai_agent_name=agent) == 0 for agent in shown
        )

    await until(resting, 60, "nobody has a thread in hand")
    return shown


async def play(running: Crew, runs: list[str]) -> None:
    for run in runs:
        await running.start(run, objective=run)
    await asyncio.gather(*(running.reply(run, within_s=300) for run in runs))


async def grows_no_series(running: Crew, runs: int) -> None:
    """After a few runs, which have all there is to have, further ones add no series and nothing of their own."""
    before = {agent: set(samples(text)) for agent, text in (await at_rest(running)).items()}
    further = [f"0-further-{number}" for number in range(runs)]
    for first in range(0, runs, 20):
        await play(running, further[first : first + 20])
    shown = await at_rest(running)
    private = [*further, *(each.name for each in running.replicas), "0-1", "0-2", "request-1", "total.txt"]
    for agent, text in shown.items():
        after = samples(text)
        # A busy machine may be late with a lease: its thread is left to another then, which is an error of one kind.
        new = {name for name, labels in after.keys() - before[agent] if "error_type" not in dict(labels)}
        assert new == set(), f"{agent} has new series"
        assert not [
            value for value in label_values(after) for word in private if word == value or f"{word}." in value
        ]
    assert total(samples(shown["counter"]), REPLIED, shanty_status="ok") >= runs


async def test_services_show_what_happened_in_the_form_prometheus_wants_and_more_runs_add_no_series(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    async with crew("ledger", tmp_path, {"lead": 1, "clerk": 1, "counter": 1}, environment) as running:
        await running.start("0-r")
        await running.bus.connection.request("shanty.0.counter.0-r.0.mallory.0", b"\xff\xfe")
        await running.reply("0-r")
        shown = await at_rest(running)
        await grows_no_series(running, 5)
    known = {prometheus_name(metric) for metric in names.METRICS}
    for agent, text in shown.items():
        assert problems(text) == []
        assert "otel_scope" not in text
        families = {
            HISTOGRAM.sub("", name) for name, _ in samples(text) if name.startswith(("shanty", "gen_ai", "mess"))
        }
        assert families <= known
        (target,) = [dict(labels) for name, labels in samples(text) if name == "target_info"]
        assert target["service_name"] == ("lead" if agent == "lead" else "specialist")
        assert target["service_namespace"] == "ledger"
        assert target["service_instance_id"] == f"{agent}-1"
        assert target["shanty_agent_name"] == agent
        assert target["service_version"]
        assert "process_cpu_seconds_total" in text and "python_gc_collections_total" in text
    lead, clerk, counter = (samples(shown[agent]) for agent in ("lead", "clerk", "counter"))
    assert total(lead, SENT, gen_ai_agent_name="clerk") == total(lead, SENT, gen_ai_agent_name="counter") == 1
    assert total(lead, REPLIED, gen_ai_agent_name="lead", shanty_status="ok") == 1
    assert total(clerk, REPLIED, gen_ai_agent_name="clerk", shanty_status="ok") == 2, "one of them to the follow-up"
    assert total(clerk, LASTED, gen_ai_agent_name="clerk") == total(counter, LASTED) == total(lead, LASTED) == 1
    assert total(clerk, CALLS, gen_ai_request_model="rehearsal", gen_ai_operation_name="chat") == 5
    assert total(counter, CALLS) == 0
    assert total(clerk, TOOLS, gen_ai_tool_name="book") == 4 and total(counter, TOOLS, gen_ai_tool_name="book") == 1
    assert total(clerk, WAITED) == 2 and total(counter, WAITED) == 2, "one of them the one that nobody can read"
    assert total(counter, REJECTED) == total(counter, REJECTED, shanty_code="invalid_message") == 1
    assert total(lead, ENDED, shanty_outcome="failed") == 0
    assert total(clerk, ENDED, shanty_outcome="rested") >= 1, "the follow-up may find it still awake"
    assert total(counter, prometheus_name(names.BUS_CONNECTED)) == 1
    assert total(lead, f"{prometheus_name(names.EVENT_LOOP_LAG)}_count") > 0


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_hundreds_of_runs_have_no_more_series_than_a_few(tmp_path: Path, environment: dict[str, str]) -> None:
    async with crew("ledger", tmp_path, {"lead": 1, "clerk": 1, "counter": 1}, environment) as running:
        await play(running, [f"0-first-{number}" for number in range(5)])
        await grows_no_series(running, 300)


async def test_a_lead_shows_what_waits_for_an_agent_that_nobody_plays(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    async with crew("ledger", tmp_path, {"lead": 1}, environment) as running:
        (lead,) = running.replicas
        await running.start("0-r")

        async def waiting() -> bool:
            shown = await scrape(lead)
            pending = total(shown, QUEUE, gen_ai_agent_name="clerk", shanty_queue="mail", shanty_state="pending")
            return pending == 1 and total(shown, OLDEST, gen_ai_agent_name="clerk") > 0

        await until(waiting, 60, "the mail nobody takes is seen")


async def test_a_line_of_the_log_says_which_process_run_thread_and_trace_it_is_of(tmp_path: Path) -> None:
    with Receiver() as receiver:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "EFFECTS_FILE": str(tmp_path / "effects.txt")}
        async with crew("trouble", tmp_path, {"lead": 1, "thrower": 1}, environment) as running:
            await running.start("0-r", "thrower", traceparent=f"00-{TRACE_ID}-00f067aa0ba902b7-01")
            await running.reply("0-r")
            thrower = running.replicas[1]
            lines = log_lines(thrower)
            assert thrower.stop() == 0
    for line in lines:
        assert {"time", "level", "message", "logger"} <= line.keys()
        assert (line["service"], line["agent"], line["replica"]) == ("specialist", "thrower", "thrower-1")
    (failed,) = [line for line in lines if "exception" in line]
    assert failed["message"] == "the handler of thrower failed"
    assert (failed["run"], failed["thread"], failed["trace_id"]) == ("0-r", "0-1", TRACE_ID)
    assert failed["span_id"] in receiver.spans
