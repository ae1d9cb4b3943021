"""Whether what a model asks for fits into what its thread has left: decided before its reply is journaled.

What the reply itself costs is not known by then. A grant that has become too large by it is cut to what is left when
the reply is journaled, and the model is told what was granted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from shanty_protocol import Budget
from shanty_runtime.agent.budget import told
from shanty_runtime.thread.escrow import NEEDED, Amounts, delegated, granted_of, less
from shanty_runtime.thread.fold import is_over
from shanty_runtime.thread.sending import budget_asked
from shanty_runtime.thread.state import State
from shanty_runtime.thread.verbs import Delegate, DelegateEach, SendToSpecialist, Verb

THE_REPLY: Amounts = {"model_calls": 1}
"""What the reply that makes these calls counts for itself, as far as that is known."""


def grant_problem(state: State, accepted: Sequence[Verb], order: Delegate | DelegateEach) -> str:
    """Why a delegation is more than what is left allows, beside those of the turn that are accepted."""
    taken = list(_taken(state, accepted))
    left = _left_besides(state, taken)
    if not left:
        return ""
    asked = {} if order.budget is None else granted_of(order.budget.budget)
    if "threads" in left and left["threads"] < 1 + asked.get("threads", 0):
        return f"{told(Budget(threads=left['threads']))} may be opened yet, and this delegation needs more"
    if too_much := [name for name in asked if name in left and asked[name] > left[name]]:
        return f"the grant is too large: {_told(asked, too_much)} asked for, {_told(left, too_much)} left"
    others = [budget_asked(state, each) for each in accepted if isinstance(each, Delegate)]
    to_come = max(0, len(order.items or ()) - 1) if isinstance(order, DelegateEach) else 0
    granted = state.escrow.grants(
        [*others, budget_asked(state, order)],
        state.last_at_ms,
        taken=[THE_REPLY, *_reopened(state, accepted)],
        to_come=to_come,
    )
    if lacking := sorted({name for name in NEEDED for grant in granted if getattr(grant, name) == 0}):
        return f"{_told(left, lacking)} left is too little to share among so many: open fewer, or wait for replies"
    return ""


def follow_up_problem(state: State, accepted: Sequence[Verb], message: SendToSpecialist) -> str:
    """Why a thread that has replied cannot go on."""
    if not is_over(state, message.thread):
        return ""
    rest = state.escrow.rest_of(message.thread)
    if spent := [name for name in NEEDED if rest.get(name) == 0]:
        return f"thread {message.thread} has spent its grant ({_told(rest, spent)} left): delegate the rest anew"
    left = _left_besides(state, _taken(state, accepted))
    if too_much := [name for name in rest if name in left and rest[name] > left[name]]:
        return (
            f"thread {message.thread} would go on with the rest of its grant, {_told(rest, too_much)}, "
            f"and you have {_told(left, too_much)} left"
        )
    return ""


def _left_besides(state: State, taken: Iterable[Amounts]) -> Amounts:
    left = less(state.escrow.left, THE_REPLY)
    for amounts in taken:
        left = less(left, amounts)
    return left


def _taken(state: State, accepted: Sequence[Verb]) -> Iterator[Amounts]:
    """What the calls that are accepted have got by name."""
    yield from _reopened(state, accepted)
    for each in accepted:
        if isinstance(each, Delegate):
            yield delegated(budget_asked(state, each))


def _reopened(state: State, accepted: Sequence[Verb]) -> list[Amounts]:
    threads = {each.thread for each in accepted if isinstance(each, SendToSpecialist) and is_over(state, each.thread)}
    return [state.escrow.rest_of(thread) for thread in threads]


def _told(amounts: Amounts, names: Sequence[str]) -> str:
    return told(Budget(**{name: amounts[name] for name in names}))
