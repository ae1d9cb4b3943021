"""Three ways to put load on whatever answers: one after the other, many at once, and a fan-out.

Each way takes an operation: `await operation(conversation, number)` sends one thing and returns when it is answered.
Numbers of one conversation begin at 0 and leave none out.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

Operation = Callable[[str, int], Awaitable[None]]

FAN_OUT = 20


async def one_by_one(operation: Operation, block: str, count: int) -> list[float]:
    """Seconds of each of `count` operations that wait for each other."""
    took_s = []
    for number in range(count):
        began_s = time.perf_counter()
        await operation(f"{block}-one", number)
        took_s.append(time.perf_counter() - began_s)
    return took_s


async def all_at_once(operation: Operation, block: str, in_flight: int, each: int) -> float:
    """Operations a second, where `in_flight` conversations go on at once."""

    async def converse(conversation: str) -> None:
        for number in range(each):
            await operation(conversation, number)

    began_s = time.perf_counter()
    await asyncio.gather(*(converse(f"{block}-c{which}") for which in range(in_flight)))
    return in_flight * each / (time.perf_counter() - began_s)


async def fan_out(operation: Operation, block: str, times: int) -> float:
    """Median seconds until the last of `FAN_OUT` operations that begin at once is answered."""
    took_s = []
    for which in range(times):
        began_s = time.perf_counter()
        await asyncio.gather(*(operation(f"{block}-f{which}", number) for number in range(FAN_OUT)))
        took_s.append(time.perf_counter() - began_s)
    return statistics.median(took_s)
