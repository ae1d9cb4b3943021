"""A worker chains what it writes to what its journal has, whoever wrote that and however."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from shanty_protocol import Brief, DelegationSent, EntryAddress, MessageSent, ThreadOpened, ThreadReplied, codec
from shanty_runtime.agent import Profile
from shanty_runtime.bus import Bus
from shanty_runtime.bus.jetstream import RawMessage, publish
from shanty_runtime.models.base import ModelReply, ModelRequest, Stream
from shanty_runtime.thread.verbs import SPECIALIST_VERBS, verb_cards
from shanty_runtime.verify import Audit, Auditor, audit_of_run
from shanty_runtime.worker import Worker

RUN = "0-r"
ORDER = EntryAddress("alpha", RUN, "0", "lead", 0)
DONE = {"type": "tool_use", "id": "call-1", "name": "submit_result", "input": {"summary": "done"}}


class Model:
    name = provider = "test"

    async def reply(self, request: ModelRequest, *, stream: Stream | None = None) -> ModelReply:
        turn = sum(message.role == "assistant" for message in request.messages)
        return ModelReply(blocks=({**DONE, "id": f"call-{turn}"},), stop_reason="tool_use", model="test")

    async def count_tokens(self, request: ModelRequest) -> int:
        return 1


@asynccontextmanager
async def alpha(bus: Bus) -> AsyncIterator[Worker]:
    profile = Profile(agent="alpha", role="specialist", model=Model(), verbs=verb_cards(SPECIALIST_VERBS))
    worker = Worker(bus, profile, replica="alpha-1")
    await worker.start()
    yield worker
    await worker.stop(grace_s=1)


def order() -> DelegationSent:
    return DelegationSent(at_ms=1, to_thread="0-1", brief=Brief(objective="dig", deadline_s=60))


async def replies(bus: Bus, count: int) -> None:
    """Return when the thread has replied so often."""
    seen = 0
    async with asyncio.timeout(60):
        async for stored in bus.feed.follow(RUN):
            seen += isinstance(stored.entry, ThreadReplied)
            if seen == count:
                return


async def messages(bus: Bus) -> list[RawMessage]:
    return [message async for message in bus.journals.run_messages(RUN)]


def audited(found: list[RawMessage]) -> Audit:
    auditor = Auditor(RUN)
    for message in found:
        auditor.take(message)
    return auditor.end()


async def test_everything_a_worker_writes_is_chained_over_the_times_it_rests(bus: Bus) -> None:
    sent = await bus.journals.append(ORDER, order())
    async with alpha(bus) as worker:
        await replies(bus, 1)
        worker.workplace.forget(RUN, "0-1")
        more = MessageSent(at_ms=2, to_thread="0-1", after=ORDER.subject, purpose="follow_up", text="deeper")
        before = sent.stored.own("")
        await bus.journals.append(EntryAddress("alpha", RUN, "0", "lead", 1), more, before=before)
        await replies(bus, 2)
    audit = await audit_of_run(bus, RUN)
    assert audit.findings == () and audit.notes == ()
    assert audit.chained == audit.entries >= 8


async def test_a_journal_that_an_older_release_has_begun_is_chained_from_there_on_and_its_beginning_with_it(
    bus: Bus,
) -> None:
    opened = ThreadOpened(at_ms=1, by="ghost", consumed=(ORDER.subject,))
    place = EntryAddress("log", RUN, "0-1", "alpha", 0)
    await publish(bus.connection, ORDER.subject, codec.encode(order()), codec.message_headers(order()))
    await publish(bus.connection, place.subject, codec.encode(opened), codec.message_headers(opened))
    async with alpha(bus):
        await replies(bus, 1)
    stored = await messages(bus)
    audit = audited(stored)
    assert audit.findings == () and audit.entries - audit.chained == 2
    assert {note.what for note in audit.notes} == {"it is not chained"}

    begun = next(index for index, each in enumerate(stored) if each.subject == place.subject)
    stored[begun] = msgspec.structs.replace(stored[begun], data=stored[begun].data.replace(b"ghost", b"guest"))
    (wrong,) = audited(stored).findings
    assert wrong.subject.endswith(".0-1.alpha.1") and "places 0 to 0 are not chained" in wrong.what


async def test_an_entry_that_lands_behind_one_of_the_successor_is_told_from_a_forged_one(bus: Bus) -> None:
    """Its author had two on the way when it lost its thread, and the successor took the place of the first."""
    opened = await bus.journals.append(
        EntryAddress("log", RUN, "0-1", "alpha", 0), ThreadOpened(at_ms=1, fence=7, consumed=(ORDER.subject,))
    )
    start = opened.stored.own("")
    taken = await bus.journals.append(
        EntryAddress("log", RUN, "0-1", "alpha", 1), ThreadOpened(at_ms=3, fence=8), before=start
    )
    late = MessageSent(at_ms=2, fence=7, to_thread="0", purpose="progress", text="half")
    await bus.journals.append(EntryAddress("lead", RUN, "0-1", "alpha", 2), late, before="ab" * 16)
    after = (await bus.journals.read(RUN, "0-1", "alpha")).entries[-1].own("")
    await bus.journals.append(
        EntryAddress("log", RUN, "0-1", "alpha", 3), ThreadOpened(at_ms=4, fence=8), before=after
    )
    assert taken.ours
    audit = audited(await messages(bus))
    assert [finding for finding in audit.findings if finding.rule == "chain"] == []
    (note,) = audit.notes
    assert note.subject.endswith(".0-1.alpha.2") and "lost the thread" in note.what
