"""What waits for JetStream to have a leader goes on when the servers say that there is one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from shanty_protocol import EntryAddress, MessageSent
from shanty_protocol.zones import Access, zones_of
from shanty_runtime.bus import Bus, BusSettings, Lease, create_layout, pull
from shanty_runtime.bus import connection as connections
from shanty_runtime.bus.backoff import Backoff
from shanty_runtime.bus.elections import Elections
from shanty_runtime.errors import BusUnavailable
from shanty_runtime.testing import EmbeddedCluster, nats_bus, nats_server, until
from support.zones import Logins

ADVISORY = "$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.SHANTY_0"
LONG_S = 3_600.0


def wait_for_elections_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for anything else waits for longer than the test lasts."""
    monkeypatch.setattr(Backoff, "next_s", lambda backoff: LONG_S)


async def writes(bus: Bus, author: str) -> bool:
    address = EntryAddress("lead", "0-crew", "0", author, 0)
    said = MessageSent(at_ms=1, by=f"{author}-1", to_thread="0", purpose="progress", text="there")
    return (await bus.journals.append(address, said)).ours


async def write_over_an_election(cluster: EmbeddedCluster, overseer: Bus, writer: Bus) -> bool:
    leader = await cluster.leader_of(overseer, "SHANTY_0")
    await leader.kill9()
    return await writes(writer, "logs")


async def test_a_write_goes_on_when_three_servers_have_elected_another_leader(
    cluster: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with nats_bus(cluster, num_replicas=3) as bus:
        wait_for_elections_alone(monkeypatch)
        assert await write_over_an_election(cluster, bus, bus)


async def test_mail_that_is_put_back_without_a_leader_comes_again_when_there_is_one(
    cluster: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with nats_bus(cluster, num_replicas=3, ack_wait_s=LONG_S) as bus:
        mail = await bus.pull("0", "alpha", "mail", 1)
        address = EntryAddress("alpha", "0-crew", "0", "lead", 0)
        said = MessageSent(at_ms=1, by="lead-1", to_thread="0", purpose="progress", text="there")
        await bus.journals.append(address, said)
        delivery = await mail.next()
        wait_for_elections_alone(monkeypatch)
        await (await cluster.leader_of(bus, mail.stream, mail.consumer)).kill9()
        await delivery.nak()
        assert (await mail.next()).delivered == 2


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[tuple[EmbeddedCluster, Bus, Bus]]:
    """Three servers with trust zones: the installer, and a specialist that has an account of its own."""
    logins = Logins(zones_of("crew", "lead", {"logs": Access()}), tmp_path / "auth")
    cluster = EmbeddedCluster(tmp_path / "nats")
    for server in cluster.servers:
        server.extra += "\n" + logins.configuration()
    async with AsyncExitStack() as stack:
        for server in cluster.servers:
            await server.start()
            stack.push_async_callback(server.stop)
        installer = await stack.enter_async_context(logins.bus(cluster.url, "installer"))
        await until_laid_out(installer)
        yield cluster, installer, await stack.enter_async_context(logins.bus(cluster.url, "logs"))


async def until_laid_out(installer: Bus) -> None:
    async with asyncio.timeout(30):
        await installer.connection.persist(
            "making the streams", lambda: create_layout(installer, agents=["lead", "logs"], num_replicas=3)
        )


async def test_so_does_an_agent_in_an_account_of_its_own(
    guarded: tuple[EmbeddedCluster, Bus, Bus], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, installer, specialist = guarded
    wait_for_elections_alone(monkeypatch)
    assert await write_over_an_election(cluster, installer, specialist)


async def test_an_account_that_may_not_hear_of_elections_works_without_complaint(
    caplog: pytest.LogCaptureFixture,
) -> None:
    users = 'authorization { users: [{ user: a, password: b, permissions: { subscribe: ["_INBOX.>"] } }] }'
    async with nats_server(extra=users) as server, Bus(BusSettings(url=server.url, user="a", password="b")) as bus:
        await bus.connection.request("$JS.API.INFO")
    assert not [record for record in caplog.records if "may not hear" in record.getMessage()]


async def test_what_was_asked_of_the_leader_before_is_not_waited_for(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "LEADERLESS_S", 0.0)
    asked = asyncio.Event()
    await bus.connection.listen("gone", lambda _: asked.set())
    asking = asyncio.create_task(bus.connection.request("gone", timeout_s=LONG_S))
    await asked.wait()
    await bus.connection.publish(ADVISORY)
    with pytest.raises(BusUnavailable, match="no answer on gone"):
        await asking


async def test_what_was_asked_just_now_is_still_waited_for(bus: Bus) -> None:
    asked = asyncio.Event()
    await bus.connection.listen("there", lambda _: asked.set())
    asking = asyncio.create_task(bus.connection.request("there", timeout_s=LONG_S))
    await asked.wait()
    told = asyncio.Event()
    bus.connection.elections.on_elected.append(told.set)
    await bus.connection.publish(ADVISORY)
    await told.wait()
    assert not asking.done()
    asking.cancel()


async def test_a_pull_that_has_not_heard_of_its_leader_asks_the_next_one(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "MISSED_S", 0.0)
    requests: list[object] = []
    await bus.connection.listen("$JS.API.CONSUMER.MSG.NEXT.>", requests.append)
    await bus.pull("0", "alpha", "mail", 4)
    await until(lambda: len(requests) == 1)
    await bus.connection.publish(ADVISORY)
    await until(lambda: len(requests) == 2)


async def test_leases_are_renewed_at_once(bus: Bus) -> None:
    lease = await bus.leases.take("alpha.0-run.0", "alpha-1")
    assert isinstance(lease, Lease)
    bus.leases.lease_s = int(LONG_S)  # not before the test is over by itself
    await bus.connection.publish(ADVISORY)
    await until(lambda: lease.revision > lease.fence)


async def test_many_elections_at_once_wake_whoever_waits_once(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_elections_alone(monkeypatch)
    elections, woken = Elections(), 0

    def count() -> None:
        nonlocal woken
        woken += 1

    elections.on_elected.append(count)
    await bus.connection.listen(ADVISORY, elections.hear)
    waiting = asyncio.create_task(elections.pause(Backoff()))
    for _ in range(50):
        await bus.connection.publish(ADVISORY)
    await waiting
    assert woken == 1


async def test_after_an_election_it_is_tried_often_again(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_elections_alone(monkeypatch)
    elections, backoff = Elections(), Backoff()
    backoff.tries = 9
    waiting = asyncio.create_task(elections.pause(backoff))
    await asyncio.sleep(0)
    elections._tell()
    await waiting
    assert backoff.tries == 0
