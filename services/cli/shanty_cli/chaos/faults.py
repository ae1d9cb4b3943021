"""What is done to whom, and when. The same seed gives the same faults; when they hit, the machine decides."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

import msgspec

Absence = Literal["pause", "partition"]

WAIT_S = (0.2, 1.2)
"""Between two faults: long enough for a killed process to come back, short enough to meet others on their way."""
DOWN_S = (0.0, 1.5)
"""How long a killed server stays away. A killed service is started again at once."""
BEYOND_LEASE_S = (0.5, 2.0)
"""How long a pause outlasts the lease: others take over, and then the sleeper goes on as if nothing had been."""
SERVER_SHARE = 0.2
"""The part of the kills that hits the bus."""
BESIDES: tuple[tuple[Absence, float], ...] = (("pause", 0.15), ("partition", 0.15))
"""Faults that are not kills, and how many of them there are for each kill."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    kind: Literal["kill"] | Absence
    target: str
    """A service's name, such as `clerk-2`, or a server's."""
    wait_s: float
    """How long after the one before."""
    lasts_s: float = 0.0
    """How long a pause or a partition goes on, or a killed server stays away."""


def plan(seed: int, kills: int, services: Sequence[str], servers: Sequence[str], lease_s: float) -> tuple[Fault, ...]:
    """As many kills as asked for, with pauses and partitions between them."""
    chance = random.Random(seed)
    faults: list[Fault] = []
    for _ in range(kills):
        if chance.random() < SERVER_SHARE:
            faults.append(_kill(chance, chance.choice(servers), DOWN_S))
        else:
            faults.append(_kill(chance, chance.choice(services), (0.0, 0.0)))
        faults += [
            _absence(chance, kind, services, servers, lease_s) for kind, share in BESIDES if chance.random() < share
        ]
    return tuple(faults)


def _kill(chance: random.Random, target: str, down_s: tuple[float, float]) -> Fault:
    return Fault(kind="kill", target=target, wait_s=chance.uniform(*WAIT_S), lasts_s=chance.uniform(*down_s))


def _absence(
    chance: random.Random,
    kind: Absence,
    services: Sequence[str],
    servers: Sequence[str],
    lease_s: float,
) -> Fault:
    """A server can be paused; a cut is made between a service and the bus."""
    targets = (*services, *servers) if kind == "pause" else tuple(services)
    lasts_s = lease_s + chance.uniform(*BEYOND_LEASE_S)
    return Fault(kind=kind, target=chance.choice(targets), wait_s=chance.uniform(*WAIT_S), lasts_s=lasts_s)
