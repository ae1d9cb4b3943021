"""SIGTERM in the middle of everything: what ends in time is kept, the rest is broken off, others go on at once."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pytest

from shanty_protocol import (
    Brief,
    DelegationSent,
    EntryAddress,
    ModelReplied,
    Outcome,
    ThreadReplied,
    ThreadTakenOver,
    ToolReturned,
)
from shanty_runtime.bus import Stored
from shanty_runtime.testing.claude import Answer, ClaudeServer, Hang, reply, tool_use
from support.audit import audit
from support.crew import Crew, Replica, crew, until
from support.health import get, http_port

RUN = "0-r"
LEASE_S = 15
"""So long that a lease which is not given back shows: its thread stands still."""
DEADLINE_S = 90
MORE_S = 10.0
"""How much longer than SHANTY_DRAIN_S a process may take to end."""
SOON_S = 10.0
EFFECTS = ("look", "book", "ring")
"""Calls that read, that may be repeated, and that may not."""


class Line(NamedTuple):
    """What a call of team `slowly` leaves in its file."""

    key: str
    what: str
    phase: str
    gate: str
    pid: int
    at_s: float


class Stage:
    """A crew of team `slowly`; the test is its lead, and opens the gates."""

    def __init__(self, running: Crew, gates: Path) -> None:
        self.running, self.gates = running, gates
        self.delegated = 0

    async def delegate(self, agent: str, objective: str, **given: str) -> str:
        """Open a thread; its id."""
        number, self.delegated = self.delegated, self.delegated + 1
        thread = f"0-{number + 1}"
        brief = Brief(objective=objective, input=given or None)
        order = DelegationSent(at_ms=int(time.time() * 1000), by="test", to_thread=thread, brief=brief)
        await self.running.bus.journals.append(EntryAddress(agent, RUN, "0", "lead", number), order)
        return thread

    def open(self, *names: str) -> None:
        for gate in names:
            (self.gates / gate).touch()

    def lines(self) -> list[Line]:
        ledger = self.gates / "ledger.txt"
        text = ledger.read_text() if ledger.exists() else ""
        split = [line.split(" ") for line in text.splitlines()]
        return [Line(key, what, phase, gate, int(pid), float(at_s)) for key, what, phase, gate, pid, at_s in split]

    async def began(self, calls: int) -> None:
        async def so_many() -> bool:
            return sum(line.phase == "began" for line in self.lines()) >= calls

        await until(so_many, DEADLINE_S, f"{calls} calls are being made")

    async def outcomes(self) -> dict[str, Outcome]:
        """What each thread replied, once all have."""
        found: dict[str, Outcome] = {}
        async with asyncio.timeout(DEADLINE_S):
            async for stored in self.running.bus.feed.follow(RUN):
                if isinstance(stored.entry, ThreadReplied):
                    found[stored.address.thread] = stored.entry.outcome
                if len(found) == self.delegated:
                    return found
        raise AssertionError("a feed does not end by itself")

    async def by_thread(self) -> dict[str, list[Stored]]:
        threads: dict[str, list[Stored]] = {}
        for stored in await self.running.entries(RUN):
            threads.setdefault(stored.address.thread, []).append(stored)
        return threads


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    gates = tmp_path / "gates"
    gates.mkdir()
    environment = {"GATES_FOLDER": str(gates), "SHANTY_LEASE_S": str(LEASE_S)}
    async with crew("slowly", tmp_path, {}, environment, ack_wait_s=LEASE_S) as running:
        yield Stage(running, gates)


def gaps_s(threads: Iterable[list[Stored]], replica: Replica) -> list[float]:
    """For each thread how long nobody wrote, from the last entry of a replica to the first of another."""
    found = []
    for entries in threads:
        last = max(n for n, stored in enumerate(entries) if stored.entry.by == replica.name)
        found.append((entries[last + 1].entry.at_ms - entries[last].entry.at_ms) / 1000)
    return found


def no_death_is_counted(journals: Mapping[str, Iterable[Stored]]) -> None:
    taken_over = (each.address for entries in journals.values() for each in entries if is_takeover(each))
    assert not list(taken_over)


def is_takeover(stored: Stored) -> bool:
    return isinstance(stored.entry, ThreadTakenOver)


def handed_back(replica: Replica) -> tuple[int, int]:
    """How many threads a replica says it gave back, and how many of them in the middle of a step."""
    lines = [json.loads(line) for line in replica.log.read_text().splitlines()]
    (said,) = [line for line in lines if "handed back" in line["message"]]
    return int(said["message"].split()[-2]), said["broken_off"]


async def is_unready(replica: Replica) -> None:
    """It says that it takes no more work, and that it lives."""
    port = await http_port(replica)

    async def unready() -> bool:
        return get(port, "/healthz/ready") == (503, {"connected": True, "taking_mail": False})

    await until(unready, SOON_S, f"{replica.name} is not ready any more")
    assert get(port, "/healthz/live") == (200, {"alive": True})


async def gone(replica: Replica, within_s: float) -> int:
    """The exit code of a replica that was told to stop."""

    async def left() -> bool:
        return replica.process.poll() is not None

    await until(left, within_s, f"{replica.name} ends")
    return replica.process.returncode


async def test_what_ends_in_time_is_kept_and_the_rest_is_broken_off_and_another_replica_goes_on_at_once(
    stage: Stage,
) -> None:
    running, drain_s = stage.running, 3.0
    first = running.add("slow", SHANTY_DRAIN_S=str(drain_s))
    await running.ready()
    await stage.delegate("slow", "nothing to do")  # it is parked when the signal comes
    await stage.outcomes()
    in_time = [await stage.delegate("slow", f"{what} in-time") for what in EFFECTS]
    late = {what: await stage.delegate("slow", f"{what} late") for what in EFFECTS}
    await stage.began(6)
    second = running.add("slow")
    await running.ready()

    told_s = time.time()
    first.process.send_signal(signal.SIGTERM)
    await is_unready(first)
    assert [card.replica for card in await running.bus.roster.cards()] == [second.name]
    new = await stage.delegate("slow", "nothing new")
    stage.open("in-time")
    assert await gone(first, drain_s + MORE_S) == 0
    gone_s = time.time()
    assert gone_s - told_s > drain_s, "steps that had not ended were waited for"
    stage.open("late")
    outcomes = await stage.outcomes()

    assert {outcome.status for outcome in outcomes.values()} == {"ok"}
    threads = await stage.by_thread()
    no_death_is_counted(threads)
    assert {stored.entry.by for stored in threads[new]} == {second.name}
    for thread in in_time:
        # The step ended where it had begun, and the turn went on elsewhere.
        ended = next(n for n, stored in enumerate(threads[thread]) if isinstance(stored.entry, ToolReturned))
        writers = [stored.entry.by for stored in threads[thread]]
        assert writers == [first.name] * (ended + 1) + [second.name] * (len(writers) - ended - 1)
    assert median(gaps_s([threads[thread] for thread in in_time], first)) < 1
    begun = Counter((line.what, line.gate) for line in stage.lines() if line.phase == "began")
    assert begun == {
        **{(what, "in-time"): 1 for what in EFFECTS},
        ("look", "late"): 2,
        ("book", "late"): 2,
        ("ring", "late"): 1,
    }
    (again,) = [line for line in stage.lines() if (line.what, line.phase, line.pid) == ("book", "began", second.pid)]
    assert again.at_s - gone_s < 1
    (rung,) = [stored.entry for stored in threads[late["ring"]] if isinstance(stored.entry, ToolReturned)]
    assert (rung.status, rung.by) == ("unknown", second.name)
    assert handed_back(first) == (6, 3)
    began_s = time.monotonic()
    assert second.stop() == 0
    assert time.monotonic() - began_s < SOON_S, "nothing was in hand"


async def test_a_model_call_that_does_not_end_is_broken_off_and_made_once_more_elsewhere(stage: Stage) -> None:
    running, asked = stage.running, asyncio.Event()
    hanging = running.add("slow", SHANTY_REHEARSAL_PACE_S="600", SHANTY_DRAIN_S="0.5")
    await running.ready()
    await running.bus.connection.listen("shanty.live.>", lambda _: asked.set())
    thread = await stage.delegate("slow", "look open")
    async with asyncio.timeout(DEADLINE_S):
        await asked.wait()
    other = running.add("slow")
    await running.ready()
    stage.open("open")
    told_s = time.time()
    assert hanging.stop() == 0
    await stage.outcomes()
    entries = (await stage.by_thread())[thread]
    no_death_is_counted({thread: entries})
    replies = [stored.entry for stored in entries if isinstance(stored.entry, ModelReplied)]
    assert [entry.by for entry in replies] == [other.name, other.name]
    assert replies[0].at_ms / 1000 - told_s < 0.5 + 1
    assert handed_back(hanging) == (1, 1)


async def test_python_code_is_stopped_between_two_steps_and_a_second_signal_breaks_steps_off(stage: Stage) -> None:
    running = stage.running
    first = running.add("steps", SHANTY_DRAIN_S="600")
    await running.ready()
    gates = {"first": "open", "between": "open", "second": "open"}
    between = await stage.delegate("steps", "", **{**gates, "between": "between"})
    inside = await stage.delegate("steps", "", **{**gates, "first": "late"})
    many = [await stage.delegate("steps", "", **{**gates, "first": "many"}) for _ in range(30)]
    stage.open("open")
    await stage.began(32)

    async def first_step_returned() -> bool:
        return any(isinstance(entry, ToolReturned) for entry in await running.journal(RUN, between, "steps"))

    await until(first_step_returned, DEADLINE_S, "the handler is between two steps")
    second = running.add("steps")
    await running.ready()

    first.process.send_signal(signal.SIGTERM)
    await is_unready(first)
    stage.open("many", "between")

    async def handed_over() -> bool:
        threads = await stage.by_thread()
        return all(second.name in {stored.entry.by for stored in threads[each]} for each in [between, *many])

    await until(handed_over, DEADLINE_S, "the other replica goes on with all that was not inside a step")
    assert first.process.poll() is None, "one step has not ended, and there is time"
    first.process.send_signal(signal.SIGINT)
    assert await gone(first, SOON_S) == 0
    stage.open("late")
    outcomes = await stage.outcomes()

    assert {outcome.status for outcome in outcomes.values()} == {"ok"}
    threads = await stage.by_thread()
    no_death_is_counted(threads)
    assert median(gaps_s([threads[thread] for thread in [between, *many]], first)) < 1
    steps = [line for line in stage.lines() if line.phase == "ended"]
    assert sorted(Counter(line.key for line in steps).values()) == [1] * 64, "a step that had returned was repeated"
    assert {line.key.split(".")[1] for line in steps if line.pid == second.pid} == set(outcomes)
    assert [line.pid for line in stage.lines() if line.key == f"{RUN}.{inside}.step-1" and line.phase == "began"] == [
        first.pid,
        second.pid,
    ]
    assert handed_back(first) == (32, 1)


@pytest.mark.parametrize("server_is", ["frozen", pytest.param("gone", marks=pytest.mark.slow)])
async def test_a_replica_whose_server_is_away_ends_within_its_grace_and_its_thread_goes_on_later(
    stage: Stage, server_is: str
) -> None:
    running, drain_s = stage.running, 1.0
    replica = running.add("steps", SHANTY_DRAIN_S=str(drain_s), SHANTY_LEASE_S="1")
    await running.ready()
    await stage.delegate("steps", "", first="open", between="open", second="open")
    await stage.began(1)
    if server_is == "frozen":
        running.server.freeze()
    else:
        await running.server.stop()
    stage.open("open")  # the step ends, and cannot be written down
    began_s = time.monotonic()
    replica.process.send_signal(signal.SIGTERM)
    code = await asyncio.to_thread(replica.process.wait, drain_s + MORE_S)
    assert code == 0
    assert time.monotonic() - began_s > drain_s
    if server_is == "frozen":
        running.server.thaw()
    else:
        await running.server.start()
    replica.respawn()
    outcomes = await stage.outcomes()
    assert [outcome.status for outcome in outcomes.values()] == ["ok"]


class Claude:
    """Looks once, then hands in. What `late` is asked first is never answered, what `in-time` is asked is held."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.in_time = asyncio.Event()

    async def __call__(self, body: dict[str, Any]) -> Answer:
        objective = "late" if "model late" in str(body["messages"][0]) else "in-time"
        turn = sum(message["role"] == "assistant" for message in body["messages"])
        self.asked[f"{objective} {turn}"] += 1
        if turn:
            return reply(tool_use("submit_result", summary="done"))
        if objective == "late" and self.asked["late 0"] == 1:
            return Hang(reply(tool_use("look", gate="open")), at_byte=400)
        if objective == "in-time":
            await self.in_time.wait()
        return reply(tool_use("look", gate="open"))


@pytest.mark.slow
async def test_what_claude_is_saying_is_heard_to_its_end_or_asked_once_more(stage: Stage) -> None:
    running, claude = stage.running, Claude()
    async with ClaudeServer(claude) as server:
        key = "sk-test-key"
        settings = {"SHANTY_MODEL": "claude-sonnet-5-5", "ANTHROPIC_BASE_URL": server.url, "ANTHROPIC_API_KEY": key}
        first = running.add("slow", SHANTY_DRAIN_S="3", **settings)
        await running.ready()
        late = await stage.delegate("slow", "model late")
        in_time = await stage.delegate("slow", "model in-time")

        async def asked() -> bool:
            return claude.asked == {"late 0": 1, "in-time 0": 1}

        await until(asked, DEADLINE_S, "Claude is asked twice")
        second = running.add("slow", **settings)
        await running.ready()
        stage.open("open")
        first.process.send_signal(signal.SIGTERM)
        claude.in_time.set()
        assert await gone(first, 3 + MORE_S) == 0
        await stage.outcomes()
        server.assert_valid()
    assert claude.asked == {"late 0": 2, "late 1": 1, "in-time 0": 1, "in-time 1": 1}
    threads = await stage.by_thread()
    no_death_is_counted(threads)
    said = {
        thread: [stored.entry.by for stored in threads[thread] if isinstance(stored.entry, ModelReplied)]
        for thread in (late, in_time)
    }
    assert said == {late: [second.name] * 2, in_time: [first.name, second.name]}
    assert handed_back(first) == (2, 1)


UPGRADES = 40
RUNS_AT_ONCE = 3


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_forty_replicas_replaced_one_after_the_other_under_load_lose_and_repeat_nothing(tmp_path: Path) -> None:
    ledger, model_calls = tmp_path / "ledger.txt", tmp_path / "model-calls.txt"
    environment = {
        "LEDGER_FILE": str(ledger),
        "MODEL_CALLS_FILE": str(model_calls),
        "SHANTY_REHEARSAL_PACE_S": "0.05",
        "SHANTY_LEASE_S": str(LEASE_S),
    }
    agents = {"lead": 2, "clerk": 2, "counter": 2}
    async with crew("ledger", tmp_path, agents, environment, ack_wait_s=LEASE_S) as running:
        chance, ended = random.Random(1), asyncio.Event()
        finished: list[str] = []
        interrupted = 0

        async def keep_running(lot: int) -> None:
            for number in count():
                run = f"0-lot-{lot}-{number}"
                await running.start(run, objective=run)
                await audit(running, run, await running.reply(run, DEADLINE_S), ledger, model_calls)
                finished.append(run)
                if ended.is_set():
                    return

        async with asyncio.TaskGroup() as load:
            for lot in range(RUNS_AT_ONCE):
                load.create_task(keep_running(lot))
            for _ in range(UPGRADES):
                old = chance.choice(running.replicas)
                running.add(old.agent)
                await running.ready()
                await asyncio.sleep(chance.uniform(0, 0.5))  # any instant of a run
                old.process.send_signal(signal.SIGTERM)
                assert await gone(old, MORE_S) == 0
                interrupted += "handed back" in old.log.read_text()
                running.replicas.remove(old)
            ended.set()

        assert len(finished) > UPGRADES
        assert interrupted, "no replica had work in hand"
        replies = 0
        for run in finished:
            entries = await running.entries(run)
            no_death_is_counted({run: entries})
            replies += sum(isinstance(stored.entry, ModelReplied) for stored in entries)
        assert len(model_calls.read_text().splitlines()) == replies, "a model call was made twice"
