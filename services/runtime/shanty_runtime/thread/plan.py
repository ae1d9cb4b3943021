"""Which tool calls of a model reply are carried out, decided before the reply is journaled.

What is refused is part of the entry, so whoever reads the journal carries out the same calls without asking again.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import msgspec

from shanty_runtime.agent.schema import problems_with
from shanty_runtime.models.base import Block
from shanty_runtime.thread.state import State
from shanty_runtime.thread.verbs import (
    VERBS,
    Delegate,
    SendToSpecialist,
    SubmitResult,
    Verb,
    WaitForReplies,
)


def refusals(state: State, blocks: Iterable[Block]) -> dict[str, str]:
    """The calls that cannot be carried out, by id, each with a sentence for the model."""
    calls = [block for block in blocks if block["type"] == "tool_use"]
    refused: dict[str, str] = {}
    accepted: list[Verb] = []
    for call in calls:
        problem = _problem(state, accepted, call)
        if problem:
            refused[call["id"]] = problem
    return refused


def _problem(state: State, accepted: list[Verb], call: Block) -> str:
    """Why this call is refused, or nothing. Verbs that are fine join `accepted`, for those that come after."""
    name, arguments = call["name"], call["input"]
    offered = [card.name for card in state.profile.verbs]
    if name in offered:
        try:
            verb = msgspec.convert(arguments, VERBS[name])
        except msgspec.ValidationError as error:
            return f"{name}: {error}"
        problem = _verb_problem(state, accepted, verb)
        if not problem:
            accepted.append(verb)
        return problem
    tool = state.profile.tools.get(name)
    if tool is None:
        return f"there is no tool {name!r}{_nearest(name, [*state.profile.tools, *offered])}"
    if problem := problems_with(arguments, tool.input_schema):
        return f"{name}: {problem}"
    try:
        tool.decode(arguments)
    except msgspec.ValidationError as error:
        return f"{name}: {error}"
    return ""


def _verb_problem(state: State, accepted: Sequence[Verb], verb: Verb) -> str:
    match verb:
        case Delegate():
            return _delegation_problem(state, accepted, verb)
        case SendToSpecialist():
            return _unknown_threads(state, (verb.thread,))
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


def _delegation_problem(state: State, accepted: Sequence[Verb], order: Delegate) -> str:
    profile = state.profile
    contract = profile.contracts.get(order.specialist)
    if contract is None:
        return f"there is no specialist {order.specialist!r}{_nearest(order.specialist, list(profile.contracts))}"
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
    if len(state.children) + fresh >= profile.max_threads:
        return f"this run has opened {profile.max_threads} threads, which is all it may"
    active = sum(child.owes_reply for child in state.children.values()) + fresh
    if active >= profile.max_active_threads:
        return f"{active} threads are at work, which is all that may be at once: wait for replies first"
    return ""


def _submission_problem(state: State, accepted: Sequence[Verb], submitted: SubmitResult) -> str:
    if any(isinstance(each, SubmitResult) for each in accepted):
        return "submit_result was called twice in one turn"
    if any(isinstance(each, (Delegate, SendToSpecialist, WaitForReplies)) for each in accepted):
        return "submit_result ends your work: wait for the replies first, then hand in"
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
    unknown = [thread for thread in threads if thread not in state.children]
    if not unknown:
        return ""
    known = ", ".join(f"{child.thread} ({child.specialist})" for child in state.children.values()) or "none"
    return f"you opened no thread {', '.join(unknown)}; yours are: {known}"


def _positive(seconds: float | None) -> bool:
    return seconds is None or seconds > 0


def _nearest(word: str, known: Sequence[str]) -> str:
    match = difflib.get_close_matches(word, known, 1)
    listed = ", ".join(sorted(known))
    return f"; did you mean {match[0]!r}?" if match else f"; there are: {listed}"
