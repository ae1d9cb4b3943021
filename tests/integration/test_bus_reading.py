"""What is stored is read whole however much it is, from its newest entry on, and by its place in the stream."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from shanty_cli.lookup import newest_runs
from shanty_protocol import Brief, DelegationSent, EntryAddress, ModelReplied
from shanty_protocol.ids import LOG
from shanty_protocol.streams import entry_stream
from shanty_runtime.bus import Bus, EmbeddedServer, jetstream
from shanty_runtime.testing.bus import nats_bus, nats_server
from support.filling import fill, run_ids

RUN = "0-run"


def said(text: str) -> ModelReplied:
    return ModelReplied(at_ms=1, blocks=({"type": "text", "text": text},), stop_reason="end_turn", model="m")


def place(n: int, *, to: str = LOG, run: str = RUN, thread: str = "0", agent: str = "lead") -> EntryAddress:
    return EntryAddress(to, run, thread, agent, n)


async def test_entries_that_are_more_than_one_answer_of_the_server_holds_are_read_whole(bus: Bus) -> None:
    large = 30 * [said("x" * 800_000)]
    await asyncio.gather(*(bus.journals.append(place(n), entry) for n, entry in enumerate(large)))
    answer = await jetstream.get_few(bus.connection, entry_stream("0"), [f"shanty.0.*.{RUN}.>"])
    assert answer is not None and answer[1], "the server would give it all at once, and this shows nothing"
    part = await bus.journals.read(RUN, "0", "lead")
    assert [stored.address.n for stored in part.entries] == list(range(30))
    later = await bus.journals.read(RUN, "0", "lead", from_n=2, from_seq=3)
    assert [stored.address.n for stored in later.entries] == list(range(2, 30))
    assert len([stored async for stored in bus.journals.run_entries(RUN)]) == 30


async def test_one_answer_is_no_more_than_a_server_lets_wait_for_its_reader() -> None:
    async with nats_server(extra="max_pending: 2MB") as server, nats_bus(server) as bus:
        for n in range(30):
            await bus.journals.append(place(n), said("x" * 300_000))
        hung_up: list[bool] = []
        bus.connection.on_reconnect.append(lambda: hung_up.append(True))
        async with asyncio.timeout(20):
            assert [stored.address.n async for stored in bus.journals.run_entries(RUN)] == list(range(30))
        assert not hung_up


async def test_the_newest_runs_come_first_whatever_lies_between_them(bus: Bus, server: EmbeddedServer) -> None:
    first, *others, last = run_ids(40)
    await fill(server.url, [first, *others])
    await asyncio.gather(*(bus.journals.append(place(n, thread="0-1"), said(str(n))) for n in range(700)))
    await fill(server.url, [last])
    begun = [stored.address.run async for stored in bus.journals.first_entries("0", newest_first=True)]
    assert begun == [last, *reversed(others), first]
    listed = await newest_runs(bus, ("0",), 3)
    assert {line.run for line in listed} == {last, *others[-2:]}


async def test_a_run_that_was_begun_by_somebody_who_was_not_asked_is_not_listed(
    bus: Bus, server: EmbeddedServer
) -> None:
    (known,) = run_ids(1)
    await fill(server.url, [known])
    order = DelegationSent(at_ms=1, to_thread="0", brief=Brief(objective="go"))
    await bus.journals.append(place(0, to="lead", run="0-forged", thread="request", agent="alpha"), order)
    await bus.journals.append(place(0, run="0-forged", agent="alpha"), said("begun"))
    await bus.journals.append(place(0, run=known, agent="alpha"), said("begun once more"))
    assert [line.run for line in await newest_runs(bus, ("0",), 10)] == [known]


async def test_mail_is_found_by_its_place_in_the_stream(bus: Bus) -> None:
    mail = await bus.journals.append(place(0, to="dead", agent="alpha"), said("a letter"))
    await bus.journals.append(place(1, agent="alpha"), said("a step"))
    assert await bus.journals.mail_at("0", "dead", mail.stored.seq) == mail.stored
    for seq, recipient in itertools.product((mail.stored.seq + 1, 10**18 - 1), ("dead", "operators")):
        assert await bus.journals.mail_at("0", recipient, seq) is None


@pytest.mark.parametrize("count", [jetstream.MOST_LOOKED_UP, jetstream.MOST_LOOKED_UP + 1])
async def test_as_many_entries_as_the_server_looks_up_at_once_and_one_more_are_read(bus: Bus, count: int) -> None:
    await asyncio.gather(*(bus.journals.append(place(n), said(str(n))) for n in range(count)))
    assert len((await bus.journals.read(RUN, "0", "lead")).entries) == count
    answer = await jetstream.get_few(bus.connection, entry_stream("0"), [f"shanty.0.*.{RUN}.>"])
    assert (answer is None) is (count > jetstream.MOST_LOOKED_UP)
