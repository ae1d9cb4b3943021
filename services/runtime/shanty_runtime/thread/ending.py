"""How a thread comes to an end before its time: it is asked to stop, its time is over, or it is given up."""

from __future__ import annotations

from typing import Literal

from shanty_protocol import CancelSent, Entry, EntryAddress, Outcome, ThreadFailed, TimerFired
from shanty_protocol.errors import CODES
from shanty_runtime.agent.budget import told
from shanty_runtime.agent.context import wrap_up_text
from shanty_runtime.thread import approvals, fanout, grading, hedging, questions
from shanty_runtime.thread.dialogue import Note
from shanty_runtime.thread.sending import make_cancel_due
from shanty_runtime.thread.state import NOTHING_NEW, State, Stopping


def give_up(state: State, entry: ThreadFailed) -> None:
    """Whoever asked is told, whatever was still open."""
    state.due.clear()
    state.fan_outs.clear()
    end(state, Outcome(status="failed", code=entry.code, summary=entry.reason))


def end(state: State, outcome: Outcome) -> None:
    """Nothing more is done for what was asked; this is the answer to all of it."""
    grading.give_up(state)
    questions.void(state)
    state.waits.clear()
    for call in state.open_calls:
        if call.id in state.fan_outs:  # its file is written first, with what there is
            state.fan_outs[call.id].end(outcome.summary)
        else:
            call.settle(outcome.summary, "unknown" if call.intended else "error")
    see_all(state)
    state.submitted = outcome


def stop(state: State, address: EntryAddress, entry: Entry, mail: CancelSent) -> None:
    """Somebody asks this thread to stop, and with it whatever it has opened."""
    hedging.end_all(state, address, entry, mail.reason)
    for child in state.children.values():
        if child.unanswered and not child.aborted and not child.superseded_by:
            make_cancel_due(state, child, address, entry, mail.mode, mail.reason, mail.within_s / 2)
    for call in state.open_calls:
        if (fan := state.fan_outs.get(call.id)) is not None:
            fan.stop(mail.reason)
        elif call.name == fanout.NAME:
            call.settle(NOTHING_NEW, "error")
    if not state.owes_reply:
        return
    handed_in = grading.is_to_be_judged(state)
    state.stopping = Stopping(mail.mode, mail.reason, entry.at_ms + int(mail.within_s * 1000))
    grading.give_up(state)
    if mail.mode == "abort":
        end(state, stopped_outcome(state, "aborted"))
    elif state.seen is None and state.profile.handler is None:
        # No model has been asked yet, so there is nothing to wrap up.
        end(state, stopped_outcome(state, "cancelled"))
    elif not handed_in or state.open_calls:  # else what is with the grader is the answer
        approvals.void(state)
        questions.void(state)
        state.dialogue.notes.append(Note(wrap_up_text(mail.reason, mail.within_s), address.n))


def stop_if_over(state: State, entry: TimerFired) -> None:
    if state.stopping is not None and state.owes_reply and state.stopping.until_ms <= entry.at_ms:
        end(state, stopped_outcome(state, "aborted"))


def exhausted_outcome(state: State, code: str) -> Outcome:
    """What a thread hands in that has spent its grant."""
    return Outcome(
        status="budget_exhausted",
        code=code,
        summary=f"{CODES[code]}: it was granted {told(state.escrow.limits)} and has spent {told(state.escrow.spent)}",
        files=tuple(state.files.values()),
    )


def stopped_outcome(state: State, code: Literal["cancelled", "aborted"]) -> Outcome:
    """What a thread hands in that was stopped before it could say so itself."""
    reason = state.stopping.reason if state.stopping else ""
    begun = "stopped after a step" if state.calls else "stopped before it began"
    said = begun if code == "cancelled" else "stopped where it was"
    return Outcome(
        status="cancelled",
        code=code,
        summary=f"{said}{': ' if reason else ''}{reason}",
        files=tuple(state.files.values()),
    )


def see_all(state: State) -> None:
    """Whatever comes of it is the answer to all that was asked."""
    state.unseen.clear()
    state.seen = state.newest
