"""Mail that waits: who has room, how long the rest may wait, and what is remembered of it."""

from __future__ import annotations

import asyncio

import pytest

from shanty_protocol import EntryAddress, MessageSent
from shanty_runtime.thread.decide import Received
from shanty_runtime.worker import patience
from shanty_runtime.worker.patience import Patience, waited_in_vain

RUN, THREAD = "0-r", "0"
SMALL = 100


def mail(n: int, agent: str = "alpha") -> Received:
    said = MessageSent(at_ms=1, to_thread=THREAD, after="never", purpose="progress", text=str(n))
    return Received(EntryAddress("lead", RUN, "0-1", agent, n), said)


def over(known: Patience, waiting: Received, size_bytes: int = SMALL) -> bool:
    return known.is_over(waiting, RUN, THREAD, size_bytes)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Patience:
    """With room for three mails of a sender, and for four more that get no time at all."""
    monkeypatch.setattr(patience, "MOST_WAITING", 3)
    monkeypatch.setattr(patience, "MOST_PASSING", 4)
    monkeypatch.setattr(patience, "PATIENCE_S", 0.0)
    return Patience()


async def test_each_sender_has_room_for_some_and_what_is_beyond_is_given_up(known: Patience) -> None:
    assert [over(known, mail(n)) for n in range(5)] == [False, False, False, True, True]
    assert not over(known, mail(0)), "it comes again, and has its room"
    assert not over(known, mail(9, "beta"))


async def test_room_is_for_others_once_what_had_it_is_taken_in(known: Patience) -> None:
    waiting = [mail(n) for n in range(4)]
    assert [over(known, each) for each in waiting] == [False, False, False, True]
    known.rested(RUN, THREAD, {waiting[0].subject}, ())
    assert not over(known, waiting[3])
    assert set(known.remembered(RUN, THREAD)) == {each.subject for each in waiting[1:]}


async def test_what_is_beyond_may_wait_while_something_of_its_sender_is_taken_in(
    known: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PATIENCE_S", 0.5)
    waiting = [mail(n) for n in range(4)]
    assert not any(over(known, each) for each in waiting)
    await asyncio.sleep(0.6)  # it is time itself that runs out here
    assert over(known, waiting[3])
    known.rested(RUN, THREAD, (), {waiting[0].subject})
    assert not any(over(known, each) for each in (mail(7), waiting[3]))


async def test_more_than_may_pass_is_given_up_at_once(known: Patience, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE_S", 3_600.0)
    assert [over(known, mail(n)) for n in range(9)] == [False] * 7 + [True] * 2
    known.given_up(mail(8))
    known.given_up(mail(3))
    assert not over(known, mail(8))


async def test_what_does_not_come_again_leaves_its_room(known: Patience, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [over(known, mail(n)) for n in range(4)] == [False, False, False, True]
    monkeypatch.setattr(patience, "FORGOTTEN_S", -1.0)
    assert not over(known, mail(4))
    assert set(known.remembered(RUN, THREAD)) == {mail(4).subject}


async def test_large_mail_has_room_and_is_not_remembered(known: Patience) -> None:
    assert not over(known, mail(0), patience.MOST_REMEMBERED_BYTES + 1)
    assert not over(known, mail(1), patience.MOST_REMEMBERED_BYTES)
    assert known.remembered(RUN, THREAD) == {mail(1).subject: mail(1)}
    assert known.remembered(RUN, "0-1") == {}


def test_the_letter_says_what_was_waited_for() -> None:
    assert "the mail before it, never, has not come, and 100 others" in waited_in_vain(mail(0).entry)
