"""Budgets as people and models write and read them; the protocol's `Budget` is what is stored.

In a team's files a budget is a mapping, `budget: {usd: 5, tokens: 2000000}`; on a command line it is text,
`usd=5,tokens=2M`; for a model it is an argument of `delegate`. The names are the same everywhere.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from shanty_protocol import Budget, Spent

MICRO = 1_000_000
MOST = 10**15
"""Of anything: larger numbers are mistakes."""

Whole = Annotated[int, msgspec.Meta(ge=1, le=MOST)]
Amount = Annotated[float, msgspec.Meta(gt=0, le=1e9)]

COUNTED = ("tokens", "cost_microusd", "model_calls", "tool_calls", "threads")
"""What is granted in parts. Time is not: it passes for all at once."""

_TIMES = {"k": 1_000, "m": 1_000_000, "": 1}
_NUMBER = re.compile(r"\+?(\d+(?:\.\d+)?)([kKmM]?)")


class Allowance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a piece of work may spend; leave out what is not to be limited."""

    tokens: Whole | None = None
    usd: Amount | None = None
    model_calls: Whole | None = None
    tool_calls: Whole | None = None
    threads: Whole | None = None
    seconds: Amount | None = None

    @property
    def budget(self) -> Budget:
        return Budget(
            tokens=self.tokens,
            cost_microusd=None if self.usd is None else max(1, round(self.usd * MICRO)),
            model_calls=self.model_calls,
            tool_calls=self.tool_calls,
            threads=self.threads,
            wall_s=self.seconds,
        )


def parse_allowance(text: str) -> Allowance:
    """`usd=5,tokens=2M` as an Allowance. Raises ValueError with a sentence."""
    given: dict[str, int | float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, amount = (word.strip() for word in part.partition("="))
        if name not in Allowance.__struct_fields__ or not equals:
            raise ValueError(f"{part!r} is no limit: write NAME=NUMBER with {', '.join(Allowance.__struct_fields__)}")
        if name in given:
            raise ValueError(f"{name} is given twice")
        found = _NUMBER.fullmatch(amount)
        if found is None:
            raise ValueError(f"{name}: {amount!r} is not a number; write one such as 500, 1.5 or 2M")
        number = float(found[1]) * _TIMES[found[2].lower()]
        given[name] = int(number) if number.is_integer() else number
    try:
        return msgspec.convert(given, Allowance)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


def filled(first: Budget | None, second: Budget | None) -> Budget | None:
    """The first, and from the second whatever the first does not limit. None where nothing is limited."""
    if first is None or second is None:
        return first or second
    mine = msgspec.structs.asdict(first)
    return msgspec.structs.replace(second, **{name: value for name, value in mine.items() if value is not None})


def raised(limits: Budget, more: Budget, elapsed_s: float) -> Budget:
    """The limits with more added to each. What is not limited stays so; time that is over is added to from now on."""
    added = {
        name: limit + (getattr(more, name) or 0)
        for name, limit in msgspec.structs.asdict(limits).items()
        if limit is not None
    }
    if limits.wall_s is not None and more.wall_s is not None:
        added["wall_s"] = max(limits.wall_s, elapsed_s) + more.wall_s
    return Budget(**added)


def told(amounts: Budget | Spent) -> str:
    """Amounts in words, for sentences: `3 model calls, $1.20`."""
    words = {
        "tokens": lambda amount: f"{amount} {'token' if amount == 1 else 'tokens'}",
        "cost_microusd": lambda amount: f"${amount / MICRO:.2f}" if amount >= 10_000 else f"${amount / MICRO:.6f}",
        "model_calls": lambda amount: f"{amount} model {'call' if amount == 1 else 'calls'}",
        "tool_calls": lambda amount: f"{amount} tool {'call' if amount == 1 else 'calls'}",
        "threads": lambda amount: f"{amount} {'thread' if amount == 1 else 'threads'}",
        "wall_s": lambda amount: f"{amount:g} s",
    }
    given = msgspec.structs.asdict(amounts)
    return ", ".join(words[name](amount) for name, amount in given.items() if amount is not None) or "nothing"
