"""When a failed model call is made again. The waiting is a durable timer, whoever is there when it is over."""

from __future__ import annotations

import random

from shanty_runtime.errors import ModelFailure

FIRST_BACKOFF_S = 1.0
MAX_BACKOFF_S = 60.0
MAX_TRIES: dict[ModelFailure, int] = {"transient": 5, "overloaded": 10}
"""Calls in a row that may fail; the model is given up with the next."""
MAX_TOO_LARGE = 2
RATE_LIMIT_WITHOUT_HINT_S = 20.0


def retry_after_s(
    failure: ModelFailure, failures_before: int, hint_s: float | None, chance: random.Random
) -> float | None:
    """Seconds until the next try, or None where there is none.

    `hint_s` is what the provider asked for. Backing off has full jitter: many threads that failed together do not
    come back together.
    """
    match failure:
        case "rate_limited":
            wait_s = RATE_LIMIT_WITHOUT_HINT_S if hint_s is None else hint_s
            return wait_s + chance.uniform(0, min(1.0, wait_s))
        case "transient" | "overloaded":
            if failures_before + 1 >= MAX_TRIES[failure]:
                return None
            backoff_s = chance.uniform(0, min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2**failures_before))
            return max(backoff_s, hint_s or 0.0)
        case "too_large":
            return 0.0 if failures_before + 1 < MAX_TOO_LARGE else None
        case "spend_limit" | "configuration" | "invalid":
            return None


def code_of(failure: str) -> str:
    """The protocol's code for a model call that is not made again."""
    match failure:
        case "spend_limit":
            return "spend_limit"
        case "configuration":
            return "model_configuration"
        case _:
            return "model_failed"
