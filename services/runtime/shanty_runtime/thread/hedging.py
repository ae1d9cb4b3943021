"""Hedging: where a specialist's file says so, a delegation that takes long is given to a second thread as well.

The two have the same brief, and the first terminal reply of either is the reply; the other thread is stopped. A
timer that is as durable as a deadline opens the second one, so a worker that takes over opens the same. There is one
reply to the lead, who knows nothing of the second thread unless that was the first to reply: from then on it stands
for both, under its own id and under the other's.

A second thread is opened once for a delegation, and only while there is room for it: it counts against the threads,
the threads at work and the budget as any other. It is not opened for what waits for an answer, and given up as soon
as the lead writes to the first one or stops it, for the brief is not all that was asked then.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shanty_protocol import Brief, Budget, DelegationSent, Entry, EntryAddress, TimerFired
from shanty_protocol.ids import child_thread
from shanty_runtime.thread import people, questions
from shanty_runtime.thread.escrow import NEEDED, delegated, grant_or_none
from shanty_runtime.thread.fanout import FanOut
from shanty_runtime.thread.sending import make_cancel_due
from shanty_runtime.thread.state import Child, Due, State, Wait
from shanty_runtime.thread.verbs import Cancel, SendToSpecialist, Verb, WaitForReplies


def is_due(state: State, now_ms: int) -> bool:
    at_ms = state.next_hedge_ms
    return at_ms is not None and at_ms <= now_ms


def take_delegation(state: State, child: Child, entry: DelegationSent) -> None:
    """A delegation was sent: the first of its brief, or a second."""
    if entry.hedges:
        first = state.children[entry.hedges]
        child.hedges, first.hedged_by = first.thread, child.thread
        child.fan_out = first.fan_out
        _count_beside(state, child, 1)
        return
    contract = state.profile.contracts.get(child.name)
    if contract is not None and contract.hedge_after_s is not None:
        child.hedge_at_ms = entry.at_ms + int(contract.hedge_after_s * 1000)
        # An item's brief is made from its list once more.
        child.brief = Brief(objective="") if entry.item is not None else entry.brief


def make_hedges_due(state: State, entry: TimerFired) -> None:
    """Open a second thread for what has taken long, as far as there is room."""
    if not is_due(state, entry.at_ms):
        return
    for child in [each for each in state.hedgeable if each.hedge_at_ms <= entry.at_ms]:
        contract, brief = state.profile.contracts[child.name], child.brief
        assert brief is not None and contract.hedge_after_s is not None, "it was noted when it was delegated"
        coming = [due.entry for due in state.due if isinstance(due.entry, DelegationSent)]
        fan = state.fan_outs.get(child.fan_out)
        attempt = None if fan is None else fan.at_work.get(child.thread)
        grant = _grant(state, child, coming, entry.at_ms)
        if grant is None or not _has_room(state, fan, coming):
            # There may be room later.
            child.hedge_at_ms = entry.at_ms + int(contract.hedge_after_s * 1000)
            continue
        child.hedge_at_ms, child.brief = 0, None
        if child.fan_out and attempt is None:
            continue  # the list is over, and nobody waits for this
        sent = DelegationSent(
            at_ms=entry.at_ms,
            by=entry.by,
            fence=entry.fence,
            to_thread=child_thread(state.thread, len(state.children) + len(coming) + 1),
            brief=msgspec.structs.replace(
                brief,
                deadline_s=max(0.0, (state.late_at_ms(child) - entry.at_ms) / 1000),
                budget=grant_or_none(grant),
            ),
            team=state.profile.team,
            call_id=child.fan_out,
            item=None if attempt is None else attempt.item,
            attempt=1 if attempt is None else attempt.number,
            hired=contract.hired,
            hedges=child.thread,
        )
        state.due.append(Due(child.specialist, sent))


def _has_room(state: State, fan: FanOut | None, coming: Sequence[DelegationSent]) -> bool:
    at_work = sum(child.owes_reply for child in state.children.values()) + len(coming)
    if at_work >= state.profile.max_active_threads or state.threads_left <= len(coming):
        return False
    if fan is None:
        return True
    of_this_list = sum(each.call_id == fan.call_id for each in coming)
    return len(fan.at_work) + fan.beside + of_this_list < fan.at_most


def _grant(state: State, child: Child, coming: Sequence[DelegationSent], at_ms: int) -> Budget | None:
    """What the second thread may spend: as much as the first, if so much is left. None where it could not begin."""
    promised = [delegated(each.brief.budget or Budget()) for each in coming]
    (grant,) = state.escrow.grants([state.escrow.accounts[child.thread].grant], at_ms, taken=promised)
    return None if any(getattr(grant, name) == 0 for name in NEEDED) else grant


def take_reply(state: State, child: Child, address: EntryAddress, entry: Entry) -> bool:
    """A thread has replied. Whether its reply counts: of two with one brief, the first does."""
    if child.superseded_by:
        return False
    child.hedge_at_ms, child.brief = 0, None
    if (other := _other(state, child)) is not None:
        _stands_for(state, child, other, address, entry, f"thread {child.thread} was first")
    return True


def go_on_alone(state: State, child: Child, address: EntryAddress, entry: Entry, reason: str) -> None:
    """The first thread is no longer asked for what the second one was."""
    child.hedge_at_ms, child.brief = 0, None
    if (other := _other(state, child)) is not None:
        _stands_for(state, child, other, address, entry, reason)


def end_all(state: State, address: EntryAddress, entry: Entry, reason: str) -> None:
    """The lead is to stop: each first thread goes on alone, to hand in what it has."""
    for child in [each for each in state.children.values() if each.hedged_by]:
        go_on_alone(state, child, address, entry, reason)


def is_too_late(state: State, child: Child, address: EntryAddress, entry: Entry) -> bool:
    """A thread has not replied in time. True for a second one: what becomes of its brief the first one decides."""
    if child.hedges and not child.won:
        go_on_alone(state, state.children[child.hedges], address, entry, "its time is over")
        return True
    go_on_alone(state, child, address, entry, "its time is over")
    return False


def resolved(state: State, verb: Verb) -> Verb:
    """A call as it is meant: who stands for a thread that was hedged is who is written to."""
    match verb:
        case SendToSpecialist() | Cancel():
            return msgspec.structs.replace(verb, thread=_standing_for(state, verb.thread))
        case WaitForReplies():
            threads = dict.fromkeys(_standing_for(state, thread) for thread in verb.threads)
            return msgspec.structs.replace(verb, threads=tuple(threads))
        case _:
            return verb


def _other(state: State, child: Child) -> Child | None:
    """The thread that works on the same brief at the same time."""
    if child.hedged_by:
        return state.children[child.hedged_by]
    return state.children[child.hedges] if child.hedges and not child.won else None


def _standing_for(state: State, thread: str) -> str:
    child = state.children.get(thread)
    beaten = child is not None and not child.hedges and child.superseded_by
    return beaten or thread


def _stands_for(state: State, child: Child, other: Child, address: EntryAddress, entry: Entry, reason: str) -> None:
    """From now on a thread stands for itself and for the other, which is stopped."""
    child.hedged_by = other.hedged_by = ""
    other.superseded_by = child.thread
    _count_beside(state, child, -1)
    questions.forget_thread(state, other.thread)
    people.forget(state, other.thread)
    if child.hedges:
        child.won = True
        _take_its_place(state, child, other)
    if other.unanswered and not other.aborted:
        make_cancel_due(state, other, address, entry, "abort", reason, 0)


def _count_beside(state: State, child: Child, threads: int) -> None:
    if (fan := state.fan_outs.get(child.fan_out)) is not None:
        fan.beside += threads


def _take_its_place(state: State, child: Child, other: Child) -> None:
    """Whatever waits for the first thread waits for the second one now."""
    fan = state.fan_outs.get(other.fan_out)
    if fan is not None and other.thread in fan.at_work:
        fan.at_work[child.thread] = fan.at_work.pop(other.thread)
    for wait in state.waits.values():
        threads = tuple(child.thread if thread == other.thread else thread for thread in wait.threads)
        state.waits[wait.call_id] = Wait(wait.call_id, threads, wait.needed, wait.deadline_ms)
