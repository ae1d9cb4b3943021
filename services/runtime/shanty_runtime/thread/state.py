"""The state of a thread, folded from its journal: no clock, no bus, no randomness.

`apply` takes one stored entry, and the mails it consumed, into the state. What follows from an entry without any
further choice (a model's delegations, its final reply) is put in `due`: whoever holds the thread writes exactly
those entries next, so that a fan-out broken off by a crash goes on where it ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from shanty_protocol import (
    Brief,
    DelegationSent,
    Entry,
    EntryAddress,
    FileRef,
    MessageSent,
    ModelFailed,
    ModelReplied,
    Outcome,
    ThreadCompacted,
    ThreadFailed,
    ThreadReplied,
    ThreadTakenOver,
    TimerFired,
    ToolCalled,
    ToolReturned,
    Usage,
)
from shanty_protocol.ids import child_thread
from shanty_protocol.subjects import parse_entry
from shanty_runtime.agent.context import NUDGE, brief_text
from shanty_runtime.agent.profile import Profile
from shanty_runtime.agent.schema import problems_with
from shanty_runtime.models.base import Block
from shanty_runtime.thread.dialogue import Call, Dialogue
from shanty_runtime.thread.retries import code_of
from shanty_runtime.thread.verbs import (
    VERBS,
    Delegate,
    ReportProgress,
    SendToSpecialist,
    SubmitResult,
    WaitForReplies,
)

MAX_INVALID_RESULTS = 3
"""Results that do not fit the output schema, before the thread fails."""

Peer = tuple[str, str]
"""Somebody's agent and thread."""


class Child(msgspec.Struct):
    """A thread this one opened."""

    thread: str
    specialist: str
    label: str
    last_sent: str
    """Subject of the newest delegation or follow-up sent to it."""
    deadline_ms: int
    answered: str = ""
    outcome: Outcome | None = None
    usage: Usage = Usage()
    cost_microusd: int | None = 0
    progress: str = ""
    late: bool = False
    is_news: bool = False
    """Its outcome has not been shown to the model."""

    @property
    def owes_reply(self) -> bool:
        return self.answered != self.last_sent and not self.late


class Wait(msgspec.Struct, frozen=True):
    call_id: str
    threads: tuple[str, ...]
    needed: int
    deadline_ms: int | None


class Due(msgspec.Struct, frozen=True):
    """An entry that has to come next, and whom it is addressed to."""

    to: str
    entry: DelegationSent | MessageSent | ThreadReplied


class State(msgspec.Struct):
    """Everything about one thread. Grows only by `apply`."""

    run: str
    thread: str
    profile: Profile
    next_n: int = 0
    next_seq: int = 0
    last_at_ms: int = 0

    opener: Peer | None = None
    opened_at_ms: int = 0
    """When the delegation was sent."""
    brief: Brief | None = None
    team: str = ""
    newest: str = ""
    """Subject of the newest mail from the opener that was taken in."""
    newest_is_follow_up: bool = False
    seen: str = ""
    """The newest of them that the model has been shown."""
    answered: str = ""
    """The newest of them that was replied to."""
    outcome: Outcome | None = None
    submitted: Outcome | None = None

    dialogue: Dialogue = msgspec.field(default_factory=Dialogue)
    waits: dict[str, Wait] = {}
    children: dict[str, Child] = {}
    due: deque[Due] = msgspec.field(default_factory=deque)

    consumed: set[str] = set()
    heard_from: dict[Peer, str] = {}
    """Subject of the newest mail taken in, by sender: mails of one sender are taken in in order."""
    sent_to: dict[Peer, str] = {}
    files: dict[str, FileRef] = {}
    turns: int = 0
    """Model turns since the last reply."""
    invalid_results: int = 0
    """Results in a row that did not fit the output schema."""
    usage: Usage = Usage()
    cost_microusd: int | None = 0
    tainted: bool = False
    """It has read what an untrusted tool gave."""
    attempts: int = 0
    """Takeovers since the last step forward."""

    @property
    def owes_reply(self) -> bool:
        return self.newest != self.answered

    @property
    def calls(self) -> dict[str, Call]:
        return self.dialogue.calls

    @property
    def open_calls(self) -> list[Call]:
        return self.dialogue.open_calls

    @property
    def total_usage(self) -> Usage:
        return sum((child.usage for child in self.children.values()), self.usage)

    @property
    def total_cost_microusd(self) -> int | None:
        return _added([self.cost_microusd, *(child.cost_microusd for child in self.children.values())])

    @property
    def next_deadline_ms(self) -> int | None:
        """When somebody this thread waits for will be late."""
        deadlines = [child.deadline_ms for child in self.children.values() if child.owes_reply]
        deadlines += [wait.deadline_ms for wait in self.waits.values() if wait.deadline_ms is not None]
        return min(deadlines, default=None)

    @property
    def next_wake_ms(self) -> int | None:
        """When this thread has something to do, whoever writes to it or not."""
        retry_at_ms = self.dialogue.retry_at_ms if self.owes_reply else 0
        return min((at_ms for at_ms in (self.next_deadline_ms, retry_at_ms) if at_ms), default=None)

    def address(self, to: str, n: int | None = None) -> EntryAddress:
        return EntryAddress(to, self.run, self.thread, self.profile.agent, self.next_n if n is None else n)


def fold(
    profile: Profile, run: str, thread: str, facts: Iterable[tuple[EntryAddress, Entry, Mapping[str, Entry]]]
) -> State:
    """The state a journal amounts to. Each fact is an entry, its address, and the mails it consumed."""
    state = State(run=run, thread=thread, profile=profile)
    for address, entry, mails in facts:
        apply(state, address, entry, mails)
    return state


def apply(state: State, address: EntryAddress, entry: Entry, mails: Mapping[str, Entry]) -> None:
    """Take one entry into the state. Entries come in the order of their places, none left out."""
    assert address.n == state.next_n, f"entry {address.n} applied at place {state.next_n}"
    for subject in entry.consumed:
        _take_in(state, subject, mails[subject])
    state.attempts = state.attempts + 1 if isinstance(entry, ThreadTakenOver) else 0
    match entry:
        case ModelReplied():
            _take_model_reply(state, address, entry)
        case ModelFailed():
            _take_failure(state, entry)
        case ThreadCompacted():
            state.dialogue.compact(entry, opening(state))
            _count(state, entry.usage, entry.cost_microusd)
        case ToolCalled():
            call = state.calls.setdefault(
                entry.call_id, Call(id=entry.call_id, name=entry.name, arguments=entry.arguments)
            )
            call.intended = True
        case ToolReturned():
            call = state.calls.setdefault(entry.call_id, Call(id=entry.call_id, name=entry.name, arguments={}))
            call.settle(entry.content, entry.status)
            state.files.update({file.path: file for file in entry.files})
            tool = state.profile.tools.get(entry.name)
            state.tainted = state.tainted or (tool is not None and tool.untrusted)
        case DelegationSent():
            _take_delegation(state, address, entry)
        case MessageSent():
            _take_message(state, address, entry)
        case ThreadReplied():
            _take_own_reply(state, address, entry)
        case TimerFired():
            _mark_late(state, entry)
        case ThreadFailed():
            _give_up(state, entry)
        case _:
            pass
    state.next_n = address.n + 1
    state.last_at_ms = entry.at_ms
    _settle_waits(state, entry.at_ms if isinstance(entry, TimerFired) else None)
    _make_reply_due(state, entry)


def _take_in(state: State, subject: str, mail: Entry) -> None:
    sender = parse_entry(subject)
    state.consumed.add(subject)
    state.heard_from[sender.agent, sender.thread] = subject
    match mail:
        case DelegationSent():
            state.opener = (sender.agent, sender.thread)
            state.brief, state.team, state.opened_at_ms = mail.brief, mail.team, mail.at_ms
            state.dialogue.notes.append(brief_text(mail.brief))
            state.newest = subject
        case MessageSent(purpose="follow_up"):
            state.dialogue.notes.append(mail.text)
            state.newest, state.newest_is_follow_up = subject, True
        case MessageSent(purpose="progress"):
            state.children[sender.thread].progress = mail.text
        case ThreadReplied():
            child = state.children[sender.thread]
            child.outcome, child.is_news = _checked(state, child, mail.outcome), True
            child.answered, child.usage, child.cost_microusd = mail.answers, mail.usage, mail.cost_microusd
            child.progress = ""
            state.files.update({file.path: file for file in mail.outcome.files})
        case _:
            raise AssertionError(f"{subject} is not mail")


def _checked(state: State, child: Child, outcome: Outcome) -> Outcome:
    """A result that is not what its specialist's contract says is a failure, told as one."""
    contract = state.profile.contracts.get(child.specialist)
    if contract is None or contract.output_schema is None or outcome.status not in ("ok", "partial"):
        return outcome
    if outcome.result is None:
        problem = "there is no result" if outcome.status == "ok" else ""
    else:
        problem = problems_with(outcome.result, contract.output_schema)
    if not problem:
        return outcome
    return Outcome(status="failed", code="invalid_output", summary=f"{problem}. It said: {outcome.summary}")


def _take_model_reply(state: State, address: EntryAddress, entry: ModelReplied) -> None:
    state.seen = state.newest
    state.turns += 1
    _count(state, entry.usage, entry.cost_microusd)
    meaning = state.dialogue.take_reply(entry)
    if isinstance(meaning, Outcome):
        state.submitted = meaning
    elif meaning == "calls":
        for block in entry.blocks:
            if block["type"] == "tool_use":
                _take_call(state, block, address, entry)
    elif meaning == "words":
        _take_last_words(state, entry)


def _take_call(state: State, block: Block, address: EntryAddress, entry: ModelReplied) -> None:
    call = Call(id=block["id"], name=block["name"], arguments=block["input"])
    state.calls[call.id] = call
    if call.id not in entry.refused:
        if call.name in VERBS:
            _carry_out(state, call, address, entry)
        return
    call.settle(entry.refused[call.id], "error")
    if call.name == "submit_result":
        state.invalid_results += 1
        if state.invalid_results >= MAX_INVALID_RESULTS:
            state.submitted = Outcome(status="failed", code="invalid_output", summary=entry.refused[call.id])


def _take_failure(state: State, entry: ModelFailed) -> None:
    state.seen = state.newest
    state.dialogue.take_failure(entry)
    if entry.retry_at_ms is None:
        code = code_of(entry.failure)
        state.submitted = Outcome(status="failed", code=code, summary=entry.reason)


def _count(state: State, usage: Usage, cost_microusd: int | None) -> None:
    state.usage += usage
    state.cost_microusd = _added([state.cost_microusd, cost_microusd])


def _added(costs: list[int | None]) -> int | None:
    """A sum of which one part is not known is not known."""
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None


def opening(state: State) -> str:
    """What a thread must never forget, however small its view is made."""
    assert state.brief is not None
    parts = [brief_text(state.brief)]
    threads = [
        f"{child.thread} {child.specialist}: " + ("at work" if child.owes_reply else f"replied {_status(child)}")
        for child in state.children.values()
    ]
    if threads:
        parts.append("<threads>\n" + "\n".join(threads) + "\n</threads>")
    if state.files:
        parts.append("<files_written>\n" + "\n".join(sorted(state.files)) + "\n</files_written>")
    return "\n".join(parts)


def _status(child: Child) -> str:
    return child.outcome.status if child.outcome else ""


def _carry_out(state: State, call: Call, address: EntryAddress, entry: ModelReplied) -> None:
    """What a verb makes due. Its arguments were checked before the reply was journaled."""
    match msgspec.convert(call.arguments, VERBS[call.name]):
        case Delegate() as order:
            opened = len(state.children) + sum(isinstance(due.entry, DelegationSent) for due in state.due)
            thread = child_thread(state.thread, opened + 1)
            deadline_s = state.profile.delegation_deadline_s if order.deadline_s is None else order.deadline_s
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
            )
            sent = DelegationSent(
                at_ms=entry.at_ms,
                by=entry.by,
                fence=entry.fence,
                to_thread=thread,
                after=_last_sent(state, address, (order.specialist, thread)),
                brief=brief,
                team=state.profile.team,
                call_id=call.id,
            )
            state.due.append(Due(order.specialist, sent))
        case SendToSpecialist() as order:
            peer = (state.children[order.thread].specialist, order.thread)
            _make_message_due(state, peer, address, entry, "follow_up", order.message, None, call.id)
        case ReportProgress() as report:
            assert state.opener is not None
            _make_message_due(
                state, state.opener, address, entry, "progress", report.summary, report.percent, call.id
            )
        case WaitForReplies() as wait:
            # A reply that came before the model asked for it is among those that are waited for: it is there.
            known = tuple(child.thread for child in state.children.values() if child.owes_reply or child.is_news)
            fresh = tuple(due.entry.to_thread for due in state.due if due.entry.to_thread not in known)
            threads = wait.threads or known + fresh
            needed = {"all": len(threads), "any": min(1, len(threads)), "quorum": wait.quorum or 1}[wait.mode]
            deadline_ms = None if wait.deadline_s is None else entry.at_ms + int(wait.deadline_s * 1000)
            state.waits[call.id] = Wait(call.id, threads, needed, deadline_ms)
        case SubmitResult() as submitted:
            files = submitted.files or tuple(sorted(state.files))
            state.submitted = Outcome(
                status=submitted.status,
                summary=submitted.summary,
                result=submitted.result,
                files=tuple(state.files[path] for path in files if path in state.files),
            )
            call.settle('{"handed_in":true}')


def _make_message_due(
    state: State,
    peer: Peer,
    address: EntryAddress,
    entry: ModelReplied,
    purpose: Literal["follow_up", "progress"],
    text: str,
    percent: int | None,
    call_id: str,
) -> None:
    message = MessageSent(
        at_ms=entry.at_ms,
        by=entry.by,
        fence=entry.fence,
        to_thread=peer[1],
        after=_last_sent(state, address, peer),
        purpose=purpose,
        text=text,
        percent=percent,
        call_id=call_id,
    )
    state.due.append(Due(peer[0], message))


def _last_sent(state: State, address: EntryAddress, peer: Peer) -> str:
    """Subject of the newest entry sent to a peer, counting those that are due: they come right after `address`."""
    for place, due in reversed(list(enumerate(state.due, address.n + 1))):
        if (due.to, due.entry.to_thread) == peer:
            return state.address(due.to, place).subject
    return state.sent_to.get(peer, "")


def _take_last_words(state: State, entry: ModelReplied) -> None:
    """A reply without a tool call is the answer, unless a typed one is owed."""
    if state.profile.output_schema is not None:
        state.dialogue.notes.append(NUDGE)
        return
    text = "\n".join(block["text"] for block in entry.blocks if block["type"] == "text")
    state.submitted = Outcome(status="ok", summary=text, files=tuple(state.files.values()))


def _take_delegation(state: State, address: EntryAddress, entry: DelegationSent) -> None:
    _drop_due(state, entry.call_id)
    assert entry.brief.deadline_s is not None
    child = Child(
        thread=entry.to_thread,
        specialist=address.to,
        label=entry.brief.label,
        last_sent=address.subject,
        deadline_ms=entry.at_ms + int(entry.brief.deadline_s * 1000),
    )
    state.children[child.thread] = child
    state.sent_to[address.to, entry.to_thread] = address.subject
    answer = {"thread": child.thread, "specialist": child.specialist}
    state.calls[entry.call_id].settle(msgspec.json.encode(answer).decode())


def _take_message(state: State, address: EntryAddress, entry: MessageSent) -> None:
    _drop_due(state, entry.call_id)
    state.sent_to[address.to, entry.to_thread] = address.subject
    if entry.purpose == "follow_up":
        child = state.children[entry.to_thread]
        allowed_ms = int(state.profile.delegation_deadline_s * 1000)
        child.last_sent, child.late, child.deadline_ms = address.subject, False, entry.at_ms + allowed_ms
    if entry.call_id:  # a handler's steps are not announced by a model reply
        call = state.calls.setdefault(entry.call_id, Call(id=entry.call_id, name=entry.purpose, arguments={}))
        call.settle(msgspec.json.encode({"thread": entry.to_thread}).decode())


def _drop_due(state: State, call_id: str) -> None:
    if state.due and isinstance(state.due[0].entry, (DelegationSent, MessageSent)):
        assert state.due[0].entry.call_id == call_id, "what is due is written in order"
        state.due.popleft()


def _take_own_reply(state: State, address: EntryAddress, entry: ThreadReplied) -> None:
    state.due.clear()
    state.submitted = None
    state.answered, state.outcome = entry.answers, entry.outcome
    state.invalid_results = 0
    state.dialogue.settle()
    state.sent_to[address.to, entry.to_thread] = address.subject
    state.turns = 0


def _mark_late(state: State, entry: TimerFired) -> None:
    for child in state.children.values():
        if child.owes_reply and child.deadline_ms <= entry.at_ms:
            status: Literal["unreachable", "timed_out"] = (
                "unreachable" if child.thread in entry.unstarted else "timed_out"
            )
            child.late = True
            child.outcome = Outcome(status=status, code=status, summary=f"no reply from {child.specialist} in time")
            child.is_news = True


def _give_up(state: State, entry: ThreadFailed) -> None:
    """Whoever asked is told, whatever was still open."""
    state.due.clear()
    state.waits.clear()
    for call in state.open_calls:
        call.settle(entry.reason, "error")
    state.seen = state.newest
    state.submitted = Outcome(status="failed", code=entry.code, summary=entry.reason)


def _settle_waits(state: State, now_ms: int | None) -> None:
    """Answer the waits whose threads have replied, and those whose time is over."""
    if state.due:
        return
    for wait in list(state.waits.values()):
        in_time = [state.children[thread] for thread in wait.threads if not state.children[thread].owes_reply]
        satisfied = len(in_time) >= wait.needed
        over = wait.deadline_ms is not None and now_ms is not None and now_ms >= wait.deadline_ms
        if satisfied or over:
            del state.waits[wait.call_id]
            state.calls[wait.call_id].settle(_wait_content(state, wait, satisfied))
            for child in in_time:
                child.is_news = False


def _wait_content(state: State, wait: Wait, satisfied: bool) -> str:
    children = [state.children[thread] for thread in wait.threads]
    content = {
        "satisfied": satisfied,
        "replies": [reply_card(child) for child in children if not child.owes_reply],
        "waiting_for": [
            {"thread": child.thread, "specialist": child.specialist, "progress": child.progress}
            for child in children
            if child.owes_reply
        ],
    }
    return msgspec.json.encode(content).decode()


def reply_card(child: Child) -> dict[str, Any]:
    outcome = child.outcome
    assert outcome is not None
    return {
        "thread": child.thread,
        "specialist": child.specialist,
        "status": outcome.status,
        "summary": outcome.summary,
        "result": outcome.result,
        "files": [file.path for file in outcome.files],
    }


def _make_reply_due(state: State, entry: Entry) -> None:
    """Once all other calls of the turn are settled, what was submitted is the next entry."""
    if state.submitted is None or state.due or state.open_calls:
        return
    assert state.opener is not None
    agent, thread = state.opener
    reply = ThreadReplied(
        at_ms=entry.at_ms,
        by=entry.by,
        fence=entry.fence,
        to_thread=thread,
        after=state.sent_to.get(state.opener, ""),
        outcome=state.submitted,
        answers=state.seen,
        usage=state.total_usage,
        cost_microusd=state.total_cost_microusd,
    )
    state.due.append(Due(agent, reply))
