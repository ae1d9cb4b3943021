"""Waiting for replies: a call is settled when enough of the threads it names have replied, or its time is over."""

from __future__ import annotations

from typing import Any

import msgspec

from shanty_protocol.ids import parent_thread
from shanty_runtime.thread import hedging, questions
from shanty_runtime.thread.dialogue import Call
from shanty_runtime.thread.state import Child, Question, State, Wait
from shanty_runtime.thread.verbs import WaitForReplies


def begin(state: State, call: Call, wait: WaitForReplies, at_ms: int) -> None:
    # A reply that came before the model asked for it is among those that are waited for: it is there.
    shown = [child for child in state.children.values() if not child.hidden]
    known = tuple(child.thread for child in shown if child.owes_reply or child.is_news)
    sent_to = (due.to_thread for due in state.due if parent_thread(due.to_thread) == state.thread)
    hidden = {child.thread for child in state.children.values() if child.hidden}
    fresh = tuple(thread for thread in dict.fromkeys(sent_to) if thread not in known and thread not in hidden)
    threads = wait.threads or known + fresh
    asked = {"all": len(threads), "any": 1, "quorum": wait.quorum or 1}[wait.mode]
    needed = min(asked, len(threads))  # nobody waits for more than there are
    deadline_ms = None if wait.deadline_s is None else at_ms + int(wait.deadline_s * 1000)
    state.waits[call.id] = Wait(call.id, threads, needed, deadline_ms)


def begin_put_off(state: State, at_ms: int) -> None:
    """A turn whose delegations were held back waits for them, now that it is decided which there are."""
    for call in state.open_calls:
        if call.name == "wait_for_replies" and call.id not in state.waits:
            wait = hedging.resolved(state, msgspec.convert(call.arguments, WaitForReplies))
            assert isinstance(wait, WaitForReplies)
            begin(state, call, wait, at_ms)


def settle(state: State, now_ms: int | None) -> None:
    """Answer the waits whose threads have replied, and those whose time is over."""
    if state.due:
        return
    news = questions.take_news(state)
    for wait in list(state.waits.values()):
        asked = questions.unanswered(state) if news or _only_asks(state, wait) else []
        in_time = [state.children[thread] for thread in wait.threads if not state.children[thread].owes_reply]
        satisfied = len(in_time) >= wait.needed
        over = wait.deadline_ms is not None and now_ms is not None and now_ms >= wait.deadline_ms
        if satisfied or over or asked:
            del state.waits[wait.call_id]
            state.calls[wait.call_id].settle(_wait_content(state, wait, satisfied, asked))
            for child in in_time:
                child.is_news = False


def _only_asks(state: State, wait: Wait) -> bool:
    """Whether all that is still waited for waits itself for this thread's answers: nothing would come of it."""
    at_work = {thread for thread in wait.threads if state.children[thread].owes_reply}
    return bool(at_work) and at_work <= {question.thread for question in questions.unanswered(state)}


def _wait_content(state: State, wait: Wait, satisfied: bool, asked: list[Question]) -> str:
    children = [state.children[thread] for thread in wait.threads]
    content = {
        "satisfied": satisfied,
        "replies": [reply_card(child) for child in children if not child.owes_reply],
        "waiting_for": [
            {"thread": child.thread, "specialist": child.name, "progress": child.progress}
            for child in children
            if child.owes_reply
        ],
    }
    if asked:
        content["questions"] = [question.card for question in asked]
    return msgspec.json.encode(content).decode()


def reply_card(child: Child) -> dict[str, Any]:
    outcome = child.outcome
    assert outcome is not None
    return {
        "thread": child.thread,
        **({"in_place_of": child.hedges} if child.won else {}),
        "specialist": child.name,
        "status": outcome.status,
        "summary": outcome.summary,
        "result": outcome.result,
        "files": [file.path for file in outcome.files],
    }
