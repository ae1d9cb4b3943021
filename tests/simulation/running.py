"""Playing many schedules, and what is found: over several processes, with a line at the end."""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator

import msgspec

from simulation.audit import Violation, violations
from simulation.schedule import Schedule, from_seed
from simulation.world import World

CHUNK = 100
"""Schedules a process plays before it says so."""


class Played(msgspec.Struct, frozen=True):
    schedule: Schedule
    found: tuple[Violation, ...]


class Tally(msgspec.Struct):
    """What many schedules amount to."""

    schedules: int = 0
    failed: list[Played] = []
    cpu_s: float = 0.0
    took_s: float = 0.0

    def __str__(self) -> str:
        rate = self.schedules / self.took_s if self.took_s else 0.0
        return f"{self.schedules} schedules, {len(self.failed)} violations, {rate:.0f} schedules/s"


def play(schedule: Schedule) -> Played:
    world = World(schedule)
    world.play()
    return Played(schedule, tuple(violations(world)))


def play_seeds(seeds: Iterable[int]) -> Iterator[Played]:
    """One after the other. What a schedule leaves behind is collected between two, and not in the middle."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        for count, seed in enumerate(seeds, 1):
            yield play(from_seed(seed))
            if count % 25 == 0:
                gc.collect()
    finally:
        gc.enable()
        gc.unfreeze()


def first_failure(seeds: Iterable[int]) -> Played | None:
    """The first schedule that something is wrong with."""
    return next((played for played in play_seeds(seeds) if played.found), None)


def simulate(first: int, count: int, *, processes: int, progress: Callable[[Tally], None]) -> Tally:
    """Play the schedules of so many seeds. Failures are in the order of their seeds."""
    tally, began_s = Tally(), time.perf_counter()
    chunks = [range(start, min(start + CHUNK, first + count)) for start in range(first, first + count, CHUNK)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for schedules, failed, cpu_s in pool.imap_unordered(_play_chunk, chunks):
            tally.schedules += schedules
            tally.failed += failed
            tally.cpu_s += cpu_s
            tally.took_s = time.perf_counter() - began_s
            progress(tally)
    tally.failed.sort(key=lambda played: played.schedule.seed)
    return tally


def _play_chunk(seeds: range) -> tuple[int, list[Played], float]:
    began_s = time.process_time()
    os.environ.clear()  # where the engine looks for secrets, again and again
    failed = [played for played in play_seeds(seeds) if played.found]
    return len(seeds), failed, time.process_time() - began_s
