"""What becomes of a run whose first entries the stream has dropped, because they are older than it keeps anything."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Literal

import msgspec
import pytest

from shanty_cli.exits import UsageError
from shanty_cli.letters import Found, find, letters, retry
from shanty_cli.lookup import newest_runs, view_of
from shanty_protocol import (
    Brief,
    DelegationSent,
    Entry,
    EntryAddress,
    MailRejected,
    MessageSent,
    ModelReplied,
    ThreadOpened,
    ThreadReplied,
)
from shanty_protocol.ids import LOG
from shanty_protocol.streams import entry_stream
from shanty_runtime.agent import Profile
from shanty_runtime.bus import Bus, EmbeddedServer
from shanty_runtime.bus.jetstream import manage
from shanty_runtime.models.base import ModelReply, ModelRequest, Stream
from shanty_runtime.testing.bus import bus_settings
from shanty_runtime.thread.verbs import SPECIALIST_VERBS, verb_cards
from shanty_runtime.verify import audit_of_run
from shanty_runtime.worker import Worker
from support.filling import fill, run_ids

RUN = "0-r"
OLD_MS = 1_700_000_000_000
ORDER = EntryAddress("alpha", RUN, "0", "lead", 0)
LATE = EntryAddress("alpha", RUN, "0", "lead", 9)
OPENED = ThreadOpened(at_ms=OLD_MS, consumed=(ORDER.subject,))
SPOKE = ModelReplied(at_ms=OLD_MS, blocks=({"type": "text", "text": "hm"},), stop_reason="end_turn", model="test")
DONE = {"type": "tool_use", "id": "call-1", "name": "submit_result", "input": {"summary": "done"}}


class Model:
    name = provider = "test"

    async def reply(self, request: ModelRequest, *, stream: Stream | None = None) -> ModelReply:
        return ModelReply(blocks=(DONE,), stop_reason="tool_use", model="test")

    async def count_tokens(self, request: ModelRequest) -> int:
        return 1


@pytest.fixture(params=["control", "agent"])
async def alpha(request: pytest.FixtureRequest, bus: Bus, server: EmbeddedServer) -> AsyncIterator[Worker]:
    """A worker, in the account of the lead or in one of its own, where it may read no more than single places."""
    zone: Literal["control", "agent"] = request.param
    profile = Profile(agent="alpha", role="specialist", model=Model(), verbs=verb_cards(SPECIALIST_VERBS))
    async with Bus(msgspec.structs.replace(bus_settings(server), zone=zone)) as own:
        worker = Worker(own, profile, replica="alpha-1")
        await worker.start()
        yield worker
        await worker.stop(grace_s=1)


async def stored(bus: Bus, *entries: tuple[int, Entry]) -> None:
    """Entries of alpha's thread 0-1 that are left of its journal."""
    for n, entry in entries:
        await bus.journals.append(EntryAddress(LOG, RUN, "0-1", "alpha", n), entry)


async def late_mail(bus: Bus) -> None:
    advice = MessageSent(at_ms=1, to_thread="0-1", after=ORDER.subject, purpose="follow_up", text="go on")
    await bus.journals.append(LATE, advice)


async def first(bus: Bus, run: str, kind: type[Entry]) -> Entry:
    async with asyncio.timeout(30):
        async for one in bus.feed.follow(run):
            if isinstance(one.entry, kind):
                return one.entry
    raise AssertionError("a feed does not end by itself")


async def is_put_away(bus: Bus) -> Found:
    """The late mail is a dead letter, its thread is left as it was, and the next mail is processed."""
    rejected = await first(bus, RUN, MailRejected)
    assert isinstance(rejected, MailRejected)
    assert (rejected.mail, rejected.code) == (LATE.subject, "expired")
    order = DelegationSent(at_ms=1, to_thread="0-1", brief=Brief(objective="find out"))
    await bus.journals.append(msgspec.structs.replace(ORDER, run="0-next"), order)
    replied = await first(bus, "0-next", ThreadReplied)
    assert isinstance(replied, ThreadReplied) and replied.outcome.status == "ok"
    (found,) = await letters(bus, ["0"])
    return found


async def test_late_mail_for_a_thread_whose_first_entries_are_dropped_is_a_dead_letter(
    bus: Bus, alpha: Worker
) -> None:
    await stored(bus, (5, SPOKE), (6, SPOKE))
    await late_mail(bus)
    found = await is_put_away(bus)
    assert "place 0 is no longer stored" in found.letter.reason
    # A new first entry would make a journal of what is left that nobody has ever written.
    assert await bus.journals.get(EntryAddress(LOG, RUN, "0-1", "alpha", 0).guard) is None
    with pytest.raises(UsageError, match="no longer stored"):
        await retry(bus, await find(bus, ["0"], found.letter.letter), "ada", 0)


async def test_late_mail_for_a_thread_whose_order_is_dropped_is_a_dead_letter(bus: Bus, alpha: Worker) -> None:
    await stored(bus, (0, OPENED), (1, SPOKE))
    await late_mail(bus)
    assert f"mail {ORDER.subject} is no longer stored" in (await is_put_away(bus)).letter.reason


async def test_an_order_that_is_missing_for_a_moment_is_waited_for(bus: Bus, alpha: Worker) -> None:
    opened = msgspec.structs.replace(OPENED, at_ms=bus.clock.now_ms())
    await stored(bus, (0, opened))
    await late_mail(bus)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(6):
            assert not isinstance(await first(bus, RUN, MailRejected), MailRejected), "it may only lag"
    assert await letters(bus, ["0"]) == []


@pytest.mark.parametrize(
    ("dropped", "audited"), [(1, "which was not stored before it"), (4, "too old for the stream")]
)
async def test_what_is_left_of_a_finished_run_is_shown_as_that(
    server: EmbeddedServer, bus: Bus, dropped: int, audited: str
) -> None:
    cut, whole = run_ids(2)
    await fill(server.url, (cut, whole))
    assert not (await view_of(bus, cut)).expired
    # This is what the age limit does to a stream: what was stored first goes first.
    await manage(bus.connection, f"STREAM.PURGE.{entry_stream('0')}", {"seq": dropped + 1})
    view = await view_of(bus, cut)
    assert (view.expired, view.status, view.entries) == (True, "completed", 8 - dropped)
    listed = await newest_runs(bus, ("0",), 10)
    assert [line.run for line in listed] == [whole]
    audit = await audit_of_run(bus, cut)
    assert any(audited in finding.what for finding in audit.findings)
    assert (await audit_of_run(bus, whole)).is_sound
