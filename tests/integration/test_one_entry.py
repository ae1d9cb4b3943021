"""Python code that answers without a step: one entry, no lease, and one answer whoever else was given the mail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from shanty_protocol import Brief, CancelSent, DelegationSent, EntryAddress, ThreadOpened, ThreadReplied
from shanty_runtime.agent import Profile
from shanty_runtime.agent.handler import Context, handler_from
from shanty_runtime.bus import Bus, EmbeddedServer
from shanty_runtime.bus.jetstream import manage
from shanty_runtime.testing import bus_settings
from shanty_runtime.tools.base import tool
from shanty_runtime.worker import Worker
from support.crew import until

RUN = "0-r"
ORDER = EntryAddress("alpha", RUN, "0", "lead", 0)


class Text(msgspec.Struct, frozen=True, kw_only=True):
    text: str


@tool(effect="idempotent")
async def note(args: Text, context: Any) -> str:
    """Notes a text."""
    return args.text


@asynccontextmanager
async def alpha(
    bus: Bus, function: Callable[[Text, Context], Awaitable[Text]], replica: str
) -> AsyncIterator[Worker]:
    worker = Worker(bus, Profile(agent="alpha", role="specialist", handler=handler_from(function)), replica=replica)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop(grace_s=1)


@pytest.fixture
async def second(server: EmbeddedServer, bus: Bus) -> AsyncIterator[Bus]:
    """Another connection to the same server, for a second replica."""
    async with Bus(bus_settings(server)) as connected:
        yield connected


def order(text: str = "x") -> DelegationSent:
    return DelegationSent(at_ms=1, to_thread="0-1", brief=Brief(objective="", input={"text": text}))


async def reply(bus: Bus) -> ThreadReplied:
    async with asyncio.timeout(60):
        async for stored in bus.feed.follow(RUN):
            if isinstance(stored.entry, ThreadReplied):
                return stored.entry
    raise AssertionError("a feed does not end by itself")


async def journal(bus: Bus) -> list[Any]:
    return [stored.entry for stored in (await bus.journals.read(RUN, "0-1", "alpha")).entries]


async def leases_taken(bus: Bus) -> int:
    return int((await manage(bus.connection, "STREAM.INFO.KV_SHANTY_LEASE"))["state"]["last_seq"])


async def none_in_hand(bus: Bus) -> None:
    async def check() -> bool:
        found = await manage(bus.connection, "CONSUMER.INFO.SHANTY_0.mail-alpha")
        return (found["num_pending"], found["num_ack_pending"]) == (0, 0)

    await until(check, 30, "every mail is acked")


async def test_an_answer_without_a_step_is_one_entry_and_takes_no_lease(bus: Bus) -> None:
    async def handle(given: Text, context: Context) -> Text:
        return given

    async with alpha(bus, handle, "alpha-1"):
        await bus.journals.append(ORDER, order())
        replied = await reply(bus)
        await none_in_hand(bus)
    (only,) = await journal(bus)
    assert (only, only.consumed, only.fence) == (replied, (ORDER.subject,), 0)
    assert await leases_taken(bus) == 0


async def test_a_step_begins_under_the_lease_and_is_preceded_by_the_delegations_name(bus: Bus) -> None:
    async def handle(given: Text, context: Context) -> Text:
        return Text(text=await context.call(note, given))

    async with alpha(bus, handle, "alpha-1"):
        await bus.journals.append(ORDER, order())
        await reply(bus)
        await none_in_hand(bus)
    entries = await journal(bus)
    assert isinstance(entries[0], ThreadOpened) and isinstance(entries[-1], ThreadReplied)
    assert all(each.fence > 0 for each in entries), "each was written under a lease"


async def test_mail_is_heard_while_it_is_stored_only_where_a_run_is_worked_on_under_a_lease(
    bus: Bus, second: Bus
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def listens() -> bool:
        return any(each.startswith("shanty.feed.") for each in subscribed(second))

    async def handle(given: Text, context: Context) -> Text:
        before = await listens()
        await context.call(note, given)
        begun.set()
        await go_on.wait()
        return Text(text=f"{before}")

    async with alpha(second, handle, "alpha-1"):
        assert not await listens()
        await bus.journals.append(ORDER, order())
        await begun.wait()
        await until(listens, 10, "the run is listened to")
        assert f"shanty.feed.0.alpha.{RUN}.>" in subscribed(second)
        go_on.set()
        assert (await reply(bus)).outcome.result == {"text": "False"}


def subscribed(bus: Bus) -> list[str]:
    return [sub.subject for sub in bus.connection._client._subs.values()]


async def test_of_two_workers_with_the_same_delegation_one_has_answered_and_the_other_lets_it_be(
    bus: Bus, second: Bus
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(given: Text, context: Context) -> Text:
        begun.set()
        await go_on.wait()
        return Text(text="the slow one")

    async def quick(given: Text, context: Context) -> Text:
        return Text(text="the quick one")

    async with alpha(bus, slow, "alpha-1") as first:
        await bus.journals.append(ORDER, order())
        await begun.wait()
        # The server takes the mail for lost, as after a pause longer than it waits, and gives it to somebody else.
        (active,) = first._active.values()
        await first._pulls[0].close()
        await bus.connection.publish(active.deliveries[0].reply, b"-NAK")
        async with alpha(second, quick, "alpha-2"):
            replied = await reply(bus)
            go_on.set()
            await none_in_hand(bus)
    assert replied.by == "alpha-2"
    assert len(await journal(bus)) == 1


async def test_a_step_of_a_worker_that_was_overtaken_does_not_begin(bus: Bus, second: Bus) -> None:
    begun, go_on, noted = asyncio.Event(), asyncio.Event(), []

    @tool(effect="irreversible")
    async def ring(args: Text, context: Any) -> str:
        """Rings."""
        noted.append(args.text)
        return "rung"

    async def slow(given: Text, context: Context) -> Text:
        begun.set()
        await go_on.wait()
        return Text(text=await context.call(ring, given))

    async def quick(given: Text, context: Context) -> Text:
        return given

    async with alpha(bus, slow, "alpha-1") as first:
        await bus.journals.append(ORDER, order())
        await begun.wait()
        (active,) = first._active.values()
        await first._pulls[0].close()
        await bus.connection.publish(active.deliveries[0].reply, b"-NAK")
        async with alpha(second, quick, "alpha-2"):
            await reply(bus)
            go_on.set()
            await none_in_hand(bus)
    assert noted == []
    assert len(await journal(bus)) == 1


async def test_a_handler_that_is_told_to_stop_where_it_is_stops_there(bus: Bus) -> None:
    begun, ended = asyncio.Event(), []

    async def handle(given: Text, context: Context) -> Text:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return given

    async with alpha(bus, handle, "alpha-1"):
        await bus.journals.append(ORDER, order())
        await begun.wait()
        stop = CancelSent(at_ms=2, to_thread="0-1", after=ORDER.subject, mode="abort")
        await bus.journals.append(EntryAddress("alpha", RUN, "0", "lead", 1), stop)
        replied = await reply(bus)
        await none_in_hand(bus)
    assert (replied.outcome.status, ended) == ("cancelled", ["cancelled"])
    assert await leases_taken(bus) > 0, "what was begun and stopped is written under the lease"


async def test_a_handler_that_goes_on_when_it_is_told_to_stop_has_not_answered(bus: Bus) -> None:
    begun = asyncio.Event()

    async def handle(given: Text, context: Context) -> Text:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return given
        return given

    async with alpha(bus, handle, "alpha-1"):
        await bus.journals.append(ORDER, order())
        await begun.wait()
        stop = CancelSent(at_ms=2, to_thread="0-1", after=ORDER.subject, mode="abort")
        await bus.journals.append(EntryAddress("alpha", RUN, "0", "lead", 1), stop)
        replied = await reply(bus)
        await none_in_hand(bus)
    assert replied.outcome.status == "cancelled"
