"""Folding a journal: each entry, and the mails it consumed, taken into the state of its thread. Pure.

What follows from an entry without any further choice (a model's delegations, its final reply) becomes due.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from shanty_protocol import (
    ApprovalDecided,
    ApprovalRequested,
    ApprovalRuled,
    Budget,
    BudgetExhausted,
    BudgetGranted,
    BudgetRequested,
    CancelSent,
    DelegationSent,
    DeliverableGraded,
    Entry,
    EntryAddress,
    FanOutStarted,
    GradingStarted,
    MessageSent,
    ModelFailed,
    ModelReplied,
    Outcome,
    QuestionAnswered,
    QuestionAsked,
    SpecialistHired,
    ThreadCompacted,
    ThreadFailed,
    ThreadOpened,
    ThreadReplied,
    ThreadResumed,
    ThreadTakenOver,
    ThreadWaiting,
    TimerFired,
    ToolCalled,
    ToolDelayed,
    ToolReturned,
    Usage,
)
from shanty_protocol.ids import OPERATORS
from shanty_protocol.subjects import parse_entry
from shanty_runtime.agent.budget import told
from shanty_runtime.agent.context import NUDGE, brief_text
from shanty_runtime.agent.outcomes import rubric_text
from shanty_runtime.agent.profile import Profile
from shanty_runtime.agent.schema import problems_with
from shanty_runtime.models.base import Block
from shanty_runtime.thread import (
    approvals,
    delegating,
    ending,
    fanout,
    grading,
    hedging,
    hiring,
    people,
    questions,
    waits,
)
from shanty_runtime.thread.dialogue import Call, Note
from shanty_runtime.thread.retries import code_of
from shanty_runtime.thread.sending import (
    budget_asked,
    drop_due,
    make_answer_due,
    make_cancel_due,
    make_item_answer_due,
    make_items_due,
    make_message_due,
    make_question_due,
    make_reply_due,
)
from shanty_runtime.thread.state import NOTHING_NEW, Asked, Child, State, added
from shanty_runtime.thread.verbs import (
    VERBS,
    AnswerSpecialist,
    AskHuman,
    AskLead,
    Cancel,
    Delegate,
    DelegateEach,
    HireSpecialist,
    ReportProgress,
    SendToSpecialist,
    SubmitResult,
    Verb,
    WaitForReplies,
)

MAX_INVALID_RESULTS = 3
"""Results that do not fit the output schema, before the thread fails."""

WRAP_UP_GRACE_S = 15.0
"""How much longer than a thread may take to wrap up its parent waits for its reply."""

BEGINS_WORK = frozenset({"delegate", "delegate_each", "send_to_specialist"})


def fold(
    profile: Profile, run: str, thread: str, facts: Iterable[tuple[EntryAddress, Entry, Mapping[str, Entry]]]
) -> State:
    """The state a journal amounts to. Each fact is an entry, its address, and the mails it consumed."""
    state = State(run=run, thread=thread, profile=profile)
    for address, entry, mails in facts:
        apply(state, address, entry, mails)
    return state


def apply(state: State, address: EntryAddress, entry: Entry, mails: Mapping[str, Entry]) -> None:
    """Take one entry into the state. Entries come in the order of their places, none left out."""
    assert address.n == state.next_n, f"entry {address.n} applied at place {state.next_n}"
    for subject in entry.consumed:
        _take_in(state, address, entry, subject, mails[subject])
    state.newest_fence = max(state.newest_fence, entry.fence)
    if not isinstance(entry, ToolDelayed):  # waiting for the tool gateway is no step forward
        state.attempts = state.attempts + 1 if isinstance(entry, ThreadTakenOver) else 0
    match entry:
        case ModelReplied():
            _take_model_reply(state, address, entry)
        case DelegationSent():
            _take_delegation(state, address, entry)
        case ThreadReplied():
            _take_own_reply(state, address, entry)
        case ModelFailed():
            _take_failure(state, entry)
        case ThreadCompacted():
            state.dialogue.compact(entry, opening(state))
            if entry.model:
                _count(state, entry.usage, entry.cost_microusd)
        case ToolCalled():
            _count_tool_call(state, entry.call_id)
            call = state.calls.setdefault(
                entry.call_id, Call(id=entry.call_id, name=entry.name, arguments=entry.arguments)
            )
            call.intended, call.fenced = True, entry.fenced
        case ToolReturned():
            _count_tool_call(state, entry.call_id)
            call = state.calls.setdefault(entry.call_id, Call(id=entry.call_id, name=entry.name, arguments={}))
            call.settle(entry.content, entry.status)
            state.files.update({file.path: file for file in entry.files})
            tool = state.profile.tools.get(entry.name)
            state.tainted = state.tainted or (tool is not None and tool.untrusted)
            _end_fan_out(state, entry.call_id)
        case FanOutStarted():
            order = msgspec.convert(state.calls[entry.call_id].arguments, DelegateEach)
            state.fan_outs[entry.call_id] = fanout.started(order, entry)
        case SpecialistHired():
            hiring.take_hired(state, address, entry)
        case GradingStarted():
            grading.begin(state, entry)
        case DeliverableGraded():
            grading.end(state, address, entry)
        case MessageSent():
            _take_message(state, address, entry)
        case CancelSent():
            _take_cancel(state, address, entry)
        case QuestionAsked():
            drop_due(state, address, entry)
            questions.take_own(state, address, entry)
        case QuestionAnswered():
            drop_due(state, address, entry)
            questions.take_own_answer(state, entry)
        case ApprovalRequested():
            call = state.calls.setdefault(
                entry.call_id, Call(id=entry.call_id, name=entry.name, arguments=entry.arguments)
            )
            approvals.take_request(state, address, entry, call)
        case ApprovalRuled():
            call = state.calls.setdefault(
                entry.call_id, Call(id=entry.call_id, name=entry.name, arguments=entry.arguments)
            )
            approvals.take_ruling(state, entry, call)
        case TimerFired():
            _mark_late(state, address, entry)
            approvals.expire(state, entry.at_ms)
            questions.expire(state, entry.at_ms)
            ending.stop_if_over(state, entry)
            hedging.make_hedges_due(state, entry)
        case ThreadOpened(budget=Budget() as limits):
            state.escrow.limits = limits
        case BudgetExhausted():
            ending.end(state, ending.exhausted_outcome(state, entry.code))
        case BudgetRequested():
            state.escrow.requested = True
        case ThreadFailed():
            ending.give_up(state, entry)
        case _:
            pass
    state.next_n = address.n + 1
    state.last_at_ms = entry.at_ms
    questions.forget_expired(state, entry.at_ms)
    people.follow(state, entry)
    if state.open_calls:
        delegating.make_decided_due(state, address, entry)
        if not delegating.any_held(state):
            waits.begin_put_off(state, entry.at_ms)
    if state.fan_outs:
        make_items_due(state, entry)
    if state.waits:
        waits.settle(state, entry.at_ms if isinstance(entry, TimerFired) else None)
    make_reply_due(state, address, entry)


def _take_in(state: State, address: EntryAddress, entry: Entry, subject: str, mail: Entry) -> None:
    sender = parse_entry(subject)
    state.consumed.add(subject)
    # Answers say themselves what they are to, and what is about waiting is in no order.
    if not isinstance(mail, (QuestionAnswered, ApprovalDecided, ThreadWaiting, ThreadResumed)):
        state.heard_from[sender.agent, sender.thread] = subject
    match mail:
        case DelegationSent():
            state.opener = (sender.agent, sender.thread)
            state.brief, state.team, state.opened_at_ms = mail.brief, mail.team, mail.at_ms
            state.escrow.open(mail.brief.budget, mail.at_ms)
            state.tainted = state.tainted or (mail.occurrence is not None and mail.occurrence.untrusted)
            if mail.hired is not None:
                state.profile = hiring.played(state.profile, mail.hired)
            if state.profile.handler is None:  # Python code reads the brief itself
                state.dialogue.notes.append(Note(goal_text(state), address.n))
            _take_question(state, Asked(subject, state.opener, address.n))
        case MessageSent(purpose="follow_up"):
            asked = Asked(subject, (sender.agent, sender.thread), address.n)
            state.dialogue.notes.append(Note(mail.text, address.n))
            # What a person says to a thread at work is advice on what it was asked: the answer is the asker's.
            if asked.by == state.opener or not state.owes_reply:
                _take_question(state, asked)
                state.newest_is_follow_up = True
                state.further_goals.append(mail.text)
        case CancelSent():
            ending.stop(state, address, entry, mail)
        case BudgetGranted():
            state.escrow.raise_limits(mail.budget, entry.at_ms)
        case MessageSent(purpose="progress"):
            state.children[sender.thread].progress = mail.text
        case ThreadReplied():
            child = state.children[sender.thread]
            child.answered, child.usage, child.cost_microusd = mail.answers, mail.usage, mail.cost_microusd
            child.progress, child.heard_n = "", sender.n
            people.forget(state, child.thread)
            state.escrow.settle(child.thread, mail.spent, mail.usage, mail.cost_microusd, goes_on=child.unanswered)
            if hedging.take_reply(state, child, address, entry):
                _take_outcome(state, child, _checked(state, child, mail.outcome))
            questions.forget_thread(state, child.thread)
        case ThreadWaiting():
            people.take_waiting(state, sender, mail)
        case ThreadResumed():
            people.take_resumed(state, sender, mail)
        case QuestionAsked() if state.children[sender.thread].superseded_by:
            pass  # it is being stopped
        case QuestionAsked() if _is_not_read(state, state.children[sender.thread]):
            make_item_answer_due(state, sender, subject, entry)
        case QuestionAsked():
            if state.owes_reply and (news := questions.take_asked(state, subject, mail)):
                state.dialogue.notes.append(Note(news, address.n))
        case QuestionAnswered():
            _take_answer(state, address, entry, mail)
        case ApprovalDecided():
            if news := approvals.take_decision(state, mail):
                state.dialogue.notes.append(Note(news, address.n))
        case _:
            raise AssertionError(f"{subject} is not mail")


def _take_outcome(state: State, child: Child, outcome: Outcome) -> None:
    """Where a thread's answer goes: to the model, or to the fan-out that opened it."""
    if child.judges:
        grading.take(state, child, outcome)
    elif _has_item(state, child):
        child.outcome = outcome
        again = state.threads_left > 0
        state.fan_outs[child.fan_out].take(child.thread, outcome, again=again)
    elif child.fan_out:  # what is known of its item stands already
        child.outcome = child.outcome or outcome
    else:
        child.outcome, child.is_news = outcome, True
        state.files.update({file.path: file for file in outcome.files})


def _has_item(state: State, child: Child) -> bool:
    """Whether a fan-out waits for this thread."""
    fan = state.fan_outs.get(child.fan_out)
    return fan is not None and child.thread in fan.at_work


def _is_not_read(state: State, child: Child) -> bool:
    """Whether the model knows nothing of this thread, and so answers nothing it asks."""
    first = state.children.get(child.hedges, child)
    return child.judges or _has_item(state, child) or _has_item(state, first)


def _checked(state: State, child: Child, outcome: Outcome) -> Outcome:
    """A result that is not what its specialist's contract says is a failure, told as one."""
    contract = state.profile.contracts.get(child.name)
    if contract is None or contract.output_schema is None or outcome.status not in ("ok", "partial"):
        return outcome
    if outcome.result is None:
        problem = "there is no result" if outcome.status == "ok" else ""
    else:
        problem = problems_with(outcome.result, contract.output_schema)
    if not problem:
        return outcome
    return Outcome(status="failed", code="invalid_output", summary=f"{problem}. It said: {outcome.summary}")


def _take_question(state: State, asked: Asked) -> None:
    if not state.owes_reply:
        state.stopping = None
    state.newest = asked
    state.unseen.append(asked)


def _take_model_reply(state: State, address: EntryAddress, entry: ModelReplied) -> None:
    while state.unseen and (entry.shown is None or state.unseen[0].place < entry.shown):
        state.seen = state.unseen.popleft()
    state.turns += 1
    _count(state, entry.usage, entry.cost_microusd)
    if not state.owes_reply:
        return  # the thread was stopped while the model spoke
    meaning = state.dialogue.take_reply(entry, address.n)
    if isinstance(meaning, Outcome):
        state.submitted = meaning
    elif meaning == "calls":
        for block in entry.blocks:
            if block["type"] == "tool_use":
                _take_call(state, block, address, entry)
    elif meaning == "words":
        _take_last_words(state, address, entry)


def _take_call(state: State, block: Block, address: EntryAddress, entry: ModelReplied) -> None:
    call = Call(id=block["id"], name=block["name"], arguments=block["input"])
    state.calls[call.id] = call
    if call.id not in entry.refused:
        if state.stopping is not None and call.name in BEGINS_WORK:
            call.settle(NOTHING_NEW, "error")
        elif call.id in entry.to_approve:
            call.held = entry.to_approve[call.id]
        elif call.name in VERBS:
            _carry_out(state, call, address, entry)
        else:
            state.escrow.spend(tool_calls=1)
        return
    call.settle(entry.refused[call.id], "error")
    if call.name not in VERBS and state.escrow.left.get("tool_calls") == 0:
        state.escrow.wants_tools = True
    if call.name == "submit_result":
        state.invalid_results += 1
        if state.invalid_results >= MAX_INVALID_RESULTS:
            state.submitted = Outcome(status="failed", code="invalid_output", summary=entry.refused[call.id])


def _take_failure(state: State, entry: ModelFailed) -> None:
    ending.see_all(state)
    state.dialogue.take_failure(entry)
    if entry.retry_at_ms is None:
        code = code_of(entry.failure)
        state.submitted = state.unsatisfying or Outcome(status="failed", code=code, summary=entry.reason)


def _count(state: State, usage: Usage, cost_microusd: int | None) -> None:
    state.usage += usage
    state.escrow.pay(usage, cost_microusd)
    state.cost_microusd = added([state.cost_microusd, cost_microusd])


def _count_tool_call(state: State, call_id: str) -> None:
    """A handler's calls are not announced by a model reply."""
    if state.profile.handler is not None and call_id not in state.escrow.handler_calls:
        state.escrow.handler_calls.add(call_id)
        state.escrow.spend(tool_calls=1)


def goal_text(state: State) -> str:
    """What is asked of a thread, and what its answer is judged by."""
    assert state.brief is not None
    return brief_text(state.brief) + rubric_text(grading.rubric_of(state))


def opening(state: State) -> str:
    """What a thread must never forget, however small its view is made."""
    parts = [goal_text(state)]
    threads = [
        f"{child.thread} {child.name}: " + ("at work" if child.owes_reply else f"replied {_status(child)}")
        for child in state.children.values()
        if not child.fan_out and not child.hidden
    ]
    if threads:
        parts.append("<threads>\n" + "\n".join(threads) + "\n</threads>")
    if state.files:
        parts.append("<files_written>\n" + "\n".join(sorted(state.files)) + "\n</files_written>")
    return "\n".join(parts)


def _status(child: Child) -> str:
    return child.outcome.status if child.outcome else ""


def _carry_out(state: State, call: Call, address: EntryAddress, entry: ModelReplied) -> None:
    """What a verb makes due. Its arguments were checked before the reply was journaled."""
    match hedging.resolved(state, msgspec.convert(call.arguments, VERBS[call.name])):
        case Delegate() as order:
            delegating.make_delegation_due(state, call, order, _grant(state, call, entry), address, entry)
        case HireSpecialist() as order:
            hiring.carry_out(state, call, entry, order)
        case Cancel() as order:
            child = state.children[order.thread]
            hedging.go_on_alone(state, child, address, entry, order.reason)
            make_cancel_due(state, child, address, entry, order.mode, order.reason, order.within_s, call.id)
        case SendToSpecialist() as order:
            child = state.children[order.thread]
            hedging.go_on_alone(state, child, address, entry, "the first was asked something else")
            peer = (child.specialist, order.thread)
            make_message_due(state, peer, address, entry, "follow_up", order.message, None, call.id)
        case ReportProgress() as report:
            assert state.opener is not None
            make_message_due(state, state.opener, address, entry, "progress", report.summary, report.percent, call.id)
        case AskLead() as ask:
            assert state.opener is not None
            make_question_due(state, state.opener, address, entry, ask, call.id)
        case AskHuman() as ask:
            make_question_due(state, (OPERATORS, approvals.INBOX), address, entry, ask, call.id)
        case AnswerSpecialist() as given:
            if (question := state.questions.get(given.question)) is None:
                call.settle("that question is not open any more", "error")
            else:
                make_answer_due(state, question, entry, given.answer, "", call.id)
        case DelegateEach():
            pass  # it begins with an entry of its own, which says what the items are
        case WaitForReplies() as wait:
            if wait.threads or not entry.to_approve:
                waits.begin(state, call, wait, entry.at_ms)
        case SubmitResult() as submitted:
            files = submitted.files or tuple(sorted(state.files))
            state.submitted = Outcome(
                status=submitted.status,
                summary=submitted.summary,
                result=submitted.result,
                files=tuple(state.files[path] for path in files if path in state.files),
            )
            state.handed_in_with = call.id
            call.settle('{"handed_in":true}')


def _grant(state: State, call: Call, entry: ModelReplied) -> Budget:
    """What one delegation of a turn is granted, beside all others of it."""
    turn: list[tuple[str, Verb]] = [
        (block["id"], hedging.resolved(state, msgspec.convert(block["input"], VERBS[block["name"]])))
        for block in entry.blocks
        if block["type"] == "tool_use" and block["name"] in BEGINS_WORK
        if block["id"] not in entry.refused and block["id"] not in entry.to_approve
    ]
    orders = {call_id: budget_asked(state, verb) for call_id, verb in turn if isinstance(verb, Delegate)}
    reopened = {verb.thread for _, verb in turn if isinstance(verb, SendToSpecialist) and is_over(state, verb.thread)}
    taken = map(state.escrow.rest_of, reopened)
    granted = state.escrow.grants(list(orders.values()), entry.at_ms, taken=taken)
    return dict(zip(orders, granted, strict=True))[call.id]


def is_over(state: State, thread: str) -> bool:
    """Whether a thread has replied to all it was asked."""
    return not state.children[thread].unanswered


def _take_answer(state: State, address: EntryAddress, entry: Entry, answer: QuestionAnswered) -> None:
    question, news = questions.take_answer(state, answer)
    if news:
        state.dialogue.notes.append(Note(news, address.n))
    if question is not None:
        make_answer_due(state, question, entry, answer.answer, answer.person)


def _take_last_words(state: State, address: EntryAddress, entry: ModelReplied) -> None:
    """A reply without a tool call is the answer, unless a typed one is owed."""
    if state.profile.output_schema is not None:
        state.dialogue.notes.append(Note(NUDGE, address.n))
        return
    text = "\n".join(block["text"] for block in entry.blocks if block["type"] == "text")
    state.handed_in_with = ""
    state.submitted = Outcome(status="ok", summary=text, files=tuple(state.files.values()))


def _take_delegation(state: State, address: EntryAddress, entry: DelegationSent) -> None:
    drop_due(state, address, entry)
    assert entry.brief.deadline_s is not None
    child = Child(
        thread=entry.to_thread,
        specialist=address.to,
        label=entry.brief.label,
        last_sent=address.subject,
        deadline_ms=entry.at_ms + int(entry.brief.deadline_s * 1000),
        hired="" if entry.hired is None else entry.hired.name,
    )
    state.children[child.thread] = child
    state.sent_to[address.to, entry.to_thread] = address.subject
    state.escrow.grant(child.thread, entry.brief.budget)
    if state.judging is not None and state.judging.thread == child.thread:
        child.judges = True
        return
    hedging.take_delegation(state, child, entry)
    if entry.hedges:
        return
    if entry.item is not None:
        child.fan_out = entry.call_id
        state.fan_outs[entry.call_id].at_work[child.thread] = fanout.Attempt(entry.item, entry.attempt)
        return
    answer = {"thread": child.thread, "specialist": child.name}
    if entry.brief.budget is not None:
        answer["granted"] = told(entry.brief.budget)
    state.calls[entry.call_id].settle(msgspec.json.encode(answer).decode())


def _take_message(state: State, address: EntryAddress, entry: MessageSent) -> None:
    drop_due(state, address, entry)
    state.sent_to[address.to, entry.to_thread] = address.subject
    if entry.purpose == "follow_up":
        child = state.children[entry.to_thread]
        state.escrow.reopen(child.thread)
        allowed_ms = int(state.profile.delegation_deadline_s * 1000)
        child.last_sent, child.late, child.aborted = address.subject, False, False
        child.fan_out = ""
        child.deadline_ms = entry.at_ms + allowed_ms
        people.ask_again(state, child.thread, entry.at_ms)
    if entry.call_id:  # a handler's steps are not announced by a model reply
        call = state.calls.setdefault(entry.call_id, Call(id=entry.call_id, name=entry.purpose, arguments={}))
        call.settle(msgspec.json.encode({"thread": entry.to_thread}).decode())


def _take_cancel(state: State, address: EntryAddress, entry: CancelSent) -> None:
    drop_due(state, address, entry)
    state.sent_to[address.to, entry.to_thread] = address.subject
    child = state.children[entry.to_thread]
    child.aborted = entry.mode == "abort"
    people.forget(state, child.thread)
    within_s = WRAP_UP_GRACE_S + (entry.within_s if entry.mode == "wrap_up" else 0)
    child.deadline_ms = min(child.deadline_ms, entry.at_ms + int(within_s * 1000))
    if entry.call_id:
        state.calls[entry.call_id].settle(
            msgspec.json.encode({"thread": entry.to_thread, "asked_to": entry.mode}).decode()
        )


def _take_own_reply(state: State, address: EntryAddress, entry: ThreadReplied) -> None:
    state.due.clear()
    state.submitted = None
    grading.forget(state)
    state.answered, state.outcome = entry.answers, entry.outcome
    approvals.void(state)
    questions.void(state)
    if not state.owes_reply:
        state.stopping = None
    state.invalid_results = 0
    state.escrow.wants_tools = False
    state.dialogue.settle()
    state.sent_to[address.to, entry.to_thread] = address.subject
    state.turns = 0


def _end_fan_out(state: State, call_id: str) -> None:
    """Its file is written. What was decided meanwhile is handed in with that file."""
    if state.fan_outs.pop(call_id, None) is None:
        return
    state.items.pop(call_id, None)
    if state.submitted is not None:
        state.submitted = msgspec.structs.replace(state.submitted, files=tuple(state.files.values()))


def _mark_late(state: State, address: EntryAddress, entry: TimerFired) -> None:
    for child in state.children.values():
        if child.owes_reply and state.late_at_ms(child) <= entry.at_ms:
            status: Literal["unreachable", "timed_out"] = (
                "unreachable" if child.thread in entry.unstarted else "timed_out"
            )
            outcome = Outcome(status=status, code=status, summary=f"no reply from {child.name} in time")
            if hedging.is_too_late(state, child, address, entry):
                continue
            given_up = _has_item(state, child) and not child.aborted
            _take_outcome(state, child, outcome)
            child.late = True
            people.forget(state, child.thread)
            if given_up:  # another thread may get its item, and two must not work on one
                make_cancel_due(state, child, address, entry, "abort", "its time is over", 0)
