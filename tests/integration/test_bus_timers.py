"""A timer is sent once, late by little, whatever becomes of the server in between."""

from __future__ import annotations

import asyncio
import time

import pytest

from shanty_protocol import ThreadDue, TimerAddress
from shanty_protocol.codec import decode_timer
from shanty_runtime.bus import Bus, Delivery, EmbeddedServer
from shanty_runtime.errors import Fenced


def timer(thread: str = "0") -> TimerAddress:
    return TimerAddress("set", "alpha", "0-run", thread, "due")


def in_ms(delay_s: float) -> int:
    return int((time.time() + delay_s) * 1000)


async def fired_within(bus: Bus, for_s: float) -> list[Delivery]:
    pull = await bus.pull("0", "alpha", "timers", 100)
    fired: list[Delivery] = []
    try:
        async with asyncio.timeout(for_s):
            async for delivery in pull:
                fired.append(delivery)
                await delivery.ack()
    except TimeoutError:
        pass
    await pull.close()
    return fired


async def test_a_timer_arrives_when_it_is_due_with_its_headers(bus: Bus) -> None:
    at_ms = in_ms(0.5)
    await bus.timers.set(timer(), ThreadDue(at_ms=at_ms), at_ms, {"traceparent": "00-1"})
    pull = await bus.pull("0", "alpha", "timers", 1)
    delivery = await asyncio.wait_for(pull.next(), 10)
    assert in_ms(0) >= at_ms
    assert delivery.subject == "shanty.timer.0.due.alpha.0-run.0.due"
    assert decode_timer(delivery.data, delivery.headers) == ThreadDue(at_ms=at_ms)
    assert delivery.headers["traceparent"] == "00-1"


async def test_a_timer_whose_time_has_passed_arrives_at_once(bus: Bus) -> None:
    await bus.timers.set(timer(), ThreadDue(at_ms=1), 1)
    assert len(await fired_within(bus, 1.5)) == 1


async def test_setting_a_timer_again_replaces_it(bus: Bus) -> None:
    await bus.timers.set(timer(), ThreadDue(at_ms=1), in_ms(60))
    await bus.timers.set(timer(), ThreadDue(at_ms=2), in_ms(0.3))
    await bus.timers.set(timer(), ThreadDue(at_ms=2), in_ms(0.3))
    fired = await fired_within(bus, 1.5)
    assert [decode_timer(delivery.data) for delivery in fired] == [ThreadDue(at_ms=2)]


async def test_a_timer_is_not_set_late_by_somebody_who_has_lost_the_right_to(
    bus: Bus, server: EmbeddedServer
) -> None:
    tried = asyncio.Event()

    async def allowed() -> None:
        if tried.is_set():
            raise Fenced("another has the thread")
        tried.set()  # the first try will not get through, and the next comes when another has set it
        server.freeze()

    setting = asyncio.create_task(bus.timers.set(timer(), ThreadDue(at_ms=1), in_ms(0), before=allowed))
    await tried.wait()
    await server.kill9()
    await server.start()
    with pytest.raises(Fenced):
        await asyncio.wait_for(setting, 10)
    assert await fired_within(bus, 1.5) == []


async def test_a_timer_that_was_cancelled_does_not_arrive_and_can_be_set_again(bus: Bus) -> None:
    await bus.timers.set(timer("0"), ThreadDue(at_ms=1), in_ms(0.5))
    await bus.timers.set(timer("0-1"), ThreadDue(at_ms=2), in_ms(0.5))
    await bus.timers.cancel(timer("0"))
    await bus.timers.cancel(timer("0-9"))
    fired = await fired_within(bus, 1.5)
    assert [decode_timer(delivery.data) for delivery in fired] == [ThreadDue(at_ms=2)]
    await bus.timers.set(timer("0"), ThreadDue(at_ms=3), in_ms(0.2))
    fired = await fired_within(bus, 1.5)
    assert [decode_timer(delivery.data) for delivery in fired] == [ThreadDue(at_ms=3)]


async def test_timers_survive_a_crash_of_the_server_and_arrive_once(bus: Bus, server: EmbeddedServer) -> None:
    threads = [f"0-{n}" for n in range(1, 31)]
    for number, thread in enumerate(threads):
        await bus.timers.set(timer(thread), ThreadDue(at_ms=number), in_ms(0.2 + number * 0.05))
    await asyncio.sleep(0.8)  # some have fired, some have not
    await server.kill9()
    await server.start()
    pull = await bus.pull("0", "alpha", "timers", 100)
    seqs: dict[int, set[int]] = {}
    async with asyncio.timeout(20):
        while len(seqs) < len(threads):
            delivery = await pull.next()
            await delivery.ack()
            seqs.setdefault(decode_timer(delivery.data).at_ms, set()).add(delivery.seq)
    await pull.close()
    for delivery in await fired_within(bus, 1):
        seqs[decode_timer(delivery.data).at_ms].add(delivery.seq)
    # A delivery may be repeated; a timer that was sent twice would have two messages.
    assert {number: len(sent) for number, sent in seqs.items()} == dict.fromkeys(range(30), 1)
