"""Logs, line by line: as many messages a minute as each sort has, at random moments of it."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from .notations import Writer, clock
from .phrases import fill
from .world import Service, Stream, World, active

MINUTE_S = 60.0


def write_log(world: World, service: Service, path: Path) -> None:
    streams = [stream for stream in world.streams if stream.service == service.name]
    with path.open("w", encoding="utf-8", newline="\n") as out:
        writer = Writer(world, service, out)
        for minute in range(int(world.duration_s // MINUTE_S) + 1):
            for at, stream in sorted(events(world, service, streams, minute), key=lambda each: each[0]):
                writer.write(at, stream)


def write_error_log(world: World, service: Service, path: Path) -> None:
    """What a proxy could not pass on stands in a log of its own."""
    streams = [stream for stream in world.streams if stream.service == service.name and stream.peer]
    if not streams:
        return
    rng = random.Random(f"{service.name}-error")
    with path.open("w", encoding="utf-8", newline="\n") as out:
        for minute in range(int(world.duration_s // MINUTE_S) + 1):
            for at, stream in sorted(events(world, service, streams, minute), key=lambda each: each[0]):
                message = fill(world, world.rng.choice(stream.phrases), stream.peer)
                out.write(
                    f"{clock(world.start + at, 'slash')} [error] {rng.randint(20, 40)}#0: "
                    f"*{rng.randint(1000, 99999)} {message}, "
                    f"client: 10.1.{rng.randint(0, 255)}.{rng.randint(1, 254)}, server: _\n"
                )


def events(world: World, service: Service, streams: Sequence[Stream], minute: int) -> Iterator[tuple[float, Stream]]:
    rng, low = world.rng, minute * MINUTE_S
    for stream in streams:
        if stream.end_s < low or stream.start_s > low + MINUTE_S:
            continue
        rate = stream.per_min
        if stream.level == "info":
            rate *= world.load[service.name](low) * world.volume
        for _ in range(poisson(rng, rate)):
            at = low + rng.random() * MINUTE_S
            if at > world.duration_s or rng.random() >= active(at, stream.start_s, stream.end_s, stream.ramp_s):
                continue
            if stream.level == "info" and any(a <= at < b for a, b in [world.outages.get(service.name, (0.0, 0.0))]):
                continue
            yield at, stream


def poisson(rng: random.Random, mean: float) -> int:
    if mean > 40:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    limit, product, count = math.exp(-mean), rng.random(), 0
    while product > limit:
        product *= rng.random()
        count += 1
    return count
