"""Mail that names mail which never comes: whoever sends it, and however much of it, others are heard meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shanty_cli.letters import letters, retry
from shanty_protocol import (
    Brief,
    DelegationSent,
    Entry,
    EntryAddress,
    MailReceived,
    MailRejected,
    MessageSent,
    Outcome,
    ProtocolError,
    ReplyReceived,
    ThreadReplied,
)
from shanty_runtime.agent import Contract, Profile
from shanty_runtime.bus import Bus, Stored
from shanty_runtime.bus.jetstream import manage
from shanty_runtime.models.base import ModelReply, ModelRequest, Stream
from shanty_runtime.thread.verbs import LEAD_VERBS, verb_cards
from shanty_runtime.worker import Worker, patience

RUN, OTHER_RUN = "0-r", "0-other"
QUEUE = "SHANTY_0"
HOSTILE_MAILS = 200
MOST_HANDED_OUT = 150
"""Fewer than the hostile mails: were all of them put back again and again, nobody else would be heard."""


THINKS = "think"
"""The objective of a run whose lead delegates, and then thinks for as long as the test takes."""


class Caller:
    """Delegates to alpha and to beta, and waits for both."""

    name = provider = "test"

    async def reply(self, request: ModelRequest, *, stream: Stream | None = None) -> ModelReply:
        turn = sum(message.role == "assistant" for message in request.messages)
        thinks = THINKS in repr(request.messages[0])
        if thinks and turn == 1:
            await asyncio.Event().wait()
        uses = [
            use(f"{turn}-{name}", "delegate", {"specialist": name, "objective": "dig"}) for name in ("alpha", "beta")
        ]
        if not thinks:
            uses.append(use(f"{turn}-wait", "wait_for_replies", {}))
        return ModelReply(blocks=tuple(uses), stop_reason="tool_use", model="test")

    async def count_tokens(self, request: ModelRequest) -> int:
        return 1


def use(identity: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": identity, "name": name, "input": arguments}


@pytest.fixture
async def lead(bus: Bus) -> AsyncIterator[Worker]:
    contracts = {name: Contract(name=name, description="digs") for name in ("alpha", "beta")}
    profile = Profile(
        agent="lead", role="lead", model=Caller(), verbs=verb_cards(LEAD_VERBS), contracts=contracts, max_turns=99
    )
    worker = Worker(bus, profile, replica="lead-1")
    await worker.start()
    yield worker
    await worker.stop(grace_s=1)


async def begin(bus: Bus, run: str, objective: str) -> dict[str, Stored]:
    """Start a run and return its delegations, by specialist."""
    order = DelegationSent(at_ms=1, to_thread="0", brief=Brief(objective=objective))
    await bus.journals.append(EntryAddress("lead", run, "request-1", "cli", 0), order)
    found: dict[str, Stored] = {}
    async with asyncio.timeout(60):
        async for stored in bus.feed.follow(run):
            if isinstance(stored.entry, DelegationSent) and stored.address.agent == "lead":
                found[stored.address.to] = stored
                if len(found) == 2:
                    return found
    raise AssertionError("a feed does not end by itself")


async def written(bus: Bus, run: str, kind: type[Entry], count: int = 1) -> Stored:
    """The entry of that kind which is the `count`th to be stored."""
    async with asyncio.timeout(60):
        async for stored in bus.feed.follow(run):
            with contextlib.suppress(ProtocolError):
                count -= isinstance(stored.entry, kind)
                if count == 0:
                    return stored
    raise AssertionError("a feed does not end by itself")


def said(text: str, after: str) -> MessageSent:
    return MessageSent(at_ms=2, to_thread="0", after=after, purpose="progress", text=text)


def place(n: int, run: str = RUN) -> EntryAddress:
    return EntryAddress("lead", run, "0-1", "alpha", n)


async def flood(bus: Bus, count: int) -> None:
    """What alpha sends: each of them comes after something that nobody will ever write."""
    never = place(10**6).subject
    await asyncio.gather(*(bus.journals.append(place(100 + n), said(f"{n}", never)) for n in range(count)))


async def replied(bus: Bus, order: Stored, run: str = RUN) -> None:
    outcome = Outcome(status="ok", summary="a chest")
    reply = ThreadReplied(at_ms=3, to_thread="0", outcome=outcome, answers=order.address.subject)
    await bus.journals.append(EntryAddress("lead", run, "0-2", "beta", 0), reply)


async def queue(bus: Bus) -> dict[str, Any]:
    return await manage(bus.connection, f"CONSUMER.INFO.{QUEUE}.mail-lead")


async def handed_out(bus: Bus) -> int:
    """Mails the server has given to the lead and that nobody has acked."""
    return int((await queue(bus))["num_ack_pending"])


async def until_handed_out(bus: Bus, fits: range, deadline_s: float = 60.0) -> None:
    end_s = time.monotonic() + deadline_s
    while await handed_out(bus) not in fits:
        assert time.monotonic() < end_s, f"{await handed_out(bus)} are handed out, and not {fits}"
        await asyncio.sleep(0.05)


async def hand_out_at_most(bus: Bus, count: int) -> None:
    config = {**(await queue(bus))["config"], "max_ack_pending": count}
    request = {"stream_name": QUEUE, "config": config, "action": "update"}
    await manage(bus.connection, f"CONSUMER.CREATE.{QUEUE}.mail-lead.shanty.0.lead.>", request)


async def test_a_specialist_that_names_mail_which_never_comes_keeps_nobody_else_from_being_heard(
    bus: Bus, lead: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PATIENCE_S", 1.0)
    await hand_out_at_most(bus, MOST_HANDED_OUT)
    orders = await begin(bus, RUN, "dig")
    await flood(bus, HOSTILE_MAILS)
    await until_handed_out(bus, range(MOST_HANDED_OUT, MOST_HANDED_OUT + 1))
    await replied(bus, orders["beta"])
    await begin(bus, OTHER_RUN, "dig")
    taken_in = await written(bus, RUN, ReplyReceived)
    assert taken_in.entry.consumed == ("shanty.0.lead.0-r.0-2.beta.0",)

    await written(bus, RUN, MailRejected, HOSTILE_MAILS - patience.MOST_WAITING)
    await until_handed_out(bus, range(patience.MOST_WAITING + 1))
    found = await letters(bus, ["0"])
    assert {(each.letter.code, each.letter.agent) for each in found} == {("out_of_order", "lead")}
    assert len(found) == HOSTILE_MAILS - patience.MOST_WAITING
    assert "has not come, and 100 others of its sender" in found[0].letter.reason


async def test_mail_that_waits_for_a_thread_at_work_keeps_no_other_run_from_being_worked_on(
    bus: Bus, lead: Worker
) -> None:
    await begin(bus, RUN, THINKS)
    await flood(bus, 2 * lead.max_active)
    orders = await begin(bus, OTHER_RUN, "dig")
    await replied(bus, orders["beta"], OTHER_RUN)
    await written(bus, OTHER_RUN, ReplyReceived)


async def test_mail_that_was_given_up_is_taken_in_once_what_it_comes_after_is_there_and_people_retry_it(
    bus: Bus, lead: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PATIENCE_S", 0.1)
    monkeypatch.setattr(patience, "MOST_WAITING", 0)
    await begin(bus, RUN, "dig")
    await bus.journals.append(place(1), said("second", place(0).subject))
    await written(bus, RUN, MailRejected)
    (found,) = await letters(bus, ["0"])
    again = await retry(bus, found, "ann", wait_s=30)
    assert again.rejected.startswith("out_of_order")
    await bus.journals.append(place(0), said("first", ""))
    first = await written(bus, RUN, MailReceived)
    assert first.entry.consumed == (place(0).subject,)
    (found,) = await letters(bus, ["0"])
    done = await retry(bus, found, "ann", wait_s=30)
    assert (done.thread, done.rejected) == ("0", "") and done.read_at_entry is not None


async def test_mail_that_only_comes_out_of_order_is_not_given_up_however_much_it_is(bus: Bus, lead: Worker) -> None:
    """As many as a thread may send in a moment; the first of them is the last to come."""
    await begin(bus, RUN, "dig")
    await asyncio.gather(
        *(bus.journals.append(place(n), said(f"{n}", place(n - 1).subject)) for n in range(1, HOSTILE_MAILS))
    )
    await until_handed_out(bus, range(HOSTILE_MAILS - 1, HOSTILE_MAILS + 1))
    await bus.journals.append(place(0), said("0", ""))
    taken: list[str] = []
    async with asyncio.timeout(60):
        async for stored in bus.feed.follow(RUN):
            if isinstance(stored.entry, MailReceived):
                taken += stored.entry.consumed
                if len(taken) == HOSTILE_MAILS:
                    break
    assert taken == [place(n).subject for n in range(HOSTILE_MAILS)]
    assert await letters(bus, ["0"]) == []
