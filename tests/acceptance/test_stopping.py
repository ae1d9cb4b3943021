"""Advice and requests to stop, on real processes: what a lead, a person and a kill -9 do to threads at work."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shanty_protocol import MailReceived, ModelReplied, Outcome, ThreadReplied, ToolCalled, ToolReturned
from shanty_protocol.ids import LOG
from shanty_runtime.bus import Stored
from support.audit import journals_have_no_gaps
from support.crew import Crew, crew, until

PACE_S = 1.5
READ_WITHIN_S = 1.0
"""How soon advice is read. It takes some tens of milliseconds, so the better of two tries has to keep to it."""
STOPPING_WITHIN_S = 5.0
"""How soon somebody who stops a run learns that it has heard: a machine that does much else may need that long."""
SEEDS = range(20)


@pytest.fixture
async def diggers(tmp_path: Path) -> AsyncIterator[Crew]:
    environment = {"LEDGER_FILE": str(tmp_path / "ledger.txt")}
    async with crew("diggers", tmp_path, {"lead": 1, "digger": 2, "driller": 1}, environment) as running:
        yield running


async def stored_of(running: Crew, run: str, thread: str) -> list[Stored]:
    return [stored for stored in await running.entries(run) if stored.address.thread == thread]


async def at_work(running: Crew, run: str, thread: str, kind: type = ModelReplied) -> None:
    async def begun() -> bool:
        return any(isinstance(stored.entry, kind) for stored in await stored_of(running, run, thread))

    await until(begun, 60, f"thread {thread} works")


async def replies_of(running: Crew, run: str) -> dict[str, list[Outcome]]:
    found: dict[str, list[Outcome]] = {}
    for stored in await running.entries(run):
        if isinstance(stored.entry, ThreadReplied):
            found.setdefault(stored.address.thread, []).append(stored.entry.outcome)
    return found


async def test_a_lead_stops_one_thread_at_once_has_another_wrap_up_and_advises_a_third(diggers: Crew) -> None:
    orders = "digger 0.1, digger blast 30, driller 0.1, digger 0.1, dig 2"
    stops = "stop 0-1 wrap_up, stop 0-2 abort, stop 0-3 wrap_up, tell 0-4 deeper, tell 0-4 that will do"
    await diggers.start("0-r", f"{orders}, {stops}, wait 0-1 0-2 0-3 0-4")
    outcome = await diggers.reply("0-r")
    assert outcome.status == "ok" and outcome.result == {
        "0-1": "cancelled: dug until told to stop",
        "0-2": "cancelled: stopped where it was: the vein is empty",
        "0-3": "cancelled: stopped after a step: the vein is empty",
        "0-4": "ok: dug until told that will do and heard deeper",
    }
    replies = await replies_of(diggers, "0-r")
    assert {thread: len(outcomes) for thread, outcomes in replies.items()} == dict.fromkeys(replies, 1)
    # The blast was announced and its outcome is not known to anybody.
    blasted = [stored.entry for stored in await stored_of(diggers, "0-r", "0-2")]
    assert any(isinstance(entry, ToolCalled) for entry in blasted)
    assert not any(isinstance(entry, ToolReturned) for entry in blasted)


async def test_a_person_advises_a_thread_while_its_model_speaks_and_it_reads_it_at_once(
    tmp_path: Path,
) -> None:
    async with crew(
        "diggers", tmp_path, {"lead": 1, "digger": 1}, {"SHANTY_REHEARSAL_PACE_S": str(PACE_S), "LEDGER_FILE": ""}
    ) as running:
        await running.start("0-r", "digger 0.01, wait")
        await at_work(running, "0-r", "0-1")
        said = await running.told("say", "0-r", "deeper", "--thread", "0-1")
        assert said["agent"] == "digger"
        journal = await running.journal("0-r", "0-1", "digger")
        read = journal[said["read_at_entry"]]
        assert isinstance(read, MailReceived) and read.consumed == (said["said"],)
        last = await running.told("say", "0-r", "that will do", "--thread", "0-1")
        assert min(said["after_s"], last["after_s"]) < READ_WITHIN_S
        outcome = await running.reply("0-r")
        assert outcome.result == {"0-1": "ok: dug until told that will do and heard deeper"}


@pytest.mark.slow
async def test_a_person_advises_a_thread_in_a_tool_which_reads_it_before_the_tool_ends_and_heeds_it_after(
    tmp_path: Path,
) -> None:
    async with crew("diggers", tmp_path, {"lead": 1, "digger": 1}, {"LEDGER_FILE": ""}) as running:
        await running.start("0-r", "digger 12, wait")
        await at_work(running, "0-r", "0-1")
        said = await running.told("say", "0-r", "that will do", "--thread", "0-1")
        assert said["after_s"] < READ_WITHIN_S
        outcome = await running.reply("0-r")
        assert outcome.result == {"0-1": "ok: dug until told that will do"}
        journal = await running.journal("0-r", "0-1", "digger")
        (returned,) = [n for n, entry in enumerate(journal) if isinstance(entry, ToolReturned)]
        assert isinstance(journal[said["read_at_entry"]], MailReceived) and said["read_at_entry"] < returned
        assert [isinstance(entry, ModelReplied) for entry in journal].count(True) == 2, "its next call heeds it"


async def test_a_person_stops_a_whole_run_and_nothing_of_it_runs_or_spends_afterwards(diggers: Crew) -> None:
    await diggers.start("0-r", "digger 0.05, digger 30, driller 0.05, wait")
    for thread in ("0-1", "0-2"):
        await at_work(diggers, "0-r", thread)
    await at_work(diggers, "0-r", "0-3", ToolReturned)
    said = await diggers.told("runs", "cancel", "0-r", "--abort", "--reason", "wrong hill")
    assert said["agent"] == "lead" and said["after_s"] < STOPPING_WITHIN_S
    outcome = await diggers.reply("0-r")
    assert (outcome.status, outcome.code, outcome.summary) == (
        "cancelled",
        "aborted",
        "stopped where it was: wrong hill",
    )

    async def all_replied() -> bool:
        return sorted(await replies_of(diggers, "0-r")) == ["0", "0-1", "0-2", "0-3"]

    await until(all_replied, 30, "every thread replies")
    before = [stored for stored in await diggers.entries("0-r") if spends(stored)]
    for replica in diggers.replicas:
        replica.stop()
    assert [stored for stored in await diggers.entries("0-r") if spends(stored)] == before
    assert {outcomes[0].status for outcomes in (await replies_of(diggers, "0-r")).values()} == {"cancelled"}


def spends(stored: Stored) -> bool:
    return isinstance(stored.entry, ModelReplied | ToolCalled | ToolReturned)


async def test_a_run_that_is_over_goes_on_with_a_further_question_and_keeps_its_threads(diggers: Crew) -> None:
    await diggers.start("0-r", "digger 0.01, tell 0-1 that will do, wait")
    assert (await diggers.reply("0-r")).result == {"0-1": "ok: dug until told that will do"}
    said = await diggers.told("say", "0-r", "and how deep was it?")
    assert said["agent"] == "lead" and said["read_at_entry"]

    async def answered() -> bool:
        return any(stored.address.to == "operators" for stored in await diggers.entries("0-r"))

    await until(answered, 30, "the lead answers whoever asked")
    shown = await diggers.told("runs", "show", "0-r")
    assert shown["status"] == "completed"


async def test_whoever_speaks_to_a_thread_that_is_not_there_is_told_which_there_are(diggers: Crew) -> None:
    await diggers.start("0-r", "digger 0.01, tell 0-1 that will do, wait")
    await diggers.reply("0-r")
    refused = await diggers.shanty("say", "0-r", "hello", "--thread", "0-9")
    assert refused.code == 2
    assert "run 0-r has no thread 0-9; there are 0 (lead), 0-1 (digger)" in refused.complaint


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_whoever_is_killed_while_threads_are_stopped_each_replies_once_and_no_effect_is_repeated(
    tmp_path: Path,
) -> None:
    ledger = tmp_path / "ledger.txt"
    environment = {"LEDGER_FILE": str(ledger), "SHANTY_REHEARSAL_PACE_S": "0.02"}
    async with crew("diggers", tmp_path, {"lead": 2, "digger": 2, "driller": 2}, environment) as running:
        for seed in SEEDS:
            chance, run = random.Random(seed), f"0-seed-{seed}"
            kills = [
                asyncio.create_task(running.kill_one(chance, 1.5, agent)) for agent in ("lead", "digger", "driller")
            ]
            orders = "digger 0.02, digger blast 0.3, driller 0.02, dig 0.2"
            await running.start(run, f"{orders}, stop 0-1 wrap_up, stop 0-2 abort, stop 0-3 abort, wait 0-1 0-2 0-3")
            outcome = await running.reply(run)
            await asyncio.gather(*kills)
            assert outcome.status == "ok" and outcome.result is not None
            assert {told.partition(":")[0] for told in outcome.result.values()} == {"cancelled"}, outcome.result
            replies = await replies_of(running, run)
            assert {thread: len(outcomes) for thread, outcomes in replies.items()} == {
                thread: 1 for thread in ("0", "0-1", "0-2", "0-3")
            }
            assert LOG in {stored.address.to for stored in await running.entries(run)}
            await journals_have_no_gaps(running, run)
        keys = [line.split()[0] for line in ledger.read_text().splitlines()]
        assert len(keys) == len(set(keys)), "an effect was repeated"
