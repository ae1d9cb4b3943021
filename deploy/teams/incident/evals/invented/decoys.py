"""What looks like a cause and is none."""

from __future__ import annotations

import math

from .changes import add_change
from .phrases import ALWAYS_WRONG
from .world import Stream, World, during


def decoys(world: World) -> None:
    rng = world.rng
    middles = [s.name for s in world.services.values() if s.role == "middle"]
    others = [name for name in middles if name != world.culprit]
    for _ in range(rng.randint(0, 3)):
        add_change(
            world,
            rng.choice(middles),
            world.onset_s * rng.uniform(0.02, 0.55),
            rng.choice(["deploy", "config", "deploy"]),
        )
    if others and rng.random() < 0.75:
        add_change(
            world, rng.choice(others), world.onset_s - rng.uniform(6, 30) * 60, rng.choice(["deploy", "config"])
        )
    if rng.random() < 0.4:
        add_change(
            world,
            rng.choice(middles),
            min(world.onset_s + rng.uniform(4, 30) * 60, world.duration_s),
            rng.choice(["deploy", "config"]),
        )
    if rng.random() < 0.7:
        name = rng.choice(middles)
        world.streams.append(Stream(name, "error", [rng.choice(ALWAYS_WRONG)], rng.uniform(0.5, 4)))
    if rng.random() < 0.5:
        batch(world, rng.choice(middles))
    if rng.random() < 0.5:
        name = rng.choice(middles)
        grown = rng.uniform(0.05, 0.3)
        world.gauges[name, "disk"] = lambda t: 40 + 100 * grown * t / world.duration_s
    if others and rng.random() < 0.35:
        name = rng.choice(others)
        base = world.gauges[name, "memory"]
        world.gauges[name, "memory"] = lambda t: base(t) * (1 + 0.5 * (1 - math.exp(-t / 3000)))
    if rng.random() < 0.3:
        name = rng.choice(middles)
        world.streams.append(Stream(name, "warn", ["certificate of *.example.net will expire in {n} days"], 0.3))


def batch(world: World, name: str) -> None:
    """A job that runs on its own schedule: much traffic, some grumbling, no harm."""
    rng = world.rng
    at, lasts = world.duration_s * rng.uniform(0.05, 0.9), rng.uniform(5, 15) * 60
    world.streams.append(
        Stream(name, "info", ["export batch {id}: wrote {n} rows", "batch chunk {n} done"], 60, at, at + lasts)
    )
    world.streams.append(Stream(name, "warn", ["export batch: row {n} skipped, no {what}"], 3, at, at + lasts))
    during(world, name, "cpu", 2.5, at, at + lasts)
