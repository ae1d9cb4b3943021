from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.audit import audit
from support.crew import Crew, crew

SEEDS = [pytest.param(range(8), id="8 seeds"), pytest.param(range(8, 30), id="22 more", marks=pytest.mark.slow)]
AGENTS = ("lead", "clerk", "counter")
RUN_S = 1.2
"""About as long as a run takes when nothing is killed: kills fall anywhere in it."""


@pytest.fixture
async def ledger_crew(tmp_path: Path) -> AsyncIterator[Crew]:
    environment = {
        "LEDGER_FILE": str(tmp_path / "ledger.txt"),
        "MODEL_CALLS_FILE": str(tmp_path / "model-calls.txt"),
        "SHANTY_REHEARSAL_PACE_S": "0.05",
    }
    async with crew("ledger", tmp_path, {"lead": 2, "clerk": 2, "counter": 2}, environment) as running:
        yield running


async def run_to_the_end(running: Crew, run: str) -> None:
    await running.start(run, objective=run)
    outcome = await running.reply(run)
    await audit(running, run, outcome, running.folder / "ledger.txt", running.folder / "model-calls.txt")


@pytest.mark.timeout(400)
@pytest.mark.parametrize("seeds", SEEDS)
async def test_whoever_is_killed_and_whenever_every_effect_happens_once_and_nothing_finished_is_redone(
    ledger_crew: Crew, seeds: range
) -> None:
    for seed in seeds:
        chance = random.Random(seed)
        kills = [asyncio.create_task(ledger_crew.kill_one(chance, RUN_S, agent)) for agent in AGENTS]
        await run_to_the_end(ledger_crew, f"0-seed-{seed}")
        await asyncio.gather(*kills)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("seeds", SEEDS)
async def test_a_nats_server_killed_at_any_instant_and_restarted_on_its_store_loses_and_repeats_nothing(
    ledger_crew: Crew, seeds: range
) -> None:
    async def kill_server(chance: random.Random) -> None:
        await asyncio.sleep(chance.uniform(0, RUN_S))
        await ledger_crew.server.kill9()
        await ledger_crew.server.start()

    for seed in seeds:
        killing = asyncio.create_task(kill_server(random.Random(seed)))
        await run_to_the_end(ledger_crew, f"0-seed-{seed}")
        await killing
