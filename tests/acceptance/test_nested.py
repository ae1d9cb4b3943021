"""Leads below a lead, three levels deep, on real processes: work and stops go down, results and costs come up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shanty_protocol import ModelReplied, ThreadReplied, ToolCalled, ToolReturned, Usage
from shanty_runtime.bus import Stored
from support.audit import journals_have_no_gaps
from support.crew import Crew, crew, until

SEEDS = range(20)
AGENTS = ("lead", "foreman", "gang", "digger")
CHAIN = {"0": "lead", "0-1": "foreman", "0-1-1": "gang", "0-1-1-1": "digger"}
ENDLESS = "foreman [gang [digger dig 0.05, wait], wait], wait"
BLASTS = "foreman [gang [digger blast 0.05, digger blast 0.02, wait], digger blast 0.05, wait], foreman [wait], wait"


@pytest.fixture
async def tiers(tmp_path: Path) -> AsyncIterator[Crew]:
    environment = {"LEDGER_FILE": str(tmp_path / "ledger.txt")}
    async with crew("tiers", tmp_path, dict.fromkeys(AGENTS, 1), environment) as running:
        yield running


async def stop(running: Crew, run: str, *arguments: str) -> None:
    said = await running.told("runs", "cancel", run, *arguments)
    assert said["read_at_entry"], said


async def deepest_at_work(running: Crew, run: str) -> None:
    async def digs() -> bool:
        entries = await running.entries(run)
        return any(one.address.thread == "0-1-1-1" and isinstance(one.entry, ToolReturned) for one in entries)

    await until(digs, 60, "the deepest thread works")


async def replies_of(running: Crew, run: str) -> dict[str, list[Stored]]:
    found: dict[str, list[Stored]] = {}
    for stored in await running.entries(run):
        if isinstance(stored.entry, ThreadReplied):
            found.setdefault(stored.address.thread, []).append(stored)
    return found


async def all_replied(running: Crew, run: str, threads: set[str]) -> None:
    async def replied() -> bool:
        return set(await replies_of(running, run)) == threads

    await until(replied, 60, f"a reply of each of {sorted(threads)}")


def spends(stored: Stored) -> bool:
    return isinstance(stored.entry, ModelReplied | ToolCalled | ToolReturned)


@pytest.mark.slow
async def test_work_goes_down_three_levels_and_results_and_what_they_cost_come_up(tiers: Crew) -> None:
    await tiers.start("0-r", BLASTS)
    outcome = await tiers.reply("0-r")
    assert (outcome.status, outcome.summary) == (
        "ok",
        "0-1 ok (0-1-1 ok (0-1-1-1 ok (rubble), 0-1-1-2 ok (rubble)), 0-1-2 ok (rubble)), 0-2 ok ()",
    )
    entries = await tiers.entries("0-r")
    assert {(one.address.thread, one.address.agent) for one in entries if one.address.agent != "cli"} == {
        *CHAIN.items(),
        ("0-1-1-2", "digger"),
        ("0-1-2", "digger"),
        ("0-2", "foreman"),
    }
    spent = sum((one.entry.usage for one in entries if isinstance(one.entry, ModelReplied)), Usage())
    (reply,) = (await replies_of(tiers, "0-r"))["0"]
    assert isinstance(reply.entry, ThreadReplied) and reply.entry.usage == spent and spent.input_tokens


async def test_a_stop_goes_down_every_level_and_what_there_is_comes_up(tiers: Crew) -> None:
    for run in ("0-branch", "0-wrap-up", "0-abort"):
        await tiers.start(run, ENDLESS)
    for run in ("0-branch", "0-wrap-up", "0-abort"):
        await deepest_at_work(tiers, run)
    await asyncio.gather(
        stop(tiers, "0-branch", "--thread", "0-1-1", "--abort", "--reason", "wrong hill"),
        stop(tiers, "0-wrap-up", "--within", "40"),
        stop(tiers, "0-abort", "--abort", "--reason", "wrong hill"),
    )
    branch, wrapped, aborted = [await tiers.reply(run) for run in ("0-branch", "0-wrap-up", "0-abort")]
    assert branch.status == "ok"
    assert branch.summary == "0-1 ok (0-1-1 cancelled (stopped where it was: wrong hill))"
    assert (wrapped.status, wrapped.code, wrapped.summary) == (
        "cancelled",
        "cancelled",
        "0-1 cancelled (0-1-1 cancelled (0-1-1-1 cancelled (dug 1)))",
    )
    assert (aborted.code, aborted.summary) == ("aborted", "stopped where it was: wrong hill")
    for run in ("0-branch", "0-wrap-up", "0-abort"):
        await all_replied(tiers, run, set(CHAIN))
    spent = {run: [one for one in await tiers.entries(run) if spends(one)] for run in ("0-branch", "0-abort")}
    for replica in tiers.replicas:
        assert replica.stop() == 0
    for run, before in spent.items():
        assert [one for one in await tiers.entries(run) if spends(one)] == before
        for thread, replies in (await replies_of(tiers, run)).items():
            (reply,) = replies
            assert isinstance(reply.entry, ThreadReplied)
            stopped = run == "0-abort" or thread in ("0-1-1", "0-1-1-1")
            assert reply.entry.outcome.status == ("cancelled" if stopped else "ok"), (run, thread)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("zones", [False, True], ids=["one account", "zones"])
async def test_whoever_is_killed_at_whichever_level_every_thread_replies_once_and_no_effect_is_repeated(
    tmp_path: Path, zones: bool
) -> None:
    ledger = tmp_path / "ledger.txt"
    environment = {"LEDGER_FILE": str(ledger), "SHANTY_REHEARSAL_PACE_S": "0.02"}
    async with crew("tiers", tmp_path, dict.fromkeys(AGENTS, 2), environment, zones=zones) as running:
        for seed in SEEDS:
            chance, run = random.Random(seed), f"0-seed-{seed}"
            kills = [asyncio.create_task(running.kill_one(chance, 1.5, agent)) for agent in AGENTS]
            await running.start(run, BLASTS)
            outcome = await running.reply(run, within_s=120)
            await asyncio.gather(*kills)
            assert outcome.status == "ok"
            threads = {*CHAIN, "0-1-1-2", "0-1-2", "0-2"}
            replies = await replies_of(running, run)
            assert {thread: len(each) for thread, each in replies.items()} == dict.fromkeys(threads, 1)
            for thread, (reply,) in replies.items():
                assert isinstance(reply.entry, ThreadReplied) and reply.entry.outcome.status == "ok", thread
            await journals_have_no_gaps(running, run)
        keys = [line.split()[0] for line in ledger.read_text().splitlines()]
        assert len(keys) == len(set(keys)), "an effect was repeated"


@pytest.mark.slow
async def test_in_zones_a_nested_lead_delegates_waits_and_learns_that_nobody_has_begun(tmp_path: Path) -> None:
    up = {agent: 1 for agent in AGENTS if agent != "digger"}
    environment = {"LEDGER_FILE": str(tmp_path / "ledger.txt")}
    async with crew("tiers", tmp_path, up, environment, zones=True) as running:
        await running.start(
            "0-r", "foreman [who, gang [digger blast 0.01 in 2, wait], digger blast 0.01 in 2, wait], wait"
        )
        outcome = await running.reply("0-r")
        late = "unreachable (no reply from digger in time)"
        assert outcome.summary == f"0-1 ok (gang has 1 up: digger has 0 up: 0-1-1 ok (0-1-1-1 {late}), 0-1-2 {late})"
