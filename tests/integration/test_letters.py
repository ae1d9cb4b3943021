"""Dead letters on a real bus: what is listed, what a retry does and does not do, and that it is decided once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from shanty_cli.exits import UsageError
from shanty_cli.letters import Found, drop, find, letters, retry, shown
from shanty_protocol import (
    Brief,
    CancelSent,
    DelegationSent,
    Entry,
    EntryAddress,
    MailRejected,
    MailRetried,
    MessageSent,
    ProtocolError,
    ThreadReplied,
    codec,
)
from shanty_protocol.headers import TRACEPARENT, VERSION
from shanty_runtime.agent import Profile
from shanty_runtime.bus import Bus
from shanty_runtime.models.base import ModelReply, ModelRequest, Stream
from shanty_runtime.thread.verbs import SPECIALIST_VERBS, verb_cards
from shanty_runtime.worker import Worker
from shanty_runtime.worker.activation import PATIENT_DELIVERIES, UNREADABLE_DELAY_S, waiting_delay_s

RUN = "0-r"
ORDER = EntryAddress("alpha", RUN, "0", "lead", 0)
NEWER = {VERSION: str(codec.PROTOCOL_VERSION + 1), TRACEPARENT: f"00-{'ab' * 16}-{'cd' * 8}-01"}
DONE = {"type": "tool_use", "id": "call-1", "name": "submit_result", "input": {"summary": "done"}}


class Model:
    name = provider = "test"

    def __init__(self) -> None:
        self.calls = 0

    async def reply(self, request: ModelRequest, *, stream: Stream | None = None) -> ModelReply:
        self.calls += 1
        return ModelReply(blocks=(DONE,), stop_reason="tool_use", model="test")

    async def count_tokens(self, request: ModelRequest) -> int:
        return 1


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
async def alpha(bus: Bus, model: Model) -> AsyncIterator[Worker]:
    async with worker_of(bus, model) as worker:
        yield worker


@asynccontextmanager
async def worker_of(bus: Bus, model: Model) -> AsyncIterator[Worker]:
    profile = Profile(agent="alpha", role="specialist", model=model, verbs=verb_cards(SPECIALIST_VERBS))
    worker = Worker(bus, profile, replica="alpha-1")
    await worker.start()
    yield worker
    await worker.stop(grace_s=1)


def order(objective: str = "the key is sk-abcdefghijklmnopqrstuvwx") -> DelegationSent:
    return DelegationSent(at_ms=1, to_thread="0-1", brief=Brief(objective=objective))


async def written(bus: Bus, kind: type[Entry], count: int = 1) -> Entry:
    """The entry of that kind which is the `count`th to be stored."""
    async with asyncio.timeout(30):
        async for stored in bus.feed.follow(RUN):
            with contextlib.suppress(ProtocolError):
                count -= isinstance(stored.entry, kind)
                if count == 0:
                    return stored.entry
    raise AssertionError("a feed does not end by itself")


async def unreadable(bus: Bus) -> Found:
    """A delegation that is of a later version, and the letter it became."""
    await bus.journals.append(ORDER, order(), NEWER)
    await written(bus, MailRejected)
    (found,) = await letters(bus, ["0"])
    return found


async def test_a_mail_that_could_not_be_read_is_done_once_a_version_that_can_retries_it(
    bus: Bus, alpha: Worker, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await unreadable(bus)
    assert (first.letter.code, first.letter.mail, first.letter.trace) == (
        "unsupported_version",
        ORDER.subject,
        "ab" * 16,
    )
    assert "[redacted]" in (await shown(bus, first)).content
    again = await retry(bus, first, "ann", wait_s=20)
    assert again.rejected.startswith("unsupported_version")
    (second,) = await letters(bus, ["0"])
    assert second.letter.letter != first.letter.letter and second.letter.mail == ORDER.subject

    monkeypatch.setattr(codec, "PROTOCOL_VERSION", codec.PROTOCOL_VERSION + 1)
    done = await retry(bus, second, "ann", wait_s=20)
    assert (done.thread, done.read_at_entry, done.rejected) == ("0-1", 0, "")
    reply = await written(bus, ThreadReplied)
    assert isinstance(reply, ThreadReplied) and (reply.answers, model.calls) == (ORDER.subject, 1)
    part = await bus.journals.read(RUN, "0-1", "alpha")
    assert part.entries[0].entry.consumed == (ORDER.subject,)
    assert await letters(bus, ["0"]) == []
    fates = [(each.letter.fate, each.letter.dealt_with_by) for each in await letters(bus, ["0"], all_of_them=True)]
    assert fates == [("retried", "ann"), ("retried", "ann")]


async def test_a_mail_that_is_retried_after_it_was_taken_in_is_not_done_twice(
    bus: Bus, alpha: Worker, model: Model
) -> None:
    await bus.journals.append(ORDER, order())
    await written(bus, ThreadReplied)
    request = MailRetried(at_ms=1, letter="shanty.0.dead.0-r.dead-1.alpha.0", mail=ORDER.subject)
    await bus.journals.append(EntryAddress("alpha", RUN, "letter-1", "operators", 0), request)
    more = MessageSent(at_ms=1, to_thread="0-1", after=ORDER.subject, purpose="follow_up", text="and then?")
    await bus.journals.append(EntryAddress("alpha", RUN, "0", "lead", 1), more)
    await written(bus, ThreadReplied, count=2)
    part = await bus.journals.read(RUN, "0-1", "alpha")
    assert [subject for stored in part.entries for subject in stored.entry.consumed].count(ORDER.subject) == 1
    assert model.calls == 2 and await letters(bus, ["0"]) == []


@pytest.mark.parametrize(
    ("author", "mail", "said"),
    [
        ("lead", ORDER.subject, "lead may not have mail processed again"),
        ("operators", "shanty.0.beta.0-r.0.lead.0", "is not mail of alpha"),
        ("operators", "shanty.0.alpha.0-other.0.lead.0", "is not mail of alpha"),
        ("operators", "shanty.0.alpha.0-r.0.lead.7", "there was no mail"),
        ("operators", "shanty.0.alpha.0-r.letter-1.operators.0", "there was no mail"),
    ],
)
async def test_a_retry_that_is_not_one_is_a_dead_letter_itself(
    bus: Bus, alpha: Worker, model: Model, author: str, mail: str, said: str
) -> None:
    request = EntryAddress("alpha", RUN, "letter-1", author, 0)
    await bus.journals.append(request, MailRetried(at_ms=1, letter="shanty.0.dead.0-r.dead-1.alpha.0", mail=mail))
    letter = await written(bus, MailRejected)
    assert isinstance(letter, MailRejected) and said in letter.reason
    assert (letter.mail, model.calls) == (request.subject, 0)


async def test_a_delegation_that_nobody_wants_any_more_is_not_done_when_it_is_retried(
    bus: Bus, alpha: Worker, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await unreadable(bus)
    gave_up = CancelSent(at_ms=1, to_thread="0-1", after=ORDER.subject, mode="abort", reason="the thread has replied")
    await bus.journals.append(EntryAddress("alpha", RUN, "0", "lead", 1), gave_up)
    monkeypatch.setattr(codec, "PROTOCOL_VERSION", codec.PROTOCOL_VERSION + 1)
    await retry(bus, found, "ann", wait_s=20)
    reply = await written(bus, ThreadReplied)
    assert isinstance(reply, ThreadReplied) and reply.outcome.status == "cancelled"
    assert model.calls <= 1, "the request to stop may have come back a moment later than the delegation"


async def test_a_letter_that_is_dropped_is_listed_no_more_and_says_who_and_why(bus: Bus, alpha: Worker) -> None:
    found = await unreadable(bus)
    dropped = await drop(bus, found, "ann", "an old sender")
    assert (dropped.fate, dropped.dealt_with_by) == ("dropped", "ann")
    assert await letters(bus, ["0"]) == []
    kept = await find(bus, ["0"], found.letter.letter)
    assert kept.letter == dropped
    for deal in (retry(bus, kept, "bob", 1), drop(bus, kept, "bob", "")):
        with pytest.raises(UsageError, match="was dropped already, by ann"):
            await deal


async def test_of_two_people_who_deal_with_a_letter_at_once_one_has_decided(bus: Bus, alpha: Worker) -> None:
    found = await unreadable(bus)
    said = await asyncio.gather(retry(bus, found, "ann", 1), drop(bus, found, "bob", ""), return_exceptions=True)
    (refused,) = [each for each in said if isinstance(each, BaseException)]
    assert isinstance(refused, UsageError) and "already" in str(refused)


async def test_a_mail_that_was_rejected_for_what_it_says_is_not_retried(bus: Bus, alpha: Worker) -> None:
    await bus.journals.append(EntryAddress("alpha", RUN, "0-9", "mallory", 0), order())
    await written(bus, MailRejected)
    (found,) = await letters(bus, ["0"])
    with pytest.raises(UsageError, match="would be again"):
        await retry(bus, found, "ann", 1)


async def test_whoever_names_a_letter_that_is_not_there_is_told_which_there_are(bus: Bus, alpha: Worker) -> None:
    found = await unreadable(bus)
    with pytest.raises(UsageError, match=f"no dead letter 0.999; the newest are {found.letter.letter}"):
        await find(bus, ["0"], "0.999")


def test_a_mail_that_waits_for_a_dead_letter_comes_back_less_and_less_often() -> None:
    assert waiting_delay_s(PATIENT_DELIVERIES) <= 0.5
    assert 2 <= waiting_delay_s(PATIENT_DELIVERIES + 3) <= 4
    assert waiting_delay_s(10_000) == UNREADABLE_DELAY_S
