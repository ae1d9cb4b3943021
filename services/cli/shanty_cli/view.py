"""What people are shown of a run: its entries folded into a tree of threads. No clock, no bus, no terminal.

`apply` takes one stored entry into the view and tells what happened, in words. `note` takes in a live event, which
changes only what a thread does right now. Entries may come in any order that keeps each journal's own, and a view of
a run that is over is the same as one that was watched.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from shanty_cli import fan_out, grades
from shanty_cli.fan_out import FanOutView
from shanty_cli.spending import Spending, how_to_raise
from shanty_cli.text import one_line
from shanty_cli.waiting import Waiting, waiting_of
from shanty_protocol import (
    ApprovalDecided,
    ApprovalRequested,
    ApprovalRuled,
    ApprovalStanding,
    BudgetExhausted,
    BudgetGranted,
    BudgetRequested,
    CancelSent,
    DelegationSent,
    DeliverableGraded,
    Entry,
    EntryAddress,
    FanOutStarted,
    Grade,
    GradingStarted,
    LetterDropped,
    LiveAddress,
    LiveEvent,
    MailReceived,
    MailRejected,
    MailRetried,
    MessageSent,
    ModelReplied,
    Outcome,
    QuestionAnswered,
    QuestionAsked,
    ReplyReceived,
    SpecialistHired,
    Status,
    StepStarted,
    ThreadFailed,
    ThreadOpened,
    ThreadReplied,
    ThreadTakenOver,
    TimerFired,
    ToolCalled,
    ToolDelayed,
    ToolReturned,
    Usage,
)
from shanty_protocol.errors import CODES
from shanty_protocol.ids import OPERATORS, ROOT_THREAD, depth, is_agent_thread, parent_thread
from shanty_runtime.agent.budget import told

ThreadStatus = Literal["sent", "working", "waiting"] | Status
RunStatus = Literal["running", "waiting", "completed", "partial", "failed", "cancelled"]
HappeningKind = Literal[
    "started",
    "hired",
    "delegated",
    "fanned_out",
    "opened",
    "model",
    "tool",
    "progress",
    "follow_up",
    "stopping",
    "asked",
    "answered",
    "allowed",
    "granted",
    "judged",
    "exhausted",
    "taken_over",
    "delayed",
    "replied",
    "late",
    "gave_up",
    "rejected",
    "retried",
    "dropped",
]

RUN_STATUS: dict[Status, RunStatus] = {"ok": "completed", "partial": "partial", "cancelled": "cancelled"}
"""How a run ended, by how its lead replied; whatever is not here is `failed`."""


class Takeover(msgspec.Struct, frozen=True):
    """One worker went on where another had vanished."""

    at_ms: int
    before: str
    after: str


class ThreadView(msgspec.Struct, kw_only=True):
    thread: str
    agent: str
    hired: str = ""
    """What it is called, where a lead has hired it: `agent` is its host then."""
    hedges: str = ""
    """The thread that has the same brief and was opened before it."""
    label: str = ""
    status: ThreadStatus = "sent"
    doing: str = ""
    progress: str = ""
    started_at_ms: int = 0
    ended_at_ms: int = 0
    turns: int = 0
    asked: set[str] = set()
    """Ids of the tool calls it has made; delegating and handing in are calls as well."""
    entries: int = 0
    replicas: list[str] = []
    """Who wrote its entries, in the order in which they first did."""
    writer: str = ""
    """Who wrote its newest entry."""
    takeovers: list[Takeover] = []
    fan_outs: dict[str, FanOutView] = {}
    """Those that are not over, by the call they came from."""
    outcome: Outcome | None = None

    @property
    def name(self) -> str:
        return f"{self.hired} (hired)" if self.hired else self.agent

    @property
    def tool_calls(self) -> int:
        return len(self.asked)

    @property
    def over(self) -> bool:
        return self.outcome is not None

    @property
    def depth(self) -> int:
        return depth(self.thread)


class RunView(msgspec.Struct, kw_only=True):
    run: str
    goal: str = ""
    asker: tuple[str, str] = ("", "")
    """Agent and thread of whoever started the run."""
    lead: str = ""
    started_at_ms: int = 0
    ended_at_ms: int = 0
    newest_at_ms: int = 0
    outcome: Outcome | None = None
    asked: str = ""
    """What it works on, or has answered last: its goal, or a further one."""
    replies: list[grades.Reply] = []
    """Each answer it has given."""
    grades: list[Grade] = []
    """What became of the deliverables for that goal that were judged."""
    usage: Usage = Usage()
    threads: dict[str, ThreadView] = {}
    waiting: dict[str, Waiting] = {}
    """What waits for a person, by the subject of what asks."""
    spending: Spending = msgspec.field(default_factory=Spending)
    entries: int = 0
    unreadable: int = 0
    expired: bool = False
    """Its beginning is not stored any more, so not all of what it says here needs to be so."""

    @property
    def status(self) -> RunStatus:
        if self.outcome is not None:
            return RUN_STATUS.get(self.outcome.status, "failed")
        return "waiting" if self.waiting or self.spending.out_of else "running"

    @property
    def in_order(self) -> list[ThreadView]:
        """The threads as a tree is read: each one followed by those it opened."""
        return sorted(self.threads.values(), key=lambda each: [int(part) for part in each.thread.split("-")])


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """Something a person who watches wants to know. The text is on one line and fit for a terminal."""

    at_ms: int
    thread: str
    agent: str
    kind: HappeningKind
    text: str


def apply(view: RunView, address: EntryAddress, entry: Entry) -> tuple[Happening, ...]:
    """Take one entry into the view, and say what happened."""
    view.entries += 1
    view.newest_at_ms = max(view.newest_at_ms, entry.at_ms)
    if not is_agent_thread(address.thread):
        return _from_outside(view, address, entry)
    thread = _thread(view, address.thread, address.agent)
    if thread.agent != address.agent:
        return ()  # the server vouches for the author of an entry, and for nothing else that its subject says
    # Whoever starts a run does so before anybody works on it.
    view.expired = view.expired or (thread.thread == ROOT_THREAD and not view.lead and not thread.entries)
    _note_writer(thread, entry)
    view.spending.count(address, entry)
    match entry:
        case ThreadOpened():
            thread.status, thread.doing = "working", "reads its brief"
            return (_happening(thread, entry, "opened", f"started by {thread.writer}"),)
        case ThreadTakenOver():
            return _taken_over(thread, entry)
        case ModelReplied():
            return _model_replied(thread, entry)
        case ToolCalled():
            thread.status, thread.doing = "working", one_line(entry.name, 60)
        case ToolDelayed():
            thread.status, thread.doing = "waiting", f"cannot call {one_line(entry.name, 60)} yet"
            said = f"{one_line(entry.name, 60)} waits: {one_line(entry.reason)}"
            return (_happening(thread, entry, "delayed", said),)
        case ToolReturned():
            return _tool_returned(thread, entry)
        case FanOutStarted():
            return _fanned_out(thread, entry)
        case GradingStarted() if thread.thread == ROOT_THREAD:
            thread.status, thread.doing = "waiting", f"waits for {one_line(entry.grader, 60)}"
            return (_happening(thread, entry, "judged", grades.asked_to_judge(entry)),)
        case DeliverableGraded() if thread.thread == ROOT_THREAD:
            view.grades.append(entry.grade)
            thread.status, thread.doing = "working", "reads its grade"
            return (_happening(thread, entry, "judged", grades.told(entry.grade)),)
        case SpecialistHired():
            who = entry.specialist
            said = f"{one_line(who.name, 60)}: {one_line(who.role, 200)}; {', '.join(who.tools) or 'no tools'}"
            return (_happening(thread, entry, "hired", said),)
        case DelegationSent():
            return _delegated(view, address, entry)
        case MessageSent():
            return _message_sent(view, thread, address, entry)
        case CancelSent():
            return _asked_to_stop(view, entry)
        case ApprovalRequested() | QuestionAsked():
            return _asked(view, thread, address, entry)
        case ApprovalRuled():
            return _allowed(thread, entry)
        case QuestionAnswered():
            return _answered(thread, entry, address.agent, entry.answer)
        case BudgetExhausted():
            return (_happening(thread, entry, "exhausted", f"{_reason(entry.code)}: {told(entry.limits)}"),)
        case BudgetRequested():
            return _out_of_budget(view, thread, entry)
        case ThreadReplied():
            return _replied(view, thread, address, entry)
        case ReplyReceived() | MailReceived():
            if thread.status != "waiting":  # else it may go on waiting; a live event says when it does not
                thread.status, thread.doing = "working", "reads its mail"
        case TimerFired():
            return _deadline_passed(view, thread, entry)
        case ThreadFailed():
            _void(view, thread)
            return (_happening(thread, entry, "gave_up", f"given up: {one_line(entry.reason)}"),)
        case MailRejected():
            return (_rejected(address, entry),)
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


def _thread(view: RunView, thread: str, agent: str) -> ThreadView:
    known = view.threads.get(thread)
    if known is None:
        known = view.threads[thread] = ThreadView(thread=thread, agent=agent)
    return known


def _note_writer(thread: ThreadView, entry: Entry) -> None:
    thread.entries += 1
    thread.started_at_ms = thread.started_at_ms or entry.at_ms
    writer = one_line(entry.by, 60)
    if writer and not isinstance(entry, ThreadTakenOver):
        thread.writer = writer
    if writer and writer not in thread.replicas:
        thread.replicas.append(writer)


def _from_outside(view: RunView, address: EntryAddress, entry: Entry) -> tuple[Happening, ...]:
    """People, gateways and other services: whoever opens thread 0 is who the run answers to."""
    match entry:
        case DelegationSent() if entry.to_thread == ROOT_THREAD and not view.lead:
            view.goal, view.lead, view.expired = entry.brief.objective, address.to, False
            view.asked = view.goal
            view.asker, view.started_at_ms = (address.agent, address.thread), entry.at_ms
            view.threads.pop(ROOT_THREAD, None)
            lead = _thread(view, ROOT_THREAD, address.to)
            lead.started_at_ms = entry.at_ms
            view.spending.begin(entry.brief.budget, entry.at_ms)
            return (_happening(lead, entry, "started", f"{one_line(entry.brief.objective)}{_cause(entry)}"),)
        case MessageSent() if (receiver := _spoken_to(view, address, entry.to_thread)) is not None:
            if entry.to_thread == ROOT_THREAD and receiver.over:
                # Whoever asks for more is who the answer goes to.
                view.outcome, view.ended_at_ms, view.grades = None, 0, []
                view.asker, view.asked = (address.agent, address.thread), entry.text
            _asked_again(receiver)
            return (_happening(receiver, entry, "follow_up", one_line(entry.text)),)
        case ApprovalDecided() | QuestionAnswered() if address.agent == OPERATORS:
            return _decided(view, entry)
        case ApprovalStanding() if address.agent == OPERATORS and view.lead:
            said = (
                f"{one_line(entry.person, 60) or 'a person'} allows every later {one_line(entry.name, 60)} of the run"
            )
            return (_happening(_thread(view, ROOT_THREAD, view.lead), entry, "allowed", said),)
        case BudgetGranted() if address.agent == OPERATORS and entry.to_thread == ROOT_THREAD and view.lead:
            view.spending.granted(address, entry)
            because = f": {one_line(entry.reason)}" if entry.reason else ""
            said = f"{told(entry.budget)} more{because}"
            return (_happening(_thread(view, ROOT_THREAD, view.lead), entry, "granted", said),)
        case CancelSent() if _spoken_to(view, address, entry.to_thread) is not None:
            return _asked_to_stop(view, entry)
        case MailRejected():
            return (_rejected(address, entry),)
        case MailRetried() | LetterDropped() if address.agent == OPERATORS:
            return (_dealt_with(address, entry),)
        case _:
            return ()


def _spoken_to(view: RunView, address: EntryAddress, thread: str) -> ThreadView | None:
    """The thread that somebody outside speaks to, if they may: people to any, whoever asked to the lead."""
    asked = thread == ROOT_THREAD and view.asker == (address.agent, address.thread)
    return view.threads.get(thread) if asked or address.agent == OPERATORS else None


def _taken_over(thread: ThreadView, entry: ThreadTakenOver) -> tuple[Happening, ...]:
    takeover = Takeover(entry.at_ms, thread.writer, one_line(entry.by, 60))
    thread.takeovers.append(takeover)
    thread.writer = takeover.after
    thread.status, thread.doing = "working", "goes on where it was left"
    before = takeover.before or "a worker that wrote nothing"
    return (_happening(thread, entry, "taken_over", f"taken over by {takeover.after} from {before}"),)


def _model_replied(thread: ThreadView, entry: ModelReplied) -> tuple[Happening, ...]:
    thread.turns += 1
    thread.asked.update(str(block.get("id")) for block in entry.blocks if block.get("type") == "tool_use")
    names = [str(block.get("name", "")) for block in entry.blocks if block.get("type") == "tool_use"]
    waits = "wait_for_replies" in names
    thread.status = "waiting" if waits else "working"
    thread.doing = "waits for replies" if waits else one_line(listed(names), 60) or "speaks"
    return (_happening(thread, entry, "model", one_line(listed(names)) or "said its last word"),)


def listed(names: list[str]) -> str:
    """Names in the order they came, each once, with how often: `delegate ×4, wait_for_replies`."""
    return ", ".join(
        name if names.count(name) == 1 else f"{name} ×{names.count(name)}" for name in dict.fromkeys(names)
    )


def _fanned_out(thread: ThreadView, entry: FanOutStarted) -> tuple[Happening, ...]:
    fan = thread.fan_outs[entry.call_id] = fan_out.begun(entry)
    thread.status, thread.doing, thread.progress = "waiting", "waits for replies", one_line(fan.text)
    said = f"{fan.items} items for {one_line(fan.specialist, 60)}, {fan.at_most} at a time"
    return (_happening(thread, entry, "fanned_out", said),)


def _item_replied(view: RunView, thread: ThreadView, entry: ThreadReplied) -> tuple[Happening, ...]:
    """One item of many is done, if that is what the thread was opened for."""
    parent = view.threads.get(parent_thread(thread.thread) or "")
    for fan in parent.fan_outs.values() if parent else ():
        if thread.thread in fan.item_of:
            assert parent is not None
            told = fan_out.replied(fan, thread.thread, entry.outcome.status)
            parent.progress = one_line(fan.text)
            return (_happening(parent, entry, "progress", parent.progress),) if told else ()
    return ()


def _tool_returned(thread: ThreadView, entry: ToolReturned) -> tuple[Happening, ...]:
    thread.asked.add(entry.call_id)
    if thread.fan_outs.pop(entry.call_id, None) is not None:
        thread.progress = ""
    thread.status, thread.doing = "working", one_line(f"read {entry.name}", 60)
    name = one_line(entry.name, 60)
    match entry.status:
        case "ok":
            return (_happening(thread, entry, "tool", f"{name} returned"),)
        case "error":
            return (_happening(thread, entry, "tool", f"{name} failed: {one_line(entry.content)}"),)
        case "unknown":
            return (_happening(thread, entry, "tool", f"{name}: nobody knows whether it was carried out"),)


def _cause(entry: DelegationSent) -> str:
    """What started a run that no person did."""
    if entry.occurrence is None:
        return ""
    return f" (by trigger {one_line(entry.occurrence.trigger, 40)}: {one_line(entry.occurrence.key, 60)})"


def _delegated(view: RunView, address: EntryAddress, entry: DelegationSent) -> tuple[Happening, ...]:
    if not is_agent_thread(entry.to_thread) or parent_thread(entry.to_thread) != address.thread:
        return ()  # no agent's engine writes that
    if (known := view.threads.get(entry.to_thread)) is not None and known.agent != address.to:
        del view.threads[entry.to_thread]  # somebody wrote there before it was opened for another
    child = _thread(view, entry.to_thread, address.to)
    child.label = one_line(entry.brief.label or entry.brief.objective, 80)
    child.started_at_ms = entry.at_ms
    child.hired = "" if entry.hired is None else one_line(entry.hired.name, 60)
    child.hedges = entry.hedges if entry.hedges in view.threads else ""
    fan = view.threads[address.thread].fan_outs.get(entry.call_id)
    if fan is not None and entry.item is not None:
        fan_out.delegated(fan, entry)
    said = f"{child.label}, as {child.hedges}, which has not replied" if child.hedges else child.label
    return (_happening(child, entry, "delegated", said),)


def _message_sent(
    view: RunView, thread: ThreadView, address: EntryAddress, entry: MessageSent
) -> tuple[Happening, ...]:
    if entry.purpose == "progress":
        share = "" if entry.percent is None else f"{entry.percent} %: "
        thread.progress = one_line(f"{share}{entry.text}")
        return (_happening(thread, entry, "progress", thread.progress),)
    receiver = view.threads.get(entry.to_thread)
    if receiver is None or parent_thread(entry.to_thread) != address.thread:
        return ()
    _asked_again(receiver)
    return (_happening(receiver, entry, "follow_up", one_line(entry.text)),)


def _asked(
    view: RunView, thread: ThreadView, address: EntryAddress, entry: ApprovalRequested | QuestionAsked
) -> tuple[Happening, ...]:
    thread.status = "waiting"
    if address.to != OPERATORS:
        assert isinstance(entry, QuestionAsked)
        thread.doing = f"waits for an answer of {address.to}"
        return (_happening(thread, entry, "asked", f"asks {address.to}: {one_line(entry.question)}"),)
    waiting = view.waiting[address.subject] = waiting_of(address, entry)
    if waiting.on_behalf_of:  # a lead that passes a question on does not rest
        thread.status = "working"
    else:
        thread.doing = f"waits for {'approval' if waiting.kind == 'approval' else 'an answer'} ({waiting.id})"
    asks = "asks for approval of" if waiting.kind == "approval" else "asks a person:"
    return (_happening(thread, entry, "asked", f"{asks} {waiting.text}; shanty inbox show {waiting.id}"),)


def _out_of_budget(view: RunView, thread: ThreadView, entry: BudgetRequested) -> tuple[Happening, ...]:
    thread.status, thread.doing = "waiting", "waits for more budget"
    said = f"{_reason(entry.code)} ({told(entry.limits)}): it waits for more; {how_to_raise(view.run, entry.code)}"
    return (_happening(thread, entry, "asked", said),)


def _reason(code: str) -> str:
    return CODES.get(code, one_line(code))


def _answered(thread: ThreadView, entry: Entry, who: str, said: str) -> tuple[Happening, ...]:
    return (_happening(thread, entry, "answered", f"{one_line(who, 60)} says: {one_line(said)}"),)


def _allowed(thread: ThreadView, entry: ApprovalRuled) -> tuple[Happening, ...]:
    because = "a person has allowed it for the run" if entry.standing else one_line(entry.rule)
    return (_happening(thread, entry, "allowed", f"{one_line(entry.name, 60)} needs no approval: {because}"),)


def _decided(view: RunView, entry: ApprovalDecided | QuestionAnswered) -> tuple[Happening, ...]:
    """What people say goes to one place, so the first of them that is seen has said it."""
    request = entry.request if isinstance(entry, ApprovalDecided) else entry.question
    waiting = view.waiting.pop(request, None)
    thread = view.threads.get(entry.to_thread)
    if waiting is None or thread is None:
        return ()
    said = entry.answer if isinstance(entry, QuestionAnswered) else _decision_in_words(entry)
    return _answered(thread, entry, entry.person or "a person", said)


def _decision_in_words(entry: ApprovalDecided) -> str:
    decision = "allow for the run" if entry.for_run else entry.decision.replace("_", " ")
    return f"{decision} {entry.message}".strip()


def _void(view: RunView, thread: ThreadView, now_ms: int | None = None) -> None:
    """The thread waits for nobody any more; with a time, only for what has expired by then."""
    for request, waiting in list(view.waiting.items()):
        passed_on = thread.thread == waiting.on_behalf_of_thread
        expired = now_ms is None or waiting.expires_at_ms <= now_ms
        if (waiting.thread == thread.thread or passed_on) and expired:
            del view.waiting[request]


def _asked_to_stop(view: RunView, entry: CancelSent) -> tuple[Happening, ...]:
    receiver = view.threads.get(entry.to_thread)
    if receiver is None or receiver.over:
        return ()
    _void(view, receiver)
    asked = "asked to wrap up" if entry.mode == "wrap_up" else "stopped"
    return (
        _happening(receiver, entry, "stopping", f"{asked}{': ' if entry.reason else ''}{one_line(entry.reason)}"),
    )


def _asked_again(thread: ThreadView) -> None:
    if thread.over:
        thread.outcome, thread.ended_at_ms = None, 0
        thread.status, thread.doing = "sent", ""


def _replied(view: RunView, thread: ThreadView, address: EntryAddress, entry: ThreadReplied) -> tuple[Happening, ...]:
    thread.outcome, thread.status = entry.outcome, entry.outcome.status
    _void(view, thread)
    thread.ended_at_ms = entry.at_ms
    thread.doing = thread.progress = ""
    if thread.thread == ROOT_THREAD and (view.expired or (address.to, entry.to_thread) == view.asker):
        view.outcome, view.usage, view.ended_at_ms = entry.outcome, entry.usage, entry.at_ms
        view.replies.append(grades.Reply(goal=view.asked, outcome=entry.outcome, at_ms=entry.at_ms))
    said = f"{entry.outcome.status}: {one_line(entry.outcome.summary)}" if entry.outcome.summary else ""
    items = _item_replied(view, thread, entry)
    return (_happening(thread, entry, "replied", said or entry.outcome.status), *items)


def _deadline_passed(view: RunView, thread: ThreadView, entry: TimerFired) -> tuple[Happening, ...]:
    happenings = [_happening(thread, entry, "late", "a deadline has passed")]
    _void(view, thread, entry.at_ms)
    for name in entry.unstarted:
        late = view.threads.get(name)
        if late is not None and not late.over:
            late.status, late.doing, late.ended_at_ms = "unreachable", "", entry.at_ms
            happenings.append(_happening(late, entry, "late", "nobody has started on it"))
    return tuple(happenings)


def _rejected(address: EntryAddress, entry: MailRejected) -> Happening:
    return Happening(
        at_ms=entry.at_ms,
        thread=address.thread,
        agent=address.agent,
        kind="rejected",
        text=f"a mail was put away: {entry.code}: {one_line(entry.reason)}",
    )


def _dealt_with(address: EntryAddress, entry: MailRetried | LetterDropped) -> Happening:
    by = f" by {one_line(entry.person, 60)}" if entry.person else ""
    retried = isinstance(entry, MailRetried)
    said = f"mail of a dead letter for {address.to} is retried{by}" if retried else f"a dead letter was dropped{by}"
    because = "" if isinstance(entry, MailRetried) or not entry.reason else f": {one_line(entry.reason)}"
    return Happening(
        at_ms=entry.at_ms,
        thread=address.thread,
        agent=address.agent,
        kind="retried" if retried else "dropped",
        text=said + because,
    )


def _happening(thread: ThreadView, entry: Entry, kind: HappeningKind, text: str) -> Happening:
    return Happening(at_ms=entry.at_ms, thread=thread.thread, agent=thread.name, kind=kind, text=text)
