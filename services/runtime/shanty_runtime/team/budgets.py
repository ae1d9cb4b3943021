"""Budgets in a team's files: `budget: {usd: 5, tokens: 2000000}`, of a run in team.yaml, of a delegation in an agent.

In team.yaml it is what a run may spend where whoever starts it says nothing else; in an agent's front matter it is
what a delegation to it is granted where its lead names nothing else.
"""

from __future__ import annotations

from shanty_protocol import Budget
from shanty_runtime.agent.budget import MOST, Allowance
from shanty_runtime.team.fields import Fields, both_spellings
from shanty_runtime.team.problems import Problems

MOST_USD = 1_000_000.0
MOST_SECONDS = 365 * 24 * 3600.0


def read_budget(fields: Fields, problems: Problems, path: str) -> Budget | None:
    """What `budget` limits; None where it limits nothing."""
    given = fields.located("budget")
    if given is None:
        return None
    inner = Fields(problems, path, given, both_spellings(Allowance.__struct_fields__))
    allowance = Allowance(
        tokens=inner.whole("tokens", None, low=1, high=MOST),
        usd=inner.amount("usd", "US dollars", high=MOST_USD),
        model_calls=inner.whole("model_calls", None, low=1, high=MOST),
        tool_calls=inner.whole("tool_calls", None, low=1, high=MOST),
        threads=inner.whole("threads", None, low=1, high=MOST),
        seconds=inner.amount("seconds", "seconds", high=MOST_SECONDS),
    )
    return None if allowance == Allowance() else allowance.budget
