"""A run written by hand: each test writes the entries it is about, and looks at what people are shown."""

from __future__ import annotations

from collections import Counter
from typing import Any

from shanty_cli.view import Happening, RunView, apply
from shanty_protocol import (
    Brief,
    DelegationSent,
    Entry,
    EntryAddress,
    ModelReplied,
    Outcome,
    ThreadOpened,
    ThreadReplied,
    ToolReturned,
    Usage,
)
from shanty_protocol.ids import LOG, parent_thread

RUN = "0-r"
REQUEST = "request-1"


class Script:
    """Entries by hand, each at the next place of its journal and a second after the one before."""

    def __init__(self) -> None:
        self.view = RunView(run=RUN)
        self.happenings: list[Happening] = []
        self.now_ms = 1_000
        self._places: Counter[tuple[str, str]] = Counter()

    def write(self, thread: str, agent: str, entry: Entry, to: str = LOG) -> str:
        place = EntryAddress(to, RUN, thread, agent, self._places[thread, agent])
        self._places[thread, agent] += 1
        self.happenings += apply(self.view, place, entry)
        self.now_ms += 1_000
        return place.subject

    @property
    def told(self) -> list[tuple[str, str, str]]:
        return [(each.thread, each.kind, each.text) for each in self.happenings]

    def start(self, goal: str = "find out") -> None:
        brief = Brief(objective=goal)
        self.write(REQUEST, "cli", DelegationSent(at_ms=self.now_ms, to_thread="0", brief=brief), to="lead")

    def open(self, thread: str, agent: str, by: str = "") -> None:
        self.write(thread, agent, ThreadOpened(at_ms=self.now_ms, by=by or f"{agent}-1"))

    def delegate(self, thread: str, agent: str, label: str = "a look", *, by: str = "lead") -> None:
        sent = DelegationSent(
            at_ms=self.now_ms,
            by=f"{by}-1",
            to_thread=thread,
            brief=Brief(objective="look at it", label=label),
        )
        self.write(parent_thread(thread) or "0", by, sent, agent)

    def model(self, thread: str, agent: str, *calls: str, by: str = "") -> None:
        blocks: tuple[dict[str, Any], ...] = tuple(
            {"type": "tool_use", "id": f"call-{number}", "name": name, "input": {}}
            for number, name in enumerate(calls, 1)
        )
        entry = ModelReplied(
            at_ms=self.now_ms, by=by or f"{agent}-1", blocks=blocks, stop_reason="tool_use", model="test"
        )
        self.write(thread, agent, entry)

    def returned(self, thread: str, agent: str, name: str, by: str = "") -> None:
        entry = ToolReturned(at_ms=self.now_ms, by=by or f"{agent}-1", call_id="call-1", name=name, content="{}")
        self.write(thread, agent, entry)

    def reply(self, thread: str, agent: str, outcome: Outcome, *, to: tuple[str, str], by: str = "") -> None:
        entry = ThreadReplied(
            at_ms=self.now_ms,
            by=by or f"{agent}-1",
            to_thread=to[1],
            outcome=outcome,
            answers="",
            usage=Usage(input_tokens=10, output_tokens=2),
        )
        self.write(thread, agent, entry, to[0])

    def end(self, outcome: Outcome) -> None:
        self.reply("0", "lead", outcome, to=("cli", REQUEST))
