"""The bus is sick: it is full, it does not answer, its watchers do not read. Work waits, says why, and goes on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shanty_runtime.bus import Bus
from shanty_runtime.bus.jetstream import manage, publish
from shanty_runtime.bus.removal import remove_run
from shanty_runtime.errors import BusFull
from support.audit import audit
from support.commands import Shanty
from support.crew import Crew, Replica, crew, until
from support.health import get
from support.scrape import http_port, log_lines, scrape, total

RUNS = [f"0-r{number}" for number in range(4)]
OLD_RUN = "0-old"
WAITS_S = 3.0
"""How long the bus stays full: several leases."""
MOST_LINES = 25
"""What a service may say meanwhile, with four runs in hand."""


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Crew]:
    environment = {
        "LEDGER_FILE": str(tmp_path / "ledger.txt"),
        "MODEL_CALLS_FILE": str(tmp_path / "model-calls.txt"),
        "SHANTY_REHEARSAL_PACE_S": "0.05",
    }
    async with crew("ledger", tmp_path, {"lead": 1, "clerk": 1, "counter": 1}, environment) as running:
        yield running


async def fill_stream(running: Crew) -> None:
    """Not one more byte fits."""
    for n in range(4):
        await publish(running.bus.connection, f"shanty.0.log.{OLD_RUN}.0.lead.{n}", os.urandom(100_000), {})
    told = await manage(running.bus.connection, "STREAM.INFO.SHANTY_0")
    await limit(running.bus, told["config"], told["state"]["bytes"] + 1)


async def limit(bus: Bus, config: dict[str, Any], max_bytes: int) -> None:
    await manage(bus.connection, "STREAM.UPDATE.SHANTY_0", {**config, "max_bytes": max_bytes})


async def raise_the_limit(running: Crew) -> None:
    told = await manage(running.bus.connection, "STREAM.INFO.SHANTY_0")
    await limit(running.bus, told["config"], 2**30)


async def take_an_old_run_away(running: Crew) -> None:
    await remove_run(running.bus, OLD_RUN)


async def fill_server(running: Crew) -> None:
    """A stream of somebody else has all the space the server may use."""
    stream = {"name": "OTHER", "subjects": ["other.>"], "storage": "file", "discard": "new"}
    await manage(running.bus.connection, "STREAM.CREATE.OTHER", stream)
    await publish(running.bus.connection, "other.first", os.urandom(500_000), {})
    running.server.max_file = "800000"
    await running.server.restart()
    with pytest.raises(BusFull):
        for n in range(1_000):
            await publish(running.bus.connection, f"other.{n}", os.urandom(10_000), {}, timeout_s=20)
    for n in range(1_000, 2_000):
        try:
            await publish(running.bus.connection, f"other.{n}", b"", {})
        except BusFull:
            return


async def take_the_stream_away(running: Crew) -> None:
    await manage(running.bus.connection, "STREAM.DELETE.OTHER")


async def waiting(replica: Replica) -> bool:
    return total(await scrape(replica), "shanty_bus_waiting", shanty_cause="full") > 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("fill", "make_room"),
    [
        pytest.param(fill_stream, raise_the_limit, id="a stream, until its limit is raised"),
        pytest.param(fill_stream, take_an_old_run_away, id="a stream, until an old run is taken away"),
        pytest.param(fill_server, take_the_stream_away, id="the server"),
    ],
)
async def test_work_waits_while_the_bus_is_full_and_goes_on_by_itself(
    ledger: Crew, tmp_path: Path, fill: Any, make_room: Any
) -> None:
    for run in RUNS:
        await ledger.start(run, objective=run)
    async for stored in ledger.bus.feed.follow(RUNS[0]):
        if stored.address.agent == "clerk":
            break
    await fill(ledger)

    async def somebody_waits() -> bool:
        return any([await waiting(replica) for replica in ledger.replicas])

    await until(somebody_waits, 60, "a service says that it waits")
    said_before = {replica.name: len(log_lines(replica)) for replica in ledger.replicas}
    ledger_before = (tmp_path / "ledger.txt").read_text()
    await asyncio.sleep(WAITS_S)
    for replica in ledger.replicas:
        assert replica.process.poll() is None, "it would have to be started again"
        assert get(await http_port(replica), "/healthz/ready")[0] == 200
        assert len(log_lines(replica)) - said_before[replica.name] <= MOST_LINES
        told = [line for line in log_lines(replica) if "work waits for the bus" in line["message"]]
        assert len(told) <= 1
        assert all("there is no space" in line["message"] for line in told)
    assert (tmp_path / "ledger.txt").read_text().startswith(ledger_before)
    if fill is fill_stream:
        await the_tools_say_why(ledger, tmp_path)
    await make_room(ledger)
    for run in RUNS:
        outcome = await ledger.reply(run, within_s=120)
        await audit(ledger, run, outcome, tmp_path / "ledger.txt", tmp_path / "model-calls.txt")
    for replica in ledger.replicas:
        assert not await waiting(replica)


async def the_tools_say_why(running: Crew, folder: Path) -> None:
    async def on_a_card() -> bool:
        return any("there is no space" in card.waits_for for card in await running.bus.roster.cards())

    await until(on_a_card, 30, "the card of a service says why it waits")
    shanty = Shanty(folder)
    where = ("--nats-url", running.server.url, "-o", "json")
    lines = (await asyncio.to_thread(shanty, "specialists", *where)).json
    assert any("maximum bytes exceeded" in line["waits_for"] for line in lines)
    done = await asyncio.to_thread(shanty, "doctor", *where, SHANTY_NATS_MONITOR_URL=running.server.monitor_url)
    checks = {check["name"]: check for check in done.json}
    assert done.code == 1
    assert checks["space"]["state"] == "bad" and "SHANTY_0 is 100% full" in checks["space"]["found"]
    assert "shanty init-bus --max-bytes" in checks["space"]["mend"]
    assert checks["waiting work"]["state"] == "bad"
    assert checks["server health"]["state"] == "ok"
