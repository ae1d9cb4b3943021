"""Playing many schedules, and what is found: over several processes, with a line at the end."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import msgspec

from simulation.audit import Violation, violations
from simulation.schedule import Schedule, from_seed
from simulation.world import World

CHUNK = 100
"""Schedules a process plays before it says so."""


HAPPENS = ("entries", "model calls", "effects", "deliveries", "redeliveries", "takeovers")
"""What is counted of every schedule, besides its faults."""


class Played(msgspec.Struct, frozen=True):
    schedule: Schedule
    found: tuple[Violation, ...]
    happened: Counter[str] = Counter()


class Tally(msgspec.Struct):
    """What many schedules amount to."""

    wanted: int = 0
    schedules: int = 0
    failed: list[Played] = []
    happened: Counter[str] = msgspec.field(default_factory=Counter)
    cpu_s: float = 0.0
    """Of all processes."""
    took_s: float = 0.0

    @property
    def rate(self) -> float:
        return self.schedules / self.took_s if self.took_s else 0.0

    @property
    def progress(self) -> str:
        left_s = (self.wanted - self.schedules) / self.rate if self.rate else 0.0
        done = f"{self.schedules / max(1, self.wanted):4.0%}  {self.schedules:,} of {self.wanted:,} schedules"
        return f"{done}, {len(self.failed)} violations, {self.rate:.0f}/s, {left_s:.0f} s to go"

    @property
    def richness(self) -> str:
        """What happens in a schedule on the average, and how many faults of each kind there were."""
        each = {name: self.happened[name] / max(1, self.schedules) for name in HAPPENS}
        faults = {name: times for name, times in sorted(self.happened.items()) if name not in HAPPENS}
        on_average = ", ".join(f"{value:.1f} {name}" for name, value in each.items())
        return f"a schedule has {on_average}\nfaults: {', '.join(f'{n:,} {name}' for name, n in faults.items())}"

    def __str__(self) -> str:
        told = f"{self.schedules:,} schedules, {self.took_s:.0f} s, {len(self.failed)} violations"
        return f"{told}, {self.rate:.0f} schedules/s"


def play(schedule: Schedule) -> Played:
    world = World(schedule)
    world.play()
    played = Played(schedule, tuple(violations(world)), what_happened(world))
    world.close()
    return played


def what_happened(world: World) -> Counter[str]:
    deliveries = [times for each in world.server.consumers.values() for times in each.delivered.values()]
    counts = (
        len(world.server.entries),
        len(world.ledgers.model_calls),
        len(world.ledgers.effects),
        sum(deliveries),
        sum(deliveries) - len(deliveries),
        sum(taken.after_run_out for taken in world.server.leases_taken),
    )
    happened = Counter(dict(zip(HAPPENS, counts, strict=True)))
    happened.update(each.kind for each in world.ledgers.disturbances)
    return happened


def play_seeds(seeds: Iterable[int]) -> Iterator[Played]:
    """One after the other. What a schedule leaves behind is collected between two, and not in the middle."""
    _collect_nothing()
    try:
        for count, seed in enumerate(seeds, 1):
            yield play(from_seed(seed))
            if count % CHUNK == 0:
                gc.collect()
    finally:
        gc.enable()
        gc.unfreeze()


def _collect_nothing() -> None:
    """From now on garbage is left where it is until somebody asks. What there is by now is never looked at again."""
    gc.collect()
    gc.freeze()
    gc.disable()


def first_failure(seeds: Iterable[int]) -> Played | None:
    """The first schedule that something is wrong with."""
    return next((played for played in play_seeds(seeds) if played.found), None)


def simulate(first: int, count: int, *, processes: int, progress: Callable[[Tally], None]) -> Tally:
    """Play the schedules of so many seeds. Failures are in the order of their seeds."""
    tally, began_s = Tally(wanted=count), time.perf_counter()
    chunks = [range(start, min(start + CHUNK, first + count)) for start in range(first, first + count, CHUNK)]
    with multiprocessing.get_context("spawn").Pool(processes, _begin) as pool:
        for played in pool.imap_unordered(_play_chunk, chunks):
            tally.schedules += played.schedules
            tally.failed += played.failed
            tally.happened += played.happened
            tally.cpu_s += played.cpu_s
            tally.took_s = time.perf_counter() - began_s
            progress(tally)
    tally.failed.sort(key=lambda played: played.schedule.seed)
    return tally


def _begin() -> None:
    """In a process that does nothing but play."""
    logging.getLogger("shanty").setLevel(logging.ERROR)
    os.environ.clear()  # where the engine looks for secrets, again and again
    _collect_nothing()


def _play_chunk(seeds: range) -> Tally:
    tally, began_s = Tally(), time.process_time()
    for played in map(play, map(from_seed, seeds)):
        tally.schedules += 1
        tally.happened += played.happened
        if played.found:
            tally.failed.append(played)
    gc.collect()
    tally.cpu_s = time.process_time() - began_s
    return tally
