"""A card is there while its replica lives, and the replica answers as a NATS service."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import msgspec
import pytest

from shanty_protocol import AgentCard
from shanty_runtime.bus import Bus, EmbeddedServer
from shanty_runtime.bus.jetstream import manage
from shanty_runtime.bus.roster import Roster
from shanty_runtime.errors import BusUnavailable
from shanty_runtime.testing import bus_settings
from support.health import ping

INTERVAL_S = 0.4


@pytest.fixture
async def other(bus: Bus, server: EmbeddedServer) -> AsyncIterator[Bus]:
    async with Bus(bus_settings(server)) as connected:
        connected.roster.interval_s = INTERVAL_S
        yield connected


def card(agent: str = "alpha", replica: str = "one") -> AgentCard:
    return AgentCard(agent=agent, replica=replica, role="specialist", description="reads logs", team="t")


async def gone(roster: Roster, deadline_s: float = 10.0) -> None:
    async with asyncio.timeout(deadline_s):
        while True:
            if not await roster.cards():
                return
            await asyncio.sleep(0.05)


async def test_cards_appear_change_and_are_withdrawn(bus: Bus, other: Bus) -> None:
    assert await bus.roster.cards() == ()
    await other.roster.announce(card("beta", "two"))
    await bus.roster.announce(card("alpha", "host.name:1"))
    assert await bus.roster.cards() == (card("alpha", "host.name:1"), card("beta", "two"))
    busy = msgspec.structs.replace(card("beta", "two"), threads_active=3)
    await other.roster.update(busy)
    assert await bus.roster.cards() == (card("alpha", "host.name:1"), busy)
    await bus.roster.withdraw()
    await bus.roster.withdraw()
    assert await bus.roster.cards() == (busy,)


async def test_a_card_that_finds_no_room_is_shown_once_there_is(
    bus: Bus, other: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config = (await manage(bus.connection, "STREAM.INFO.KV_SHANTY_ROSTER"))["config"]
    await manage(bus.connection, "STREAM.UPDATE.KV_SHANTY_ROSTER", {**config, "max_bytes": 10})
    await other.roster.announce(card())
    await asyncio.sleep(INTERVAL_S * 4)
    assert await bus.roster.cards() == ()
    assert len([record for record in caplog.records if "the card of alpha is not" in record.getMessage()]) == 2
    await manage(bus.connection, "STREAM.UPDATE.KV_SHANTY_ROSTER", config)
    async with asyncio.timeout(10):
        while await bus.roster.cards() != (card(),):  # noqa: ASYNC110  # no event tells that a card is there
            await asyncio.sleep(0.05)


async def test_a_card_outlives_its_time_while_its_replica_lives_and_no_longer(bus: Bus, other: Bus) -> None:
    await other.roster.announce(card())
    await asyncio.sleep(INTERVAL_S * 6)
    assert await bus.roster.cards() == (card(),)
    await other.stop()
    await gone(bus.roster)


async def test_a_card_is_shown_again_after_a_restart_of_the_server(
    bus: Bus, other: Bus, server: EmbeddedServer
) -> None:
    await other.roster.announce(card())
    await server.restart()
    await asyncio.sleep(INTERVAL_S * 6)
    assert await bus.roster.cards() == (card(),)


async def test_each_replica_answers_a_ping_of_its_agent_until_it_is_withdrawn(bus: Bus, other: Bus) -> None:
    with pytest.raises(BusUnavailable, match="nobody answers"):
        await bus.connection.request("$SRV.PING.alpha")
    await bus.roster.announce(card(replica="one"))
    await other.roster.announce(card(replica="two"))
    pinged = await ping(bus, "alpha", 2)
    assert sorted(pinged) == ["one", "two"]
    await other.roster.withdraw()
    with pytest.raises(BusUnavailable, match="nobody answers"):
        await bus.connection.request(f"$SRV.PING.alpha.{pinged['two']}")
    assert await ping(bus, "alpha", 1) == {"one": pinged["one"]}


async def test_a_replica_is_a_nats_service_of_its_agents_name(bus: Bus, other: Bus) -> None:
    await bus.roster.announce(card())
    info = json.loads((await other.connection.request("$SRV.INFO.alpha")).data)
    assert info["type"] == "io.nats.micro.v1.info_response"
    assert info["name"] == "alpha"
    assert info["description"] == "reads logs"
    assert info["metadata"] == {"role": "specialist", "team": "t", "replica": "one", "protocol_version": "1"}
    for subject in ("$SRV.PING", "$SRV.STATS.alpha", f"$SRV.PING.alpha.{info['id']}"):
        assert json.loads((await other.connection.request(subject)).data)["id"] == info["id"]
