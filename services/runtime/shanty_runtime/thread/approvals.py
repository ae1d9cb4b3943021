"""Approvals: tool calls that a person has to agree to before they are made.

Which tools those are is policy, so it is decided when a call is about to be made and is a fact from then on: the
request is in the journal, with the arguments, before the call's intent. The call is made with the arguments of the
request, or with those a person put in their place; nothing else than the journal says what they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shanty_protocol import ApprovalDecided, ApprovalRequested, EntryAddress, subjects
from shanty_protocol.codec import digest_of
from shanty_protocol.ids import OPERATORS
from shanty_runtime.thread.dialogue import Approval, Call
from shanty_runtime.thread.state import State

INBOX = "inbox"
"""The thread of `operators` that everything goes to which waits for a person."""

NOT_DECIDED = "Nobody decided on this call in time, so it was not made."
VOID = "This call was not made: you were asked to stop while it waited for a person."


def needs_approval(state: State, call: Call) -> bool:
    """Whether a person has to be asked before this call is made. One that was announced has been agreed to."""
    asks = state.profile.permissions.get(call.name) == "ask"
    return asks and call.approval is None and not call.intended and call.name not in state.allowed_for_thread


def requests_for(state: State, calls: Sequence[Call], *, at_ms: int, by: str, fence: int) -> list[ApprovalRequested]:
    """What people are asked, one for each call, in the order they are written from the journal's next place on."""
    after = state.sent_to.get((OPERATORS, INBOX), "")
    requests = []
    for place, call in enumerate(calls, state.next_n):
        requests.append(
            ApprovalRequested(
                at_ms=at_ms,
                by=by,
                fence=fence,
                to_thread=INBOX,
                after=after,
                call_id=call.id,
                name=call.name,
                arguments=call.arguments,
                digest=digest_of(call.arguments),
                expires_at_ms=at_ms + int(state.profile.decision_deadline_s * 1000),
                policy=f"the team's permissions say that {state.profile.agent} asks before {call.name}",
            )
        )
        after = state.address(OPERATORS, place).subject
    return requests


def take_request(state: State, address: EntryAddress, entry: ApprovalRequested, call: Call) -> None:
    call.approval = Approval(request=address.subject, digest=entry.digest, expires_at_ms=entry.expires_at_ms)
    state.sent_to[OPERATORS, INBOX] = address.subject


def stale(state: State, address: EntryAddress, decision: ApprovalDecided) -> str:
    """Why this decision is none on what the thread waits for; empty where it is."""
    call = _call_of(state, decision)
    if call is None or call.approval is None:
        return f"{decision.request} is not open in thread {state.thread}"
    if address != subjects.decision_address(subjects.parse_entry(decision.request)):
        return f"a decision on {decision.request} is not at the place that follows from it"
    if decision.digest != call.approval.digest:
        return f"what was decided on is not what {decision.request} asked about"
    if decision.at_ms >= call.approval.expires_at_ms:
        return f"{decision.request} had expired"
    if decision.decision == "edit" and (
        decision.arguments is None or digest_of(decision.arguments) != decision.arguments_digest
    ):
        return f"the decision on {decision.request} changes the arguments and does not say to which"
    return ""


def take_decision(state: State, decision: ApprovalDecided) -> str:
    """Take a decision in. Returns what the model has to be told besides the result of the call, if anything."""
    call = _call_of(state, decision)
    if call is None or call.approval is None:
        return ""
    call.approval.waiting = False
    person = decision.person or "a person"
    said = f", and said: {decision.message}" if decision.message else ""
    match decision.decision:
        case "deny":
            call.settle(f"{person} denied this call{said or '.'}", "error")
            return ""
        case "edit":
            assert decision.arguments is not None, "checked when it was admitted"
            call.arguments, call.approval.edited = decision.arguments, True
            given = msgspec.json.encode(decision.arguments, order="deterministic").decode()
            return f"{person} changed the arguments of your call of {call.name} to {given}{said}"
        case "allow_for_thread":
            state.allowed_for_thread.add(call.name)
    return f"{person} allowed your call of {call.name}{said}" if said else ""


def expire(state: State, now_ms: int) -> None:
    for call in state.waiting_calls:
        if call.approval is not None and call.approval.expires_at_ms <= now_ms:
            call.settle(NOT_DECIDED, "error")


def void(state: State) -> None:
    """The thread is to stop: it waits for nobody's decision any more."""
    for call in state.waiting_calls:
        call.settle(VOID, "error")


def _call_of(state: State, decision: ApprovalDecided) -> Call | None:
    return next(
        (call for call in state.waiting_calls if call.approval and call.approval.request == decision.request), None
    )
