"""Budgets on real processes: whoever overspends, dies or waits, no more is spent than was granted."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from shanty_protocol import (
    Budget,
    BudgetGranted,
    BudgetRequested,
    DelegationSent,
    EntryAddress,
    ModelReplied,
    ThreadReplied,
    ToolReturned,
)
from shanty_protocol.ids import OPERATORS
from shanty_runtime.bus import Stored
from shanty_runtime.thread.escrow import tokens_of
from support.audit import taken_over
from support.crew import TEAMS, Crew, crew, until

SPENDERS = 20
LIMIT_TOKENS = 30_000
"""As the team says."""
SEEDS = range(20)


async def asks_for_more(running: Crew, run: str, times: int = 1) -> BudgetRequested:
    found: list[BudgetRequested] = []

    async def asked() -> bool:
        entries = [stored.entry for stored in await running.entries(run) if stored.address.to == OPERATORS]
        found[:] = [entry for entry in entries if isinstance(entry, BudgetRequested)]
        return len(found) == times

    await until(asked, 90, "the run asks for more")
    return found[-1]


def model_calls(entries: list[Stored]) -> list[int]:
    """The tokens of each."""
    return [tokens_of(stored.entry.usage) for stored in entries if isinstance(stored.entry, ModelReplied)]


def replies_by_thread(entries: list[Stored]) -> dict[str, list[ThreadReplied]]:
    found: dict[str, list[ThreadReplied]] = {}
    for stored in entries:
        if isinstance(stored.entry, ThreadReplied):
            found.setdefault(stored.address.thread, []).append(stored.entry)
    return found


def check_nobody_overspent(entries: list[Stored], limit_tokens: int) -> None:
    calls = model_calls(entries)
    threads = {stored.address.thread for stored in entries if isinstance(stored.entry, ModelReplied)}
    assert sum(calls) <= limit_tokens + len(threads) * max(calls)
    grants = granted_to(entries)
    assert len(grants) == SPENDERS
    for thread, tokens in grants.items():
        own = [stored for stored in entries if stored.address.thread == thread]
        assert sum(model_calls(own)[:-1]) < tokens, f"{thread} went on after its grant was spent"


def granted_to(entries: list[Stored]) -> dict[str, int]:
    """Tokens, by thread."""
    found: dict[str, int] = {}
    for stored in entries:
        if isinstance(entry := stored.entry, DelegationSent) and stored.address.agent == "lead":
            assert entry.brief.budget is not None and entry.brief.budget.tokens is not None
            found[entry.to_thread] = entry.brief.budget.tokens
    return found


async def test_twenty_specialists_spend_all_they_are_granted_and_the_run_waits_until_people_grant_more(
    tmp_path: Path,
) -> None:
    async with crew("spenders", tmp_path, {"lead": 1, "spender": 1}) as spenders:
        await spenders.start("0-r", f"spender {SPENDERS}")
        request = await asks_for_more(spenders, "0-r")
        entries = await spenders.entries("0-r")
        assert (request.code, request.limits) == ("token_limit", Budget(tokens=LIMIT_TOKENS))
        check_nobody_overspent(entries, LIMIT_TOKENS)
        assert request.spent.tokens == sum(model_calls(entries)), "what was not spent came back"
        assert request.spent.model_calls == len(model_calls(entries))
        outcomes = {thread: replies[0].outcome for thread, replies in replies_by_thread(entries).items()}
        assert len(outcomes) == SPENDERS
        assert {(each.status, each.code) for each in outcomes.values()} == {("budget_exhausted", "token_limit")}

        shown = await spenders.told("runs", "show", "0-r")
        assert (shown["status"], shown["out_of"], shown["left"]["tokens"]) == ("waiting", "token_limit", 0)
        assert shown["spent"]["tokens"] == request.spent.tokens and shown["limits"]["tokens"] == LIMIT_TOKENS
        said = await spenders.told("runs", "budget", "0-r", "tokens=+50k", "--reason", "go on")
        assert said["read_by"] == "lead-1"
        outcome = await spenders.reply("0-r")
        assert outcome.status == "ok" and outcome.result == dict.fromkeys(outcomes, "budget_exhausted")
        entries = await spenders.entries("0-r")
        (reply,) = replies_by_thread(entries)["0"]
        assert reply.spent is not None and reply.spent.tokens == sum(model_calls(entries))


async def test_a_run_that_is_started_with_a_budget_ends_its_command_with_4_and_goes_on_when_it_is_raised(
    tmp_path: Path,
) -> None:
    async with crew("spenders", tmp_path, {"lead": 1}) as spenders:
        team = str(TEAMS / "spenders")
        budget = ("--budget", "model_calls=2,tokens=1M", "--timeout", "8")
        started = await spenders.shanty("run", team, "--goal", "look 4", *budget)
        report = started.json
        assert (started.code, report["status"], report["out_of"]) == (4, "waiting", "model_call_limit")
        assert report["limits"]["tokens"] == 1_000_000 and report["left"]["model_calls"] == 0
        run = report["run"]
        refused, _ = await asyncio.gather(
            spenders.shanty("runs", "budget", run, "usd=5"), asks_for_more(spenders, run)
        )
        assert refused.code == 2
        assert f"run {run} is not limited in usd, so there is nothing to raise" in refused.complaint
        await spenders.told("runs", "budget", run, "model_calls=1")
        await asks_for_more(spenders, run, times=2)
        (waiting,) = await spenders.told("inbox", "ls")
        assert (waiting["kind"], waiting["run"], waiting["code"]) == ("budget", run, "model_call_limit")
        await spenders.told("runs", "budget", run, "model_calls=9")
        assert (await spenders.reply(run)).status == "ok"
        spent = await spenders.told("runs", "budget", run)
        assert (spent["spent"]["model_calls"], spent["left"]["model_calls"], spent["out_of"]) == (5, 7, "")
        assert await spenders.told("inbox", "ls") == []


async def test_a_python_handler_makes_no_more_calls_than_it_was_granted(tmp_path: Path) -> None:
    async with crew("spenders", tmp_path, {"lead": 1, "counter": 1}) as spenders:
        await spenders.start("0-r", "counter 3")
        assert (await spenders.reply("0-r")).result == {"0-1": "budget_exhausted"}
        entries = await spenders.entries("0-r")
        (reply,) = replies_by_thread(entries)["0-1"]
        assert (reply.outcome.code, reply.spent and reply.spent.tool_calls) == ("tool_call_limit", 3)
        assert len([stored for stored in entries if isinstance(stored.entry, ToolReturned)]) == 3


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_whoever_is_killed_between_grant_and_reply_nobody_overspends_and_nothing_leaks(tmp_path: Path) -> None:
    environment, takeovers = {"SHANTY_REHEARSAL_PACE_S": "0.02"}, 0
    async with crew("spenders", tmp_path, {"lead": 2, "spender": 3}, environment) as running:
        for seed in SEEDS:
            chance, run = random.Random(seed), f"0-seed-{seed}"
            kills = [
                asyncio.create_task(running.kill_one(chance, 1.5, agent)) for agent in ("lead", "spender", "spender")
            ]
            await running.start(run, f"spender {SPENDERS}")
            request = await asks_for_more(running, run)
            entries = await running.entries(run)
            check_nobody_overspent(entries, LIMIT_TOKENS)
            assert request.spent.tokens == sum(model_calls(entries)), "a grant or a part of it was lost"
            assert request.spent.threads == SPENDERS
            await grant(running, run, 50_000)
            outcome = await running.reply(run)
            await asyncio.gather(*kills)
            assert outcome.status == "ok", outcome
            entries = await running.entries(run)
            assert {len(replies) for replies in replies_by_thread(entries).values()} == {1}
            (reply,) = replies_by_thread(entries)["0"]
            assert reply.spent is not None and reply.spent.tokens == sum(model_calls(entries))
            assert not [stored for stored in entries if stored.address.to == "dead"]
            takeovers += await taken_over(running, run)
    assert takeovers > len(SEEDS), "the kills hit threads at work"


async def grant(running: Crew, run: str, tokens: int) -> None:
    entry = BudgetGranted(at_ms=int(time.time() * 1000), to_thread="0", budget=Budget(tokens=tokens))
    await running.bus.journals.append(EntryAddress("lead", run, "say-1", OPERATORS, 0), entry)
