"""Waiting for people: whose time stands still meanwhile, and who above is told. Pure.

A thread waits for people while a call of its own waits for a decision, a question of its own is with them, or a
thread it has opened waits for them. Its wall time stands still then, and so does the deadline of every thread below
that waits. It tells whoever opened it, so that the same holds there, up to the lead of the run: an approval that
takes a night does not end in `timed_out` on the way up. All of it ends when what people were asked expires.
"""

from __future__ import annotations

import msgspec

from shanty_protocol import Entry, EntryAddress, ThreadReplied, ThreadResumed, ThreadWaiting, subjects
from shanty_protocol.ids import OPERATORS
from shanty_runtime.thread.state import Pause, Said, State

# In the journal of the thread that waits


def follow(state: State, entry: Entry) -> None:
    """After each entry: whether the thread waits for people now, and those it has passed questions on for."""
    if state.asking or state.pauses:
        _follow_passed_on(state, entry.at_ms)
    until_ms = _until_ms(state)
    if until_ms and state.pause is None:
        state.pause = Pause(entry.at_ms, until_ms)
        state.escrow.pause(entry.at_ms)
    elif until_ms and state.pause is not None:
        state.pause.until_ms = max(state.pause.until_ms, until_ms)
    elif state.pause is not None:
        state.pause = None
        state.escrow.resume(entry.at_ms)
    match entry:
        case ThreadWaiting():
            state.said = Said(entry.since_ms, entry.until_ms)
        case ThreadResumed() | ThreadReplied():
            state.said = None


def news(state: State, *, at_ms: int, by: str, fence: int) -> tuple[str, ThreadWaiting | ThreadResumed] | None:
    """What whoever opened this thread has to be told of its waiting, if anything, and who that is."""
    if state.is_a_run or state.opener is None or not state.owes_reply:
        return None
    agent, thread = state.opener
    if state.pause is not None and (state.said is None or state.said.until_ms < state.pause.until_ms):
        since_ms = state.pause.since_ms if state.said is None else state.said.since_ms
        until_ms = state.pause.until_ms
        return agent, ThreadWaiting(
            at_ms=at_ms, by=by, fence=fence, to_thread=thread, since_ms=since_ms, until_ms=until_ms
        )
    if state.pause is None and state.said is not None:
        since_ms = state.said.since_ms
        return agent, ThreadResumed(at_ms=at_ms, by=by, fence=fence, to_thread=thread, since_ms=since_ms)
    return None


def _until_ms(state: State) -> int:
    """When the waiting ends at the latest; 0 where nobody waits."""
    waits = [call.approval.expires_at_ms for call in state.waiting_calls if call.approval]
    if state.asking or state.pauses:
        waits += [asking.expires_at_ms for asking in state.asking.values() if asking.to == OPERATORS]
        waits += [pause.until_ms for pause in state.pauses.values()]
    return max(waits) if waits else 0


def requests_open(state: State) -> int:
    """How many requests of this thread are with people."""
    asking = sum(asking.to == OPERATORS for asking in state.asking.values()) if state.asking else 0
    return len(state.waiting_calls) + asking + state.escrow.requested


# In the journal of whoever opened it


def take_waiting(state: State, sender: EntryAddress, mail: ThreadWaiting) -> None:
    """A thread below waits. How long it may is bounded here as well: its author may not be trusted."""
    child = state.children[sender.thread]
    if sender.n <= child.heard_n or not child.owes_reply:
        return
    child.heard_n = sender.n
    longest_ms = int(state.profile.decision_deadline_s * 1000)
    until_ms = max(mail.since_ms, min(mail.until_ms, mail.since_ms + longest_ms))
    pause = state.pauses.setdefault(child.thread, Pause(mail.since_ms, until_ms))
    pause.until_ms, pause.told = max(pause.until_ms, until_ms), True


def take_resumed(state: State, sender: EntryAddress, mail: ThreadResumed) -> None:
    child = state.children[sender.thread]
    if sender.n <= child.heard_n:
        return
    child.heard_n = sender.n
    pause = state.pauses.get(child.thread)
    if pause is not None:
        pause.told = False
        _end_if_over(state, child.thread, mail.at_ms)


def ask_again(state: State, thread: str, at_ms: int) -> None:
    """A thread that waits was written to, and has a new deadline: what it has waited so far is in that."""
    if (pause := state.pauses.get(thread)) is not None:
        state.pauses[thread] = msgspec.structs.replace(pause, since_ms=min(at_ms, pause.until_ms))


def forget(state: State, thread: str) -> None:
    """The thread has replied, was told to stop, or is given up: no deadline stands still for it."""
    state.pauses.pop(thread, None)


def _follow_passed_on(state: State, at_ms: int) -> None:
    """Whoever asked a question that was passed on to people waits for them, and does not know it."""
    passed_on = {
        subjects.parse_entry(asking.on_behalf_of).thread: asking.expires_at_ms
        for asking in state.asking.values()
        if asking.on_behalf_of
    }
    for thread, until_ms in passed_on.items():
        pause = state.pauses.setdefault(thread, Pause(at_ms, until_ms))
        pause.until_ms, pause.passed_on = max(pause.until_ms, until_ms), True
    for thread, pause in list(state.pauses.items()):
        if pause.passed_on and thread not in passed_on:
            pause.passed_on = False
            _end_if_over(state, thread, at_ms)


def _end_if_over(state: State, thread: str, at_ms: int) -> None:
    pause = state.pauses[thread]
    if not pause.told and not pause.passed_on:
        del state.pauses[thread]
        child, waited_ms = state.children[thread], max(0, min(at_ms, pause.until_ms) - pause.since_ms)
        child.deadline_ms += waited_ms
        child.hedge_at_ms += waited_ms if child.hedge_at_ms else 0
