from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from shanty_protocol import Brief, DelegationSent, EntryAddress, ModelFailed, ThreadReplied
from shanty_runtime.agent import Profile
from shanty_runtime.bus import Bus, EmbeddedServer
from shanty_runtime.bus.jetstream import manage
from shanty_runtime.errors import ModelError
from shanty_runtime.models.base import ModelReply, ModelRequest, Stream
from shanty_runtime.testing import bus_settings, nats_bus
from shanty_runtime.thread.verbs import SPECIALIST_VERBS, verb_cards
from shanty_runtime.worker import Worker

RUN = "0-r"
DONE = {"type": "tool_use", "id": "call-1", "name": "submit_result", "input": {"summary": "done"}}


class Overloaded:
    """A model that has no time for the first call of each worker, and then answers."""

    name = provider = "test"

    def __init__(self, wait_s: float) -> None:
        self.wait_s = wait_s
        self.calls = 0
        self.failed = asyncio.Event()

    async def reply(self, request: ModelRequest, *, stream: Stream | None = None) -> ModelReply:
        self.calls += 1
        if self.calls == 1:
            self.failed.set()
            raise ModelError("try again later", kind="rate_limited", retry_after_s=self.wait_s)
        return ModelReply(blocks=(DONE,), stop_reason="tool_use", model="test")

    async def count_tokens(self, request: ModelRequest) -> int:
        return 1


@asynccontextmanager
async def confined_worker(server: EmbeddedServer, model: Overloaded) -> AsyncIterator[Worker]:
    """A worker that is told it has an account of its own; here nothing enforces it."""
    settings = msgspec.structs.replace(bus_settings(server), zone="agent")
    async with Bus(settings) as bus:
        profile = Profile(agent="alpha", role="specialist", model=model, verbs=verb_cards(SPECIALIST_VERBS))
        worker = Worker(bus, profile, replica=f"alpha-{id(model)}")
        await worker.start()
        yield worker
        await worker.stop(grace_s=1)


async def replied(bus: Bus) -> ThreadReplied:
    async with asyncio.timeout(30):
        async for stored in bus.feed.follow(RUN):
            if isinstance(stored.entry, ThreadReplied):
                return stored.entry
    raise AssertionError("a feed does not end by itself")


async def delegate(bus: Bus) -> None:
    sent = DelegationSent(at_ms=1, to_thread="0-1", brief=Brief(objective="go"))
    await bus.journals.append(EntryAddress("alpha", RUN, "0", "lead", 0), sent)


async def test_a_thread_that_waits_in_an_account_of_its_own_is_woken_by_its_mail_and_sets_no_timer(
    server: EmbeddedServer,
) -> None:
    model = Overloaded(0.2)
    async with nats_bus(server) as bus, confined_worker(server, model):
        await delegate(bus)
        assert (await replied(bus)).outcome.summary == "done"
        part = await bus.journals.read(RUN, "0-1", "alpha")
        failed = next(stored.entry for stored in part.entries if isinstance(stored.entry, ModelFailed))
        assert failed.retry_at_ms is not None
        assert part.entries[-1].entry.at_ms >= failed.retry_at_ms, "it did not wait"
        timers = await manage(bus.connection, "STREAM.INFO.SHANTY_TIMERS_0")
        assert timers["state"]["last_seq"] == 0


async def test_a_wait_outlives_the_worker_that_began_it(server: EmbeddedServer) -> None:
    first, second = Overloaded(1.0), Overloaded(0.0)
    second.calls = 1
    async with nats_bus(server) as bus:
        async with confined_worker(server, first):
            await delegate(bus)
            await first.failed.wait()
        async with confined_worker(server, second):
            assert (await replied(bus)).outcome.summary == "done"
        assert (first.calls, second.calls) == (1, 2)
        part = await bus.journals.read(RUN, "0-1", "alpha")
        failed = next(stored.entry for stored in part.entries if isinstance(stored.entry, ModelFailed))
        assert failed.retry_at_ms is not None
        assert part.entries[-1].entry.at_ms >= failed.retry_at_ms, "it did not wait"
