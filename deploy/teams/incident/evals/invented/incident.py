"""A world from a seed, and a world as files, with the truth about it."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from pathlib import Path

from .causes import CAUSES
from .changes import write_changes
from .decoys import decoys
from .logs import write_error_log, write_log
from .metrics import write_metrics
from .notations import clock
from .system import ordinary, populate
from .tickets import write_tickets
from .world import World

KINDS = tuple(CAUSES)


def build(seed: int, kind: str | None, hours: float | None = None) -> World:
    rng = random.Random(seed)
    chosen = KINDS[rng.randrange(len(KINDS))]
    chosen = kind or chosen
    drawn_hours = rng.uniform(2.0, 5.0)
    duration_s = (hours or drawn_hours) * 3600
    onset_s = duration_s * rng.uniform(0.4, 0.75)
    end_s = min(onset_s + rng.uniform(15, 70) * 60, duration_s + 1)
    start = datetime(rng.randint(2022, 2026), rng.randint(1, 12), rng.randint(1, 28), tzinfo=UTC).timestamp()
    world = World(rng, chosen, start + rng.randrange(0, 19 * 3600), duration_s, onset_s, end_s)
    if rng.random() < 0.35:
        world.end_s = duration_s + 1
    populate(world)
    ordinary(world)
    CAUSES[chosen](world)
    decoys(world)
    return world


def write(world: World, out: Path) -> None:
    (out / "logs").mkdir(parents=True, exist_ok=True)
    (out / "metrics").mkdir(exist_ok=True)
    for service in world.services.values():
        if service.logs:
            write_log(world, service, out / "logs" / f"{service.name}.log")
        if service.notation == "access":
            write_error_log(world, service, out / "logs" / f"{service.name}-error.log")
    write_metrics(world, out / "metrics")
    write_changes(world, out / "deploys.json")
    write_tickets(world, out / "tickets.csv")
    truth = {
        "kind": world.kind,
        "service": None if world.kind == "none" else world.culprit,
        "onset": None if world.kind == "none" else clock(world.start + world.onset_s, "iso")[:19] + "Z",
        "topology": {service.name: service.calls for service in world.services.values()},
    }
    (out / "truth.json").write_text(json.dumps(truth, indent=2) + "\n", encoding="utf-8", newline="\n")
