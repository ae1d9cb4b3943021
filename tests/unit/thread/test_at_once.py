"""A delegation that is all a thread is ever told is decided on as any other is, without a state of the thread."""

from __future__ import annotations

import msgspec
import pytest

from shanty_protocol import Brief, CancelSent, DelegationSent, EntryAddress, Outcome
from shanty_protocol.ids import HOST, OPERATORS
from shanty_runtime.agent import Profile
from shanty_runtime.agent.handler import Context, handler_from
from shanty_runtime.thread.decide import (
    Received,
    RunHandler,
    Stamp,
    answer_at_once,
    decide,
    may_be_opened_by,
    reply_to_asker,
)
from shanty_runtime.thread.state import State


class Text(msgspec.Struct, frozen=True, kw_only=True):
    text: str


async def echo(given: Text, context: Context) -> Text:
    return given


STAMP = Stamp(1_000, "alpha-1", 0)
PROFILE = Profile(agent="alpha", role="specialist", handler=handler_from(echo))


def delegation(*, by: str = "lead", thread: str = "0", after: str = "") -> Received:
    sent = DelegationSent(at_ms=1, to_thread="0-1", after=after, brief=Brief(objective="", input={"text": "x"}))
    return Received(EntryAddress("alpha", "0-r", thread, by, 3), sent)


def fresh(thread: str = "0-1") -> State:
    return State(run="0-r", thread=thread, profile=PROFILE)


@pytest.mark.parametrize("outcome", [Outcome(status="ok", result={"text": "x"}), Outcome(status="failed", code="x")])
def test_the_answer_is_the_one_that_the_threads_state_would_give(outcome: Outcome) -> None:
    mail = delegation()
    assert answer_at_once(mail, STAMP, outcome) == reply_to_asker(fresh(), STAMP, outcome, mail)


@pytest.mark.parametrize(
    "mail",
    [
        delegation(),
        delegation(by="cli", thread="request-1"),
        delegation(thread="0-2"),
        delegation(after="shanty.0.alpha.0-r.0.lead.2"),
        delegation(by=HOST),
        delegation(by=OPERATORS),
        Received(EntryAddress("alpha", "0-r", "0", "lead", 3), CancelSent(at_ms=1, to_thread="0-1", mode="abort")),
    ],
    ids=lambda mail: f"{type(mail.entry).__name__} of {mail.address.agent}.{mail.address.thread} {mail.entry.after}",
)
@pytest.mark.parametrize("thread", ["0", "0-1"])
def test_what_may_open_a_thread_is_what_the_handler_would_be_run_for(mail: Received, thread: str) -> None:
    runs = isinstance(decide(fresh(thread), [mail], STAMP, abandoned=False), RunHandler)
    assert may_be_opened_by(PROFILE, thread, mail) is runs
