"""Judging a deliverable before it is the answer: by a grader, in a thread of its own, at most so many times.

    submit_result → grading.started → delegation.sent to the grader → its reply, or its deadline
    → deliverable.graded → the reply of the run, or the model goes on with what is not met

The first and the last are decided here, as entries of the run's own journal; the delegation between them is due.
A grader that fails, is late or is out of budget leaves the deliverable as it is, marked as ungraded.
"""

from __future__ import annotations

import msgspec

from shanty_protocol import (
    Brief,
    Budget,
    Criterion,
    DelegationSent,
    DeliverableGraded,
    EntryAddress,
    Grade,
    GradingStarted,
    Outcome,
)
from shanty_protocol.ids import child_thread
from shanty_runtime.agent.outcomes import (
    MAX_ROUNDS,
    NO_GRADER,
    NO_THREAD,
    OBJECTIVE,
    grade_of,
    input_for,
)
from shanty_runtime.agent.profile import Profile
from shanty_runtime.thread.dialogue import Note
from shanty_runtime.thread.escrow import REPLY_GRACE_S, grant_or_none
from shanty_runtime.thread.state import Child, Due, Judging, State


def graders_of(profile: Profile) -> tuple[str, ...]:
    """The agent that judges, if there is one."""
    return () if profile.grading is None else (profile.grading.grader,)


def rubric_of(state: State) -> tuple[Criterion, ...]:
    """What the deliverables of this thread are judged by; nothing below the lead."""
    if state.brief is None or not state.is_a_run:
        return ()
    of_team = state.profile.grading
    return state.brief.rubric or (() if of_team is None else of_team.criteria)


def is_to_be_judged(state: State) -> bool:
    """Whether what was handed in is judged before it is the answer, or is being judged."""
    handed_in = state.submitted
    return (
        handed_in is not None
        and handed_in.grade is None
        and handed_in.status in ("ok", "partial")
        and state.stopping is None
        and bool(rubric_of(state))
    )


def next_entry(state: State, *, at_ms: int, by: str, fence: int) -> GradingStarted | DeliverableGraded | None:
    """What comes next for a deliverable that is to be judged; None while its grader is at work."""
    of_team = state.profile.grading
    number, rounds = state.rounds + 1, MAX_ROUNDS if of_team is None else of_team.max_rounds
    if (judging := state.judging) is not None:
        if judging.outcome is None:
            return None
        started = judging.started
        grade = grade_of(judging.outcome, started.criteria, started.round, started.rounds)
        return DeliverableGraded(at_ms=at_ms, by=by, fence=fence, grade=grade, thread=judging.thread)
    if of_team is None or state.threads_left < 1:
        why = NO_GRADER if of_team is None else NO_THREAD
        grade = Grade(verdict="ungraded", round=number, rounds=max(number, rounds), reason=why)
        return DeliverableGraded(at_ms=at_ms, by=by, fence=fence, grade=grade)
    return GradingStarted(
        at_ms=at_ms,
        by=by,
        fence=fence,
        grader=of_team.grader,
        criteria=rubric_of(state),
        round=number,
        rounds=max(number, rounds),
        call_id=state.handed_in_with,
    )


def begin(state: State, entry: GradingStarted) -> None:
    """The grader is asked next. What it may spend comes out of what is left, as for any delegation."""
    assert state.submitted is not None and state.brief is not None, "there is something to judge"
    of_team = state.profile.grading
    asked = (None if of_team is None else of_team.budget) or Budget()
    (grant,) = state.escrow.grants([asked], entry.at_ms)
    deadline_s = state.profile.delegation_deadline_s
    if grant.wall_s is not None:
        deadline_s = min(deadline_s, grant.wall_s + REPLY_GRACE_S)
    thread = child_thread(state.thread, len(state.children) + 1)
    state.judging = Judging(started=entry, thread=thread)
    brief = Brief(
        objective=OBJECTIVE,
        input=input_for(state.brief.objective, state.further_goals, entry.criteria, state.submitted),
        files=tuple(file.path for file in state.submitted.files),
        label=f"judges deliverable {entry.round} of at most {entry.rounds}",
        deadline_s=deadline_s,
        budget=grant_or_none(grant),
    )
    sent = DelegationSent(
        at_ms=entry.at_ms,
        by=entry.by,
        fence=entry.fence,
        to_thread=thread,
        brief=brief,
        team=state.profile.team,
        call_id=entry.call_id,
    )
    state.due.append(Due(entry.grader, sent))


def take(state: State, child: Child, outcome: Outcome) -> None:
    """A grader has replied, or is late. What comes after that changes nothing any more."""
    child.outcome = child.outcome or outcome
    if state.judging is not None and state.judging.thread == child.thread and state.judging.outcome is None:
        state.judging.outcome = outcome


def end(state: State, address: EntryAddress, entry: DeliverableGraded) -> None:
    """The deliverable is the answer, or its author goes on with what is not met."""
    handed_in, grade = state.submitted, entry.grade
    assert handed_in is not None, "what is graded was handed in"
    state.judging, state.rounds = None, grade.round
    graded = msgspec.structs.replace(handed_in, grade=grade)
    match grade.verdict:
        case "satisfied":
            state.submitted = graded
        case "ungraded":
            state.submitted = msgspec.structs.replace(graded, status="partial", code="ungraded")
        case "needs_revision":
            unsatisfying = msgspec.structs.replace(graded, status="partial", code="not_satisfied")
            if grade.round >= grade.rounds:
                state.submitted = unsatisfying
            else:
                state.submitted, state.unsatisfying = None, unsatisfying
                _send_back(state, address, grade)


def give_up(state: State) -> None:
    """Nothing is judged any more: the thread is to stop, or ends otherwise, or has replied."""
    state.judging = None


def forget(state: State) -> None:
    """The thread has replied: whatever it hands in next is the first deliverable of another goal."""
    state.judging, state.rounds, state.unsatisfying, state.handed_in_with = None, 0, None, ""


def _send_back(state: State, address: EntryAddress, grade: Grade) -> None:
    content = {
        "accepted": False,
        "round": grade.round,
        "rounds": grade.rounds,
        "findings": msgspec.to_builtins(grade.findings),
    }
    told = msgspec.json.encode(content).decode()
    call = state.calls.get(state.handed_in_with)
    if call is not None:
        call.settle(told)
    else:  # it was handed in as plain words
        state.dialogue.notes.append(Note(f"<judged>\n{told}\n</judged>", address.n))
    state.handed_in_with = ""
