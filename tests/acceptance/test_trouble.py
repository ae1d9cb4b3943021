"""What a lead is told when a specialist fails, and that it is told."""

from __future__ import annotations

import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from shanty_protocol import MailReceived, ThreadFailed, ThreadReplied, ThreadTakenOver, ToolCalled, ToolReturned
from support.crew import LEASE_S, Crew, Replica, crew, until
from support.health import get, http_port, ping

Start = Callable[..., AbstractAsyncContextManager[Crew]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    @asynccontextmanager
    async def started(**replicas: int) -> AsyncIterator[Crew]:
        environment = {"LEDGER_FILE": str(tmp_path / "ledger.txt")}
        async with crew("trouble", tmp_path, {"lead": 1, **replicas}, environment) as running:
            yield running

    return started


async def told(running: Crew, objective: str) -> dict[str, list[str]]:
    """What the lead was told by each of its specialists."""
    await running.start("0-r", objective)
    outcome = await running.reply("0-r")
    assert outcome.result is not None
    return outcome.result


async def respawn_what_dies(running: Crew, agent: str, times: int) -> None:
    for _ in range(times):
        replica = next(each for each in running.replicas if each.agent == agent)

        async def died(replica: Replica = replica) -> bool:
            return replica.process.poll() is not None

        await until(died, 20, f"{agent} dies")
        replica.respawn()


async def test_a_mail_that_kills_every_worker_is_given_up_and_the_lead_is_told_once(start: Start) -> None:
    async with start(bomber=1) as running:
        await running.start("0-r", "bomber")
        await respawn_what_dies(running, "bomber", times=3)
        outcome = await running.reply("0-r")
        assert outcome.result is not None
        status, summary = outcome.result["bomber"]
        assert status == "failed" and "3 workers died" in summary
        entries = await running.journal("0-r", "0-1", "bomber")
        assert sum(isinstance(entry, ThreadTakenOver) for entry in entries) == 3
        assert sum(isinstance(entry, ThreadReplied) for entry in entries) == 1
        (dead,) = [one for one in await running.entries("0-r") if one.address.to == "dead"]
        assert isinstance(dead.entry, ThreadFailed) and dead.entry.code == "crash_loop"


async def test_an_effect_that_cannot_be_looked_up_is_not_repeated_and_its_outcome_is_unknown(
    start: Start, tmp_path: Path
) -> None:
    async with start(gambler=1) as running:
        await running.start("0-r", "gambler")
        await respawn_what_dies(running, "gambler", times=1)
        outcome = await running.reply("0-r")
        assert outcome.result is not None and "is unknown" in outcome.result["gambler"][1]
        assert len((tmp_path / "ledger.txt").read_text().splitlines()) == 1
        entries = await running.journal("0-r", "0-1", "gambler")
        (intent,) = [entry for entry in entries if isinstance(entry, ToolCalled)]
        (outcome_entry,) = [entry for entry in entries if isinstance(entry, ToolReturned)]
        assert (outcome_entry.call_id, outcome_entry.status) == (intent.call_id, "unknown")


async def test_calls_of_one_turn_overlap_in_time(start: Start) -> None:
    async with start(sleeper=1) as running:
        first_began, first_ended, second_began, second_ended = map(
            float, (await told(running, "sleeper"))["sleeper"][1].split()
        )
        assert max(first_began, second_began) < min(first_ended, second_ended)
        assert max(first_ended, second_ended) - min(first_began, second_began) < 0.8, "each takes half a second"


async def test_a_specialist_nobody_plays_is_unreachable_at_its_deadline_and_one_that_fails_says_why(
    start: Start,
) -> None:
    async with start(thrower=1) as running:
        result = await told(running, "nobody thrower within 2")
        assert result["nobody"][0] == "unreachable"
        assert result["thrower"] == ["failed", "ZeroDivisionError: integer division or modulo by zero"]


async def test_a_specialist_that_is_slow_but_at_work_has_timed_out(start: Start) -> None:
    async with start(bomber=1) as running:
        # It died once it had opened its thread, and nobody starts it again before the deadline.
        assert (await told(running, "bomber within 2"))["bomber"][0] == "timed_out"


async def test_a_working_thread_reads_what_it_is_sent_at_its_next_step(start: Start) -> None:
    async with start(listener=2) as running:
        summary = (await told(running, "listener"))["listener"][1]
        found = re.fullmatch(r"told 'that will do' after (\d+) turns", summary)
        assert found and int(found[1]) <= 8, summary
        entries = await running.journal("0-r", "0-1", "listener")
        assert sum(isinstance(entry, MailReceived) for entry in entries) == 1
        assert len({entry.by for entry in entries}) == 1, "the replica that worked went on"


async def test_a_worker_frozen_beyond_its_lease_writes_nothing_when_it_wakes(start: Start) -> None:
    async with start(sleeper=2) as running:
        await running.start("0-r", "sleeper")
        async for stored in running.bus.feed.follow("0-r"):
            if stored.address.agent == "sleeper":
                break
        frozen = next(each for each in running.replicas if each.name == stored.entry.by)
        frozen.process.send_signal(signal.SIGSTOP)
        try:
            await running.reply("0-r", within_s=20 * LEASE_S)
            before = await running.entries("0-r")
            assert frozen.name not in {one.entry.by for one in before[-4:]}
        finally:
            frozen.process.send_signal(signal.SIGCONT)

        async def noticed() -> bool:
            return "left sleeper.0-r.0-1 to another worker" in frozen.log.read_text()

        await until(noticed, 20, "the frozen worker notices that it was overtaken")
        after = await running.entries("0-r")
        assert [one.address for one in after] == [one.address for one in before]


async def test_a_service_says_that_it_lives_whether_it_is_ready_and_who_it_is(start: Start) -> None:
    async with start(sleeper=2) as running:
        port = await http_port(running.replicas[0])
        assert get(port, "/healthz/live") == (200, {"alive": True})
        assert get(port, "/healthz/ready") == (200, {"connected": True, "taking_mail": True})
        cards = {card.replica: card for card in await running.bus.roster.cards()}
        assert sorted(cards) == ["lead-1", "sleeper-1", "sleeper-2"]
        assert (cards["lead-1"].role, cards["sleeper-1"].tools) == ("lead", ("sleep",))
        assert sorted(await ping(running.bus, "sleeper", 2)) == ["sleeper-1", "sleeper-2"]
        await running.server.stop()

        async def not_ready() -> bool:
            return get(port, "/healthz/ready") == (503, {"connected": False, "taking_mail": True})

        await until(not_ready, 10, "readiness follows the connection")
        assert get(port, "/healthz/live") == (200, {"alive": True})
        await running.server.start()

        async def ready_again() -> bool:
            return get(port, "/healthz/ready")[0] == 200

        await until(ready_again, 10, "the service connects again")
