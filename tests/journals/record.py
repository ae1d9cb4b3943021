"""Records runs of the test teams as golden journals of a release.

    PYTHONPATH=.:tests python tests/journals/record.py 0.2.0 [NAME …]
    PYTHONPATH=.:tests python tests/journals/record.py 0.2.0 --take NAME ARCHIVE TEAM

Real services on a real server write them. What is recorded once is never changed: it is how a later release knows
that it still reads what this one has written. Without names those that are not there yet are recorded. `--take` adds
an archive that `shanty runs archive` has made, of a run of the team in that folder.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from deploy.teams.incident.evals.generate import generate
from shanty_cli.inbox import answer, decide, open_requests
from shanty_cli.speak import grant, stop
from shanty_cli.waiting import Waiting
from shanty_protocol import Brief, Budget, BudgetRequested, DelegationSent, EntryAddress, ToolReturned
from shanty_runtime.archive import SUFFIX
from shanty_runtime.team import load_team
from shanty_runtime.verify import write_archive
from support.crew import Crew, crew, until
from support.golden_journals import JOURNALS, write_golden

LANES = ("0",)
INCIDENT = Path(__file__).parents[2] / "deploy" / "teams" / "incident"
INCIDENT_AGENTS = [agent.name for agent in load_team(INCIDENT).agents]
Play = Callable[[Crew, str], Awaitable[None]]


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    team: str | Path
    agents: Mapping[str, int]
    play: Play
    environment: Mapping[str, str] = {}


async def hello(running: Crew, run: str) -> None:
    await running.start(run, "go")
    await running.reply(run)


async def approvals(running: Crew, run: str) -> None:
    orders = "clerk pay 100 200, clerk pay 7, clerk pay 8, clerk ask whom?, clerk ask tell a person: whom?"
    await running.start(run, orders)
    found = {each.thread: each for each in await waiting(running, 4)}
    decisions: dict[str, Literal["allow_for_thread", "deny"]] = {"0-1": "allow_for_thread", "0-3": "deny"}
    for thread, decision in decisions.items():
        await decide(running.bus, LANES, found[thread].id, decision, message="", arguments=None, wait_s=30)
    edited = {"cents": 4}
    await decide(running.bus, LANES, found["0-2"].id, "edit", message="less", arguments=edited, wait_s=30)
    await answer(running.bus, LANES, found["0"].id, "the widow", 30)
    await running.reply(run)


async def budget(running: Crew, run: str) -> None:
    await start_with(running, run, "spender 3", Budget(tokens=4_000))
    await running.reply(run)


async def budget_raised(running: Crew, run: str) -> None:
    await start_with(running, run, "look 3", Budget(model_calls=2))

    async def asked() -> bool:
        return any(isinstance(stored.entry, BudgetRequested) for stored in await running.entries(run))

    await until(asked, 60, "the run asks for more")
    await grant(running.bus, run, Budget(model_calls=5), "go on", 30)
    await running.reply(run)


async def start_with(running: Crew, run: str, objective: str, limits: Budget) -> None:
    brief = Brief(objective=objective, budget=limits)
    order = DelegationSent(at_ms=int(time.time() * 1000), by="test", to_thread="0", brief=brief)
    await running.bus.journals.append(EntryAddress("lead", run, "request-1", "cli", 0), order)


async def fan_out(running: Crew, run: str) -> None:
    items = [{"n": n, "seconds": 0.0} for n in range(6)]
    call = {"specialist": "stamper", "objective": "stamp", "items": items, "at_most": 3, "output": "out.jsonl"}
    await running.start(run, json.dumps(call))
    await running.reply(run)


async def nested(running: Crew, run: str) -> None:
    await running.start(
        run, "foreman [gang [digger blast 0.05, digger blast 0.02, wait], digger blast 0.05, wait], wait"
    )
    await running.reply(run)


async def stopped(running: Crew, run: str) -> None:
    await running.start(run, "digger 0.3, driller 0.3, wait")

    async def at_work() -> bool:
        return len({s.address.thread for s in await running.entries(run) if isinstance(s.entry, ToolReturned)}) == 2

    await until(at_work, 60, "both are at work")
    await stop(running.bus, run, "0", "wrap_up", "it is late", 10, 30)
    await running.reply(run)


async def incident(running: Crew, run: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        generate(7, Path(folder), "expired_certificate", hours=1.5)
        await running.put(run, Path(folder))
    await running.start(run, "Find out what happened, and write it down.")
    await running.reply(run)


async def waiting(running: Crew, count: int) -> list[Waiting]:
    found: list[Waiting] = []

    async def there() -> bool:
        found[:] = await open_requests(running.bus, LANES)
        return len(found) == count

    await until(there, 60, f"{count} in the inbox")
    return found


SCENES = {
    "hello": Scene(team="hello", agents={"lead": 1, "greeter": 1, "counter": 1}, play=hello),
    "approvals": Scene(team="payers", agents={"lead": 1, "clerk": 1}, play=approvals),
    "budget": Scene(team="spenders", agents={"lead": 1, "spender": 1}, play=budget),
    "budget-raised": Scene(team="spenders", agents={"lead": 1}, play=budget_raised),
    "fan-out": Scene(team="each", agents={"lead": 1, "stamper": 1}, play=fan_out),
    "incident": Scene(team=INCIDENT, agents=dict.fromkeys(INCIDENT_AGENTS, 1), play=incident),
    "nested": Scene(team="tiers", agents={"lead": 1, "foreman": 1, "gang": 1, "digger": 1}, play=nested),
    "stopped": Scene(team="diggers", agents={"lead": 1, "digger": 1, "driller": 1}, play=stopped),
}


async def record(version: str, name: str) -> None:
    scene, run = SCENES[name], f"0-{name}"
    archive = JOURNALS / version / f"{name}{SUFFIX}"
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        environment = {"LEDGER_FILE": f"{folder}/ledger.txt", **scene.environment}
        async with crew(scene.team, Path(folder), scene.agents, environment) as running:
            await scene.play(running, run)
            archive.unlink(missing_ok=True)
            await write_archive(running.bus, run, archive)
            write_golden(archive, running.team)
    print(f"{archive}: {archive.stat().st_size} bytes")


def main(arguments: list[str]) -> None:
    version, *names = arguments
    if names[:1] == ["--take"]:
        _, name, taken, team = names
        archive = JOURNALS / version / f"{name}{SUFFIX}"
        shutil.copyfile(taken, archive)
        write_golden(archive, load_team(Path(team)))
        return
    there = {path.name.removesuffix(SUFFIX) for path in (JOURNALS / version).glob(f"*{SUFFIX}")}
    for name in names or [each for each in SCENES if each not in there]:
        asyncio.run(record(version, name))


if __name__ == "__main__":
    main(sys.argv[1:])
