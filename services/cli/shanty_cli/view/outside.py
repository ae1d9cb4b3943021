"""What comes from outside the run's threads: its goal, and what people and other services say to it."""

from __future__ import annotations

from shanty_cli.text import one_line
from shanty_cli.view.dead_letters import dealt_with, rejected
from shanty_cli.view.happenings import Happening, happening
from shanty_cli.view.mail import asked_again, asked_to_stop
from shanty_cli.view.people import decided
from shanty_cli.view.state import RunView, ThreadView, thread_of
from shanty_protocol import (
    ApprovalDecided,
    ApprovalStanding,
    BudgetGranted,
    CancelSent,
    DelegationSent,
    Entry,
    EntryAddress,
    LetterDropped,
    MailRejected,
    MailRetried,
    MessageSent,
    QuestionAnswered,
)
from shanty_protocol.ids import OPERATORS, ROOT_THREAD
from shanty_runtime.agent.budget import told


def from_outside(view: RunView, address: EntryAddress, entry: Entry) -> tuple[Happening, ...]:
    """People, gateways and other services: whoever opens thread 0 is who the run answers to."""
    match entry:
        case DelegationSent() if entry.to_thread == ROOT_THREAD and not view.lead:
            view.goal, view.lead, view.expired = entry.brief.objective, address.to, False
            view.asked = view.goal
            view.asker, view.started_at_ms = (address.agent, address.thread), entry.at_ms
            view.threads.pop(ROOT_THREAD, None)
            lead = thread_of(view, ROOT_THREAD, address.to)
            lead.started_at_ms = entry.at_ms
            view.spending.begin(entry.brief.budget, entry.at_ms)
            return (happening(lead, entry, "started", f"{one_line(entry.brief.objective)}{_cause(entry)}"),)
        case MessageSent() if (receiver := _spoken_to(view, address, entry.to_thread)) is not None:
            if entry.to_thread == ROOT_THREAD and receiver.over:
                # Whoever asks for more is who the answer goes to.
                view.outcome, view.ended_at_ms, view.grades = None, 0, []
                view.asker, view.asked = (address.agent, address.thread), entry.text
            asked_again(receiver)
            return (happening(receiver, entry, "follow_up", one_line(entry.text)),)
        case ApprovalDecided() | QuestionAnswered() if address.agent == OPERATORS:
            return decided(view, entry)
        case ApprovalStanding() if address.agent == OPERATORS and view.lead:
            said = (
                f"{one_line(entry.person, 60) or 'a person'} allows every later {one_line(entry.name, 60)} of the run"
            )
            return (happening(thread_of(view, ROOT_THREAD, view.lead), entry, "allowed", said),)
        case BudgetGranted() if address.agent == OPERATORS and entry.to_thread == ROOT_THREAD and view.lead:
            view.spending.granted(address, entry)
            because = f": {one_line(entry.reason)}" if entry.reason else ""
            said = f"{told(entry.budget)} more{because}"
            return (happening(thread_of(view, ROOT_THREAD, view.lead), entry, "granted", said),)
        case CancelSent() if _spoken_to(view, address, entry.to_thread) is not None:
            return asked_to_stop(view, entry)
        case MailRejected():
            return (rejected(address, entry),)
        case MailRetried() | LetterDropped() if address.agent == OPERATORS:
            return (dealt_with(address, entry),)
        case _:
            return ()


def _spoken_to(view: RunView, address: EntryAddress, thread: str) -> ThreadView | None:
    """The thread that somebody outside speaks to, if they may: people to any, whoever asked to the lead."""
    asked = thread == ROOT_THREAD and view.asker == (address.agent, address.thread)
    return view.threads.get(thread) if asked or address.agent == OPERATORS else None


def _cause(entry: DelegationSent) -> str:
    """What started a run that no person did."""
    if entry.occurrence is None:
        return ""
    return f" (by trigger {one_line(entry.occurrence.trigger, 40)}: {one_line(entry.occurrence.key, 60)})"
