"""A place in a journal is taken once, and a journal is read up to its first gap."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from shanty_protocol import EntryAddress, ModelReplied, ProtocolError, chain
from shanty_protocol.headers import CHAIN
from shanty_runtime.bus import Bus, EmbeddedServer, JournalPart, Stored, create_layout
from shanty_runtime.bus.jetstream import publish
from shanty_runtime.errors import PayloadTooLarge
from shanty_runtime.testing import AGENTS, EmbeddedCluster, bus_settings, nats_bus

RUN = "0-run"


def place(n: int, to: str = "log", *, thread: str = "0", agent: str = "lead", run: str = RUN) -> EntryAddress:
    return EntryAddress(to, run, thread, agent, n)


def said(text: str) -> ModelReplied:
    return ModelReplied(at_ms=1, blocks=({"type": "text", "text": text},), stop_reason="end_turn", model="m")


def places_of(part: JournalPart) -> list[int]:
    return [stored.address.n for stored in part.entries]


async def write(bus: Bus, *places: int) -> None:
    for n in places:
        assert (await bus.journals.append(place(n), said(str(n)))).ours


async def test_the_same_append_twice_leaves_one_entry_and_both_are_ours(bus: Bus) -> None:
    first = await bus.journals.append(place(0), said("a"), {"traceparent": "00-1"})
    again = await bus.journals.append(place(0), said("a"))
    assert first.ours and again.ours
    assert first.stored == again.stored
    headers = dict(first.stored.headers)
    assert chain.flaw_of(place(0).subject, headers, first.stored.data) is None
    assert headers.pop(CHAIN).startswith(chain.NOTHING_BEFORE)
    assert headers == {"Shanty-Kind": "model.replied", "Shanty-Version": "1", "traceparent": "00-1"}


async def test_an_entry_for_another_recipient_does_not_get_a_place_that_is_taken(bus: Bus) -> None:
    first = await bus.journals.append(place(0, "alpha"), said("a"))
    other = await bus.journals.append(place(0, "beta"), said("a"))
    assert not other.ours
    assert other.stored == first.stored


async def test_headers_that_are_passed_in_are_not_changed(bus: Bus) -> None:
    headers = {"traceparent": "00-1"}
    await bus.journals.append(place(0), said("a"), headers)
    assert headers == {"traceparent": "00-1"}


async def test_reading_ends_at_a_gap_and_goes_on_once_it_is_filled(bus: Bus) -> None:
    await write(bus, 0, 1, 3)
    part = await bus.journals.read(RUN, "0", "lead")
    assert places_of(part) == [0, 1]
    await write(bus, 2, 4)
    rest = await bus.journals.read(RUN, "0", "lead", from_n=2, from_seq=part.next_seq)
    assert places_of(rest) == [2, 3, 4]


async def test_next_seq_skips_nothing_that_was_stored_out_of_order(bus: Bus) -> None:
    await write(bus, 0, 5, 2, 1)
    part = await bus.journals.read(RUN, "0", "lead")
    assert places_of(part) == [0, 1, 2]
    beyond_the_gap = 2
    assert part.next_seq == beyond_the_gap
    await write(bus, 4, 3)
    rest = await bus.journals.read(RUN, "0", "lead", from_n=3, from_seq=part.next_seq)
    assert places_of(rest) == [3, 4, 5]
    assert rest.next_seq == 7
    assert await bus.journals.read(RUN, "0", "lead", from_n=6, from_seq=7) == JournalPart((), 7)


async def test_read_place_by_place_a_journal_is_the_same(bus: Bus, server: EmbeddedServer) -> None:
    confined = msgspec.structs.replace(bus_settings(server), zone="agent")
    taken = [n for n in range(150) if n not in (99, 120)]
    await asyncio.gather(
        *(bus.journals.append(place(n, "alpha" if n % 7 == 0 else "log"), said(str(n))) for n in taken)
    )
    async with Bus(confined) as other:
        for from_n in (0, 1, 4, 12, 60, 98, 99, 100, 119, 149, 150):
            mine = await bus.journals.read(RUN, "0", "lead", from_n=from_n)
            theirs = await other.journals.read(RUN, "0", "lead", from_n=from_n)
            assert theirs.entries == mine.entries
            assert theirs.next_seq == max((stored.seq + 1 for stored in theirs.entries), default=1)
        refused = await other.journals.append(place(7), said("too late"))
        assert not refused.ours and refused.stored.address == place(7, "alpha")


async def test_a_long_journal_is_read_whole(bus: Bus) -> None:
    appending = [bus.journals.append(place(n), said(str(n))) for n in range(1_200)]
    assert all(placed.ours for placed in await asyncio.gather(*appending))
    part = await bus.journals.read(RUN, "0", "lead")
    assert [stored.entry for stored in part.entries] == [said(str(n)) for n in range(1_200)]


async def test_entries_are_found_by_subject_filter_and_run(bus: Bus) -> None:
    await bus.journals.append(place(0), said("first"))
    await bus.journals.append(place(0, "lead", thread="0-1", agent="alpha"), said("second"))
    await bus.journals.append(place(0, run="0-other"), said("third"))
    known = place(0).subject
    assert (found := await bus.journals.get(known)) is not None and found.entry == said("first")
    assert await bus.journals.get(place(1).subject) is None
    assert set(await bus.journals.get_all([known, place(1).subject])) == {known}
    newest = await bus.journals.last_of(place(0, thread="0-1", agent="alpha").guard)
    assert newest is not None and newest.entry == said("second")
    assert await bus.journals.last_of(place(7).guard) is None
    assert [one.entry async for one in bus.journals.run_entries(RUN)] == [said("first"), said("second")]
    assert [one.address.run async for one in bus.journals.first_entries("0")] == [RUN, "0-other"]


async def test_an_append_outlives_a_crash_of_the_server(bus: Bus, server: EmbeddedServer) -> None:
    await write(bus, 0)
    await server.kill9()
    appending = asyncio.create_task(bus.journals.append(place(1), said("meanwhile")))
    reading = asyncio.create_task(bus.journals.read(RUN, "0", "lead"))
    await server.start()
    assert (await appending).ours
    assert (await reading).entries[0].entry == said("0")
    assert places_of(await bus.journals.read(RUN, "0", "lead")) == [0, 1]


async def test_an_append_that_waits_out_an_outage_can_be_cancelled(bus: Bus, server: EmbeddedServer) -> None:
    await server.kill9()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await bus.journals.append(place(0), said("never"))


async def test_a_write_whose_ack_was_lost_is_known_for_our_own(bus: Bus, server: EmbeddedServer) -> None:
    server.freeze()
    appending = asyncio.create_task(bus.journals.append(place(0), said("once")))
    # The first try is given up after 2 s; the server then stores it, and refuses the second.
    await asyncio.wait({appending}, timeout=2.5)
    assert not appending.done()
    server.thaw()
    assert (await appending).ours
    assert len([one async for one in bus.journals.run_entries(RUN)]) == 1


async def test_an_entry_that_is_too_large_is_refused_before_it_is_sent(bus: Bus) -> None:
    with pytest.raises(PayloadTooLarge, match="workspace file"):
        await bus.journals.append(place(0), said("x" * 900_000))
    await write(bus, 0)


async def test_an_entry_this_version_does_not_know_is_read_but_not_decoded(bus: Bus) -> None:
    await publish(bus.connection, place(0).subject, b'{"kind":"from.later"}', {})
    part = await bus.journals.read(RUN, "0", "lead")
    with pytest.raises(ProtocolError, match=r"from\.later"):
        _ = part.entries[0].entry


async def test_a_full_stream_delays_an_append_until_there_is_space(bus: Bus) -> None:
    await create_layout(bus, agents=AGENTS, max_bytes=2_000_000)
    for n in range(2):
        assert (await bus.journals.append(place(n), said("x" * 800_000))).ours
    appending = asyncio.create_task(bus.journals.append(place(2), said("x" * 800_000)))
    await asyncio.wait({appending}, timeout=0.5)
    assert not appending.done()
    await create_layout(bus, agents=AGENTS, max_bytes=20_000_000)
    assert (await appending).ours


async def test_appends_go_on_while_the_leader_of_three_nodes_is_killed(cluster: EmbeddedCluster) -> None:
    async with nats_bus(cluster, num_replicas=3) as bus:
        leader = await cluster.leader_of(bus, "SHANTY_0")
        for n in range(150):
            if n == 50:
                await leader.kill9()
            assert (await bus.journals.append(place(n), said(str(n)))).ours
        part = await bus.journals.read(RUN, "0", "lead")
        while len(part.entries) < 150:  # a replica may lag
            part = await bus.journals.read(RUN, "0", "lead")
        assert [stored.entry for stored in part.entries] == [said(str(n)) for n in range(150)]


async def test_an_entry_that_another_one_names_is_found_although_a_replica_lags(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(bus, 0, 1)
    get, asked = bus.journals.get, []

    async def lagging(subject: str) -> Stored | None:
        asked.append(subject)
        return None if len(asked) <= 3 else await get(subject)

    monkeypatch.setattr(bus.journals, "get", lagging)
    named = [place(0).subject, place(1).subject]
    assert sorted(await bus.journals.get_named(named)) == named
