"""Opening threads: the delegation that follows from a call, at once or when a person has allowed it.

Which delegations a person has to allow is fixed in the entry that has the calls. Such a call stays open, and so does
a call of the same turn that waits for whatever was delegated in it: nothing is delegated, and no thread is known,
before somebody has decided.
"""

from __future__ import annotations

import msgspec

from shanty_protocol import Brief, Budget, DelegationSent, Entry, EntryAddress
from shanty_protocol.ids import child_thread
from shanty_runtime.agent.schema import problems_with
from shanty_runtime.thread.dialogue import Call
from shanty_runtime.thread.escrow import REPLY_GRACE_S, grant_or_none
from shanty_runtime.thread.sending import budget_asked, last_sent
from shanty_runtime.thread.state import Due, State
from shanty_runtime.thread.verbs import VERBS, Delegate, DelegateEach


def make_delegation_due(
    state: State, call: Call, order: Delegate, grant: Budget, address: EntryAddress, entry: Entry
) -> None:
    opened = len(state.children) + sum(isinstance(due.entry, DelegationSent) for due in state.due)
    thread = child_thread(state.thread, opened + 1)
    contract = state.profile.contracts[order.specialist]
    deadline_s = state.profile.delegation_deadline_s if order.deadline_s is None else order.deadline_s
    if grant.wall_s is not None:
        deadline_s = min(deadline_s, grant.wall_s + REPLY_GRACE_S)
    brief = Brief(
        objective=order.objective,
        input=order.input,
        expected_output=order.expected_output,
        guidance=order.guidance,
        boundaries=order.boundaries,
        effort=order.effort,
        files=order.files,
        label=order.label,
        deadline_s=deadline_s,
        budget=grant_or_none(grant),
    )
    sent = DelegationSent(
        at_ms=entry.at_ms,
        by=entry.by,
        fence=entry.fence,
        to_thread=thread,
        after=last_sent(state, address, (contract.agent, thread)),
        brief=brief,
        team=state.profile.team,
        call_id=call.id,
        hired=contract.hired,
    )
    state.due.append(Due(contract.agent, sent))


# What a person has to allow first


def any_held(state: State) -> bool:
    """Whether a delegation of this turn waits for a person."""
    return any(call.held for call in state.open_calls)


def make_decided_due(state: State, address: EntryAddress, entry: Entry) -> None:
    """What was allowed goes out; what is a fan-out begins by itself."""
    for call in state.open_calls:
        if not call.held or not call.decided:
            continue
        if problem := _edit_problem(state, call):
            call.settle(f"the arguments a person gave do not fit: {problem}", "error")
        elif isinstance(order := msgspec.convert(call.arguments, VERBS[call.name]), Delegate):
            (grant,) = state.escrow.grants([budget_asked(state, order)], entry.at_ms)
            make_delegation_due(state, call, order, grant, address, entry)
        call.held = ""


def _edit_problem(state: State, call: Call) -> str:
    """Why a delegation cannot be made with what a person has put in the place of its arguments."""
    if call.approval is None or not call.approval.edited:
        return ""
    try:
        order = msgspec.convert(call.arguments, VERBS[call.name])
    except msgspec.ValidationError as error:
        return str(error)
    assert isinstance(order, Delegate | DelegateEach), "nothing else is held"
    contract = state.profile.contracts.get(order.specialist)
    if contract is None:
        return f"there is no specialist {order.specialist}"
    if not order.objective.strip():
        return "`objective` is empty"
    if order.deadline_s is not None and order.deadline_s <= 0:
        return "deadline_s must be more than 0"
    if isinstance(order, Delegate) and contract.input_schema is not None:
        return problems_with(order.input or {}, contract.input_schema)
    return ""
