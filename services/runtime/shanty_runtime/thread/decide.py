"""What a thread does next, from its state and the mail that is waiting. Pure: the time is an argument.

Reject      put a mail away that cannot be taken in
Write       append these entries, in this order
FireTimer   a deadline has passed: find out who had not even started, and write it down
AskModel    make the next model call
Compact     make the model's view of the thread smaller first
AskPeople   ask people about calls, where they have not allowed them for the whole run
RunCalls    make the tool calls that are open
RunHandler  run the Python handler
StartFanOut, ReadItems, FinishFanOut
            find out what the items of a fan-out are; read them again; write what became of them
Park        nothing to do until the next mail, timer or person
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from shanty_protocol import (
    ApprovalDecided,
    Budget,
    BudgetExhausted,
    BudgetGranted,
    BudgetRequested,
    CancelSent,
    DelegationSent,
    Entry,
    EntryAddress,
    MailReceived,
    MessageSent,
    Outcome,
    ProtocolError,
    QuestionAnswered,
    QuestionAsked,
    ReplyReceived,
    ThreadFailed,
    ThreadOpened,
    ThreadReplied,
    ThreadResumed,
    ThreadTakenOver,
    ThreadWaiting,
    Usage,
)
from shanty_protocol.ids import DEAD, HOST, LOG, OPERATORS, is_agent_thread, parent_thread
from shanty_protocol.subjects import parse_entry
from shanty_runtime.agent.budget import filled
from shanty_runtime.agent.profile import Profile
from shanty_runtime.agent.schema import problems_with
from shanty_runtime.thread import approvals, fanout, grading, hedging, hiring, people, questions
from shanty_runtime.thread.dialogue import MAX_COMPACTIONS, Call
from shanty_runtime.thread.ending import stopped_outcome
from shanty_runtime.thread.escrow import NOTHING_SPENT
from shanty_runtime.thread.sending import with_brief
from shanty_runtime.thread.state import Due, Peer, State
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


class AskPeople(msgspec.Struct, frozen=True):
    calls: tuple[Call, ...]


class RunCalls(msgspec.Struct, frozen=True):
    calls: tuple[Call, ...]


class RunHandler(msgspec.Struct, frozen=True):
    mail: Received | None
    """The delegation, where no entry has named it yet."""


class StartFanOut(msgspec.Struct, frozen=True):
    call: Call


class ReadItems(msgspec.Struct, frozen=True):
    call_id: str


class FinishFanOut(msgspec.Struct, frozen=True):
    call_id: str


class Park(msgspec.Struct, frozen=True):
    pass


Step = (
    Reject
    | Write
    | FireTimer
    | AskModel
    | Compact
    | AskPeople
    | RunCalls
    | RunHandler
    | StartFanOut
    | ReadItems
    | FinishFanOut
    | Park
)
Admission = Literal["take", "done", "wait"] | Reject

IN_ORDER = (DelegationSent, MessageSent, CancelSent, BudgetGranted, ThreadReplied, QuestionAsked)
ANSWERS = (QuestionAnswered, ApprovalDecided)
"""Mail that says itself what it is to: it is in no order with what else its sender sends."""
WAITING = (ThreadWaiting, ThreadResumed)
"""Mail about time, which an older receiver may put away: what comes after it must not wait for it."""
UNORDERED = (*ANSWERS, *WAITING)


def decide(state: State, mails: Sequence[Received], stamp: Stamp, *, abandoned: bool) -> Step:
    """The next step. `abandoned`: the worker that had this thread before is gone, and nobody has noted it yet."""
    if state.due:
        if drafts := due_drafts(state):
            return Write(drafts)
        waiting = state.due[0].entry
        assert isinstance(waiting, DelegationSent), "nothing else needs an item"
        return ReadItems(waiting.call_id)
    step = _next_step(state, mails, stamp)
    if abandoned and not isinstance(step, (Park, Reject)):
        return Write((Draft(LOG, _stamped(ThreadTakenOver, stamp)),))
    return step


def due_drafts(state: State) -> tuple[Draft, ...]:
    """What has to come next, as far as the items it is about have been read."""
    drafts: list[Draft] = []
    for due in state.due:
        entry: Entry | None = due.entry
        if isinstance(entry, DelegationSent) and entry.item is not None:
            entry = with_brief(state, entry)
        if entry is None:
            break
        drafts.append(Draft(due.to, entry))
    return tuple(drafts)


def _next_step(state: State, mails: Sequence[Received], stamp: Stamp) -> Step:
    taken, rejected = _admitted(state, mails)
    if rejected is not None:
        return rejected
    if state.attempts >= state.profile.max_attempts and (taken or state.owes_reply):
        return _given_up(state, taken, stamp)
    if not state.is_a_run and state.owes_reply and state.escrow.time_is_over(stamp.at_ms):
        return Write((_exhausted(state, "time_limit", stamp),))
    if (told := people.news(state, at_ms=stamp.at_ms, by=stamp.by, fence=stamp.fence)) is not None:
        return Write((Draft(*told),))
    late = _late_threads(state, stamp.at_ms)
    if late is not None and not any(isinstance(mail.entry, UNORDERED) for mail in taken):
        return FireTimer(late)
    if state.profile.handler is not None:
        return _handler_step(state, taken, stamp)
    if taken:
        return Write((_taking(state, taken, stamp),))
    if hedging.is_due(state, stamp.at_ms):
        return FireTimer(())
    return _model_step(state, stamp)


def _admitted(state: State, mails: Sequence[Received]) -> tuple[list[Received], Reject | None]:
    """Which mails are taken in now, and the first that may not be here at all."""
    taken: list[Received] = []
    for mail in in_order(mails):
        admission = admit(state, mail, taken)
        if isinstance(admission, Reject):
            return taken, admission
        if admission == "take":
            taken.append(mail)
    return taken, None


def interject(state: State, mails: Sequence[Received], stamp: Stamp) -> Draft | None:
    """What is taken in while a model call or a tool is under way: advice, and requests to stop."""
    taken: list[Received] = []
    for mail in in_order(mails):
        urgent = isinstance(mail.entry, CancelSent) or (
            isinstance(mail.entry, MessageSent)
            and mail.entry.purpose == "follow_up"
            and state.profile.handler is None
        )
        if urgent and admit(state, mail, taken) == "take":
            taken.append(mail)
    return _taking(state, taken, stamp) if taken else None


def asked_to_stop(state: State, mails: Sequence[Received]) -> Literal["", "wrap_up", "abort"]:
    """What the mail that is waiting asks of the step that is under way."""
    taken, _ = _admitted(state, mails)
    modes = {mail.entry.mode for mail in taken if isinstance(mail.entry, CancelSent)}
    return "abort" if "abort" in modes else "wrap_up" if modes else ""


def _model_step(state: State, stamp: Stamp) -> Step:
    if (step := _fan_out_step(state)) is not None:
        return step
    own = [call for call in state.open_calls if call.name not in VERBS]
    if unruled := [call for call in own if approvals.needs_ruling(state, call)]:
        ruled = approvals.entries_for(state, unruled, {}, at_ms=stamp.at_ms, by=stamp.by, fence=stamp.fence)
        return Write(tuple(Draft(to, entry) for to, entry in ruled))
    held = [call for call in state.open_calls if call.held]
    if unasked := tuple(call for call in (*own, *held) if approvals.needs_approval(state, call)):
        return AskPeople(unasked)
    if runnable := tuple(call for call in own if call.approval is None or not call.approval.waiting):
        return RunCalls(runnable)
    if state.open_calls or not state.owes_reply:
        return Park()
    if grading.is_to_be_judged(state):
        entry = grading.next_entry(state, at_ms=stamp.at_ms, by=stamp.by, fence=stamp.fence)
        return Park() if entry is None else Write((Draft(LOG, entry),))
    if problem := hiring.problem_at_host(state.profile):
        return Write((_reply(state, stamp, Outcome(status="refused", code="not_hired", summary=problem)),))
    if problem := _input_problem(state):
        outcome = Outcome(status="refused", code="invalid_input", summary=problem)
        return Write((_reply(state, stamp, outcome),))
    if state.turns >= state.profile.max_turns:
        return Write((_turn_limit_reply(state, stamp),))
    if problem := _unpriced(state, stamp):
        outcome = Outcome(status="refused", code="cost_unknown", summary=problem)
        return Write((_reply(state, stamp, outcome),))
    if code := state.escrow.exhausted(stamp.at_ms):
        return _budget_step(state, code, stamp)
    if state.dialogue.compactions >= MAX_COMPACTIONS:
        outcome = Outcome(status="failed", code="model_failed", summary="the task is larger than the model can take")
        return Write((_reply(state, stamp, outcome),))
    if state.dialogue.retry_at_ms > stamp.at_ms:
        return Park()
    if state.dialogue.too_large or state.dialogue.expected_tokens() > state.profile.compact_at_tokens:
        return Compact()
    return AskModel()


def _fan_out_step(state: State) -> Step | None:
    for call in state.open_calls:
        if call.name == fanout.NAME and not call.held:
            fan = state.fan_outs.get(call.id)
            if fan is None:
                return StartFanOut(call)
            if fan.over:
                return FinishFanOut(call.id)
    return None


def _unpriced(state: State, stamp: Stamp) -> str:
    """Why a limit in money cannot be kept; empty where it can."""
    model = state.profile.model
    if state.escrow.limits.cost_microusd is None or model is None:
        return ""
    if state.profile.price(model.name, Usage(), stamp.at_ms) is not None:
        return ""
    return f"what {model.name} costs is not known, so a limit in money cannot be kept: limit tokens instead"


def _budget_step(state: State, code: str, stamp: Stamp) -> Step:
    """What a thread does that may make no further model call."""
    if state.stopping is not None:
        return Write((_reply(state, stamp, stopped_outcome(state, "cancelled")),))
    if any(child.owes_reply for child in state.children.values()) or state.escrow.requested:
        return Park()  # what those have not spent comes back; or people have been asked
    return Write((_exhausted(state, code, stamp),))


def _exhausted(state: State, code: str, stamp: Stamp) -> Draft:
    """A run asks people for more; a delegation replies with what it has."""
    to, kind = (OPERATORS, BudgetRequested) if state.is_a_run else (LOG, BudgetExhausted)
    return Draft(to, _stamped(kind, stamp, code=code, limits=state.escrow.limits, spent=state.escrow.spent))


def _input_problem(state: State) -> str:
    """What is wrong with the typed input of a delegation that no model has seen yet."""
    schema = state.profile.input_schema
    if schema is None or state.seen is not None or state.brief is None:
        return ""
    if state.brief.input is None:
        return "this specialist takes typed input, and the brief has none"
    return problems_with(state.brief.input, schema)


def _handler_step(state: State, taken: list[Received], stamp: Stamp) -> Step:
    opening = _opening(taken)
    if opening is not None and len(taken) == 1:
        return RunHandler(opening)
    if taken:
        return Write((_taking(state, taken, stamp),))
    if not state.owes_reply:
        return Park()
    if state.stopping is not None:
        return Write((_reply(state, stamp, stopped_outcome(state, "cancelled")),))
    if state.newest_is_follow_up:
        return Write((_reply(state, stamp, Outcome(status="refused", summary=NO_FOLLOW_UPS)),))
    if state.waiting_calls:
        return Park()
    return RunHandler(None)


NO_FOLLOW_UPS = "this specialist is a Python function: it takes typed delegations, not messages"


def admit(state: State, mail: Received, taken: Sequence[Received]) -> Admission:
    """Whether a mail is taken in now, has been, must wait for one sent before it, or may not be here at all."""
    if mail.subject in state.consumed or (taken and any(each.subject == mail.subject for each in taken)):
        return "done"
    entry, sender = mail.entry, (mail.address.agent, mail.address.thread)
    if not isinstance(entry, (*IN_ORDER, *UNORDERED)):
        return Reject(mail, "invalid_message", "it is addressed to an agent but is not mail")
    if isinstance(entry, ANSWERS):
        return _admit_answer(state, mail, entry)
    reason = _not_allowed(state, mail, taken)
    if reason:
        return Reject(mail, "wrong_recipient", reason)
    if isinstance(entry, WAITING):
        return "take"
    if sender[0] == OPERATORS and state.opener is None and not _opening(taken):
        return "wait"
    newest = next(
        (
            each.subject
            for each in reversed(taken)
            if (each.address.agent, each.address.thread) == sender and not isinstance(each.entry, UNORDERED)
        ),
        state.heard_from.get(sender, ""),
    )
    return "take" if entry.after == newest else "wait"


def _admit_answer(state: State, mail: Received, entry: QuestionAnswered | ApprovalDecided) -> Admission:
    """An answer is taken while what it answers is open, and only from whom that was put to."""
    if isinstance(entry, ApprovalDecided) and mail.address.agent != OPERATORS:
        return Reject(mail, "wrong_recipient", f"{mail.address.agent} may not decide on a call: people do")
    try:
        place = parse_entry(entry.request if isinstance(entry, ApprovalDecided) else entry.question)
    except ProtocolError as error:
        return Reject(mail, "stale", str(error))
    ours = (state.run, state.thread, state.profile.agent) == (place.run, place.thread, place.agent)
    if ours and place.n >= state.next_n:
        return "wait"  # it is in the journal, and this reader does not have it yet
    stale = (
        approvals.stale(state, mail.address, entry)
        if isinstance(entry, ApprovalDecided)
        else questions.stale(state, mail.address, entry)
    )
    return Reject(mail, "stale", stale) if stale else "take"


def may_be_opened_by(profile: Profile, thread: str, mail: Received) -> bool:
    """Whether a thread of which nothing else is known is opened by this mail, and the mail waits for no other."""
    entry, sender = mail.entry, mail.address
    if not isinstance(entry, DelegationSent) or entry.after or sender.agent in {OPERATORS, *_below(profile)}:
        return False
    return not _not_opened_by(sender.thread, thread)


def _below(profile: Profile) -> set[str]:
    """Who answers here, and asks nothing."""
    return {HOST, *profile.contracts, *grading.graders_of(profile)}


def _not_opened_by(opener: str, thread: str) -> str:
    """Why one thread may not open another; empty where it may."""
    parent = parent_thread(thread)
    if parent is None:
        return f"agent thread {opener} may not open thread 0" if is_agent_thread(opener) else ""
    return "" if opener == parent else f"thread {opener} may not open {thread}: it is not its parent"


def _not_allowed(state: State, mail: Received, taken: Sequence[Received]) -> str:
    """Why this sender may not send this to this thread; empty where it may. The author is pinned by the server."""
    agent, thread = mail.address.agent, mail.address.thread
    opening = _opening(taken)
    opener = (opening.address.agent, opening.address.thread) if opening else state.opener
    if _asks(mail.entry) and agent in _below(state.profile):
        return f"{agent} is a specialist of {state.profile.agent}: it answers, and starts nothing here"
    match mail.entry:
        case DelegationSent():
            if opener is not None:
                return f"thread {state.thread} was opened by {opener[0]} already"
            return _not_opened_by(thread, state.thread)
        case BudgetGranted():
            allowed = agent == OPERATORS and state.is_a_run
            return "" if allowed else "only people grant more, and to a run as a whole"
        case MessageSent(purpose="follow_up") | CancelSent():
            # It can be delivered before the delegation it follows; then it waits for it. People may write to any.
            allowed = agent == OPERATORS or opener in (None, (agent, thread))
            return "" if allowed else f"{agent} did not open thread {state.thread}"
        case _:
            child = state.children.get(thread)
            known = child is not None and child.specialist == agent
            return "" if known else f"thread {state.thread} did not open {thread} of {agent}"


def _opening(taken: Sequence[Received]) -> Received | None:
    return next((each for each in taken if isinstance(each.entry, DelegationSent)), None) if taken else None


def _asks(entry: Entry) -> bool:
    """Whether whoever sends this wants something of the thread."""
    if isinstance(entry, MessageSent):
        return entry.purpose == "follow_up"
    return isinstance(entry, (DelegationSent, CancelSent))


def in_order(mails: Sequence[Received]) -> list[Received]:
    if len(mails) < 2:
        return list(mails)
    return sorted(mails, key=lambda mail: (mail.address.agent, mail.address.thread, mail.address.n))


def _taking(state: State, taken: Sequence[Received], stamp: Stamp) -> Draft:
    """One entry that takes in all of these mails."""
    kinds = {type(mail.entry) for mail in taken}
    kind = ThreadOpened if DelegationSent in kinds else ReplyReceived if ThreadReplied in kinds else MailReceived
    limits = _limits_of_team(state, taken)
    said = {} if limits is None else {"budget": limits}
    return Draft(LOG, _stamped(kind, stamp, consumed=tuple(mail.subject for mail in taken), **said))


def _limits_of_team(state: State, taken: Sequence[Received]) -> Budget | None:
    """What a run may spend, where its team says more of it than whoever starts it."""
    opening = _opening(taken)
    if opening is None or not state.is_a_run:
        return None
    assert isinstance(opening.entry, DelegationSent)
    named = opening.entry.brief.budget
    limits = filled(named, state.profile.budget)
    return None if limits == named else limits


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
    late = (child for child in state.children.values() if child.owes_reply and state.late_at_ms(child) <= now_ms)
    return tuple(child.thread for child in late)


def _turn_limit_reply(state: State, stamp: Stamp) -> Draft:
    written = ", ".join(state.files) or "none"
    outcome = state.unsatisfying or Outcome(
        status="budget_exhausted",
        code="turn_limit",
        summary=f"stopped after {state.turns} turns without handing in; files written: {written}",
        files=tuple(state.files.values()),
    )
    return _reply(state, stamp, outcome)


def _reply(state: State, stamp: Stamp, outcome: Outcome) -> Draft:
    due = reply_to_asker(state, stamp, outcome)
    return Draft(due.to, due.entry)


def reply_to_asker(state: State, stamp: Stamp, outcome: Outcome, opener: Received | None = None) -> Due:
    """The entry that answers whoever asked last. `opener` is the delegation, where no entry has named it yet."""
    if opener is not None:
        peer: Peer = (opener.address.agent, opener.address.thread)
        answers = opener.subject
    else:
        assert state.newest is not None, "only a thread that was asked replies"
        peer, answers = state.newest.by, state.newest.subject
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
        spent=state.escrow.spent,
    )
    return Due(peer[0], reply)


def answer_at_once(mail: Received, stamp: Stamp, outcome: Outcome) -> Due:
    """What `reply_to_asker` gives where the delegation is all that the thread has ever been told."""
    reply = ThreadReplied(
        at_ms=stamp.at_ms,
        by=stamp.by,
        fence=stamp.fence,
        consumed=(mail.subject,),
        to_thread=mail.address.thread,
        outcome=outcome,
        answers=mail.subject,
        cost_microusd=0,
        spent=NOTHING_SPENT,
    )
    return Due(mail.address.agent, reply)


def _stamped(kind: type[Entry], stamp: Stamp, **fields: object) -> Entry:
    return kind(at_ms=stamp.at_ms, by=stamp.by, fence=stamp.fence, **fields)  # type: ignore[arg-type]  # the kind's own
