"""What is due: the entries that follow from others without any further choice, in the order they are written.

Whoever holds the thread writes exactly these next, so that a fan-out broken off by a crash goes on where it ended.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from shanty_protocol import (
    Brief,
    Budget,
    CancelSent,
    DelegationSent,
    Entry,
    EntryAddress,
    MessageSent,
    ModelReplied,
    QuestionAnswered,
    QuestionAsked,
    SpecialistHired,
    ThreadReplied,
)
from shanty_protocol.ids import child_thread
from shanty_runtime.agent.budget import filled
from shanty_runtime.thread import fanout, grading
from shanty_runtime.thread.escrow import REPLY_GRACE_S, delegated, grant_or_none
from shanty_runtime.thread.state import Child, Due, Peer, Question, State
from shanty_runtime.thread.verbs import AskHuman, AskLead, Delegate, DelegateEach


def make_message_due(
    state: State,
    peer: Peer,
    address: EntryAddress,
    entry: ModelReplied,
    purpose: Literal["follow_up", "progress"],
    text: str,
    percent: int | None,
    call_id: str,
) -> None:
    message = MessageSent(
        at_ms=entry.at_ms,
        by=entry.by,
        fence=entry.fence,
        to_thread=peer[1],
        after=last_sent(state, address, peer),
        purpose=purpose,
        text=text,
        percent=percent,
        call_id=call_id,
    )
    state.due.append(Due(peer[0], message))


def make_cancel_due(
    state: State,
    child: Child,
    address: EntryAddress,
    entry: Entry,
    mode: Literal["wrap_up", "abort"],
    reason: str,
    within_s: float,
    call_id: str = "",
) -> None:
    peer = (child.specialist, child.thread)
    cancel = CancelSent(
        at_ms=entry.at_ms,
        by=entry.by,
        fence=entry.fence,
        to_thread=child.thread,
        after=last_sent(state, address, peer),
        mode=mode,
        reason=reason,
        within_s=within_s,
        call_id=call_id,
    )
    state.due.append(Due(child.specialist, cancel))


def make_question_due(
    state: State, peer: Peer, address: EntryAddress, entry: ModelReplied, ask: AskLead | AskHuman, call_id: str
) -> None:
    deadline_s = state.profile.decision_deadline_s if ask.deadline_s is None else ask.deadline_s
    passed_on = state.questions.get(ask.on_behalf_of) if isinstance(ask, AskHuman) else None
    asked = QuestionAsked(
        at_ms=entry.at_ms,
        by=entry.by,
        fence=entry.fence,
        to_thread=peer[1],
        after=last_sent(state, address, peer),
        question=ask.question,
        options=ask.options,
        expires_at_ms=passed_on.expires_at_ms if passed_on else entry.at_ms + int(deadline_s * 1000),
        on_behalf_of=passed_on.subject if passed_on else "",
        call_id=call_id,
    )
    state.due.append(Due(peer[0], asked))


def make_answer_due(
    state: State, question: Question, entry: Entry, answer: str, person: str, call_id: str = ""
) -> None:
    answered = QuestionAnswered(
        at_ms=entry.at_ms,
        by=entry.by,
        fence=entry.fence,
        to_thread=question.thread,
        question=question.subject,
        answer=answer,
        person=person,
        call_id=call_id,
    )
    state.due.append(Due(question.specialist, answered))


def make_item_answer_due(state: State, asker: EntryAddress, question: str, entry: Entry) -> None:
    """Nobody reads what a thread asks that has one item of many: it is told so at once."""
    answered = QuestionAnswered(
        at_ms=entry.at_ms,
        by=entry.by,
        fence=entry.fence,
        to_thread=asker.thread,
        question=question,
        answer=fanout.NOT_READ,
    )
    state.due.append(Due(asker.agent, answered))


def make_items_due(state: State, entry: Entry) -> None:
    """Open threads for as many items as there is room for. Their briefs are made when they are written."""
    if state.due or not any(fan.room > 0 for fan in state.fan_outs.values()):
        return
    room = state.profile.max_active_threads - sum(child.owes_reply for child in state.children.values())
    ordinal = len(state.children)
    for fan in state.fan_outs.values():
        contract = state.profile.contracts[fan.specialist]
        count = max(0, min(room, fan.room))
        orders = [budget_asked(state, fan.order)] * count
        promised = [
            delegated(due.entry.brief.budget or Budget())
            for due in state.due
            if isinstance(due.entry, DelegationSent)
        ]
        to_come = len(fan.waiting) - count
        for grant in state.escrow.grants(orders, entry.at_ms, taken=promised, to_come=to_come):
            attempt = fan.waiting.popleft()
            room, ordinal = room - 1, ordinal + 1
            sent = DelegationSent(
                at_ms=entry.at_ms,
                by=entry.by,
                fence=entry.fence,
                to_thread=child_thread(state.thread, ordinal),
                brief=Brief(objective="", budget=grant_or_none(grant)),
                team=state.profile.team,
                call_id=fan.call_id,
                item=attempt.item,
                attempt=attempt.number,
                hired=contract.hired,
            )
            state.due.append(Due(contract.agent, sent))


def make_reply_due(state: State, address: EntryAddress, entry: Entry) -> None:
    """Once all other calls of the turn are settled, what was submitted is the next entry."""
    if state.submitted is None or state.due or state.open_calls or grading.is_to_be_judged(state):
        return
    # Nobody waits for these any more: what they still did would be paid for and thrown away.
    orphans = [child for child in state.children.values() if child.unanswered and not child.aborted]
    for child in orphans:
        make_cancel_due(state, child, address, entry, "abort", "the thread that asked has replied", 0)
    if orphans:
        return
    assert state.seen is not None, "what was submitted answers something"
    agent, thread = state.seen.by
    outcome = state.submitted
    if state.stopping is not None:
        outcome = msgspec.structs.replace(outcome, status="cancelled", code=outcome.code or "cancelled")
    reply = ThreadReplied(
        at_ms=entry.at_ms,
        by=entry.by,
        fence=entry.fence,
        to_thread=thread,
        after=state.sent_to.get(state.seen.by, ""),
        outcome=outcome,
        answers=state.seen.subject,
        usage=state.total_usage,
        cost_microusd=state.total_cost_microusd,
        spent=state.escrow.spent,
    )
    state.due.append(Due(agent, reply))


def drop_due(
    state: State,
    address: EntryAddress,
    entry: DelegationSent | MessageSent | CancelSent | QuestionAsked | QuestionAnswered | SpecialistHired,
) -> None:
    """What was due has been written. A handler's messages were not due: no model reply announces them."""
    if not state.due:
        return
    due = state.due.popleft()
    written = Due(address.to, entry)
    said = (due.to, type(due.entry), due.to_thread)
    assert said == (written.to, type(entry), written.to_thread), "what is due is written in order"


def last_sent(state: State, address: EntryAddress, peer: Peer) -> str:
    """Subject of the newest entry sent to a peer, counting those that are due: they come right after `address`."""
    for place, due in reversed(list(enumerate(state.due, address.n + 1))):
        if (due.to, due.to_thread) == peer and not isinstance(due.entry, QuestionAnswered):
            return state.address(due.to, place).subject
    return state.sent_to.get(peer, "")


def budget_asked(state: State, order: Delegate | DelegateEach) -> Budget:
    """What a delegation names itself, and what its specialist is usually granted."""
    contract = state.profile.contracts[order.specialist]
    named = None if order.budget is None else order.budget.budget
    return filled(named, contract.budget) or Budget()


def with_brief(state: State, sent: DelegationSent) -> DelegationSent | None:
    """A delegation that is due, as it is written. None while its item has not been read."""
    fan = state.fan_outs[sent.call_id]
    items = state.items.get(fan.call_id) if fan.order.items is None else fan.order.items
    if items is None:
        return None
    assert sent.item is not None, "only delegations of a fan-out are due without a brief"
    brief = fanout.brief_of(state.profile, fan.order, items[sent.item], sent.item)
    grant = sent.brief.budget
    within_s = [brief.deadline_s, sent.brief.deadline_s]
    if grant is not None and grant.wall_s is not None:
        within_s.append(grant.wall_s + REPLY_GRACE_S)
    latest_s = min(each for each in within_s if each is not None)
    brief = msgspec.structs.replace(brief, deadline_s=latest_s)
    return msgspec.structs.replace(sent, brief=msgspec.structs.replace(brief, budget=grant))


def room_problem(state: State, items: int, before: int = 0) -> str:
    """Why so many items are too many for what may still be opened; empty where they are not.

    `before`: threads that calls of the same turn open first.
    """
    left = max(0, state.threads_left - before)
    if items <= left:
        return ""
    return (
        f"{fanout.NAME}: {items} items, and this run may open {left} more threads of its {state.profile.max_threads}"
    )
