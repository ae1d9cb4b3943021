"""A schedule: the team's work, and every fault that happens to it. Made from a seed, by hand, or by hypothesis."""

from __future__ import annotations

import random
from typing import Literal

import msgspec

FaultKind = Literal[
    "kill",
    "kill_after",
    "pause",
    "lose",
    "lose_ack",
    "slow",
    "outage",
    "cut",
    "redeliver",
    "timer",
    "stale",
    "drain",
    "torn",
    "crash",
]
"""What happens at a point, which is a message a worker sends, or a moment of a model's or a tool's call:

kill        its process dies before the message has left       kill_after  it dies once the message has left
pause       its process stands still for a while               drain       its process is told to stop, as by SIGTERM
lose        the message is lost, and nobody knows              lose_ack    it is taken, and its answer is lost
slow        it is overtaken by what is sent later              cut         this process loses its connection
outage      all lose theirs                                    redeliver   a mail in hand is delivered once more
torn        of entries that are sent together from then on, the second is lost, and their process dies
crash       the server is killed: all lose their connections, and it comes back without the newest of what it writes
            without waiting for its disk, which is leases and how far its consumers are
timer       a timer comes now, and again when it is due        stale       reads are answered by a replica behind
"""

KINDS: tuple[FaultKind, ...] = FaultKind.__args__  # type: ignore[attr-defined]  # a Literal's values
WEIGHTS = (6, 10, 8, 3, 5, 4, 2, 2, 4, 2, 2, 2, 5, 3)
NEIGHBOURS = 15
"""How many points lie at most between faults that are drawn together."""
SECONDS = (0.02, 0.3, 1.0, 3.0, 5.5, 8.0, 14.0)

WORK = (
    "delegate",
    "fan_out",
    "effects",
    "budget",
    "approvals",
    "cancel",
    "nested",
    "deadline",
    "handler",
    "question",
    "each",
    "hedge",
    "grade",
    "fenced",
    "hire",
)
Work = str


class Fault(msgspec.Struct, frozen=True, order=True):
    at: int
    """Which point, counted from 1."""
    kind: FaultKind
    seconds: float = 1.0


class Schedule(msgspec.Struct, frozen=True):
    seed: int
    """Of the work's details, and of everything that the simulation chooses by chance."""
    work: Work
    faults: tuple[Fault, ...]
    replicas: int = 1
    """Of each agent."""
    unsteady: bool = False
    """Model calls fail now and then."""

    def __str__(self) -> str:
        faults = ", ".join(f"{fault.kind}@{fault.at} {fault.seconds:g}s" for fault in self.faults) or "none"
        return f"seed {self.seed}, work {self.work}, replicas {self.replicas}, faults: {faults}"


POINTS = {
    "delegate": 130,
    "fan_out": 130,
    "effects": 60,
    "budget": 110,
    "approvals": 80,
    "cancel": 90,
    "nested": 130,
    "deadline": 60,
    "handler": 60,
    "question": 90,
    "each": 110,
    "hedge": 110,
    "grade": 90,
    "fenced": 100,
    "hire": 120,
}
"""About how many points a kind of work has."""


def from_seed(seed: int) -> Schedule:
    """The schedule of a number: the same for ever."""
    chance = random.Random(seed)
    work = WORK[seed % len(WORK)]
    count = chance.choice((0, 1, 1, 2, 2, 3, 4, 6))
    faults = [
        Fault(
            chance.randint(1, POINTS[work]),
            chance.choices(KINDS, WEIGHTS)[0],
            chance.choice(SECONDS),
        )
        for _ in range(count)
    ]
    replicas, unsteady = chance.choice((1, 1, 2)), chance.random() < 0.1
    if chance.random() < 0.3:
        faults = _drawn_together(faults, chance)
    return Schedule(seed, work, tuple(sorted(faults)), replicas, unsteady)


def _drawn_together(faults: list[Fault], chance: random.Random) -> list[Fault]:
    """The same faults, each soon after the one before: what recovers from one of them meets the next."""
    at = faults[0].at if faults else 0
    together = []
    for fault in faults:
        together.append(msgspec.structs.replace(fault, at=at))
        at += chance.randint(1, NEIGHBOURS)
    return together
