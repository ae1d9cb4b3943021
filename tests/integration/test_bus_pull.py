"""Mail is delivered as long as there is room, kept while it is worked on, and comes back if it was not settled."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from shanty_protocol import EntryAddress, MessageSent
from shanty_runtime.bus import Bus, Delivery, EmbeddedServer, Pull
from shanty_runtime.bus.jetstream import manage, publish
from shanty_runtime.errors import BusUnavailable, LayoutDrift
from shanty_runtime.testing import SHORT_ACK_WAIT_S, bus_settings, until

NOT_DELIVERED_S = 0.3


@pytest.fixture
async def other(bus: Bus, server: EmbeddedServer) -> AsyncIterator[Bus]:
    async with Bus(bus_settings(server)) as connected:
        yield connected


async def send(bus: Bus, *numbers: int, to: str = "alpha") -> None:
    for n in numbers:
        entry = MessageSent(at_ms=1, to_thread="0-1", purpose="progress", text=str(n))
        await bus.journals.append(EntryAddress(to, "0-run", "0", "lead", n), entry)


async def take(pull: Pull, count: int) -> list[Delivery]:
    async with asyncio.timeout(10):
        return [await pull.next() for _ in range(count)]


async def nothing_comes(pull: Pull, for_s: float = NOT_DELIVERED_S) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(for_s):
            await pull.next()


async def settled_within(pull: Pull, for_s: float) -> list[Delivery]:
    came = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(for_s):
            async for delivery in pull:
                came.append(delivery)
                await delivery.ack()
    return came


async def until_acked(bus: Bus) -> None:
    async with asyncio.timeout(10):
        while await ack_pending(bus):
            await bus.connection.flush()


async def ack_pending(bus: Bus) -> int:
    info = await manage(bus.connection, "CONSUMER.INFO.SHANTY_0.mail-alpha")
    return int(info["num_ack_pending"])


async def test_mail_arrives_in_order_and_only_at_its_recipient(bus: Bus) -> None:
    alpha, beta = await bus.pull("0", "alpha", "mail", 8), await bus.pull("0", "beta", "mail", 8)
    await send(bus, 0, 1, 2)
    await send(bus, 3, to="beta")
    deliveries = await take(alpha, 3)
    assert [delivery.subject for delivery in deliveries] == [f"shanty.0.alpha.0-run.0.lead.{n}" for n in range(3)]
    assert [delivery.seq for delivery in deliveries] == [1, 2, 3]
    assert [delivery.delivered for delivery in deliveries] == [1, 1, 1]
    assert set(deliveries[0].headers) == {"Shanty-Kind", "Shanty-Version", "Shanty-Chain"}
    assert (deliveries[0].headers["Shanty-Kind"], deliveries[0].headers["Shanty-Version"]) == ("message.sent", "1")
    assert (await take(beta, 1))[0].seq == 4


async def test_no_more_is_delivered_than_there_is_room_for(bus: Bus) -> None:
    pull = await bus.pull("0", "alpha", "mail", 3)
    await send(bus, *range(8))
    in_hand = await take(pull, 3)
    await nothing_comes(pull)
    assert await ack_pending(bus) == 3
    await in_hand[1].ack()
    in_hand += await take(pull, 1)
    await nothing_comes(pull)
    for delivery in in_hand:
        await delivery.ack()
    assert [delivery.seq for delivery in await take(pull, 3)] == [5, 6, 7]


async def test_what_is_in_hand_is_kept_beyond_the_ack_wait(bus: Bus, other: Bus) -> None:
    pull = await bus.pull("0", "alpha", "mail", 1)
    await send(bus, 0)
    (delivery,) = await take(pull, 1)
    rival = await other.pull("0", "alpha", "mail", 2)
    await nothing_comes(rival, SHORT_ACK_WAIT_S * 1.8)
    await delivery.ack()
    await nothing_comes(rival)
    assert delivery.settled


async def test_mail_of_a_worker_that_vanished_comes_back(bus: Bus, other: Bus) -> None:
    gone = await other.pull("0", "alpha", "mail", 2)
    await send(bus, 0)
    await take(gone, 1)
    await other.stop()
    pull = await bus.pull("0", "alpha", "mail", 2)
    (again,) = await take(pull, 1)
    assert (again.seq, again.delivered) == (1, 2)


async def test_mail_that_is_put_back_comes_again_after_its_delay(bus: Bus) -> None:
    pull = await bus.pull("0", "alpha", "mail", 2)
    await send(bus, 0)
    (delivery,) = await take(pull, 1)
    await delivery.nak(0.5)
    await nothing_comes(pull, 0.3)
    (again,) = await take(pull, 1)
    assert again.delivered == 2
    await again.nak()
    assert (await take(pull, 1))[0].delivered == 3


async def test_mail_that_is_given_up_never_comes_again_and_says_why(bus: Bus) -> None:
    told: list[dict[str, object]] = []
    await bus.connection.listen(
        "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>", lambda message: told.append(json.loads(message.data))
    )
    pull = await bus.pull("0", "alpha", "mail", 2)
    await send(bus, 0)
    (delivery,) = await take(pull, 1)
    await delivery.term("it is\r\nnonsense")
    await until(lambda: told)
    assert told[0]["reason"] == "it is  nonsense"
    assert await ack_pending(bus) == 0


async def test_a_delivery_is_settled_once(bus: Bus) -> None:
    pull = await bus.pull("0", "alpha", "mail", 2)
    await send(bus, 0)
    (delivery,) = await take(pull, 1)
    await delivery.ack()
    await delivery.nak()
    await nothing_comes(pull)


async def test_a_pull_goes_on_after_a_crash_and_does_not_deliver_what_is_still_in_hand(
    bus: Bus, server: EmbeddedServer
) -> None:
    pull = await bus.pull("0", "alpha", "mail", 4)
    await send(bus, 0, 1)
    first, second = await take(pull, 2)
    await first.ack()
    await bus.connection.flush()
    await server.kill9()
    await server.start()
    await send(bus, 2)
    # The server writes acks down a little later than it takes them: the first may come again, the second may not.
    came = {delivery.seq for delivery in await settled_within(pull, SHORT_ACK_WAIT_S * 1.5)}
    assert came - {first.seq} == {3}
    await second.ack()
    await until_acked(bus)


async def test_what_was_not_settled_before_a_crash_of_server_and_worker_is_delivered_again(
    bus: Bus, other: Bus, server: EmbeddedServer
) -> None:
    gone = await other.pull("0", "alpha", "mail", 4)
    await send(bus, 0, 1)
    first, second = await take(gone, 2)
    await first.ack()
    await other.connection.flush()
    await server.kill9()
    await other.stop()
    await server.start()
    pull = await bus.pull("0", "alpha", "mail", 4)
    # The ack of the first may be forgotten; that the second has none may not.
    came = {delivery.seq for delivery in await settled_within(pull, SHORT_ACK_WAIT_S * 1.5)}
    assert came | {first.seq} == {first.seq, second.seq}
    assert second.seq in came


async def test_a_pull_whose_requests_were_lost_asks_again(bus: Bus) -> None:
    pull = await bus.pull("0", "alpha", "mail", 1)
    # Without the consumer the server drops the waiting request, and answers none until there is one again.
    config = (await manage(bus.connection, "CONSUMER.INFO.SHANTY_0.mail-alpha"))["config"]
    await manage(bus.connection, "CONSUMER.DELETE.SHANTY_0.mail-alpha")
    await nothing_comes(pull)
    request = {"stream_name": "SHANTY_0", "config": config}
    await manage(bus.connection, "CONSUMER.CREATE.SHANTY_0.mail-alpha.shanty.0.alpha.>", request)
    await send(bus, 0)
    assert [delivery.seq for delivery in await take(pull, 1)] == [1]


async def test_closing_gives_back_what_was_not_handed_out_and_keeps_the_rest(bus: Bus, other: Bus) -> None:
    pull = await bus.pull("0", "alpha", "mail", 3)
    await send(bus, 0, 1, 2)
    (kept,) = await take(pull, 1)
    await until(lambda: len(pull._ready) == 2)
    await pull.close()
    rival = await other.pull("0", "alpha", "mail", 8)
    assert sorted(delivery.seq for delivery in await take(rival, 2)) == [2, 3]
    await nothing_comes(rival, SHORT_ACK_WAIT_S * 1.5)
    with pytest.raises(BusUnavailable, match="closed"):
        await pull.next()
    await pull.release()
    assert kept.settled
    assert [delivery.seq for delivery in await take(rival, 1)] == [kept.seq]


async def test_iteration_ends_when_the_pull_is_closed(bus: Bus) -> None:
    pull = await bus.pull("0", "alpha", "mail", 3)

    async def read_all() -> list[int]:
        return [delivery.seq async for delivery in pull]

    reading = asyncio.create_task(read_all())
    await send(bus, 0)
    await until(lambda: pull._in_hand and not pull._ready)
    await pull.close()
    assert await reading == [1]


async def test_a_copy_the_server_wrote_in_somebodys_name_is_put_away(bus: Bus) -> None:
    pull = await bus.pull("0", "lead", "mail", 3)
    # The reply of an allowed read is published by the server, without asking whether the reader may. A copy of what
    # was written once repeats its guard and is refused; so the attacker writes the original without one.
    own = EntryAddress("beta", "0-run", "0", "lead", 0).subject
    await publish(bus.connection, own, b'{"kind":"thread.replied"}', {})
    stolen = "shanty.0.lead.0-run.0-1.beta.7"
    await bus.connection.publish(f"$JS.API.DIRECT.GET.SHANTY_0.{own}", reply=stolen)
    async with asyncio.timeout(10):
        while await bus.journals.get(stolen) is None:
            await bus.connection.flush()
    await send(bus, 1, to="lead")
    assert [delivery.subject for delivery in await take(pull, 1)] == ["shanty.0.lead.0-run.0.lead.1"]


async def test_pulling_for_an_agent_without_a_consumer_names_it(bus: Bus) -> None:
    with pytest.raises(LayoutDrift, match="mail-nobody"):
        await bus.pull("0", "nobody", "mail", 1)
