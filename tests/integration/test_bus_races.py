"""Whoever writes, how often and to whom: one place holds one entry, and everybody is told the same."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shanty_protocol import EntryAddress, MessageSent, subjects
from shanty_runtime.bus import Bus, EmbeddedServer, Placed
from shanty_runtime.bus.jetstream import get_last_from_leader, read_on
from shanty_runtime.testing import EmbeddedCluster, bus_settings, nats_bus

RUN = "0-race"
WRITERS = 5
thread_numbers = itertools.count()


class Write(msgspec.Struct, frozen=True):
    """One writer's append: to whom, what, and how many times at once."""

    to: str
    text: str
    tries: int


write = st.builds(
    Write, to=st.sampled_from(["log", "alpha", "beta"]), text=st.sampled_from("ab"), tries=st.integers(1, 3)
)
plan_of_five = st.lists(write, min_size=WRITERS, max_size=WRITERS)
anywhere = settings(
    deadline=None,
    database=None,
    # Each example races for a place of its own, so the examples of a test may share its server.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@contextlib.asynccontextmanager
async def five_writers(server: EmbeddedServer | EmbeddedCluster, num_replicas: int) -> AsyncIterator[list[Bus]]:
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(nats_bus(server, num_replicas=num_replicas))
        others = [await stack.enter_async_context(Bus(bus_settings(server))) for _ in range(WRITERS - 1)]
        yield [first, *others]


@pytest.fixture
async def writers(server: EmbeddedServer) -> AsyncIterator[list[Bus]]:
    async with five_writers(server, 1) as buses:
        yield buses


@pytest.fixture
async def writers_on_three_nodes(cluster: EmbeddedCluster) -> AsyncIterator[list[Bus]]:
    async with five_writers(cluster, 3) as buses:
        yield buses


@settings(anywhere, max_examples=200)
@given(plan=plan_of_five)
async def test_five_writers_at_one_place_leave_one_entry(writers: list[Bus], plan: list[Write]) -> None:
    await race(writers, plan)


@settings(anywhere, max_examples=60)
@given(plan=plan_of_five)
async def test_five_writers_at_one_place_on_three_nodes_leave_one_entry(
    writers_on_three_nodes: list[Bus], plan: list[Write]
) -> None:
    await race(writers_on_three_nodes, plan)


async def race(buses: Sequence[Bus], plan: Sequence[Write]) -> None:
    thread = f"race-{next(thread_numbers)}"

    async def append(bus: Bus, write: Write) -> tuple[Write, Placed]:
        address = EntryAddress(write.to, RUN, thread, "lead", 0)
        entry = MessageSent(at_ms=1, to_thread="0-1", purpose="progress", text=write.text)
        return write, await bus.journals.append(address, entry)

    tries = [(bus, write) for bus, write in zip(buses, plan, strict=True) for _ in range(write.tries)]
    outcomes = await asyncio.gather(*(append(bus, write) for bus, write in tries))

    guard = EntryAddress("log", RUN, thread, "lead", 0).guard
    standing = await get_last_from_leader(buses[0].connection, "SHANTY_0", guard)
    assert standing is not None
    recipient = subjects.parse_entry(standing.subject).to
    for write, placed in outcomes:
        assert (placed.stored.seq, placed.stored.data) == (standing.seq, standing.data)
        same_text = f'"text":"{write.text}"'.encode() in standing.data
        assert placed.ours == (same_text and write.to == recipient)
    assert any(placed.ours for _, placed in outcomes)
    stored = [message async for message in read_on(buses[0].connection, "SHANTY_0", guard)]
    assert [message.seq for message in stored] in ([standing.seq], [])  # a replica may lag, but never has two
