"""What every peer is asked to do, and how it says what that took. Runs in the peer's own environment.

A peer does what it calls a task, with 1 KiB going there and the same 1 KiB coming back: one after the other, and
256 at once. Figures go to stdout as one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.load import Operation, all_at_once, one_by_one

TEXT = "x" * 1024
IN_FLIGHT = 256
WARMING = 5
ONE_BY_ONE = 40
EACH = 2
READY_WITHIN_S = 60.0


async def measure(operation: Operation, *, in_flight: int = IN_FLIGHT, each: int = EACH) -> None:
    """Of a peer that is asked from an event loop."""
    await one_by_one(operation, "warm", WARMING)
    took_s = await one_by_one(operation, "one", ONE_BY_ONE)
    tell(took_s, await all_at_once(operation, "all", in_flight, each))


def measure_blocking(operation: Callable[[], None], many: Callable[[int], None]) -> None:
    """Of a peer that blocks; `many` has so many tasks done as it does that best."""
    for _ in range(WARMING):
        operation()
    took_s = []
    for _ in range(ONE_BY_ONE):
        began_s = time.perf_counter()
        operation()
        took_s.append(time.perf_counter() - began_s)
    began_s = time.perf_counter()
    for _ in range(EACH):
        many(IN_FLIGHT)
    tell(took_s, EACH * IN_FLIGHT / (time.perf_counter() - began_s))


def tell(one_by_one_s: list[float], rate: float) -> None:
    print(json.dumps({"one_by_one_s": one_by_one_s, "rate": rate}), flush=True)


@contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the peer's, which ends with the measurement. What it says goes to stderr."""
    started = subprocess.Popen(command, stdout=sys.stderr, stderr=sys.stderr)
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(5)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


async def until_it_answers(operation: Operation) -> None:
    """Try until the first answer: a worker needs a while to come up."""
    async with asyncio.timeout(READY_WITHIN_S):
        attempt = 0
        while True:
            try:
                async with asyncio.timeout(2):
                    return await operation("ready", attempt)
            except Exception:  # each has its own for nobody being there yet; the deadline ends this
                attempt += 1
                await asyncio.sleep(0.1)
