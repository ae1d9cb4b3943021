"""Waiting for some, for all, for a while; and advice to those who are waited for, whoever is killed meanwhile."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shanty_protocol import (
    CancelSent,
    Entry,
    EntryAddress,
    MessageSent,
    ModelReplied,
    Outcome,
    ThreadReplied,
    ToolReturned,
)
from shanty_protocol.ids import OPERATORS
from support.audit import journals_have_no_gaps, taken_over
from support.crew import Crew, crew, until

SEEDS = range(20)
EVERYBODY = {"lead": 1, "racer": 1}
RACERS = "racer 1, racer endless, racer 2 partial"
WAITS = "any, quorum 2 0-1 0-2 0-3, all 0-1 0-2 0-3 within 0.5, tell 0-2 faster, tell 0-2 enough, all 0-1 0-2 0-3"
LATE = "racer endless in 1, all 0-4"


async def outcomes_of(running: Crew, run: str) -> dict[str, list[Outcome]]:
    found: dict[str, list[Outcome]] = {}
    for stored in await running.entries(run):
        if isinstance(stored.entry, ThreadReplied):
            found.setdefault(stored.address.thread, []).append(stored.entry.outcome)
    return found


def check_waits(waits: list[dict[str, Any]]) -> None:
    """What `RACERS, WAITS, LATE` gives, whatever happened on the way."""
    any_of, quorum, in_time, everybody, late = waits
    assert any_of["satisfied"] and 1 <= len(any_of["replies"]) <= 2 and "0-2" in any_of["late"]
    for wait, satisfied in ((quorum, True), (in_time, False)):
        assert wait["satisfied"] is satisfied, wait
        assert wait["replies"] == {"0-1": "ok: walked", "0-3": "partial: walked"}
        assert set(wait["late"]) == {"0-2"}
    assert (
        everybody["satisfied"]
        and everybody["replies"]["0-2"] == "ok: walked and heard faster"
        and not everybody["late"]
    )
    status = late["replies"]["0-4"].partition(":")[0]
    assert late["satisfied"] and status in ("timed_out", "unreachable"), late


async def test_a_lead_waits_for_one_for_two_for_a_while_and_for_all_and_is_told_who_is_late(tmp_path: Path) -> None:
    async with crew("gatherers", tmp_path, {"lead": 1, "racer": 1}) as running:
        await running.start("0-r", f"{RACERS}, {WAITS}, {LATE}")
        outcome = await running.reply("0-r")
        assert outcome.status == "ok" and outcome.result is not None
        check_waits(outcome.result["waits"])
        assert outcome.result["waits"][2]["late"] == {"0-2": "on the way"}, "with what it has reported"
        assert outcome.result["waits"][-1]["replies"] == {"0-4": "timed_out: no reply from racer in time"}

        async def all_replied() -> bool:
            return len(await outcomes_of(running, "0-r")) == 5

        await until(all_replied, 60, "the one that was late replies as well")
        late = (await outcomes_of(running, "0-r"))["0-4"]
        assert [each.status for each in late] == ["cancelled"], "nobody waits for it any more"


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_whoever_is_killed_while_replies_are_gathered_each_wait_is_answered_once_and_so_is_each_delegation(
    tmp_path: Path,
) -> None:
    takeovers = 0
    async with crew("gatherers", tmp_path, EVERYBODY, {"SHANTY_REHEARSAL_PACE_S": "0.1"}) as running:
        for seed in SEEDS:
            chance, run = random.Random(seed), f"0-seed-{seed}"
            kills = [asyncio.create_task(running.kill_one(chance, 2.0, agent)) for agent in EVERYBODY]
            await running.start(run, f"{RACERS}, {WAITS}, {LATE}")
            outcome = await running.reply(run, 120)
            await asyncio.gather(*kills)
            assert outcome.result is not None
            check_waits(outcome.result["waits"])
            await each_thread_has_answered_once(running, run, {"0", "0-1", "0-2", "0-3", "0-4"})
            takeovers += await taken_over(running, run)
    assert takeovers > len(SEEDS) / 5, "the kills hit threads at work"


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_whoever_is_killed_all_advice_is_read_and_what_was_asked_is_answered_once(tmp_path: Path) -> None:
    """A lead and a person advise a thread; it is done when it has heard both."""
    takeovers = 0
    async with crew("gatherers", tmp_path, EVERYBODY, {"SHANTY_REHEARSAL_PACE_S": "0.1"}) as running:
        for seed in SEEDS:
            chance, run = random.Random(seed), f"0-seed-{seed}"
            kills = [asyncio.create_task(running.kill_one(chance, 2.0, agent)) for agent in EVERYBODY]
            await running.start(run, "racer endless, tell 0-1 faster, all")
            await at_work(running, run, "0-1")
            await asyncio.sleep(chance.uniform(0, 0.5))
            advice = await say(running, run, "0-1", "racer", "mind the mud", 1)
            await has_read(running, run, advice)
            await until(partial(hears_its_lead, running, run), 90, "the lead's advice is read as well")
            await say(running, run, "0-1", "racer", "enough", 2)
            outcome = await running.reply(run, 120)
            await asyncio.gather(*kills)
            assert outcome.result is not None
            said = outcome.result["waits"][0]["replies"]["0-1"]
            assert said in (
                "ok: walked and heard faster and mind the mud",
                "ok: walked and heard mind the mud and faster",
            )
            await each_thread_has_answered_once(running, run, {"0", "0-1"})
            takeovers += await taken_over(running, run)
    assert takeovers > len(SEEDS) / 5, "the kills hit threads at work"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", ["wrap_up", "abort"])
async def test_whoever_is_killed_a_stop_reaches_the_third_level_and_each_thread_answers_it_once(
    tmp_path: Path, mode: Any
) -> None:
    agents = {"lead": 2, "foreman": 2, "gang": 2, "digger": 2}
    environment = {"LEDGER_FILE": str(tmp_path / "ledger.txt"), "SHANTY_REHEARSAL_PACE_S": "0.02"}
    threads = {"0", "0-1", "0-1-1", "0-1-1-1"}
    async with crew("tiers", tmp_path, agents, environment) as running:
        for seed in SEEDS:
            chance, run = random.Random(seed), f"0-seed-{seed}"
            await running.start(run, "foreman [gang [digger dig 0.05, wait], wait], wait")
            await at_work(running, run, "0-1-1-1", ToolReturned)
            kills = [asyncio.create_task(running.kill_one(chance, 0.5, agent)) for agent in agents]
            await asyncio.sleep(chance.uniform(0, 0.5))
            order = CancelSent(at_ms=int(time.time() * 1000), to_thread="0", mode=mode, reason="rain", within_s=40)
            await running.bus.journals.append(EntryAddress("lead", run, "say-1", OPERATORS, 0), order)
            outcome = await running.reply(run, 120)
            await asyncio.gather(*kills)
            assert (outcome.status, outcome.code) == ("cancelled", "aborted" if mode == "abort" else "cancelled")

            await each_thread_has_answered_once(running, run, threads)
            statuses = {each.status for (each,) in (await outcomes_of(running, run)).values()}
            assert statuses == {"cancelled"}


async def say(running: Crew, run: str, thread: str, agent: str, text: str, number: int) -> str:
    address = EntryAddress(agent, run, f"say-{number}", OPERATORS, 0)
    message = MessageSent(at_ms=int(time.time() * 1000), to_thread=thread, purpose="follow_up", text=text)
    await running.bus.journals.append(address, message)
    return address.subject


async def hears_its_lead(running: Crew, run: str) -> bool:
    entries = await running.entries(run)
    sent = {stored.address.subject for stored in entries if is_advice(stored.entry)}
    read = {subject for stored in entries for subject in stored.entry.consumed}
    return bool(sent) and sent <= read


def is_advice(entry: Entry) -> bool:
    return isinstance(entry, MessageSent) and entry.text == "faster"


async def has_read(running: Crew, run: str, subject: str) -> None:
    async def read() -> bool:
        return any(subject in stored.entry.consumed for stored in await running.entries(run))

    await until(read, 90, f"{subject} is read")


async def at_work(running: Crew, run: str, thread: str, kind: type = ModelReplied) -> None:
    async def begun() -> bool:
        entries = await running.entries(run)
        return any(stored.address.thread == thread and isinstance(stored.entry, kind) for stored in entries)

    await until(begun, 90, f"thread {thread} works")


async def each_thread_has_answered_once(running: Crew, run: str, threads: set[str]) -> None:
    """Once each of them has answered at all: those nobody waits for any more may do so after the run."""

    async def all_replied() -> bool:
        return set(await outcomes_of(running, run)) == threads

    await until(all_replied, 90, "every thread replies")
    entries = await running.entries(run)
    replies = Counter(stored.address.thread for stored in entries if isinstance(stored.entry, ThreadReplied))
    assert replies == dict.fromkeys(threads, 1), replies
    await journals_have_no_gaps(running, run)
