"""The state of a thread: all that its journal amounts to, as `fold` makes it. No clock, no bus, no randomness."""

from __future__ import annotations

from collections import deque
from typing import Any, Literal

import msgspec

from shanty_protocol import (
    Brief,
    CancelSent,
    DelegationSent,
    EntryAddress,
    FileRef,
    GradingStarted,
    MessageSent,
    Outcome,
    QuestionAnswered,
    QuestionAsked,
    SpecialistHired,
    ThreadReplied,
    Usage,
)
from shanty_protocol.chain import NOTHING_BEFORE
from shanty_protocol.ids import parent_thread
from shanty_runtime.agent.profile import Profile
from shanty_runtime.thread.dialogue import Call, Dialogue
from shanty_runtime.thread.escrow import Escrow
from shanty_runtime.thread.fanout import FanOut

NOTHING_NEW = "you were asked to stop: begin nothing new, and hand in what you have"

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
    aborted: bool = False
    """It was told to stop where it is."""
    is_news: bool = False
    """Its outcome has not been shown to the model."""
    judges: bool = False
    """It judges a deliverable: the model knows nothing of it."""
    fan_out: str = ""
    """The call it was opened by, where that gave it one item of many and nothing further was asked of it."""
    heard_n: int = -1
    """Place of the newest it has said of waiting for people, or of its newest reply: what is older counts no more."""
    hired: str = ""
    """What it is called, where it was hired: `specialist` is its host then."""

    hedge_at_ms: int = 0
    """When a second thread is opened for the same brief; 0: never."""
    brief: Brief | None = None
    """That brief, until then."""
    hedges: str = ""
    """The thread beside which it was opened, for the same brief."""
    hedged_by: str = ""
    """The thread that was opened beside it, while neither has replied."""
    won: bool = False
    """It stands for the thread it was opened beside as well."""
    superseded_by: str = ""
    """The thread that stands for it."""

    @property
    def name(self) -> str:
        return self.hired or self.specialist

    @property
    def hidden(self) -> bool:
        """Whether the model knows nothing of it."""
        return self.judges or bool(self.superseded_by) or (bool(self.hedges) and not self.won)

    @property
    def unanswered(self) -> bool:
        """Whether it may still be at work, waited for or not."""
        return self.answered != self.last_sent

    @property
    def owes_reply(self) -> bool:
        return self.unanswered and not self.late and not self.superseded_by


class Wait(msgspec.Struct, frozen=True):
    call_id: str
    threads: tuple[str, ...]
    needed: int
    deadline_ms: int | None


class Due(msgspec.Struct, frozen=True):
    """An entry that has to come next, and whom it is addressed to."""

    to: str
    entry: (
        DelegationSent | MessageSent | CancelSent | QuestionAsked | QuestionAnswered | ThreadReplied | SpecialistHired
    )

    @property
    def to_thread(self) -> str:
        """Empty for a step of the thread's own."""
        return "" if isinstance(self.entry, SpecialistHired) else self.entry.to_thread


class Asked(msgspec.Struct, frozen=True):
    """A mail that wants a reply, who sent it, and the place in the journal it was taken in at."""

    subject: str
    by: Peer
    place: int


class Stopping(msgspec.Struct, frozen=True):
    """Somebody has asked the thread to stop."""

    mode: Literal["wrap_up", "abort"]
    reason: str
    until_ms: int
    """When it is stopped, should it not have replied."""


class Pause(msgspec.Struct):
    """Somebody waits for people: time that is not counted."""

    since_ms: int
    until_ms: int
    """When it ends at the latest."""
    told: bool = False
    """Of a thread below: it has said so itself."""
    passed_on: bool = False
    """Of a thread below: a question of its is with people."""


class Said(msgspec.Struct, frozen=True):
    """What whoever opened the thread was told of its waiting for people."""

    since_ms: int
    until_ms: int


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """A question of this thread that is open."""

    subject: str
    to: str
    """The agent it is addressed to, or `operators`."""
    to_thread: str
    call_id: str
    expires_at_ms: int
    on_behalf_of: str = ""
    """Subject of the question that was passed on with this one."""


class Question(msgspec.Struct, kw_only=True):
    """An open question of a thread this one has opened."""

    id: str
    """What the model knows it by."""
    subject: str
    thread: str
    specialist: str
    name: str
    """What that specialist is called."""
    text: str
    options: tuple[str, ...]
    expires_at_ms: int
    passed_on: bool = False
    is_news: bool = False
    """The model has not been shown it; the wait it is in will end with it."""

    @property
    def card(self) -> dict[str, Any]:
        card = {"id": self.id, "thread": self.thread, "specialist": self.name, "question": self.text}
        return {**card, "options": list(self.options)} if self.options else card


class Judging(msgspec.Struct):
    """A deliverable is with its grader."""

    started: GradingStarted
    thread: str
    outcome: Outcome | None = None
    """What became of that thread; none while it is at work."""


class State(msgspec.Struct):
    """Everything about one thread. Grows only by `apply`."""

    run: str
    thread: str
    profile: Profile
    next_n: int = 0
    next_seq: int = 0
    chained_to: str = NOTHING_BEFORE
    """The digest of the newest entry, which the next one names."""
    last_at_ms: int = 0
    newest_fence: int = 0
    """The latest lease under which an entry was written."""

    opener: Peer | None = None
    opened_at_ms: int = 0
    """When the delegation was sent."""
    brief: Brief | None = None
    team: str = ""
    newest: Asked | None = None
    """The newest mail taken in that wants a reply."""
    newest_is_follow_up: bool = False
    unseen: deque[Asked] = msgspec.field(default_factory=deque)
    """Those the model has not been shown."""
    seen: Asked | None = None
    """The newest it has been shown."""
    answered: str = ""
    """Subject of the newest that was replied to."""
    outcome: Outcome | None = None
    submitted: Outcome | None = None
    handed_in_with: str = ""
    """The call it came with; empty where it came as plain words."""
    further_goals: list[str] = []
    """What was asked after the brief."""
    judging: Judging | None = None
    rounds: int = 0
    """Deliverables judged since the last reply."""
    unsatisfying: Outcome | None = None
    """The newest that was sent back: the answer, should no better one come."""
    stopping: Stopping | None = None

    dialogue: Dialogue = msgspec.field(default_factory=Dialogue)
    waits: dict[str, Wait] = {}
    children: dict[str, Child] = {}
    due: deque[Due] = msgspec.field(default_factory=deque)
    fan_outs: dict[str, FanOut] = {}
    """Those that are not over, by the call they came from."""
    items: dict[str, tuple[Any, ...]] = {}
    """Of fan-outs, where they have been read from their files. The one thing here that no entry says."""

    allowed_for_thread: set[str] = set()
    """Tools that a person has allowed for every later call in this thread."""
    asking: dict[str, Asking] = {}
    """Open questions of this thread, by subject."""
    questions: dict[str, Question] = {}
    """Open questions of the threads it opened, by the id the model knows them by."""

    pause: Pause | None = None
    """While it waits for people, or a thread below it does."""
    pauses: dict[str, Pause] = {}
    """Threads it has opened that wait for people: their deadlines stand still."""
    said: Said | None = None
    """While whoever opened it thinks that it waits for people."""

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
    escrow: Escrow = msgspec.field(default_factory=Escrow)
    """What it may spend."""
    tainted: bool = False
    """It has read what an untrusted tool gave."""
    attempts: int = 0
    """Takeovers since the last step forward."""

    @property
    def owes_reply(self) -> bool:
        return self.newest is not None and self.newest.subject != self.answered

    @property
    def is_a_run(self) -> bool:
        """Whether nobody above it has granted what it spends: a run waits for people where it has spent that."""
        return parent_thread(self.thread) is None

    @property
    def calls(self) -> dict[str, Call]:
        return self.dialogue.calls

    @property
    def open_calls(self) -> list[Call]:
        return self.dialogue.open_calls

    @property
    def waiting_calls(self) -> list[Call]:
        """The calls that a person has not decided on."""
        calls = self.dialogue.calls.values()
        return [
            each for each in calls if each.approval is not None and each.status == "open" and each.approval.waiting
        ]

    @property
    def total_usage(self) -> Usage:
        return sum((child.usage for child in self.children.values()), self.usage) if self.children else self.usage

    @property
    def total_cost_microusd(self) -> int | None:
        if not self.children:
            return self.cost_microusd
        return added([self.cost_microusd, *(child.cost_microusd for child in self.children.values())])

    @property
    def next_deadline_ms(self) -> int | None:
        """When somebody this thread waits for will be late."""
        if not (self.children or self.waits or self.asking or self.dialogue.calls or self.stopping):
            return None if self.is_a_run or not self.owes_reply else self.escrow.until_ms
        deadlines = [self.late_at_ms(child) for child in self.children.values() if child.owes_reply]
        deadlines += [wait.deadline_ms for wait in self.waits.values() if wait.deadline_ms is not None]
        deadlines += [call.approval.expires_at_ms for call in self.waiting_calls if call.approval]
        deadlines += [asking.expires_at_ms for asking in self.asking.values()]
        if self.stopping is not None and self.owes_reply:
            deadlines.append(self.stopping.until_ms)
        if self.escrow.until_ms is not None and self.owes_reply and not self.is_a_run:
            deadlines.append(self.escrow.until_ms)
        return min(deadlines, default=None)

    def late_at_ms(self, child: Child) -> int:
        """When a thread it has opened is late: its deadline, and what it may yet wait for people."""
        pause = self.pauses.get(child.thread)
        return child.deadline_ms + (pause.until_ms - pause.since_ms if pause else 0)

    @property
    def next_wake_ms(self) -> int | None:
        """When this thread has something to do, whoever writes to it or not."""
        retry_at_ms = self.dialogue.retry_at_ms if self.owes_reply else 0
        wakes = (self.next_deadline_ms, self.next_hedge_ms, retry_at_ms)
        return min((at_ms for at_ms in wakes if at_ms), default=None)

    @property
    def hedgeable(self) -> list[Child]:
        """Threads that a second one may be opened beside: what waits for an answer is not helped by that."""
        asking = {question.thread for question in self.questions.values()} | self.pauses.keys()
        return [
            child
            for child in self.children.values()
            if child.hedge_at_ms and child.owes_reply and not child.aborted and child.thread not in asking
        ]

    @property
    def next_hedge_ms(self) -> int | None:
        """When the next of them is."""
        hedges = any(contract.hedge_after_s is not None for contract in self.profile.contracts.values())
        if not hedges or not self.owes_reply or self.stopping is not None:
            return None
        return min((child.hedge_at_ms for child in self.hedgeable), default=None)

    @property
    def threads_left(self) -> int:
        """How many threads may be opened, besides those that fan-outs are going to open."""
        wanted = sum(len(fan.waiting) for fan in self.fan_outs.values())
        left = self.profile.max_threads - len(self.children)
        return max(0, min(left, self.escrow.left.get("threads", left)) - wanted)

    def address(self, to: str, n: int | None = None) -> EntryAddress:
        return EntryAddress(to, self.run, self.thread, self.profile.agent, self.next_n if n is None else n)


def added(costs: list[int | None]) -> int | None:
    """A sum of which one part is not known is not known."""
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None
