"""What a thread does next, from its state and the mail that is waiting. Pure: the time is an argument.

Reject      put a mail away that cannot be taken in
Write       append these entries, in this order
FireTimer   a deadline has passed: find out who had not even started, and write it down
AskModel    make the next model call
Compact     make the model's view of the thread smaller first
RunCalls    make the tool calls that are open
RunHandler  run the Python handler
Park        nothing to do until the next mail, timer or person
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from shanty_protocol import (
    DelegationSent,
    Entry,
    EntryAddress,
    MailReceived,
    MessageSent,
    Outcome,
    ReplyReceived,
    ThreadFailed,
    ThreadOpened,
    ThreadReplied,
    ThreadTakenOver,
)
from shanty_protocol.ids import DEAD, LOG, is_agent_thread, parent_thread
from shanty_runtime.agent.schema import problems_with
from shanty_runtime.thread.dialogue import MAX_COMPACTIONS, Call
from shanty_runtime.thread.state import Due, State
from shanty_runtime.thread.verbs import VERBS


class Received(msgspec.Struct, frozen=True):
    """A mail that is waiting."""

    address: EntryAddress
    entry: Entry

    @property
    def subject(self) -> str:
        return self.address.subject


class Stamp(msgspec.Struct, frozen=True):
    """Who writes, under which lease, and when."""

    at_ms: int
    by: str
    fence: int


class Draft(msgspec.Struct, frozen=True):
    to: str
    entry: Entry


class Reject(msgspec.Struct, frozen=True):
    mail: Received
    code: str
    reason: str


class Write(msgspec.Struct, frozen=True):
    drafts: tuple[Draft, ...]


class FireTimer(msgspec.Struct, frozen=True):
    late: tuple[str, ...]


class AskModel(msgspec.Struct, frozen=True):
    pass


class Compact(msgspec.Struct, frozen=True):
    pass


class RunCalls(msgspec.Struct, frozen=True):
    calls: tuple[Call, ...]


class RunHandler(msgspec.Struct, frozen=True):
    mail: Received | None
    """The delegation, where no entry has named it yet."""


class Park(msgspec.Struct, frozen=True):
    pass


Step = Reject | Write | FireTimer | AskModel | Compact | RunCalls | RunHandler | Park
Admission = Literal["take", "done", "wait"] | Reject


def decide(state: State, mails: Sequence[Received], stamp: Stamp, *, abandoned: bool) -> Step:
    """The next step. `abandoned`: the worker that had this thread before is gone, and nobody has noted it yet."""
    if state.due:
        return Write(tuple(Draft(due.to, due.entry) for due in state.due))
    step = _next_step(state, mails, stamp)
    if abandoned and not isinstance(step, (Park, Reject)):
        return Write((Draft(LOG, _stamped(ThreadTakenOver, stamp)),))
    return step


def _next_step(state: State, mails: Sequence[Received], stamp: Stamp) -> Step:
    taken: list[Received] = []
    for mail in in_order(mails):
        admission = admit(state, mail, taken)
        if isinstance(admission, Reject):
            return admission
        if admission == "take":
            taken.append(mail)
    if state.attempts >= state.profile.max_attempts and (taken or state.owes_reply):
        return _given_up(state, taken, stamp)
    late = _late_threads(state, stamp.at_ms)
    if late is not None:
        return FireTimer(late)
    if state.profile.handler is not None:
        return _handler_step(state, taken, stamp)
    if taken:
        return Write((_taking(state, taken, stamp),))
    return _model_step(state, stamp)


def _model_step(state: State, stamp: Stamp) -> Step:
    runnable = tuple(call for call in state.open_calls if call.name not in VERBS)
    if runnable:
        return RunCalls(runnable)
    if state.open_calls or not state.owes_reply:
        return Park()
    if problem := _input_problem(state):
        outcome = Outcome(status="refused", code="invalid_input", summary=problem)
        return Write((_reply(state, stamp, outcome),))
    if state.turns >= state.profile.max_turns:
        return Write((_turn_limit_reply(state, stamp),))
    if state.dialogue.compactions >= MAX_COMPACTIONS:
        outcome = Outcome(status="failed", code="model_failed", summary="the task is larger than the model can take")
        return Write((_reply(state, stamp, outcome),))
    if state.dialogue.retry_at_ms > stamp.at_ms:
        return Park()
    if state.dialogue.too_large or state.dialogue.expected_tokens() > state.profile.compact_at_tokens:
        return Compact()
    return AskModel()


def _input_problem(state: State) -> str:
    """What is wrong with the typed input of a delegation that no model has seen yet."""
    schema = state.profile.input_schema
    if schema is None or state.seen or state.brief is None:
        return ""
    if state.brief.input is None:
        return "this specialist takes typed input, and the brief has none"
    return problems_with(state.brief.input, schema)


def _handler_step(state: State, taken: list[Received], stamp: Stamp) -> Step:
    opening = next((mail for mail in taken if isinstance(mail.entry, DelegationSent)), None)
    if opening is not None:
        return RunHandler(opening)
    if taken:
        return Write((_taking(state, taken, stamp),))
    if not state.owes_reply:
        return Park()
    if state.newest_is_follow_up:
        return Write((_reply(state, stamp, Outcome(status="refused", summary=NO_FOLLOW_UPS)),))
    return RunHandler(None)


NO_FOLLOW_UPS = "this specialist is a Python function: it takes typed delegations, not messages"


def admit(state: State, mail: Received, taken: Sequence[Received]) -> Admission:
    """Whether a mail is taken in now, has been, must wait for one sent before it, or may not be here at all."""
    if mail.subject in state.consumed or any(each.subject == mail.subject for each in taken):
        return "done"
    entry, sender = mail.entry, (mail.address.agent, mail.address.thread)
    if not isinstance(entry, (DelegationSent, MessageSent, ThreadReplied)):
        return Reject(mail, "invalid_message", "it is addressed to an agent but is not mail")
    reason = _not_allowed(state, mail, taken)
    if reason:
        return Reject(mail, "wrong_recipient", reason)
    newest = next(
        (each.subject for each in reversed(taken) if (each.address.agent, each.address.thread) == sender),
        state.heard_from.get(sender, ""),
    )
    return "take" if entry.after == newest else "wait"


def _not_allowed(state: State, mail: Received, taken: Sequence[Received]) -> str:
    """Why this sender may not send this to this thread; empty where it may. The author is pinned by the server."""
    agent, thread = mail.address.agent, mail.address.thread
    opening = next((each for each in taken if isinstance(each.entry, DelegationSent)), None)
    opener = (opening.address.agent, opening.address.thread) if opening else state.opener
    if agent in state.profile.contracts and _asks(mail.entry):
        return f"{agent} is a specialist of {state.profile.agent}: it answers, and starts nothing here"
    match mail.entry:
        case DelegationSent():
            if opener is not None:
                return f"thread {state.thread} was opened by {opener[0]} already"
            if parent_thread(state.thread) is None:
                return f"agent thread {thread} may not open thread 0" if is_agent_thread(thread) else ""
            if thread != parent_thread(state.thread):
                return f"thread {thread} may not open {state.thread}: it is not its parent"
            return ""
        case MessageSent(purpose="follow_up"):
            # A follow-up can be delivered before the delegation it follows; then it waits for it.
            return "" if opener in (None, (agent, thread)) else f"{agent} did not open thread {state.thread}"
        case _:
            child = state.children.get(thread)
            known = child is not None and child.specialist == agent
            return "" if known else f"thread {state.thread} did not open {thread} of {agent}"


def _asks(entry: Entry) -> bool:
    """Whether whoever sends this wants a reply."""
    return isinstance(entry, DelegationSent) or (isinstance(entry, MessageSent) and entry.purpose == "follow_up")


def in_order(mails: Sequence[Received]) -> list[Received]:
    return sorted(mails, key=lambda mail: (mail.address.agent, mail.address.thread, mail.address.n))


def _taking(state: State, taken: Sequence[Received], stamp: Stamp) -> Draft:
    """One entry that takes in all of these mails."""
    kinds = {type(mail.entry) for mail in taken}
    kind = ThreadOpened if DelegationSent in kinds else ReplyReceived if ThreadReplied in kinds else MailReceived
    return Draft(LOG, _stamped(kind, stamp, consumed=tuple(mail.subject for mail in taken)))


def _given_up(state: State, taken: Sequence[Received], stamp: Stamp) -> Step:
    failed = _stamped(
        ThreadFailed,
        stamp,
        consumed=tuple(mail.subject for mail in taken),
        code="crash_loop",
        reason=f"{state.attempts} workers died on this thread, one after the other; it was given up",
    )
    return Write((Draft(DEAD, failed),))


def _late_threads(state: State, now_ms: int) -> tuple[str, ...] | None:
    deadline_ms = state.next_deadline_ms
    if deadline_ms is None or deadline_ms > now_ms:
        return None
    late = (child for child in state.children.values() if child.owes_reply and child.deadline_ms <= now_ms)
    return tuple(child.thread for child in late)


def _turn_limit_reply(state: State, stamp: Stamp) -> Draft:
    written = ", ".join(state.files) or "none"
    outcome = Outcome(
        status="budget_exhausted",
        code="turn_limit",
        summary=f"stopped after {state.turns} turns without handing in; files written: {written}",
        files=tuple(state.files.values()),
    )
    return _reply(state, stamp, outcome)


def _reply(state: State, stamp: Stamp, outcome: Outcome) -> Draft:
    due = reply_to_opener(state, stamp, outcome, answers=state.newest)
    return Draft(due.to, due.entry)


def reply_to_opener(
    state: State, stamp: Stamp, outcome: Outcome, *, answers: str, opener: Received | None = None
) -> Due:
    """The entry that answers whoever opened this thread."""
    peer = (opener.address.agent, opener.address.thread) if opener else state.opener
    assert peer is not None, "only an opened thread replies"
    reply = ThreadReplied(
        at_ms=stamp.at_ms,
        by=stamp.by,
        fence=stamp.fence,
        consumed=(opener.subject,) if opener else (),
        to_thread=peer[1],
        after=state.sent_to.get(peer, ""),
        outcome=outcome,
        answers=answers,
        usage=state.total_usage,
        cost_microusd=state.total_cost_microusd,
    )
    return Due(peer[0], reply)


def _stamped(kind: type[Entry], stamp: Stamp, **fields: object) -> Entry:
    return kind(at_ms=stamp.at_ms, by=stamp.by, fence=stamp.fence, **fields)  # type: ignore[arg-type]
