"""What threads send each other: delegations, further questions, requests to stop, replies."""

from __future__ import annotations

from shanty_cli import fan_out, grades
from shanty_cli.text import one_line
from shanty_cli.view.happenings import Happening, happening
from shanty_cli.view.people import void
from shanty_cli.view.state import RunView, ThreadView, thread_of
from shanty_cli.view.work import item_replied
from shanty_protocol import CancelSent, DelegationSent, EntryAddress, MessageSent, ThreadReplied, TimerFired
from shanty_protocol.ids import ROOT_THREAD, is_agent_thread, parent_thread


def delegated(view: RunView, address: EntryAddress, entry: DelegationSent) -> tuple[Happening, ...]:
    if not is_agent_thread(entry.to_thread) or parent_thread(entry.to_thread) != address.thread:
        return ()  # no agent's engine writes that
    if (known := view.threads.get(entry.to_thread)) is not None and known.agent != address.to:
        del view.threads[entry.to_thread]  # somebody wrote there before it was opened for another
    child = thread_of(view, entry.to_thread, address.to)
    child.label = one_line(entry.brief.label or entry.brief.objective, 80)
    child.started_at_ms = entry.at_ms
    child.hired = "" if entry.hired is None else one_line(entry.hired.name, 60)
    child.hedges = entry.hedges if entry.hedges in view.threads else ""
    fan = view.threads[address.thread].fan_outs.get(entry.call_id)
    if fan is not None and entry.item is not None:
        fan_out.delegated(fan, entry)
    said = f"{child.label}, as {child.hedges}, which has not replied" if child.hedges else child.label
    return (happening(child, entry, "delegated", said),)


def message_sent(
    view: RunView, thread: ThreadView, address: EntryAddress, entry: MessageSent
) -> tuple[Happening, ...]:
    if entry.purpose == "progress":
        share = "" if entry.percent is None else f"{entry.percent} %: "
        thread.progress = one_line(f"{share}{entry.text}")
        return (happening(thread, entry, "progress", thread.progress),)
    receiver = view.threads.get(entry.to_thread)
    if receiver is None or parent_thread(entry.to_thread) != address.thread:
        return ()
    asked_again(receiver)
    return (happening(receiver, entry, "follow_up", one_line(entry.text)),)


def asked_again(thread: ThreadView) -> None:
    if thread.over:
        thread.outcome, thread.ended_at_ms = None, 0
        thread.status, thread.doing = "sent", ""


def asked_to_stop(view: RunView, entry: CancelSent) -> tuple[Happening, ...]:
    receiver = view.threads.get(entry.to_thread)
    if receiver is None or receiver.over:
        return ()
    void(view, receiver)
    asked = "asked to wrap up" if entry.mode == "wrap_up" else "stopped"
    return (happening(receiver, entry, "stopping", f"{asked}{': ' if entry.reason else ''}{one_line(entry.reason)}"),)


def replied(view: RunView, thread: ThreadView, address: EntryAddress, entry: ThreadReplied) -> tuple[Happening, ...]:
    thread.outcome, thread.status = entry.outcome, entry.outcome.status
    void(view, thread)
    thread.ended_at_ms = entry.at_ms
    thread.doing = thread.progress = ""
    if thread.thread == ROOT_THREAD and (view.expired or (address.to, entry.to_thread) == view.asker):
        view.outcome, view.usage, view.ended_at_ms = entry.outcome, entry.usage, entry.at_ms
        view.replies.append(grades.Reply(goal=view.asked, outcome=entry.outcome, at_ms=entry.at_ms))
    said = f"{entry.outcome.status}: {one_line(entry.outcome.summary)}" if entry.outcome.summary else ""
    items = item_replied(view, thread, entry)
    return (happening(thread, entry, "replied", said or entry.outcome.status), *items)


def deadline_passed(view: RunView, thread: ThreadView, entry: TimerFired) -> tuple[Happening, ...]:
    happenings = [happening(thread, entry, "late", "a deadline has passed")]
    void(view, thread, entry.at_ms)
    for name in entry.unstarted:
        late = view.threads.get(name)
        if late is not None and not late.over:
            late.status, late.doing, late.ended_at_ms = "unreachable", "", entry.at_ms
            happenings.append(happening(late, entry, "late", "nobody has started on it"))
    return tuple(happenings)
