"""What waits for people, and what they say."""

from __future__ import annotations

from shanty_cli.spending import how_to_raise
from shanty_cli.text import one_line
from shanty_cli.view.happenings import Happening, happening
from shanty_cli.view.state import RunView, ThreadView
from shanty_cli.waiting import waiting_of
from shanty_protocol import (
    ApprovalDecided,
    ApprovalRequested,
    ApprovalRuled,
    BudgetRequested,
    Entry,
    EntryAddress,
    QuestionAnswered,
    QuestionAsked,
)
from shanty_protocol.errors import CODES
from shanty_protocol.ids import OPERATORS
from shanty_runtime.agent.budget import told


def asked(
    view: RunView, thread: ThreadView, address: EntryAddress, entry: ApprovalRequested | QuestionAsked
) -> tuple[Happening, ...]:
    thread.status = "waiting"
    if address.to != OPERATORS:
        assert isinstance(entry, QuestionAsked)
        thread.doing = f"waits for an answer of {address.to}"
        return (happening(thread, entry, "asked", f"asks {address.to}: {one_line(entry.question)}"),)
    waiting = view.waiting[address.subject] = waiting_of(address, entry)
    if waiting.on_behalf_of:  # a lead that passes a question on does not rest
        thread.status = "working"
    else:
        thread.doing = f"waits for {'approval' if waiting.kind == 'approval' else 'an answer'} ({waiting.id})"
    asks = "asks for approval of" if waiting.kind == "approval" else "asks a person:"
    return (happening(thread, entry, "asked", f"{asks} {waiting.text}; shanty inbox show {waiting.id}"),)


def out_of_budget(view: RunView, thread: ThreadView, entry: BudgetRequested) -> tuple[Happening, ...]:
    thread.status, thread.doing = "waiting", "waits for more budget"
    said = f"{reason_of(entry.code)} ({told(entry.limits)}): it waits for more; {how_to_raise(view.run, entry.code)}"
    return (happening(thread, entry, "asked", said),)


def reason_of(code: str) -> str:
    return CODES.get(code, one_line(code))


def answered(thread: ThreadView, entry: Entry, who: str, said: str) -> tuple[Happening, ...]:
    return (happening(thread, entry, "answered", f"{one_line(who, 60)} says: {one_line(said)}"),)


def allowed(thread: ThreadView, entry: ApprovalRuled) -> tuple[Happening, ...]:
    because = "a person has allowed it for the run" if entry.standing else one_line(entry.rule)
    return (happening(thread, entry, "allowed", f"{one_line(entry.name, 60)} needs no approval: {because}"),)


def decided(view: RunView, entry: ApprovalDecided | QuestionAnswered) -> tuple[Happening, ...]:
    """What people say goes to one place, so the first of them that is seen has said it."""
    request = entry.request if isinstance(entry, ApprovalDecided) else entry.question
    waiting = view.waiting.pop(request, None)
    thread = view.threads.get(entry.to_thread)
    if waiting is None or thread is None:
        return ()
    said = entry.answer if isinstance(entry, QuestionAnswered) else _decision_in_words(entry)
    return answered(thread, entry, entry.person or "a person", said)


def _decision_in_words(entry: ApprovalDecided) -> str:
    decision = "allow for the run" if entry.for_run else entry.decision.replace("_", " ")
    return f"{decision} {entry.message}".strip()


def void(view: RunView, thread: ThreadView, now_ms: int | None = None) -> None:
    """The thread waits for nobody any more; with a time, only for what has expired by then."""
    for request, waiting in list(view.waiting.items()):
        passed_on = thread.thread == waiting.on_behalf_of_thread
        expired = now_ms is None or waiting.expires_at_ms <= now_ms
        if (waiting.thread == thread.thread or passed_on) and expired:
            del view.waiting[request]
