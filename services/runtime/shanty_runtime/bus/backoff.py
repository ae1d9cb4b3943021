"""Waiting longer and longer between tries, by a random part of it, so that many who wait do not come back at once."""

from __future__ import annotations

import asyncio
import random


class Backoff:
    """Full jitter: the n-th pause is anywhere between nothing and `first_s` doubled n times, at most `most_s`."""

    def __init__(self, *, first_s: float = 0.05, most_s: float = 2.0) -> None:
        self.first_s = first_s
        self.most_s = most_s
        self.tries = 0

    def next_s(self) -> float:
        ceiling_s = min(self.most_s, self.first_s * 2 ** min(self.tries, 16))
        self.tries += 1
        return random.uniform(0.0, ceiling_s)

    async def pause(self) -> None:
        await asyncio.sleep(self.next_s())
