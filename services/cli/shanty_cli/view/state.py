"""A run and its threads as people see them."""

from __future__ import annotations

from typing import Literal

import msgspec

from shanty_cli import grades
from shanty_cli.fan_out import FanOutView
from shanty_cli.spending import Spending
from shanty_cli.waiting import Waiting
from shanty_protocol import Grade, Outcome, Status, Usage
from shanty_protocol.ids import depth

ThreadStatus = Literal["sent", "working", "waiting"] | Status
RunStatus = Literal["running", "waiting", "completed", "partial", "failed", "cancelled"]

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


def thread_of(view: RunView, thread: str, agent: str) -> ThreadView:
    known = view.threads.get(thread)
    if known is None:
        known = view.threads[thread] = ThreadView(thread=thread, agent=agent)
    return known
