"""What waits for an agent is seen by whoever watches, whether the agent has a process or not."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from shanty_protocol import Brief, DelegationSent, EntryAddress
from shanty_runtime.bus import Bus, BusSettings, EmbeddedServer, Lease, queues
from shanty_runtime.bus.jetstream import manage
from shanty_runtime.telemetry import metrics, names
from shanty_runtime.testing import nats_bus, nats_server, until
from support import metered

PASSWORD = "watching"
ACCOUNT = f"""
authorization {{
  users: [
    {{user: installer, password: {PASSWORD}}}
    {{user: blind, password: {PASSWORD}, permissions: {{publish: {{deny: "$JS.API.CONSUMER.INFO.>"}}}}}}
  ]
}}
"""


@pytest.fixture(autouse=True)
def metered_process() -> Iterator[None]:
    metered.begin()
    yield


@contextlib.asynccontextmanager
async def watching(bus: Bus, agent: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr(queues, "INTERVAL_S", 0.05)
    watch = asyncio.create_task(queues.watch_queues(bus, ["0"], ["never-installed", agent]))
    try:
        yield
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)


async def delegate(bus: Bus, agent: str, number: int) -> None:
    address = EntryAddress(agent, "0-run", "0", "lead", number)
    entry = DelegationSent(at_ms=int(time.time() * 1000), to_thread=f"0-{number + 1}", brief=Brief(objective="go"))
    await bus.journals.append(address, entry)


def depth(agent: str, queue: str = "mail") -> dict[tuple[str, ...], float]:
    return metered.values(names.QUEUE_MESSAGES, gen_ai_agent_name=agent, shanty_lane="0", shanty_queue=queue)


def age_s(agent: str) -> float | None:
    return metered.values(names.QUEUE_OLDEST_AGE, gen_ai_agent_name=agent, shanty_lane="0").get(())


async def test_depth_and_age_of_an_agent_that_has_no_process(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with nats_bus(server, agents=("nobody",)) as bus, watching(bus, "nobody", monkeypatch):
        await until(lambda: depth("nobody") == {("pending",): 0, ("in_hand",): 0})
        await until(lambda: depth("nobody", "timers") == {("pending",): 0, ("in_hand",): 0})
        assert age_s("nobody") == 0
        began_s = time.monotonic()
        for number in range(3):
            await delegate(bus, "nobody", number)
        await until(lambda: depth("nobody") == {("pending",): 3, ("in_hand",): 0})
        await until(lambda: (age_s("nobody") or 0) > 0.5)
        assert (age_s("nobody") or 0) <= time.monotonic() - began_s


async def test_what_somebody_has_in_hand_waits_no_more_and_the_next_one_counts(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with nats_bus(server, agents=("slow",)) as bus, watching(bus, "slow", monkeypatch):
        await delegate(bus, "slow", 0)
        await until(lambda: (age_s("slow") or 0) > 1)
        pull = await bus.pull("0", "slow", "mail", 1)
        delivery = await pull.next()
        await delegate(bus, "slow", 1)
        await until(lambda: depth("slow") == {("pending",): 1, ("in_hand",): 1})
        await until(lambda: 0 < (age_s("slow") or 0) < 1)
        await pull.close()
        await delivery.ack()
        await until(lambda: depth("slow") == {("pending",): 1, ("in_hand",): 0})


async def test_how_full_each_stream_of_a_lane_is(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with nats_bus(server, agents=("filler",)) as bus, watching(bus, "filler", monkeypatch):
        await until(lambda: metered.values(names.STREAM_USED).get(("SHANTY_FILES_0",)) == 0)
        await delegate(bus, "filler", 0)
        told = await manage(bus.connection, "STREAM.INFO.SHANTY_0")
        half = {**told["config"], "max_bytes": 2 * told["state"]["bytes"]}
        await manage(bus.connection, "STREAM.UPDATE.SHANTY_0", half)
        await until(lambda: metered.values(names.STREAM_USED).get(("SHANTY_0",)) == 0.5)
        assert metered.values(names.STREAM_USED).keys() >= {("SHANTY_0",), ("SHANTY_FILES_0",), ("SHANTY_TIMERS_0",)}


async def test_figures_vanish_while_the_bus_is_away_and_come_back_with_it(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "STALE_S", 0.5)
    async with nats_bus(server, agents=("cut-off",)) as bus, watching(bus, "cut-off", monkeypatch):
        await until(lambda: depth("cut-off") != {})
        await server.kill9()
        await until(lambda: depth("cut-off") == {} and age_s("cut-off") is None)
        await server.start()
        await until(lambda: depth("cut-off") == {("pending",): 0, ("in_hand",): 0})


async def test_an_account_that_may_not_look_is_told_once_and_does_not_ask_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with nats_server(extra=ACCOUNT) as server:
        settings = BusSettings(url=server.url, user="blind", password=PASSWORD)
        async with Bus(settings) as bus:
            await asyncio.wait_for(queues.watch_queues(bus, ["0"], ["anybody"]), 15)
    assert [record.getMessage() for record in caplog.records if "not measured" in record.getMessage()] != []
    assert depth("anybody") == {}


async def test_a_connection_says_whether_it_is_there_and_how_often_it_came_back(server: EmbeddedServer) -> None:
    async with nats_bus(server):
        assert metered.values(names.BUS_CONNECTED) == {(): 1}
        before = metered.values(names.BUS_RECONNECTS)[()]
        await server.kill9()
        await until(lambda: metered.values(names.BUS_CONNECTED) == {(): 0})
        await server.start()
        await until(lambda: metered.values(names.BUS_CONNECTED) == {(): 1})
        assert metered.values(names.BUS_RECONNECTS) == {(): before + 1}


async def test_a_lease_that_somebody_else_took_is_counted_as_lost(server: EmbeddedServer) -> None:
    async with nats_bus(server) as bus, nats_bus(server) as other:
        lease = await bus.leases.take("loser.0-run.0", "one")
        assert isinstance(lease, Lease)
        await manage(bus.connection, "STREAM.PURGE.KV_SHANTY_LEASE")
        assert isinstance(await other.leases.take("loser.0-run.0", "two"), Lease)
        await asyncio.wait_for(lease.lost.wait(), 15)
        assert metered.values(names.LEASES_LOST, gen_ai_agent_name="loser") == {(): 1}
