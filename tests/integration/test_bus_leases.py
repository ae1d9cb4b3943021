"""One worker has a thread at a time, knows when it cannot be sure of that, and the next learns what became of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shanty_runtime.bus import Bus, Busy, EmbeddedServer, Lease
from shanty_runtime.bus.jetstream import manage
from shanty_runtime.bus.leases import MOST_PROOFS, RECENT_S
from shanty_runtime.bus.wire import Incoming
from shanty_runtime.errors import BusUnavailable
from shanty_runtime.testing import SHORT_LEASE_S, bus_settings, until

KEY = "alpha.0-run.0-1"


@pytest.fixture
async def other(bus: Bus, server: EmbeddedServer) -> AsyncIterator[Bus]:
    async with Bus(bus_settings(server)) as connected:
        yield connected


async def take(bus: Bus, holder: str = "me") -> Lease:
    lease = await bus.leases.take(KEY, holder)
    assert isinstance(lease, Lease)
    return lease


async def take_once_it_is_free(bus: Bus, holder: str) -> Lease:
    async with asyncio.timeout(SHORT_LEASE_S * 4):
        while True:
            lease = await bus.leases.take(KEY, holder)
            if isinstance(lease, Lease):
                return lease
            await asyncio.sleep(0.05)


async def test_a_thread_is_taken_once_and_whoever_comes_second_learns_by_whom(bus: Bus, other: Bus) -> None:
    lease = await take(bus)
    assert lease.held() and not lease.abandoned
    assert await other.leases.take(KEY, "you") == Busy("me")
    assert isinstance(await other.leases.take("alpha.0-run.0-2", "you"), Lease)


async def test_a_thread_that_was_given_back_is_free_at_once_with_a_larger_fence(bus: Bus, other: Bus) -> None:
    first = await take(bus)
    await first.release()
    assert not first.held()
    second = await take(other, "you")
    await second.release()
    third = await take(bus)
    assert first.fence < second.fence < third.fence
    assert not second.abandoned and not third.abandoned


async def test_a_lease_that_is_given_back_while_it_is_renewed_is_free(bus: Bus, other: Bus) -> None:
    for steps_later in range(12):
        lease = await take(bus)
        bus.leases._at_once.set()
        for _ in range(steps_later):
            await asyncio.sleep(0)
        await lease.release()
        await (await take(other, "you")).release()


async def test_a_lease_is_kept_for_as_long_as_its_holder_lives(bus: Bus, other: Bus) -> None:
    lease = await take(bus)
    until_s = time.monotonic() + SHORT_LEASE_S * 1.5
    while time.monotonic() < until_s:
        assert lease.held()
        assert isinstance(await other.leases.take(KEY, "you"), Busy)
        await asyncio.sleep(0.1)


async def test_a_lease_that_is_abandoned_runs_out_and_the_next_holder_is_told(bus: Bus, other: Bus) -> None:
    first = await take(bus)
    first.abandon()
    assert not first.held()
    second = await take_once_it_is_free(other, "you")
    assert second.abandoned
    assert second.fence > first.fence
    second.noted = True
    await second.release()
    assert not (await take(bus)).abandoned


async def test_every_holder_is_told_of_one_that_vanished_until_that_is_noted(bus: Bus, other: Bus) -> None:
    (await take(bus)).abandon()
    await (await take_once_it_is_free(other, "you")).release()
    second = await take(bus)
    assert second.abandoned
    second.noted = True
    await second.release()
    third = await take(bus)
    assert not third.abandoned and third.traced


async def test_the_next_holder_is_told_how_long_the_journal_is(bus: Bus, other: Bus) -> None:
    first = await take(bus)
    assert first.journal_length == 0
    first.traced = True  # as by whoever has written to it
    await first.release(7)
    second = await take(other, "you")
    assert second.traced and second.journal_length == 7
    await second.release(5)  # a server that lags has shown no more
    assert (await take(other, "you")).journal_length == 7


async def test_a_holder_that_cannot_tell_how_long_the_journal_is_is_like_none(bus: Bus, other: Bus) -> None:
    first = await take(bus)
    assert not first.traced
    await first.release(7)
    second = await take(other, "you")
    assert not second.traced and second.journal_length == 0


async def test_a_worker_that_was_stalled_knows_at_once_that_it_may_not_act(bus: Bus, server: EmbeddedServer) -> None:
    lease = await take(bus)
    time.sleep(SHORT_LEASE_S * 1.5)  # noqa: ASYNC251  # the stall: nothing of this process runs
    assert not lease.held()
    async with Bus(bus_settings(server)) as other:
        taken_over = await take_once_it_is_free(other, "you")
        assert taken_over.abandoned
        await asyncio.wait_for(lease.lost.wait(), 10)
        assert not lease.held()
        await lease.release()
        assert taken_over.held()
        assert isinstance(await bus.leases.take(KEY, "me"), Busy)


async def test_a_holder_that_cannot_reach_the_server_is_not_sure_until_it_can(
    bus: Bus, server: EmbeddedServer
) -> None:
    lease = await take(bus)
    server.freeze()
    await until(lambda: not lease.held())
    assert not lease.lost.is_set()
    server.thaw()
    # Either the server kept the key while it stood still, and it is ours; or it let it run out, and we are told.
    await until(lambda: lease.held() != lease.lost.is_set())


async def test_a_lease_outlives_a_restart_of_the_server(bus: Bus, other: Bus, server: EmbeddedServer) -> None:
    lease = await take(bus)
    await server.restart()
    await asyncio.sleep(SHORT_LEASE_S * 1.5)
    assert not lease.lost.is_set()
    assert await other.leases.take(KEY, "you") == Busy("me")


async def test_a_key_the_server_forgot_is_taken_anew_by_its_holder(bus: Bus, other: Bus) -> None:
    lease = await take(bus)
    await manage(bus.connection, "STREAM.PURGE.KV_SHANTY_LEASE")
    await asyncio.sleep(SHORT_LEASE_S * 1.5)
    assert lease.held()
    assert await other.leases.take(KEY, "you") == Busy("me")


async def test_a_key_the_server_forgot_and_another_took_is_lost(bus: Bus, other: Bus) -> None:
    lease = await take(bus)
    await manage(bus.connection, "STREAM.PURGE.KV_SHANTY_LEASE")
    taken = await take(other, "you")
    await asyncio.wait_for(lease.lost.wait(), 10)
    assert not lease.held()
    assert taken.held()


async def test_whoever_has_heard_nothing_for_a_while_learns_that_the_server_forgot_and_another_took(
    bus: Bus, other: Bus
) -> None:
    lease = await take(bus)
    await manage(bus.connection, "STREAM.PURGE.KV_SHANTY_LEASE")
    await take(other, "you")
    lease.proven_s -= RECENT_S
    await lease.confirm()
    assert not lease.held()


async def test_a_server_that_is_slow_each_time_is_asked_a_few_times_and_then_believed(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = await take(bus)
    monkeypatch.setattr("shanty_runtime.bus.leases.RECENT_S", 0.0)
    before = lease.revision
    await lease.confirm()
    assert lease.held()
    assert lease.revision >= before + MOST_PROOFS


async def test_a_lease_that_is_given_back_while_an_entry_is_on_its_way_is_taken_over(bus: Bus, other: Bus) -> None:
    first = await take(bus)
    first.traced = True  # as by whoever has written to it
    await first.release(3, unsettled=True)
    for each in (bus, other):
        lease = await take(each)
        assert (lease.abandoned, lease.noted, lease.journal_length) == (True, False, 3)
        await lease.release(3)


async def test_a_server_that_forgot_a_lease_and_counts_anew_keeps_it_for_whoever_has_taken_it_since(
    bus: Bus, other: Bus, server: EmbeddedServer
) -> None:
    lease = await take(bus)
    config = (await manage(bus.connection, "STREAM.INFO.KV_SHANTY_LEASE"))["config"]
    await manage(bus.connection, "STREAM.DELETE.KV_SHANTY_LEASE")
    await manage(bus.connection, "STREAM.CREATE.KV_SHANTY_LEASE", config)
    taken = await take(other, "you")
    assert taken.revision == lease.revision
    await server.restart()
    await asyncio.wait_for(lease.lost.wait(), 10)
    await taken.confirm()
    assert taken.held()


async def test_a_lease_that_was_taken_while_its_ack_got_lost_is_known_for_our_own(
    bus: Bus, server: EmbeddedServer
) -> None:
    server.freeze()
    taking = asyncio.create_task(bus.leases.take(KEY, "me"))
    await asyncio.wait({taking}, timeout=SHORT_LEASE_S / 2)
    server.thaw()
    lease = await taking
    assert isinstance(lease, Lease)
    await until(lease.held)


async def test_many_leases_are_renewed_together(bus: Bus) -> None:
    taken = await asyncio.gather(*(bus.leases.take(f"alpha.0-run.0-{n}", "me") for n in range(1, 201)))
    await asyncio.sleep(SHORT_LEASE_S * 1.2)
    assert all(isinstance(lease, Lease) and lease.held() for lease in taken)
    info = await manage(bus.connection, "STREAM.INFO.KV_SHANTY_LEASE")
    assert info["state"]["messages"] == 200


async def test_what_others_read_of_a_lease_names_its_holder(bus: Bus) -> None:
    await take(bus)
    found = await bus.connection.request(f"$JS.API.DIRECT.GET.KV_SHANTY_LEASE.$KV.SHANTY_LEASE.{KEY}")
    assert json.loads(found.data)["holder"] == "me"


async def test_whoever_takes_a_lease_that_ran_out_is_told_so_although_the_first_ack_was_lost(
    bus: Bus, other: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    (await take(other, "you")).abandon()
    request = bus.connection.request
    lost: list[str] = []

    async def deaf(subject: str, *args: Any, **named: Any) -> Incoming:
        answer = await request(subject, *args, **named)
        if subject.startswith("$KV.") and b'"error"' not in answer.data and not lost:
            lost.append(subject)
            raise BusUnavailable("the ack was lost")
        return answer

    monkeypatch.setattr(bus.connection, "request", deaf)
    lease = await take_once_it_is_free(bus, "me")
    assert lost and lease.abandoned
