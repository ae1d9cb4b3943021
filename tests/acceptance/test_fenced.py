"""Calls that must not be made twice, whoever is frozen, overtaken, killed or gone while they are made."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from shanty_protocol import (
    CancelSent,
    EffectAnswered,
    EffectEnded,
    EffectInquired,
    EffectRequested,
    EffectStarted,
    Entry,
    EntryAddress,
    ToolCalled,
    ToolDelayed,
    ToolReturned,
)
from shanty_runtime.errors import BusUnavailable
from shanty_runtime.team import load_team
from shanty_runtime.tools.mcp import accept
from support.commands import Shanty
from support.crew import TEAMS, Crew, Replica, crew, until

DEADLINE_S = 90
SEEDS = range(20)
RUN_S = 1.0
"""About as long as a run takes when nothing is killed: kills fall anywhere in it."""

Vault = Callable[..., AbstractAsyncContextManager[Crew]]


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    """The team, with as many replicas as are asked for; what its tools do is in `ledger.txt`."""

    @asynccontextmanager
    async def opened(*, zones: bool = False, **replicas: int) -> AsyncIterator[Crew]:
        folder = tmp_path / "team"
        shutil.copytree(TEAMS / "vault", folder)
        environment = {"VAULT_FOLDER": str(tmp_path), "PYTHON": sys.executable}
        servers = {agent.name: agent.mcp_servers for agent in load_team(folder).agents}
        await accept(servers, folder, environment)
        (tmp_path / "ledger.txt").touch()
        async with crew(folder, tmp_path, replicas, environment, zones=zones) as running:
            yield running

    return opened


def effects(running: Crew, run: str) -> list[tuple[str, str]]:
    """What happened in a run, and the process that did it."""
    lines = [line.split(" ") for line in (running.folder / "ledger.txt").read_text().splitlines()]
    return [(what, by) for key, what, by in lines if key.startswith(f"{run}.")]


def freeze(running: Crew, agent: str, where: str = "before") -> None:
    """The next replica of the agent that is about to act, or has acted, stops itself."""
    (running.folder / where).write_text(agent)


async def frozen(running: Crew, agent: str) -> Replica:
    """The replica that has stopped itself."""
    found: list[Replica] = []

    async def stopped() -> bool:
        found[:] = [each for each in running.replicas if each.agent == agent and state_of(each) == "T"]
        return bool(found)

    await until(stopped, DEADLINE_S, f"a replica of {agent} is frozen")
    return found[0]


def state_of(replica: Replica) -> str:
    """T: it is stopped."""
    return Path(f"/proc/{replica.pid}/stat").read_text().rpartition(")")[2].split()[0]


async def gave_up(replica: Replica, run: str) -> None:
    """It has found that it has lost the thread."""

    async def said() -> bool:
        return f"left keeper.{run}.0-1 to another worker" in replica.log.read_text()

    await until(said, DEADLINE_S, f"{replica.name} leaves the thread")


async def about(running: Crew, run: str, *kinds: type[Entry]) -> list[Any]:
    return [stored.entry for stored in await running.entries(run) if isinstance(stored.entry, kinds)]


KINDS = {
    "note": ("noted", []),
    "book": ("book", ["book"]),
    "ring": ("ring", ["ring"]),
    "post": ("post", ["post"]),
    "wink shop__pay": ("winked pay", ["pay"]),
    # Those that the agent makes itself are never made twice either. But nobody can tell whether they were.
    "shout": ("unknown", ["shout"]),
    "wink stall__pay": ("winked unknown", []),
}
"""By the tools that are called: what the overtaking worker makes of it, and what has happened in the end."""


@pytest.mark.timeout(300)
async def test_a_worker_frozen_before_it_acts_and_overtaken_does_not_act_again_when_it_goes_on(vault: Vault) -> None:
    async with vault(lead=1, keeper=2, toolgateway=1) as running:
        for number, (tools, (told, happened)) in enumerate(KINDS.items()):
            run = f"0-kind-{number}"
            freeze(running, "keeper")
            await running.start(run, objective=tools)
            victim = await frozen(running, "keeper")
            outcome = await running.reply(run, DEADLINE_S)
            os.kill(victim.pid, signal.SIGCONT)
            await gave_up(victim, run)
            assert (outcome.status, outcome.summary) == ("ok", told), tools
            assert [what for what, _ in effects(running, run)] == happened, tools


async def test_a_tool_gateway_that_dies_in_a_call_leaves_it_unknown_unless_the_tool_can_be_asked(
    vault: Vault,
) -> None:
    async with vault(lead=1, keeper=1, toolgateway=2) as running:
        cases = (("post", "before", "unknown", 0), ("ring", "before", "unknown", 0), ("ring", "after", "ring", 1))
        for number, (tool, where, told, happened) in enumerate(cases):
            run = f"0-dies-{number}"
            freeze(running, "toolgateway", where)
            await running.start(run, objective=tool)
            victim = await frozen(running, "toolgateway")
            victim.kill()
            outcome = await running.reply(run, DEADLINE_S)
            assert (outcome.status, outcome.summary) == ("ok", told)
            assert effects(running, run) == [(tool, victim.name)] * happened
            (started,), (ended,) = await about(running, run, EffectStarted), await about(running, run, EffectEnded)
            assert started.by == victim.name
            assert (ended.by != victim.name, ended.status) == (True, "ok" if happened else "unknown")
            victim.respawn()


@pytest.mark.slow
async def test_a_tool_gateway_frozen_in_a_call_may_act_late_but_once_and_what_was_told_stands(vault: Vault) -> None:
    async with vault(lead=1, keeper=1, toolgateway=2) as running:
        freeze(running, "toolgateway")
        await running.start("0-late", objective="post")
        victim = await frozen(running, "toolgateway")
        outcome = await running.reply("0-late", DEADLINE_S)
        assert outcome.summary == "unknown"
        os.kill(victim.pid, signal.SIGCONT)

        async def acted() -> bool:
            return bool(effects(running, "0-late"))

        await until(acted, DEADLINE_S, "the frozen replica goes on")
        assert victim.stop() == 0
        assert effects(running, "0-late") == [("post", victim.name)]
        (ended,) = await about(running, "0-late", EffectEnded)
        assert (ended.status, ended.by != victim.name) == ("unknown", True)


async def test_a_call_waits_for_a_tool_gateway_says_so_and_goes_on_when_there_is_one(vault: Vault) -> None:
    async with vault(lead=1, keeper=1, toolgateway=1) as running:
        (gateway,) = [each for each in running.replicas if each.agent == "toolgateway"]
        assert gateway.stop() == 0
        await running.start("0-waits", objective="post")

        async def said_so() -> bool:
            return bool(await about(running, "0-waits", ToolDelayed))

        await until(said_so, DEADLINE_S, "the journal says that the call waits")
        assert effects(running, "0-waits") == []
        gateway.respawn()
        outcome = await running.reply("0-waits", DEADLINE_S)
        assert outcome.summary == "post"
        assert effects(running, "0-waits") == [("post", gateway.name)]
        (delayed,) = await about(running, "0-waits", ToolDelayed)
        assert delayed.reason.startswith("the tool gateway of team vault does not answer: ")


@pytest.mark.slow
async def test_a_call_is_made_once_in_zones_as_well(vault: Vault) -> None:
    async with vault(zones=True, lead=1, keeper=2, toolgateway=1) as running:
        freeze(running, "keeper")
        await running.start("0-zones", objective="post")
        victim = await frozen(running, "keeper")
        outcome = await running.reply("0-zones", DEADLINE_S)
        os.kill(victim.pid, signal.SIGCONT)
        await gave_up(victim, "0-zones")
        assert outcome.summary == "post"
        assert [what for what, _ in effects(running, "0-zones")] == ["post"]


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_whoever_is_killed_and_whenever_nothing_happens_twice_and_every_intent_has_an_end(vault: Vault) -> None:
    async with vault(lead=1, keeper=2, toolgateway=2) as running:
        for seed in SEEDS:
            run, chance = f"0-seed-{seed}", random.Random(seed)
            kills = [
                asyncio.create_task(running.kill_one(chance, RUN_S, agent))
                for agent in ("keeper", "toolgateway", "toolgateway")
            ]
            await running.start(run, objective="post ring book post")
            outcome = await running.reply(run, DEADLINE_S)
            await asyncio.gather(*kills)
            await audit(running, run, outcome.summary.split())


async def audit(running: Crew, run: str, told: list[str]) -> None:
    tools = ["post", "ring", "book", "post"]
    lines = [line.split(" ") for line in (running.folder / "ledger.txt").read_text().splitlines()]
    happened = Counter(key for key, *_ in lines if key.startswith(f"{run}."))
    keys = [f"{run}.0-1.call-1-{number}" for number in range(1, 5)]
    assert set(happened) <= set(keys) and set(happened.values()) <= {1}, "something happened twice"
    for key, tool, said in zip(keys, tools, told, strict=True):
        assert said == tool or (said == "unknown" and tool != "book"), f"{tool} gave {said}"
        assert happened[key] == 1 or said == "unknown", f"{key} is told to have happened, and has not"
    started, ended = await about(running, run, EffectStarted), await about(running, run, EffectEnded)
    assert sorted(each.call_id for each in started) == ["call-1-1", "call-1-2", "call-1-4"]
    assert sorted(each.call_id for each in ended) == sorted(each.call_id for each in started)
    called, returned = await about(running, run, ToolCalled), await about(running, run, ToolReturned)
    assert sorted(each.call_id for each in called) == sorted(each.call_id for each in returned)
    assert [each.fenced for each in sorted(called, key=lambda each: each.call_id)] == [True, True, False, True]


async def test_a_worker_asks_until_there_is_an_answer_and_withdraws_what_is_aborted(vault: Vault) -> None:
    """The test itself is the tool gateway."""
    asked: list[EffectRequested | EffectInquired] = []
    withdrawn = asyncio.Event()

    async def answer(
        agent: str, question: EffectRequested | EffectInquired, headers: Mapping[str, str]
    ) -> EffectAnswered:
        asked.append(question)
        if isinstance(question, EffectInquired) and question.withdraw:
            withdrawn.set()
        if question.run == "0-aborted":
            return EffectAnswered(status="running")
        match len(asked):
            case 1:
                raise BusUnavailable("the answer is lost on its way")
            case 2:
                return EffectAnswered(status="running")
        return EffectAnswered(status="result", content="done at last")

    async with vault(lead=1, keeper=1, toolgateway=0) as running:
        serving = await running.bus.effects.serve("vault", answer)
        await running.start("0-answered", objective="post")
        assert (await running.reply("0-answered", DEADLINE_S)).summary == "done at last"
        assert [type(each) for each in asked] == [EffectRequested] * 3
        assert len({each.fence for each in asked}) == 1

        await running.start("0-aborted", objective="post")

        async def heard() -> bool:
            return asked[-1].run == "0-aborted"

        await until(heard, DEADLINE_S, "the call is asked for")
        abort = CancelSent(at_ms=0, to_thread="0-1", mode="abort", reason="enough")
        await running.bus.journals.append(EntryAddress("keeper", "0-aborted", "stop", "operators", 0), abort)
        await asyncio.wait_for(withdrawn.wait(), DEADLINE_S)
        assert (await running.reply("0-aborted", DEADLINE_S)).status == "ok"
        await serving.stop()


def test_shanty_run_brings_a_tool_gateway_along_where_a_team_needs_one(tmp_path: Path) -> None:
    team = tmp_path / "team"
    shutil.copytree(TEAMS / "vault", team)
    keeper = team / "agents" / "keeper.md"
    settings, _, rest = keeper.read_text().partition("mcpServers:")
    keeper.write_text(f"{settings}---\n{rest.rpartition('---')[2]}")
    (tmp_path / "ledger.txt").touch()
    done = Shanty(tmp_path)(
        "run", str(team), "--goal", "post", "--model", "rehearsal", "-o", "json", VAULT_FOLDER=str(tmp_path)
    )

    assert done.code == 0, done.err
    assert (done.json["status"], done.json["summary"]) == ("completed", "post")
    assert (tmp_path / "ledger.txt").read_text().split()[1:] == ["post", "toolgateway-1"]
