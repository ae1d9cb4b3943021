"""The installer makes the layout and can be run again; a service that finds another one says what differs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from shanty_runtime.bus import Bus, EmbeddedServer, check_layout, create_layout
from shanty_runtime.bus.jetstream import manage
from shanty_runtime.errors import LayoutDrift
from shanty_runtime.testing import EmbeddedCluster, bus_settings

AGENTS = ("lead", "alpha")


@pytest.fixture
async def bare(server: EmbeddedServer) -> AsyncIterator[Bus]:
    """Connected to a server that has nothing yet."""
    async with Bus(bus_settings(server)) as bus:
        yield bus


async def test_the_layout_is_created_once(bare: Bus) -> None:
    changes = await create_layout(bare, lanes=("0", "1"), agents=AGENTS)
    assert {change.action for change in changes} == {"created"}
    assert {change.name for change in changes} == {
        *("SHANTY_0", "SHANTY_TIMERS_0", "SHANTY_FILES_0", "SHANTY_1", "SHANTY_TIMERS_1", "SHANTY_FILES_1"),
        *("SHANTY_MEMORY", "KV_SHANTY_LEASE", "KV_SHANTY_ROSTER"),
        *(
            f"{stream}_{lane}/{kind}-{agent}"
            for lane in "01"
            for agent in AGENTS
            for stream, kind in (("SHANTY", "mail"), ("SHANTY_TIMERS", "timers"))
        ),
    }
    assert await create_layout(bare, lanes=("0", "1"), agents=AGENTS) == ()
    await check_layout(bare, ("0", "1"), AGENTS)


async def test_an_agent_can_be_added_and_limits_can_be_raised(bare: Bus) -> None:
    await create_layout(bare, agents=AGENTS, max_bytes=10**8)
    changes = await create_layout(bare, agents=(*AGENTS, "beta"), max_bytes=2 * 10**8, ack_wait_s=30)
    assert [(change.name, change.action) for change in changes] == [
        ("SHANTY_0", "updated"),
        ("SHANTY_TIMERS_0", "updated"),
        ("SHANTY_FILES_0", "updated"),
        ("SHANTY_MEMORY", "updated"),
        ("SHANTY_0/mail-lead", "updated"),
        ("SHANTY_TIMERS_0/timers-lead", "updated"),
        ("SHANTY_0/mail-alpha", "updated"),
        ("SHANTY_TIMERS_0/timers-alpha", "updated"),
        ("SHANTY_0/mail-beta", "created"),
        ("SHANTY_TIMERS_0/timers-beta", "created"),
    ]
    assert changes[0].differences == ("max_bytes is 100000000, not 200000000",)


async def test_what_operators_chose_is_left_alone_unless_it_is_named(bare: Bus) -> None:
    await create_layout(bare, agents=AGENTS, max_bytes=10**8, ack_wait_s=60)
    assert await create_layout(bare, agents=AGENTS) == ()
    (change, *_) = await create_layout(bare, agents=AGENTS, max_bytes=2 * 10**8)
    assert change.differences == ("max_bytes is 100000000, not 200000000",)


async def test_what_operators_choose_is_not_drift(bare: Bus) -> None:
    await create_layout(bare, agents=AGENTS, max_bytes=10**8, ack_wait_s=60)
    await check_layout(bare, ("0",), AGENTS)


async def test_a_server_without_a_layout_is_named_as_such(bare: Bus) -> None:
    with pytest.raises(LayoutDrift, match=r"SHANTY_0: it is missing;.*SHANTY_0/mail-lead: it is missing.*init-bus"):
        await check_layout(bare, ("0",), ("lead",))


async def test_every_difference_is_named_and_mended_by_the_installer(bare: Bus) -> None:
    await create_layout(bare, agents=AGENTS)
    config = (await manage(bare.connection, "STREAM.INFO.SHANTY_0"))["config"]
    changed = {**config, "discard": "old", "discard_new_per_subject": False, "max_msgs_per_subject": 2}
    del changed["republish"]
    await manage(bare.connection, "STREAM.UPDATE.SHANTY_0", changed)
    await manage(bare.connection, "CONSUMER.DELETE.SHANTY_TIMERS_0.timers-alpha")
    with pytest.raises(LayoutDrift) as drift:
        await check_layout(bare, ("0",), AGENTS)
    assert set(drift.value.differences) == {
        'SHANTY_0: discard is "old", not "new"',
        "SHANTY_0: discard_new_per_subject is false, not true",
        "SHANTY_0: max_msgs_per_subject is 2, not 1",
        'SHANTY_0: republish is not set, not {"src":"shanty.0.>","dest":"shanty.feed.0.>"}',
        "SHANTY_TIMERS_0/timers-alpha: it is missing",
    }
    changes = await create_layout(bare, agents=AGENTS)
    assert [(change.name, change.action) for change in changes] == [
        ("SHANTY_0", "updated"),
        ("SHANTY_TIMERS_0/timers-alpha", "created"),
    ]
    await check_layout(bare, ("0",), AGENTS)


async def test_what_the_server_will_not_change_is_drift_with_its_reason(bare: Bus) -> None:
    request = {"name": "SHANTY_0", "subjects": ["shanty.0.>"], "storage": "memory", "retention": "limits"}
    await manage(bare.connection, "STREAM.CREATE.SHANTY_0", request)
    with pytest.raises(LayoutDrift, match=r'SHANTY_0.*storage is "memory", not "file".*the server says:'):
        await create_layout(bare, agents=AGENTS)


async def test_three_nodes_have_the_layout_too(cluster: EmbeddedCluster) -> None:
    async with Bus(bus_settings(cluster)) as bus:
        await create_layout(bus, agents=AGENTS, num_replicas=3, max_bytes=10**8)
        await check_layout(bus, ("0",), AGENTS)
        info = await manage(bus.connection, "STREAM.INFO.SHANTY_0")
        assert info["config"]["num_replicas"] == 3
        assert len(info["cluster"]["replicas"]) == 2
