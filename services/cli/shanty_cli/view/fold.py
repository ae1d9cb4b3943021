"""Where entries and live events come in: each goes to what takes its kind in."""

from __future__ import annotations

from shanty_cli import grades
from shanty_cli.text import one_line
from shanty_cli.view.dead_letters import rejected
from shanty_cli.view.happenings import Happening, happening
from shanty_cli.view.mail import asked_to_stop, deadline_passed, delegated, message_sent, replied
from shanty_cli.view.outside import from_outside
from shanty_cli.view.people import allowed, answered, asked, out_of_budget, reason_of, void
from shanty_cli.view.state import RunView, ThreadView, thread_of
from shanty_cli.view.work import fanned_out, model_replied, taken_over, tool_returned
from shanty_protocol import (
    ApprovalRequested,
    ApprovalRuled,
    BudgetExhausted,
    BudgetRequested,
    CancelSent,
    DelegationSent,
    DeliverableGraded,
    Entry,
    EntryAddress,
    FanOutStarted,
    GradingStarted,
    LiveAddress,
    LiveEvent,
    MailReceived,
    MailRejected,
    MessageSent,
    ModelReplied,
    QuestionAnswered,
    QuestionAsked,
    ReplyReceived,
    SpecialistHired,
    StepStarted,
    ThreadFailed,
    ThreadOpened,
    ThreadReplied,
    ThreadTakenOver,
    TimerFired,
    ToolCalled,
    ToolDelayed,
    ToolReturned,
)
from shanty_protocol.ids import ROOT_THREAD, is_agent_thread
from shanty_runtime.agent.budget import told


def apply(view: RunView, address: EntryAddress, entry: Entry) -> tuple[Happening, ...]:
    """Take one entry into the view, and say what happened."""
    view.entries += 1
    view.newest_at_ms = max(view.newest_at_ms, entry.at_ms)
    if not is_agent_thread(address.thread):
        return from_outside(view, address, entry)
    thread = thread_of(view, address.thread, address.agent)
    if thread.agent != address.agent:
        return ()  # the server vouches for the author of an entry, and for nothing else that its subject says
    # Whoever starts a run does so before anybody works on it.
    view.expired = view.expired or (thread.thread == ROOT_THREAD and not view.lead and not thread.entries)
    _note_writer(thread, entry)
    view.spending.count(address, entry)
    match entry:
        case ThreadOpened():
            thread.status, thread.doing = "working", "reads its brief"
            return (happening(thread, entry, "opened", f"started by {thread.writer}"),)
        case ThreadTakenOver():
            return taken_over(thread, entry)
        case ModelReplied():
            return model_replied(thread, entry)
        case ToolCalled():
            thread.status, thread.doing = "working", one_line(entry.name, 60)
        case ToolDelayed():
            thread.status, thread.doing = "waiting", f"cannot call {one_line(entry.name, 60)} yet"
            said = f"{one_line(entry.name, 60)} waits: {one_line(entry.reason)}"
            return (happening(thread, entry, "delayed", said),)
        case ToolReturned():
            return tool_returned(thread, entry)
        case FanOutStarted():
            return fanned_out(thread, entry)
        case GradingStarted() if thread.thread == ROOT_THREAD:
            thread.status, thread.doing = "waiting", f"waits for {one_line(entry.grader, 60)}"
            return (happening(thread, entry, "judged", grades.asked_to_judge(entry)),)
        case DeliverableGraded() if thread.thread == ROOT_THREAD:
            view.grades.append(entry.grade)
            thread.status, thread.doing = "working", "reads its grade"
            return (happening(thread, entry, "judged", grades.told(entry.grade)),)
        case SpecialistHired():
            who = entry.specialist
            said = f"{one_line(who.name, 60)}: {one_line(who.role, 200)}; {', '.join(who.tools) or 'no tools'}"
            return (happening(thread, entry, "hired", said),)
        case DelegationSent():
            return delegated(view, address, entry)
        case MessageSent():
            return message_sent(view, thread, address, entry)
        case CancelSent():
            return asked_to_stop(view, entry)
        case ApprovalRequested() | QuestionAsked():
            return asked(view, thread, address, entry)
        case ApprovalRuled():
            return allowed(thread, entry)
        case QuestionAnswered():
            return answered(thread, entry, address.agent, entry.answer)
        case BudgetExhausted():
            return (happening(thread, entry, "exhausted", f"{reason_of(entry.code)}: {told(entry.limits)}"),)
        case BudgetRequested():
            return out_of_budget(view, thread, entry)
        case ThreadReplied():
            return replied(view, thread, address, entry)
        case ReplyReceived() | MailReceived():
            if thread.status != "waiting":  # else it may go on waiting; a live event says when it does not
                thread.status, thread.doing = "working", "reads its mail"
        case TimerFired():
            return deadline_passed(view, thread, entry)
        case ThreadFailed():
            void(view, thread)
            return (happening(thread, entry, "gave_up", f"given up: {one_line(entry.reason)}"),)
        case MailRejected():
            return (rejected(address, entry),)
    return ()


def note(view: RunView, address: LiveAddress, event: LiveEvent) -> None:
    """Take in what a thread does right now."""
    thread = view.threads.get(address.thread)
    if thread is None or thread.agent != address.agent or thread.over or not isinstance(event, StepStarted):
        return
    thread.status = "working"
    thread.doing = "thinks" if event.step == "model" else one_line(event.name, 60)


def note_unreadable(view: RunView) -> None:
    """An entry that this version cannot read. It is counted, so that nobody takes the view for complete."""
    view.unreadable += 1


def _note_writer(thread: ThreadView, entry: Entry) -> None:
    thread.entries += 1
    thread.started_at_ms = thread.started_at_ms or entry.at_ms
    writer = one_line(entry.by, 60)
    if writer and not isinstance(entry, ThreadTakenOver):
        thread.writer = writer
    if writer and writer not in thread.replicas:
        thread.replicas.append(writer)
