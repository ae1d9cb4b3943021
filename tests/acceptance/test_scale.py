"""100,000 finished runs in a lane: what is done with one run takes as long as where there are a hundred.

A server with few runs and one with many are up at the same time, and everything is measured at both in turn, so that
a busy machine slows both down.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from shanty_cli.inbox import open_requests
from shanty_cli.letters import letters
from shanty_cli.lookup import newest_runs, view_of
from shanty_protocol import Brief, DelegationSent, EntryAddress, ThreadReplied
from shanty_protocol.streams import agent_consumers, entry_stream
from shanty_runtime.bus import Bus, BusSettings, EmbeddedServer, create_layout
from shanty_runtime.bus.jetstream import get_last, manage
from shanty_runtime.team import load_team
from shanty_runtime.verify import audit_of_run
from support.crew import LEASE_S, TEAMS, Crew
from support.filling import fill, run_ids

FEW, MANY = 100, 100_000
DELEGATIONS, WARM_UP, LOOKS_EACH, STARTS = 400, 100, 15, 3
MOST_SLOWER, FLAT = 1.10, 2.0
"""Of a delegation; of what is measured less often, and would take a hundred times as long were it not flat."""

Measured = dict[str, list[float]]
Work = Callable[[Bus], Awaitable[object]]

OF_SOME_RUN = run_ids(FEW)[FEW // 2]
LOOKS: dict[str, Work] = {
    "journal of a thread": lambda bus: bus.journals.read(OF_SOME_RUN, "0", "lead"),
    "shanty runs ls": lambda bus: newest_runs(bus, ("0",), 20),
    "shanty runs show": lambda bus: view_of(bus, OF_SOME_RUN),
    "shanty inbox ls": lambda bus: open_requests(bus, ("0",)),
    "shanty dead ls": lambda bus: letters(bus, ("0",), limit=50),
}
"""What the commands do besides starting their process."""


@asynccontextmanager
async def lane_with(runs: int, folder: Path) -> AsyncIterator[Crew]:
    """A server with that many finished runs, and one replica of a specialist that is Python code."""
    team = load_team(TEAMS / "hello")
    # Filling it waits for no disk; what is measured does.
    async with EmbeddedServer(store_dir=folder / "nats", sync_interval="2m") as server:
        async with Bus(BusSettings(url=server.url, name="filling")) as bus:
            await create_layout(bus, agents=[agent.name for agent in team.agents], ack_wait_s=LEASE_S)
            await fill(server.url, run_ids(runs))
            for agent in team.agents:
                await have_processed(bus, agent.name)
        server.sync_interval = "always"
        await server.restart()
        await asyncio.to_thread(os.sync)  # else the disk is at work on it while the first writes are measured
        async with Bus(BusSettings(url=server.url, name="test", lease_s=LEASE_S)) as bus:
            crew = Crew(team, server, bus, folder, {})
            try:
                yield crew
            finally:
                for replica in crew.replicas:
                    replica.kill()


async def have_processed(bus: Bus, agent: str) -> None:
    """An agent's mail of finished runs has been processed."""
    newest = await get_last(bus.connection, entry_stream("0"), ">")
    assert newest is not None
    (mail, _) = agent_consumers("0", agent)
    await manage(bus.connection, f"CONSUMER.RESET.{mail.stream}.{mail.name}", {"seq": newest.seq + 1})


async def delegated_s(crew: Crew, number: int) -> float:
    """How long one delegation takes, from its write until the reply is heard."""
    run = f"0-timed-{number}"
    order = EntryAddress("counter", run, "request-1", "cli", 0)
    brief = Brief(objective="count", input={"text": "ahoy"})
    began_s = time.perf_counter()
    hearing = asyncio.create_task(reply(crew, run))
    await crew.bus.journals.append(order, DelegationSent(at_ms=1, by="test", to_thread="0", brief=brief))
    await hearing
    return time.perf_counter() - began_s


async def reply(crew: Crew, run: str) -> ThreadReplied:
    async with asyncio.timeout(60):
        async for stored in crew.bus.feed.follow(run):
            if isinstance(stored.entry, ThreadReplied):
                return stored.entry
    raise AssertionError("a feed does not end by itself")


async def ready_s(crew: Crew) -> float:
    """How long a service takes from its start until it takes mail."""
    began_s = time.perf_counter()
    replica = crew.add("counter")
    await crew.ready()
    took_s = time.perf_counter() - began_s
    replica.kill()
    crew.replicas.remove(replica)
    return took_s


async def looked_s(crew: Crew, look: Work) -> float:
    began_s = time.perf_counter()
    await look(crew.bus)
    return time.perf_counter() - began_s


def resident_mb(pid: int) -> float:
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


@pytest.mark.slow
@pytest.mark.timeout(1_200)
async def test_a_hundred_thousand_finished_runs_slow_nothing_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with AsyncExitStack() as stack:
        few = await stack.enter_async_context(lane_with(FEW, tmp_path / "few"))
        many = await stack.enter_async_context(lane_with(MANY, tmp_path / "many"))
        measured: dict[str, tuple[list[float], list[float]]] = {}

        async def measure(what: str, one: Callable[[Crew], Awaitable[float]]) -> None:
            found = measured.setdefault(what, ([], []))
            both = [(few, found[0]), (many, found[1])]
            if len(found[0]) % 2:  # whoever is second finds the machine as the first has left it
                both.reverse()
            for crew, took in both:
                took.append(await one(crew))

        for _ in range(STARTS):
            await measure("start of a service", ready_s)
        for _ in range(LOOKS_EACH):
            for what, look in LOOKS.items():
                await measure(what, partial(looked_s, look=look))
        for crew in (few, many):
            crew.add("counter")
            await crew.ready()
        for number in range(WARM_UP + DELEGATIONS):
            # A server that has just started reads what it needs of a stream once.
            what = "first delegations" if number < WARM_UP else "delegation"
            await measure(what, partial(delegated_s, number=number))
        servers, specialists = ([resident_mb(pid) for pid in pids] for pids in _processes(few, many))
        assert (await view_of(many.bus, OF_SOME_RUN)).status == "completed"
        assert (await audit_of_run(many.bus, OF_SOME_RUN)).is_sound
    medians = {what: [statistics.median(found) for found in both] for what, both in measured.items()}
    with capsys.disabled():
        print(f"\n{'':22}{FEW:>8} runs{MANY:>8} runs")
        for what, (few_s, many_s) in medians.items():
            print(f"{what:22}{few_s * 1000:>10.1f} ms{many_s * 1000:>10.1f} ms   × {many_s / few_s:.2f}")
        for what, (few_mb, many_mb) in (("nats-server", servers), ("specialist", specialists)):
            print(f"{'memory of ' + what:22}{few_mb:>10.0f} MB{many_mb:>10.0f} MB")
    few_s, many_s = medians["delegation"]
    assert many_s <= MOST_SLOWER * few_s
    for what, (few_s, many_s) in medians.items():
        assert many_s <= FLAT * few_s + 0.002, what
    assert specialists[1] <= specialists[0] + 5


def _processes(few: Crew, many: Crew) -> tuple[list[int], list[int]]:
    return [few.server.pid, many.server.pid], [few.replicas[0].pid, many.replicas[0].pid]
