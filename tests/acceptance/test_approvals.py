"""What waits for a person, on real processes: approvals and questions, over restarts, two people and a kill -9."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from shanty_cli.exits import UsageError
from shanty_cli.inbox import Given, answer, decide, open_requests
from shanty_cli.waiting import Waiting
from shanty_protocol import ApprovalDecided, MailRejected, Outcome, ThreadReplied, ToolCalled
from shanty_runtime.bus import Stored
from support.crew import TEAMS, Crew, crew, until

SEEDS = range(20)
LANES = ("0",)
AGENTS = ("lead", "clerk", "teller", "office")


@pytest.fixture
async def payers(tmp_path: Path) -> AsyncIterator[Crew]:
    environment = {"LEDGER_FILE": str(tmp_path / "ledger.txt")}
    async with crew("payers", tmp_path, {"lead": 1, "clerk": 1, "teller": 1}, environment) as running:
        yield running


async def inbox(running: Crew, count: int) -> list[Waiting]:
    """What waits for a person, once it is as many."""
    found: list[Waiting] = []

    async def there() -> bool:
        found[:] = await open_requests(running.bus, LANES)
        return len(found) == count

    await until(there, 60, f"{count} in the inbox")
    return found


async def decided(
    running: Crew,
    request: Waiting,
    decision: Literal["allow", "allow_for_thread", "edit", "deny"],
    message: str = "",
    arguments: dict[str, Any] | None = None,
    wait_s: float = 30,
) -> Given:
    return await decide(running.bus, LANES, request.id, decision, message=message, arguments=arguments, wait_s=wait_s)


def ledger_lines(running: Crew) -> list[str]:
    path = Path(running.environment["LEDGER_FILE"])
    return path.read_text().splitlines() if path.exists() else []


def ledger(running: Crew) -> list[str]:
    """What was paid, each payment as `thread cents`."""
    return [f"{line.split()[0].split('.')[1]} {line.split()[1]}" for line in ledger_lines(running)]


async def stored_of(running: Crew, run: str, kind: type) -> list[Stored]:
    return [stored for stored in await running.entries(run) if isinstance(stored.entry, kind)]


async def test_everything_is_stopped_and_started_again_and_what_was_approved_is_done_once(tmp_path: Path) -> None:
    environment = {"LEDGER_FILE": str(tmp_path / "ledger.txt")}
    async with crew("payers", tmp_path, {"lead": 1, "office": 1, "clerk": 1}, environment) as running:
        await running.start("0-r", "office clerk pay 100")
        (request,) = await inbox(running, 1)
        assert (request.thread, request.agent) == ("0-1-1", "clerk")
        assert (request.tool, request.arguments) == ("pay", {"cents": 100})
        for replica in running.replicas:
            replica.kill()
        await running.server.restart()
        assert msgspec.convert((await running.shanty("inbox", "ls")).json, list[Waiting]) == [request]
        given = await running.shanty("inbox", "allow", request.id, "--wait", "0.1")
        assert given.code == 0 and given.json["ours"] and given.json["read_at_entry"] is None
        assert ledger(running) == []
        for replica in running.replicas:
            replica.respawn()
        assert (await running.reply("0-r")).result == {"0-1": "all is paid"}
        assert ledger(running) == ["0-1-1 100"]
        (called,) = await stored_of(running, "0-r", ToolCalled)
        assert isinstance(called.entry, ToolCalled) and called.entry.arguments == {"cents": 100}


async def test_people_decide_and_answer_and_each_of_it_counts_once_and_where_it_was_asked(payers: Crew) -> None:
    orders = "clerk pay 100 200 300, teller 5, clerk pay 7, clerk pay 8"
    questions = "clerk ask whom?, clerk ask whom?, clerk ask tell a person: whom?"
    await payers.start("0-r", f"{orders}, {questions}")
    found = {each.thread: each for each in await inbox(payers, 5)}
    assert (await decided(payers, found["0-1"], "allow_for_thread")).read_at_entry
    assert (await decided(payers, found["0-2"], "edit", arguments={"cents": 4})).read_at_entry
    assert (await decided(payers, found["0-3"], "deny", "it is paid already")).read_at_entry
    both = await asyncio.gather(decided(payers, found["0-4"], "allow"), decided(payers, found["0-4"], "deny"))
    assert sorted(given.ours for given in both) == [False, True] and both[0].said == both[1].said
    late = await decided(payers, found["0-4"], "deny")
    assert (late.ours, late.said, late.by) == (False, both[0].said, both[0].by)
    passed_on = found["0"]
    assert (passed_on.kind, passed_on.agent) == ("question", "lead")
    assert (await answer(payers.bus, LANES, passed_on.id, "the widow", 30)).read_at_entry
    outcome = await payers.reply("0-r")
    assert outcome.result is not None
    told = dict(outcome.result)
    assert told["0-1"] == "paid 100, paid 200, paid 300" and told["0-2"] == "paid 4"
    assert told["0-3"].endswith("denied this call, and said: it is paid already")
    assert (told["0-5"], told["0-6"]) == ("heard: thread 0-5 it is", "heard: thread 0-6 it is")
    assert told["0-7"] == "heard: the widow"
    once = ["0-4 8"] if both[0].said == "allow" else []
    assert sorted(ledger(payers)) == ["0-1 100", "0-1 200", "0-1 300", "0-2 4", *once]
    assert len(await stored_of(payers, "0-r", ApprovalDecided)) == 4
    assert not await stored_of(payers, "0-r", MailRejected) and await inbox(payers, 0) == []


@pytest.mark.slow
async def test_a_run_that_waits_for_a_person_says_so_and_ends_with_code_four(payers: Crew) -> None:
    started = await payers.shanty(
        "run", str(TEAMS / "payers"), "--goal", "person which month?, clerk human whom?", "--timeout", "8"
    )
    assert started.code == 4 and started.json["status"] == "waiting"
    assert sorted(each["text"] for each in started.json["waiting"]) == ["which month?", "whom?"]
    run = started.json["run"]
    assert "shanty inbox show" in started.complaint
    for each in started.json["waiting"]:
        assert (await payers.shanty("inbox", "answer", each["id"], f"{each['text']} May")).code == 0
    outcome = await payers.reply(run)
    assert outcome.summary == "which month? May" and outcome.result == {"0-1": "heard: whom? May"}
    refused = await payers.shanty("inbox", "answer", "0000", "nobody")
    assert refused.code == 2 and "nothing waits for a person" in refused.complaint


@pytest.mark.slow
async def test_a_specialist_in_an_account_of_its_own_waits_for_people_and_gives_up_in_time(tmp_path: Path) -> None:
    environment = {"LEDGER_FILE": str(tmp_path / "ledger.txt")}
    async with crew("payers", tmp_path, {"lead": 1, "clerk": 1}, environment, zones=True) as running:
        await running.start("0-r", "clerk pay 100, clerk hurry whom?")
        found: list[Waiting] = []

        async def asked() -> bool:
            found[:] = [each for each in await open_requests(running.bus, LANES) if each.kind == "approval"]
            return bool(found)

        await until(asked, 60, "an approval is asked for")
        given = await decided(running, found[0], "allow")
        assert given.ours and given.read_at_entry, given
        outcome = await running.reply("0-r")
        assert outcome.result is not None and outcome.result["0-1"] == "paid 100"
        assert outcome.result["0-2"].startswith("heard: Nobody answered in time.")
        assert ledger(running) == ["0-1 100"]


@pytest.mark.slow
async def test_a_run_that_is_cancelled_leaves_nothing_in_the_inbox(payers: Crew) -> None:
    await payers.start("0-r", "clerk pay 100")
    (request,) = await inbox(payers, 1)
    assert (await payers.shanty("runs", "cancel", "0-r", "--abort")).code == 0
    assert (await payers.reply("0-r")).status == "cancelled"
    await inbox(payers, 0)
    refused = await payers.shanty("inbox", "allow", request.id)
    assert refused.code == 2 and "is not open any more" in refused.complaint
    assert ledger(payers) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_whoever_is_killed_what_was_approved_is_done_once_and_every_thread_replies_once(tmp_path: Path) -> None:
    environment = {"LEDGER_FILE": str(tmp_path / "ledger.txt"), "SHANTY_REHEARSAL_PACE_S": "0.02"}
    async with crew("payers", tmp_path, {"lead": 2, "clerk": 2, "teller": 2, "office": 2}, environment) as running:
        for seed in SEEDS:
            chance, run = random.Random(seed), f"0-seed-{seed}"
            kills = [asyncio.create_task(running.kill_one(chance, 3, agent)) for agent in AGENTS]
            orders = "clerk pay 100, teller 5, clerk ask whom?, clerk ask tell a person: whom?, office clerk pay 7"
            await running.start(run, orders)
            answering = asyncio.create_task(answer_all(running, run))
            outcome = await running.reply(run, within_s=120)
            await asyncio.gather(*kills)
            answering.cancel()
            assert outcome.status == "ok" and outcome.result is not None
            told = dict(outcome.result)
            assert (told["0-3"], told["0-4"]) == ("heard: thread 0-3 it is", "heard: blue"), told
            replies: dict[str, list[Outcome]] = {}
            for stored in await stored_of(running, run, ThreadReplied):
                assert isinstance(stored.entry, ThreadReplied)
                replies.setdefault(stored.address.thread, []).append(stored.entry.outcome)
            assert {thread: len(each) for thread, each in replies.items()} == dict.fromkeys(
                ("0", "0-1", "0-2", "0-3", "0-4", "0-5", "0-5-1"), 1
            )
            assert not [stored for stored in await running.entries(run) if stored.address.to == "dead"]
        lines = ledger_lines(running)
        keys = [line.split()[0] for line in lines]
        assert len(keys) == len(set(keys)), "an effect was repeated"
        assert {line.split()[1] for line in lines} <= {"100", "5", "7"}


async def answer_all(running: Crew, run: str) -> None:
    """A person who agrees to everything, as soon as it is asked."""
    while True:
        for each in await open_requests(running.bus, LANES):
            assert each.run == run
            try:
                if each.kind == "approval":
                    await decided(running, each, "allow", wait_s=0)
                else:
                    await answer(running.bus, LANES, each.id, "blue", 0)
            except UsageError:
                pass  # it was void by then
        await asyncio.sleep(0.05)
