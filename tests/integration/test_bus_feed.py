"""Whoever follows a run sees every entry once and in order; whoever hears mail hears it at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from shanty_protocol import EntryAddress, LiveAddress, MessageSent, TextStreamed
from shanty_protocol.codec import encode
from shanty_protocol.streams import entry_stream
from shanty_runtime.bus import Bus, EmbeddedServer, Stored
from shanty_runtime.bus.hearing import MAX_UNREAD, Hearing
from shanty_runtime.bus.jetstream import publish
from shanty_runtime.testing import bus_settings, until

RUN = "0-run"


@pytest.fixture
async def watcher(bus: Bus, server: EmbeddedServer) -> AsyncIterator[Bus]:
    async with Bus(bus_settings(server)) as connected:
        yield connected


async def write(bus: Bus, n: int, *, to: str = "alpha", thread: str = "0", run: str = RUN) -> Stored:
    entry = MessageSent(at_ms=1, to_thread="0-1", purpose="progress", text=str(n))
    return (await bus.journals.append(EntryAddress(to, run, thread, "lead", n), entry)).stored


class Follower:
    """Follows a run in a task, and keeps what it saw."""

    def __init__(self, bus: Bus, from_seq: int = 0) -> None:
        self.seen: list[Stored] = []
        self.task = asyncio.create_task(self._follow(bus, from_seq))

    async def _follow(self, bus: Bus, from_seq: int) -> None:
        async with contextlib.aclosing(bus.feed.follow(RUN, from_seq)) as entries:
            async for stored in entries:
                self.seen.append(stored)

    async def saw(self, count: int) -> list[Stored]:
        await until(lambda: len(self.seen) >= count or self.task.done())
        return self.seen

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_following_replays_what_is_stored_and_goes_on_live(bus: Bus, watcher: Bus) -> None:
    before = [await write(bus, n) for n in range(3)]
    await write(bus, 0, run="0-other")
    follower = Follower(watcher)
    assert await follower.saw(3) == before
    after = [await write(bus, n, to="log") for n in range(3, 6)]
    assert await follower.saw(6) == before + after
    await follower.stop()


async def test_following_from_a_cursor_shows_only_what_comes_after_it(bus: Bus, watcher: Bus) -> None:
    stored = [await write(bus, n) for n in range(4)]
    follower = Follower(watcher, from_seq=stored[1].seq + 1)
    assert await follower.saw(2) == stored[2:]
    await follower.stop()


async def test_nothing_is_missed_or_doubled_while_writers_race(bus: Bus, watcher: Bus) -> None:
    early, late = Follower(watcher), None
    for step in range(10):
        threads = [f"0-{number}" for number in range(1, 11)]
        await asyncio.gather(*(write(bus, step, thread=thread) for thread in threads))
        if step == 5:
            late = Follower(watcher)
    assert late is not None
    stored = [one async for one in bus.journals.run_entries(RUN)]
    assert len(stored) == 100
    assert await early.saw(100) == stored
    assert await late.saw(100) == stored
    await early.stop()
    await late.stop()


async def test_following_goes_on_over_a_crash_of_the_server(bus: Bus, watcher: Bus, server: EmbeddedServer) -> None:
    follower = Follower(watcher)
    for n in range(40):
        if n in (10, 25):
            await server.kill9()
            await server.start()
        await write(bus, n)
    seen = await follower.saw(40)
    assert [stored.address.n for stored in seen] == list(range(40))
    await follower.stop()


async def test_an_entry_whose_announcement_was_lost_is_found_all_the_same(
    bus: Bus, watcher: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shanty_runtime.bus.feed.CHECK_S", 0.2)
    monkeypatch.setattr("shanty_runtime.bus.feed._Signs.hear", lambda signs, message: None)
    follower = Follower(watcher)
    stored = await write(bus, 0)
    assert await follower.saw(1) == [stored]
    await follower.stop()


async def test_what_was_stored_while_the_watcher_was_away_is_found_when_it_is_back(
    bus: Bus, watcher: Bus, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shanty_runtime.bus.feed.CHECK_S", 3600)
    monkeypatch.setattr("shanty_runtime.bus.feed._Signs.hear", lambda signs, message: None)
    before = await write(bus, 0)
    follower = Follower(watcher)
    await follower.saw(1)
    unannounced = await write(bus, 1)
    await server.restart()
    assert await follower.saw(2) == [before, unannounced]
    await follower.stop()


async def test_a_follower_that_stops_leaves_no_subscription(bus: Bus, watcher: Bus) -> None:
    await write(bus, 0)
    before = len(watcher.connection._client.heard)
    follower = Follower(watcher)
    await follower.saw(1)
    assert len(watcher.connection._client.heard) == before + 1
    await follower.stop()
    assert len(watcher.connection._client.heard) == before


async def test_mail_is_heard_the_moment_it_is_stored(bus: Bus, watcher: Bus) -> None:
    heard: list[Stored] = []
    listening = await watcher.feed.hear(RUN, "alpha", heard.append)
    await write(bus, 0, to="beta")
    await write(bus, 0, run="0-other")
    stored = await write(bus, 1)
    await until(lambda: bool(heard))
    await listening.stop()
    await write(bus, 2)
    await watcher.connection.flush()
    assert heard == [stored]


async def test_what_the_server_wrote_in_somebodys_name_is_not_heard(bus: Bus, watcher: Bus) -> None:
    heard: list[Stored] = []
    listening = await watcher.feed.hear(RUN, "alpha", heard.append)
    # A copy of what was written once repeats its guard and is refused; so the attacker's original has none.
    own = EntryAddress("beta", RUN, "0", "lead", 0).subject
    await publish(bus.connection, own, encode(MessageSent(at_ms=1, to_thread="0", purpose="progress", text="f")), {})
    stolen = EntryAddress("alpha", RUN, "0-1", "beta", 7).subject
    await bus.connection.publish(f"$JS.API.DIRECT.GET.{entry_stream('0')}.{own}", reply=stolen)
    async with asyncio.timeout(10):
        while await bus.journals.get(stolen) is None:
            await bus.connection.flush()
    after = await write(bus, 1)
    await until(lambda: bool(heard))
    assert heard == [after]
    await listening.stop()


async def test_a_reader_of_what_is_heard_that_is_too_slow_misses_the_oldest(watcher: Bus) -> None:
    hearing = Hearing(lambda message: message.subject)
    hearing.attach(await watcher.connection.listen("said.*", hearing.put))
    for number in range(MAX_UNREAD + 10):
        await watcher.connection.publish(f"said.{number}")
    await until(lambda: hearing.dropped == 10)
    assert [await anext(hearing) for _ in range(MAX_UNREAD)] == [f"said.{n + 10}" for n in range(MAX_UNREAD)]
    await hearing.close()
    assert [one async for one in hearing] == []


async def test_live_events_reach_whoever_follows_the_run(bus: Bus, watcher: Bus) -> None:
    address, event = LiveAddress(RUN, "0-1", "alpha"), TextStreamed(agent="alpha", text="Once", offset=0)
    follower = watcher.live.follow(RUN)
    hearing = asyncio.create_task(anext(follower))
    while not hearing.done():  # published until it is heard: nobody tells when the follower listens
        await bus.live.publish(address, event)
        await asyncio.wait({hearing}, timeout=0.02)
    assert hearing.result() == (address, event)
    await follower.aclose()


async def test_a_live_event_during_an_outage_is_dropped_without_an_error(bus: Bus, server: EmbeddedServer) -> None:
    await server.kill9()
    await until(lambda: not bus.connected)
    await bus.live.publish(LiveAddress(RUN, "0", "alpha"), TextStreamed(agent="alpha", text="x", offset=0))
