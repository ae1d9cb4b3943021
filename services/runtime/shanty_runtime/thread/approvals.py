"""Approvals: calls that a person has to agree to before they are made.

Which calls those are is policy, so it is decided when a call is about to be made and is a fact from then on: the
request is in the journal, with the arguments, before the call's intent. The call is made with the arguments of the
request, or with those a person put in their place; nothing else than the journal says what they are.

A call may be allowed without: by a rule of the team that looks at its arguments, or because a person has allowed
every later call of its tool in this run. That is an entry too, and it names the rule, or what the person wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from shanty_protocol import ApprovalDecided, ApprovalRequested, ApprovalRuled, EntryAddress, subjects
from shanty_protocol.codec import digest_of
from shanty_protocol.ids import LOG, OPERATORS
from shanty_runtime.agent.permissions import DELEGATES, Ruling, permitted_as, ruling_on
from shanty_runtime.agent.profile import Profile
from shanty_runtime.thread.dialogue import Approval, Call
from shanty_runtime.thread.state import State

INBOX = "inbox"
"""The thread of `operators` that everything goes to which waits for a person."""

NOT_DECIDED = "Nobody decided on this call in time, so it was not made."
ALLOWED_HERE = "a person has allowed every later one in this thread"
VOID = "This call was not made: you were asked to stop while it waited for a person."


def ruling(state: State, call: Call) -> Ruling:
    return ruling_on(state.profile.permissions.get(permitted_as(call.name, call.arguments)), call.arguments)


def denial(profile: Profile, what: str, found: Ruling) -> str:
    """What a model is told of a call that is never made; empty where it may be."""
    if found.word != "deny":
        return ""
    if found.rule:
        return f"the team's permissions allow {what} to {profile.name} where {found.rule}, and here {found.because}"
    return f"the team's permissions deny {what} to {profile.name}"


def needs_approval(state: State, call: Call) -> bool:
    """Whether a person has to be asked before this call is made. One that was announced has been agreed to."""
    if call.approval is not None or call.ruled or call.intended:
        return False
    # What is held back stays so until an entry lets it go.
    asks = (
        permitted_as(call.name, call.arguments) not in state.allowed_for_thread and ruling(state, call).word == "ask"
    )
    return bool(call.held) or asks


def needs_ruling(state: State, call: Call) -> bool:
    """Whether a rule allows this call, and no entry says so yet."""
    if call.approval is not None or call.ruled or call.intended:
        return False
    found = ruling(state, call)
    return bool(found.rule) and found.word == "allow"


def needs_decision(state: State, call: Call) -> bool:
    """Whether an entry has to say that this call may be made, or ask."""
    return needs_ruling(state, call) or needs_approval(state, call)


def entries_for(
    state: State, calls: Sequence[Call], standing: Mapping[str, str], *, at_ms: int, by: str, fence: int
) -> list[tuple[str, ApprovalRequested | ApprovalRuled]]:
    """What is written about calls that nobody has decided on, and whom it is addressed to, from the next place on.

    `standing`: subjects of what people have allowed for the run, by name.
    """
    known = standing.keys() | state.allowed_for_thread
    covered = [
        call for call in calls if permitted_as(call.name, call.arguments) in known or needs_ruling(state, call)
    ]
    ruled = [
        _ruled(
            state, call, standing.get(permitted_as(call.name, call.arguments), ""), at_ms=at_ms, by=by, fence=fence
        )
        for call in covered
    ]
    asked = [call for call in calls if call not in covered]
    requests = requests_for(state, asked, at_ms=at_ms, by=by, fence=fence, behind=len(ruled))
    return [*((LOG, each) for each in ruled), *((OPERATORS, each) for each in requests)]


def _ruled(state: State, call: Call, standing: str, *, at_ms: int, by: str, fence: int) -> ApprovalRuled:
    rule = ruling(state, call).rule if needs_ruling(state, call) else "" if standing else ALLOWED_HERE
    standing = "" if rule else standing
    return ApprovalRuled(
        at_ms=at_ms,
        by=by,
        fence=fence,
        call_id=call.id,
        name=call.name,
        arguments=call.arguments,
        digest=digest_of(call.arguments),
        rule=rule,
        standing=standing,
    )


def requests_for(
    state: State, calls: Sequence[Call], *, at_ms: int, by: str, fence: int, behind: int = 0
) -> list[ApprovalRequested]:
    """What people are asked, one for each call, in the order they are written from the journal's next place on.

    `behind`: how many other entries are written before them.
    """
    after = state.sent_to.get((OPERATORS, INBOX), "")
    requests = []
    for place, call in enumerate(calls, state.next_n + behind):
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
                policy=call.held or asking_reason(state, call),
            )
        )
        after = state.address(OPERATORS, place).subject
    return requests


def asking_reason(state: State, call: Call) -> str:
    """Why a person is asked about a call."""
    name, found = state.profile.name, ruling(state, call)
    if found.rule:
        return f"{name} may call {call.name} without asking where {found.rule}, and here {found.because}"
    if call.name in DELEGATES:
        specialist = call.arguments.get("specialist", "")
        return f"the team's permissions say that {name} asks before it delegates to {specialist}"
    return f"the team's permissions say that {name} asks before {call.name}"


def take_ruling(state: State, entry: ApprovalRuled, call: Call) -> None:
    call.ruled = True
    if entry.standing:
        state.allowed_for_thread.add(permitted_as(call.name, call.arguments))


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
            state.allowed_for_thread.add(permitted_as(call.name, call.arguments))
    return f"{person} allowed your call of {call.name}{said}" if said else ""


def expire(state: State, now_ms: int) -> None:
    for call in state.waiting_calls:
        if call.approval is not None and call.approval.expires_at_ms <= now_ms:
            call.settle(NOT_DECIDED, "error")


def void(state: State) -> None:
    """The thread is to stop: it waits for nobody's decision any more."""
    for call in state.open_calls:
        if call.held or (call.approval is not None and call.approval.waiting):
            call.settle(VOID, "error")


def _call_of(state: State, decision: ApprovalDecided) -> Call | None:
    return next(
        (call for call in state.waiting_calls if call.approval and call.approval.request == decision.request), None
    )
