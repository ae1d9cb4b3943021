"""Which tool calls of a model reply are carried out, decided before the reply is journaled.

What is refused is part of the entry, so whoever reads the journal carries out the same calls without asking again.
"""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterable, Sequence

import msgspec

from shanty_protocol.ids import depth
from shanty_runtime.agent.permissions import DELEGATES, DELEGATION, ruling_on
from shanty_runtime.agent.schema import problems_with
from shanty_runtime.errors import WorkspaceError
from shanty_runtime.models.base import Block
from shanty_runtime.thread import approvals, fanout, hedging, hiring
from shanty_runtime.thread.dialogue import Call
from shanty_runtime.thread.granting import follow_up_problem, grant_problem
from shanty_runtime.thread.sending import room_problem
from shanty_runtime.thread.state import NOTHING_NEW, State
from shanty_runtime.thread.verbs import (
    VERBS,
    AnswerSpecialist,
    AskHuman,
    AskLead,
    Cancel,
    Delegate,
    DelegateEach,
    HireSpecialist,
    SendToSpecialist,
    SubmitResult,
    Verb,
    WaitForReplies,
)
from shanty_runtime.tools.workspace import checked_path

TOO_MANY_CALLS = "this call is beyond the tool calls that may be made here, so it is not made"


def refusals(state: State, blocks: Iterable[Block]) -> dict[str, str]:
    """The calls that cannot be carried out, by id, each with a sentence for the model."""
    calls = [block for block in blocks if block["type"] == "tool_use"]
    refused: dict[str, str] = {}
    accepted: list[Verb] = []
    calls_left = state.escrow.left.get("tool_calls")
    for call in calls:
        problem = _problem(state, accepted, call)
        if not problem and call["name"] == hiring.NAME:  # calls that come after may be about whom it hires
            state = hiring.with_hired(state, accepted[-1])
        if not problem and call["name"] in state.profile.tools and calls_left is not None:
            problem = "" if calls_left else TOO_MANY_CALLS
            calls_left = max(0, calls_left - 1)
        if problem:
            refused[call["id"]] = problem
    return refused


def held_back(state: State, blocks: Iterable[Block], refused: Container[str]) -> dict[str, str]:
    """The delegations that a person has to allow first, by the id of their call, and why."""
    calls = [
        Call(id=block["id"], name=block["name"], arguments=block["input"])
        for block in blocks
        if block["type"] == "tool_use" and block["name"] in DELEGATES and block["id"] not in refused
    ]
    return {call.id: approvals.asking_reason(state, call) for call in calls if approvals.needs_approval(state, call)}


def _problem(state: State, accepted: list[Verb], call: Block) -> str:
    """Why this call is refused, or nothing. Verbs that are fine join `accepted`, for those that come after."""
    name, arguments = call["name"], call["input"]
    offered = [card.name for card in state.profile.verbs]
    if name in offered:
        try:
            verb = hedging.resolved(state, msgspec.convert(arguments, VERBS[name]))
        except msgspec.ValidationError as error:
            return f"{name}: {error}"
        problem = _verb_problem(state, accepted, verb)
        if not problem:
            accepted.append(verb)
        return problem
    policy = ruling_on(state.profile.permissions.get(name), arguments)
    if policy.word == "deny" and not policy.rule:
        return approvals.denial(state.profile, name, policy)
    if policy.word == "ask" and state.stopping is not None and name not in state.allowed_for_thread:
        return NOTHING_NEW
    tool = state.profile.tools.get(name)
    if tool is None:
        return f"there is no tool {name!r}{_nearest(name, [*state.profile.tools, *offered])}"
    if problem := problems_with(arguments, tool.input_schema):
        return f"{name}: {problem}"
    try:
        tool.decode(arguments)
    except msgspec.ValidationError as error:
        return f"{name}: {error}"
    return approvals.denial(state.profile, name, policy)


def _verb_problem(state: State, accepted: Sequence[Verb], verb: Verb) -> str:
    if state.stopping is not None and isinstance(verb, (Delegate, DelegateEach, SendToSpecialist, HireSpecialist)):
        return NOTHING_NEW
    match verb:
        case Delegate():
            return _delegation_problem(state, accepted, verb)
        case DelegateEach():
            return _fan_out_problem(state, accepted, verb)
        case HireSpecialist():
            return hiring.problem_with(state.profile, verb)
        case SendToSpecialist():
            return _unknown_threads(state, (verb.thread,)) or follow_up_problem(state, accepted, verb)
        case AskLead() | AskHuman():
            return _question_problem(state, verb)
        case AnswerSpecialist():
            return _answer_problem(state, accepted, verb)
        case Cancel():
            return _cancel_problem(state, verb)
        case WaitForReplies():
            if problem := _unknown_threads(state, verb.threads):
                return problem
            if verb.mode == "quorum" and not verb.quorum:
                return "wait_for_replies: mode quorum needs `quorum`, the number of replies to wait for"
            named = len(verb.threads)
            if verb.quorum is not None and named and not 1 <= verb.quorum <= named:
                return f"wait_for_replies: quorum must be between 1 and {named}, the number of threads named"
            return "" if _positive(verb.deadline_s) else "wait_for_replies: deadline_s must be more than 0"
        case SubmitResult():
            return _submission_problem(state, accepted, verb)
        case _:
            return ""


def _cancel_problem(state: State, order: Cancel) -> str:
    if problem := _unknown_threads(state, (order.thread,)):
        return problem
    if not state.children[order.thread].unanswered:
        return f"cancel: thread {order.thread} has replied already; there is nothing to stop"
    return "" if order.within_s > 0 else "cancel: within_s must be more than 0"


def _delegation_problem(state: State, accepted: Sequence[Verb], order: Delegate) -> str:
    profile = state.profile
    if problem := _opening_problem(state, order.specialist):
        return problem
    contract = profile.contracts[order.specialist]
    if contract.input_schema is not None:
        if order.input is None:
            return f"{order.specialist} takes typed input: give `input` as its schema says"
        if problem := problems_with(order.input, contract.input_schema):
            return f"input for {order.specialist}: {problem}"
    if not order.objective.strip():
        return "delegate: `objective` is empty; the specialist knows nothing but what you write"
    if not _positive(order.deadline_s):
        return "delegate: deadline_s must be more than 0"
    fresh = sum(isinstance(each, Delegate) for each in accepted)
    if len(state.children) + sum(map(_opens, accepted)) >= profile.max_threads:
        return f"this run has opened {profile.max_threads} threads, which is all it may"
    active = sum(child.owes_reply for child in state.children.values()) + fresh
    if active >= profile.max_active_threads:
        return f"{active} threads are at work, which is all that may be at once: wait for replies first"
    return grant_problem(state, accepted, order)


def _fan_out_problem(state: State, accepted: Sequence[Verb], order: DelegateEach) -> str:
    if problem := _opening_problem(state, order.specialist) or fanout.problem_with(state.profile, order):
        return problem
    if not _positive(order.deadline_s):
        return f"{fanout.NAME}: deadline_s must be more than 0"
    for path in (order.output, order.file):
        try:
            checked_path(path or order.output)
        except WorkspaceError as error:
            return f"{fanout.NAME}: {error}"
    before = sum(_opens(each) for each in accepted)
    if order.items is not None and (problem := room_problem(state, len(order.items), before)):
        return problem
    return grant_problem(state, accepted, order)


def _opens(verb: Verb) -> int:
    """How many threads a call opens, as far as it says so itself."""
    return len(verb.items or ()) if isinstance(verb, DelegateEach) else int(isinstance(verb, Delegate))


def _opening_problem(state: State, specialist: str) -> str:
    """Why this thread may not open one of that specialist."""
    profile = state.profile
    if depth(state.thread) >= profile.max_depth:
        return (
            f"thread {state.thread} is {depth(state.thread)} levels below the lead, and max_depth is "
            f"{profile.max_depth}: do this work yourself, or hand in what is missing"
        )
    if specialist not in profile.contracts:
        return f"there is no specialist {specialist!r}{_nearest(specialist, list(profile.contracts))}"
    policy = ruling_on(profile.permissions.get(DELEGATION + specialist), {})
    return approvals.denial(profile, f"delegations to {specialist}", policy)


def _question_problem(state: State, ask: AskLead | AskHuman) -> str:
    name = "ask_lead" if isinstance(ask, AskLead) else "ask_human"
    if state.stopping is not None:
        return NOTHING_NEW
    if not ask.question.strip():
        return f"{name}: `question` is empty"
    if not _positive(ask.deadline_s):
        return f"{name}: deadline_s must be more than 0"
    if isinstance(ask, AskHuman) and ask.on_behalf_of:
        if problem := _unknown_question(state, ask.on_behalf_of):
            return problem
        if state.questions[ask.on_behalf_of].passed_on:
            return f"{ask.on_behalf_of} was passed on already; you are told when it is answered"
    return ""


def _answer_problem(state: State, accepted: Sequence[Verb], given: AnswerSpecialist) -> str:
    if any(isinstance(each, AnswerSpecialist) and each.question == given.question for each in accepted):
        return f"{given.question} was answered twice in one turn"
    return _unknown_question(state, given.question)


def _unknown_question(state: State, question: str) -> str:
    if question in state.questions:
        return ""
    open_ones = ", ".join(state.questions) or "none"
    return f"no question {question!r} waits for you; open are: {open_ones}"


def _submission_problem(state: State, accepted: Sequence[Verb], submitted: SubmitResult) -> str:
    if any(isinstance(each, SubmitResult) for each in accepted):
        return "submit_result was called twice in one turn"
    if any(isinstance(each, (Delegate, DelegateEach, SendToSpecialist, WaitForReplies)) for each in accepted):
        return "submit_result ends your work: wait for the replies first, then hand in"
    if any(isinstance(each, (AskLead, AskHuman)) for each in accepted):
        return "submit_result ends your work: wait for the answer first, then hand in"
    unknown = [path for path in submitted.files if path not in state.files]
    if unknown:
        known = ", ".join(sorted(state.files)) or "none"
        return f"submit_result: {', '.join(unknown)} was not written in this thread; files written: {known}"
    schema = state.profile.output_schema
    if schema is None or submitted.status in ("failed", "refused"):
        return ""
    if submitted.result is None:
        return "submit_result: `result` is missing; your output schema asks for it"
    problem = problems_with(submitted.result, schema)
    return f"submit_result: result does not match the output schema: {problem}" if problem else ""


def _unknown_threads(state: State, threads: Sequence[str]) -> str:
    known_to_model = {child.thread: child for child in state.children.values() if not child.hidden}
    unknown = [thread for thread in threads if thread not in known_to_model]
    if not unknown:
        return ""
    named = [f"{child.thread} ({child.name})" for child in known_to_model.values() if not child.fan_out]
    known = ", ".join(named) or "none"
    return f"you opened no thread {', '.join(unknown)}; yours are: {known}"


def _positive(seconds: float | None) -> bool:
    return seconds is None or seconds > 0


def _nearest(word: str, known: Sequence[str]) -> str:
    match = difflib.get_close_matches(word, known, 1)
    listed = ", ".join(sorted(known))
    return f"; did you mean {match[0]!r}?" if match else f"; there are: {listed}"
