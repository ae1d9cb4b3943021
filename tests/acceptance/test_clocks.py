"""Machines whose clocks are wrong, or are set in the middle of a run: time is the server's, for everybody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from shanty_protocol import ThreadReplied, TimerFired
from support.crew import Crew, crew, until
from support.scrape import scrape, total

SKEWED = Path(__file__).parents[1] / "support" / "skewed.py"
MOST_SKEW_S = 2.0
"""An answer of the server tells its time as exactly as it was quick; this machine is busy."""
WITHIN_S = 6
TEN_MINUTES_S = 600.0


@pytest.fixture
async def trouble(tmp_path: Path) -> AsyncIterator[Crew]:
    """A lead whose clock the test sets, and a specialist that sleeps; nobody plays the other specialists."""
    (tmp_path / "clock").write_text("0")
    environment = {"LEDGER_FILE": str(tmp_path / "ledger.txt"), "CLOCK_FILE": str(tmp_path / "clock")}
    async with crew("trouble", tmp_path, {}, environment) as running:
        yield running


async def with_a_wrong_clock(running: Crew, agent: str) -> None:
    """One more replica of an agent, on a machine of its own."""
    replica = running.add(agent)
    replica.kill()
    replica.command = [replica.command[0], str(SKEWED), replica.command[-1]]
    replica.respawn()
    await running.ready()


def set_clock(folder: Path, ahead_s: float) -> None:
    new = folder / "clock.new"
    new.write_text(str(ahead_s))
    new.rename(folder / "clock")


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("before_s", "after_s"),
    [
        pytest.param(-TEN_MINUTES_S, -TEN_MINUTES_S, id="ten minutes behind"),
        pytest.param(TEN_MINUTES_S, TEN_MINUTES_S, id="ten minutes ahead", marks=pytest.mark.slow),
        pytest.param(0.0, -TEN_MINUTES_S, id="set back while it waits", marks=pytest.mark.slow),
        pytest.param(0.0, TEN_MINUTES_S, id="set forward while it waits"),
    ],
)
async def test_a_deadline_ends_when_it_should_although_the_leads_clock_is_wrong(
    trouble: Crew, tmp_path: Path, before_s: float, after_s: float
) -> None:
    set_clock(tmp_path, before_s)
    await with_a_wrong_clock(trouble, "lead")
    began_s = time.monotonic()
    await trouble.start("0-r", f"nobody within {WITHIN_S}")
    async for stored in trouble.bus.feed.follow("0-r"):
        if stored.address.to == "nobody":
            break
    asked_s = time.monotonic()
    set_clock(tmp_path, after_s)
    outcome = await trouble.reply("0-r")
    took_s = time.monotonic() - asked_s
    assert outcome.result is not None and outcome.result["nobody"][0] == "unreachable"
    assert WITHIN_S - MOST_SKEW_S < took_s < WITHIN_S + 20, f"the deadline was over after {took_s:.1f} s"
    entries = [stored.entry for stored in await trouble.entries("0-r") if stored.address.agent == "lead"]
    (fired,) = [entry for entry in entries if isinstance(entry, TimerFired)]
    assert abs(fired.at_ms / 1000 - time.time()) < time.monotonic() - began_s + MOST_SKEW_S
    times_ms = [entry.at_ms for entry in entries]
    assert all(later >= earlier - 1000 * MOST_SKEW_S for earlier, later in pairwise(times_ms))

    async def measured() -> bool:
        ahead_s = total(await scrape(trouble.replicas[0]), "shanty_clock_ahead_seconds")
        return abs(ahead_s - before_s) < MOST_SKEW_S

    if before_s == after_s:
        await until(measured, 60, "the lead says how far its clock is off")


@pytest.mark.slow
@pytest.mark.timeout(200)
async def test_work_is_done_once_while_the_clocks_of_those_who_do_it_are_set_back_and_forth(
    trouble: Crew, tmp_path: Path
) -> None:
    for agent in ("lead", "sleeper"):
        await with_a_wrong_clock(trouble, agent)
    for number in range(6):
        await trouble.start(f"0-r{number}", "sleeper")
        set_clock(tmp_path, TEN_MINUTES_S * (-1) ** number)
        await asyncio.sleep(0.2)  # sets it in the middle of things
    for number in range(6):
        outcome = await trouble.reply(f"0-r{number}")
        assert outcome.result is not None and outcome.result["sleeper"][0] == "ok"
        replies = [one.entry for one in await trouble.entries(f"0-r{number}") if isinstance(one.entry, ThreadReplied)]
        assert len(replies) == 2, "one of the specialist, one of the lead"
