"""What is made up: services, their messages, their metrics, what was changed. Times are seconds from the start."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Stream:
    """Messages of one sort: how many a minute, from when to when."""

    service: str
    level: str
    phrases: Sequence[str]
    per_min: float
    start_s: float = 0.0
    end_s: float = math.inf
    status: int = 200
    ramp_s: float = 0.0
    peer: str = ""
    trace: Sequence[str] = ()


@dataclass
class Service:
    name: str
    role: str
    calls: list[str] = field(default_factory=list)
    notation: str = "plain"
    logs: bool = True
    load: float = 60.0
    host: str = ""


@dataclass
class World:
    rng: random.Random
    kind: str
    start: float
    duration_s: float
    onset_s: float
    end_s: float
    services: dict[str, Service] = field(default_factory=dict)
    streams: list[Stream] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    gauges: dict[tuple[str, str], Callable[[float], float]] = field(default_factory=dict)
    load: dict[str, Callable[[float], float]] = field(default_factory=dict)
    culprit: str = ""
    outages: dict[str, tuple[float, float]] = field(default_factory=dict)
    volume: float = 1.0

    def callers(self, name: str) -> list[str]:
        return [each.name for each in self.services.values() if name in each.calls]


def wave(rng: random.Random, depth: float) -> Callable[[float], float]:
    phase, period = rng.uniform(0, 6.28), rng.uniform(2.5, 8) * 3600
    return lambda t: 1 + depth * math.sin(phase + 6.28 * t / period)


def during(
    world: World, name: str, gauge: str, factor: float, start: float, end: float, ramp_s: float = 60.0
) -> None:
    """Multiply a gauge for a while."""
    base = world.gauges.get((name, gauge))
    if base is not None:
        world.gauges[name, gauge] = lambda t: base(t) * (1 + (factor - 1) * active(t, start, end, ramp_s))


def active(t: float, start: float, end: float, ramp_s: float = 0.0) -> float:
    if t < start or t >= end:
        return 0.0
    return min(1.0, (t - start) / ramp_s) if ramp_s > 0 else 1.0
