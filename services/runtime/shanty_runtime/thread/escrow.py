"""What a thread may spend and what became of it, folded from its journal: no clock, no bus.

A delegation carries a grant out of what its sender has left. The grant counts against the sender as a whole until
the reply says what was really spent; the rest is free again then. A specialist that never replies keeps its grant:
nobody knows what it spent. So the threads of a run together cannot spend more than the run may, but for the one
model call that each of them had begun when it came to its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from shanty_protocol import Budget, Spent, Usage
from shanty_runtime.agent.budget import COUNTED, raised

CODES = {
    "tokens": "token_limit",
    "cost_microusd": "cost_limit",
    "model_calls": "model_call_limit",
    "tool_calls": "tool_call_limit",
}
"""The code of an outcome, by what has run out. Threads run out by a refusal, not by an end."""

NEEDED = ("cost_microusd", "tokens", "model_calls")
"""Without some of each of these a thread cannot even begin."""

REPLY_GRACE_S = 15.0
"""How much longer than a specialist's time its lead waits for its reply."""

NOTHING_SPENT = Spent()

Amounts = dict[str, int]
"""How much of each of COUNTED; what is not named is not limited, or none."""


class Account(msgspec.Struct):
    """What a thread that was opened counts for."""

    grant: Budget
    counted: Amounts
    spent: Amounts = {}
    """By its newest reply."""
    open: bool = True
    """It may spend the rest of its grant."""


class Escrow(msgspec.Struct):
    limits: Budget = Budget()
    opened_at_ms: int = 0
    """Later by what the thread has waited for people: that is not its time."""
    paused_at_ms: int | None = None
    """Since when it waits for people."""
    accounts: dict[str, Account] = {}
    counted: Amounts = msgspec.field(default_factory=lambda: dict.fromkeys(COUNTED, 0))
    """Own spending, what replies say was spent, and the grants of those that have not replied."""
    cost_unknown: bool = False
    """Something was paid for whose price nobody knows."""
    wants_tools: bool = False
    """The model has asked for a tool call that is beyond the limit."""
    handler_calls: set[str] = set()
    """Tool calls that a handler has begun; those of a model are counted as it asks for them."""
    requested: bool = False
    """People were asked for more, and have not granted it yet."""

    # What happened

    def open(self, limits: Budget | None, at_ms: int) -> None:
        self.limits, self.opened_at_ms = limits or Budget(), at_ms

    def pause(self, at_ms: int) -> None:
        self.paused_at_ms = at_ms

    def resume(self, at_ms: int) -> None:
        assert self.paused_at_ms is not None, "only what was paused resumes"
        self.opened_at_ms += max(0, at_ms - self.paused_at_ms)
        self.paused_at_ms = None

    def spend(self, **amounts: int) -> None:
        for name, amount in amounts.items():
            self.counted[name] += amount

    def pay(self, usage: Usage, cost_microusd: int | None) -> None:
        """A model call was made."""
        self.cost_unknown = self.cost_unknown or cost_microusd is None
        self.spend(tokens=tokens_of(usage), cost_microusd=cost_microusd or 0, model_calls=1)

    def grant(self, thread: str, grant: Budget | None) -> None:
        account = self.accounts[thread] = Account(grant or Budget(), {})
        self.spend(threads=1)
        self._count(account)

    def reopen(self, thread: str) -> None:
        """A thread that had replied is asked something further: what was left of its grant is its own once more."""
        account = self.accounts[thread]
        account.open = True
        self._count(account)

    def settle(
        self, thread: str, spent: Spent | None, usage: Usage, cost_microusd: int | None, *, goes_on: bool
    ) -> None:
        """A thread has replied. What it does not say, it has spent. `goes_on`: it was asked more meanwhile."""
        account = self.accounts[thread]
        known: dict[str, int | None] = {"tokens": tokens_of(usage), "cost_microusd": cost_microusd}
        if spent is not None:
            known = {name: getattr(spent, name) for name in COUNTED}
        granted = granted_of(account.grant)
        # Nobody gives back more than was granted.
        account.spent = {
            name: granted.get(name, 0) if amount is None else max(0, amount)
            for name, amount in ((name, known.get(name)) for name in COUNTED)
        }
        self.cost_unknown = self.cost_unknown or (
            known["cost_microusd"] is None and account.grant.cost_microusd is None
        )
        account.open = goes_on
        self._count(account)

    def raise_limits(self, more: Budget, at_ms: int) -> None:
        self.limits = raised(self.limits, more, self._elapsed_s(at_ms))
        self.requested = self.wants_tools = False

    def _count(self, account: Account) -> None:
        granted = granted_of(account.grant) if account.open else {}
        counted = {name: max(account.spent.get(name, 0), granted.get(name, 0)) for name in COUNTED}
        for name, amount in counted.items():
            self.counted[name] += amount - account.counted.get(name, 0)
        account.counted = counted

    # What follows from it

    @property
    def spent(self) -> Spent:
        """All that counts so far: grants of threads that have not replied are among it."""
        spent = Spent(**self.counted)
        return msgspec.structs.replace(spent, cost_microusd=None) if self.cost_unknown else spent

    @property
    def left(self) -> Amounts:
        """What may still be spent or granted, of what is limited."""
        left = {name: max(0, limit - self.counted[name]) for name, limit in granted_of(self.limits).items()}
        if self.cost_unknown and "cost_microusd" in left:
            left["cost_microusd"] = 0
        return left

    @property
    def until_ms(self) -> int | None:
        """When the time is over; none where it is not limited, or stands still."""
        wall_s = self.limits.wall_s
        if wall_s is None or self.paused_at_ms is not None:
            return None
        return self.opened_at_ms + int(wall_s * 1000)

    def time_is_over(self, now_ms: int) -> bool:
        return self.until_ms is not None and self.until_ms <= now_ms

    def exhausted(self, now_ms: int) -> str:
        """The code of the limit that keeps the thread from its next model call; empty where there is none."""
        if self.time_is_over(now_ms):
            return "time_limit"
        left = self.left
        for name in ("cost_microusd", "tokens", "model_calls"):
            if left.get(name) == 0:
                return CODES[name]
        return CODES["tool_calls"] if self.wants_tools and left.get("tool_calls") == 0 else ""

    def rest_of(self, thread: str) -> Amounts:
        """What is left of a thread's grant."""
        account = self.accounts[thread]
        return {
            name: max(0, amount - account.spent.get(name, 0)) for name, amount in granted_of(account.grant).items()
        }

    def grants(
        self,
        orders: Sequence[Budget],
        at_ms: int,
        *,
        taken: Iterable[Amounts] = (),
        to_come: int = 0,
    ) -> list[Budget]:
        """What the delegations of one turn are granted, each by what its order asks for.

        Nobody gets more than is left. What an order does not name is shared: the orders that leave it open and the
        sender get the same part of it each, and so do as many as are still `to_come`. Threads are not shared: who
        does not name them may open none. `taken` is what is not left any more, though no entry says so yet.
        """
        left = less(self.left, {"threads": len(orders)})
        for amounts in taken:
            left = less(left, amounts)
        granted: list[Amounts] = [{} for _ in orders]
        for name in COUNTED:
            for order, grant in zip(orders, granted, strict=True):
                if (asked := getattr(order, name)) is not None:
                    grant[name] = min(asked, left.get(name, asked))
                    if name in left:
                        left[name] -= grant[name]
            sharers = [grant for grant in granted if name not in grant]
            if name in left:
                share = 0 if name == "threads" else left[name] // (len(sharers) + to_come + 1)
                for grant in sharers:
                    grant[name] = share
        wall_s = self.limits.wall_s
        time_left_s = None if wall_s is None else max(0.0, wall_s - self._elapsed_s(at_ms))
        return [
            Budget(**grant, wall_s=_shorter(order.wall_s, time_left_s))
            for order, grant in zip(orders, granted, strict=True)
        ]

    def _elapsed_s(self, at_ms: int) -> float:
        now_ms = at_ms if self.paused_at_ms is None else min(at_ms, self.paused_at_ms)
        return (now_ms - self.opened_at_ms) / 1000


def _shorter(first_s: float | None, second_s: float | None) -> float | None:
    return min((each for each in (first_s, second_s) if each is not None), default=None)


def granted_of(budget: Budget) -> Amounts:
    """The limits of a budget that are granted in parts."""
    return {name: amount for name in COUNTED if (amount := getattr(budget, name)) is not None}


def delegated(grant: Budget) -> Amounts:
    """What a delegation takes of what is left."""
    return {**granted_of(grant), "threads": 1 + (grant.threads or 0)}


def less(left: Amounts, taken: Amounts) -> Amounts:
    return {name: max(0, amount - taken.get(name, 0)) for name, amount in left.items()}


def tokens_of(usage: Usage) -> int:
    return usage.input_tokens + usage.output_tokens + usage.cache_read_tokens + usage.cache_write_tokens


def grant_or_none(grant: Budget) -> Budget | None:
    """Nothing where nothing is limited, so that the brief says nothing of it."""
    return None if grant == Budget() else grant
