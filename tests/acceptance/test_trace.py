from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from shanty_runtime.telemetry import names
from support.complete import assert_complete
from support.crew import crew, until
from support.otlp import ROOT_ID, TRACE_ID, Receiver
from support.scrape import scrape, total

ENTRY = "shanty.{lane}.{to}.{run}.{thread}.{agent}.{n}"

PARENTS = {
    ("lead", f"process {ENTRY}"): {("test", "root"), ("clerk", f"publish {ENTRY}"), ("counter", f"publish {ENTRY}")},
    ("lead", "invoke_workflow ledger"): {("lead", f"process {ENTRY}")},
    ("lead", "invoke_agent lead"): {("lead", "invoke_workflow ledger")},
    ("lead", "chat rehearsal"): {("lead", "invoke_agent lead")},
    ("lead", f"publish {ENTRY}"): {("lead", "invoke_agent lead")},
    ("clerk", f"process {ENTRY}"): {("lead", f"publish {ENTRY}")},
    ("clerk", "invoke_agent clerk"): {("clerk", f"process {ENTRY}")},
    ("clerk", "chat rehearsal"): {("clerk", "invoke_agent clerk")},
    ("clerk", "execute_tool book"): {("clerk", "invoke_agent clerk")},
    ("clerk", "execute_tool ring"): {("clerk", "invoke_agent clerk")},
    ("clerk", f"publish {ENTRY}"): {("clerk", "invoke_agent clerk")},
    ("counter", f"process {ENTRY}"): {("lead", f"publish {ENTRY}")},
    ("counter", "invoke_agent counter"): {("counter", f"process {ENTRY}")},
    ("counter", "execute_tool book"): {("counter", "invoke_agent counter")},
    ("counter", f"publish {ENTRY}"): {("counter", "invoke_agent counter")},
}
"""Every kind of span a run of the ledger team has, by agent, and whose child it may be."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiving:
        yield receiving


def environment_of(tmp_path: Path, receiver: Receiver) -> dict[str, str]:
    return {
        "LEDGER_FILE": str(tmp_path / "ledger.txt"),
        "MODEL_CALLS_FILE": str(tmp_path / "model-calls.txt"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }


async def test_a_run_over_three_processes_is_one_trace_with_the_right_parent_everywhere(
    tmp_path: Path, receiver: Receiver
) -> None:
    agents = {"lead": 1, "clerk": 1, "counter": 1}
    async with crew("ledger", tmp_path, agents, environment_of(tmp_path, receiver)) as running:
        await running.start("0-r", traceparent=f"00-{TRACE_ID}-{ROOT_ID}-01")
        await running.reply("0-r")
        entries = await running.entries("0-r")
        for replica in running.replicas:
            assert replica.stop() == 0
    assert {span.trace_id for span in receiver.spans.values()} == {TRACE_ID}
    assert {(span.service, span.agent) for span in receiver.spans.values()} == {
        ("lead", "lead"),
        ("specialist", "clerk"),
        ("specialist", "counter"),
    }
    edges = {receiver.edge(span) for span in receiver.spans.values()}
    assert edges == {(child, parent) for child, parents in PARENTS.items() for parent in parents}
    assert_complete(receiver, entries, "0-r")
    callers = {(span.agent, span.attributes.get("gen_ai.caller.name")) for span in receiver.spans.values()}
    assert {("clerk", "lead"), ("counter", "lead")} <= callers
    assert names.DELEGATIONS_REPLIED in receiver.metric_names()


async def test_after_a_kill_the_trace_goes_on_and_links_to_where_it_broke_off(
    tmp_path: Path, receiver: Receiver
) -> None:
    environment = {**environment_of(tmp_path, receiver), "SHANTY_REHEARSAL_PACE_S": "0.3"}
    async with crew("ledger", tmp_path, {"lead": 1, "clerk": 2, "counter": 1}, environment) as running:
        await running.start("0-r", traceparent=f"00-{TRACE_ID}-{ROOT_ID}-01")
        async for stored in running.bus.feed.follow("0-r"):
            if stored.address.agent == "clerk" and stored.address.to == "log" and stored.address.n == 1:
                break
        broken_off = stored.headers["traceparent"].split("-")[2]
        next(each for each in running.replicas if each.name == stored.entry.by).kill()
        await running.reply("0-r")

        async def linked() -> bool:
            return any(broken_off in span.links for span in receiver.spans.values())

        await until(linked, 10, "a span that links to the one the kill broke off")
        survivor = next(each for each in running.replicas if each.agent == "clerk" and each.process.poll() is None)
        shown = await scrape(survivor)
        assert total(shown, names.prometheus_name(names.THREADS_TAKEN_OVER)) == 1
        assert total(shown, names.prometheus_name(names.MAIL_REDELIVERED)) >= 1
    assert {span.trace_id for span in receiver.spans.values()} == {TRACE_ID}


async def test_what_was_said_is_in_the_spans_where_that_is_asked_for_and_a_secret_is_not(
    tmp_path: Path, receiver: Receiver
) -> None:
    secret = "nobody within 1"
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_METRICS_EXPORTER": "none",
        "SHANTY_CAPTURE_CONTENT": "spans",
        "DOOR_TOKEN": secret,
    }
    async with crew("trouble", tmp_path, {"lead": 1}, environment) as running:
        await running.start("0-r", secret)
        await running.reply("0-r")
        assert running.replicas[0].stop() == 0
    assert receiver.metrics == []
    first, *_ = [span for span in receiver.spans.values() if span.name == "chat rehearsal"]
    (asked,) = json.loads(str(first.attributes["gen_ai.input.messages"]))
    assert asked["role"] == "user"
    assert "<objective>\n[redacted]\n</objective>" in asked["parts"][0]["content"]
    (said,) = json.loads(str(first.attributes["gen_ai.output.messages"]))
    assert (said["role"], said["finish_reason"]) == ("assistant", "tool_use")
    assert said["parts"][0]["name"] == "delegate" and said["parts"][0]["arguments"]["specialist"] == "nobody"
    (system,) = json.loads(str(first.attributes["gen_ai.system_instructions"]))
    assert system["type"] == "text" and "nobody" in system["content"]
    assert not any(secret.encode() in body for body in receiver.bodies)
