"""What a run has spent, counted entry by entry as it goes, and what its limits leave. No bus, no clock.

What threads have been granted and have not spent is not among it: it is what was really used so far. The run's lead
counts such grants as spent until they come back, so it may come to its limit while something is left here.
"""

from __future__ import annotations

from typing import Any

import msgspec

from shanty_protocol import (
    Budget,
    BudgetGranted,
    BudgetRequested,
    DelegationSent,
    Entry,
    EntryAddress,
    MailReceived,
    ModelReplied,
    Spent,
    ThreadCompacted,
    ThreadOpened,
    ThreadReplied,
    ToolReturned,
    Usage,
)
from shanty_protocol.errors import CODES
from shanty_protocol.ids import ROOT_THREAD
from shanty_runtime.agent.budget import MICRO, Allowance, raised, told

MORE = {
    "token_limit": "tokens=1M",
    "cost_limit": "usd=1",
    "model_call_limit": "model_calls=20",
    "tool_call_limit": "tool_calls=20",
    "time_limit": "seconds=600",
}
"""What to grant, by the limit that was reached."""


class Spending(msgspec.Struct):
    limits: Budget = Budget()
    spent: Spent = Spent()
    out_of: str = ""
    """The limit at which the run rests until people grant it more, by its code."""
    began_at_ms: int = 0
    grants: set[str] = set()
    """Subjects of what people granted."""

    def begin(self, limits: Budget | None, at_ms: int) -> None:
        self.limits, self.began_at_ms = limits or Budget(), at_ms

    def granted(self, address: EntryAddress, entry: BudgetGranted) -> None:
        self.grants.add(address.subject)
        self.limits = raised(self.limits, entry.budget, (entry.at_ms - self.began_at_ms) / 1000)

    def count(self, address: EntryAddress, entry: Entry) -> None:
        """Take in an entry of one of the run's threads."""
        match entry:
            case ModelReplied():
                self._pay(entry.usage, entry.cost_microusd)
            case ThreadCompacted() if entry.model:
                self._pay(entry.usage, entry.cost_microusd)
            case ToolReturned():
                self._add(tool_calls=1)
            case DelegationSent():
                self._add(threads=1)
        if address.thread == ROOT_THREAD:
            self._follow(entry)

    def _follow(self, entry: Entry) -> None:
        """What only the lead's journal says."""
        match entry:
            case ThreadOpened(budget=Budget() as limits):
                self.limits = limits
            case BudgetRequested():
                self.out_of = entry.code
            case ModelReplied() | ThreadReplied():
                self.out_of = ""
            case MailReceived() if self.grants.intersection(entry.consumed):
                self.out_of = ""

    def _pay(self, usage: Usage, cost_microusd: int | None) -> None:
        tokens = sum(getattr(usage, field) for field in usage.__struct_fields__)
        self._add(tokens=tokens, model_calls=1, cost_microusd=cost_microusd)

    def _add(self, **amounts: int | None) -> None:
        for name, amount in amounts.items():
            known = getattr(self.spent, name)
            total = None if known is None or amount is None else known + amount
            self.spent = msgspec.structs.replace(self.spent, **{name: total})

    @property
    def left(self) -> Budget:
        """What is left of what is limited, time apart."""
        left: dict[str, Any] = {}
        for name in self.spent.__struct_fields__:
            limit, spent = getattr(self.limits, name), getattr(self.spent, name)
            if limit is not None:
                left[name] = 0 if spent is None else max(0, limit - spent)
        return Budget(**left)


def spending_line(spending: Spending) -> str:
    """What is limited, on one line: `spent 1200 tokens, $0.40; left 800 tokens, $4.60`. Empty where nothing is."""
    limits = spending.limits
    if limits == Budget():
        return ""
    limited = {name: getattr(spending.spent, name) for name in spending.left.__struct_fields__ if name != "wall_s"}
    spent = Budget(**{name: amount for name, amount in limited.items() if getattr(limits, name) is not None})
    parts = [f"spent {told(spent)}; left {told(spending.left)}"] if spending.left != Budget() else []
    if limits.wall_s is not None:
        parts.append(f"within {limits.wall_s:g} s")
    if spending.out_of:
        parts.append(f"waits for more: {CODES.get(spending.out_of, spending.out_of)}")
    return "; ".join(parts)


def how_to_raise(run: str, code: str) -> str:
    """The command that lets a run go on."""
    return f"shanty runs budget {run} {MORE.get(code, 'NAME=NUMBER')}"


def as_data(amounts: Budget | Spent) -> dict[str, Any]:
    """Amounts as people name them; what is not limited, or not known, is none."""
    given = msgspec.structs.asdict(amounts)
    cost, seconds = given.pop("cost_microusd"), given.pop("wall_s", None)
    named = {**given, "usd": None if cost is None else cost / MICRO}
    if isinstance(amounts, Budget):
        named["seconds"] = seconds
    return {name: named[name] for name in Allowance.__struct_fields__ if name in named}
