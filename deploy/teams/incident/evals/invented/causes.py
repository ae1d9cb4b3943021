"""The six causes, and none: what each does to the service it strikes, and to those that call it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .changes import add_change
from .phrases import (
    BROKEN,
    BURSTING,
    BUSY,
    CALL_FAILED,
    CALL_FAILED_SILENT,
    DYING,
    EXPIRED_AT_CALLER,
    EXPIRED_AT_SERVER,
    FAULTS,
    GROWING,
    MISSET,
    REFUSED,
    STARTING,
    TOO_BUSY,
)
from .world import Stream, World, active, during


def spread(
    world: World, source: str, whys: Sequence[str], start: float, end: float, strength: float, depth: int = 0
) -> None:
    """Callers fail too, each a little later, and louder than the service they call."""
    rng = world.rng
    for name in world.callers(source):
        service = world.services[name]
        delay = rng.uniform(0, 25)
        rate = max(3.0, service.load * strength * rng.uniform(0.25, 0.9))
        silent = rng.random() < 0.25
        phrases = list(rng.sample(CALL_FAILED, 2)) + ([rng.choice(CALL_FAILED_SILENT)] if silent else [])
        filled = [each.replace("{why}", rng.choice(whys)) for each in phrases for _ in range(2)]
        world.streams.append(
            Stream(
                name,
                "error",
                filled,
                rate,
                start + delay,
                end + rng.uniform(0, 40),
                status=rng.choice([500, 502, 503, 504]),
                peer=source,
            )
        )
        during(world, name, "errors", rng.uniform(15, 60), start + delay, end)
        during(world, name, "latency", rng.uniform(1.5, 6), start + delay, end)
        if rng.random() < 0.3:
            again = world.load[name]
            factor = rng.uniform(1.15, 1.6)
            world.load[name] = lambda t, again=again, factor=factor: (
                again(t) * (1 + (factor - 1) * active(t, start + 60, end, 120))
            )  # type: ignore[misc]  # lambda defaults
        if depth < 2:
            spread(world, name, BROKEN, start + delay, end, strength * rng.uniform(0.5, 0.9), depth + 1)


def pick(world: World, *roles: str, called: bool = True) -> str:
    names = [s.name for s in world.services.values() if s.role in roles and (world.callers(s.name) or not called)]
    return world.rng.choice(names)


def own_trouble(
    world: World, name: str, phrases: Sequence[str], share: float, start: float, end: float, trace: Sequence[str] = ()
) -> None:
    rng, service = world.rng, world.services[name]
    if service.logs:
        rate = max(4.0, service.load * share)
        world.streams.append(
            Stream(name, "error", phrases, rate, start, end, status=500, trace=trace, ramp_s=rng.choice([0, 0, 90]))
        )
    during(world, name, "errors", rng.uniform(10, 40), start, end)
    during(world, name, "latency", rng.uniform(1.1, 4), start, end)


def bad_deploy(world: World) -> None:
    rng = world.rng
    world.culprit = pick(world, "middle")
    add_change(world, world.culprit, world.onset_s - rng.uniform(5, 150), "deploy")
    message, trace = rng.choice(FAULTS)
    own_trouble(world, world.culprit, [message], rng.uniform(0.1, 0.35), world.onset_s, world.end_s, trace)
    spread(world, world.culprit, BROKEN, world.onset_s + rng.uniform(0, 20), world.end_s, rng.uniform(0.5, 1.0))
    maybe_rollback(world)


def config_change(world: World) -> None:
    rng = world.rng
    world.culprit = pick(world, "middle")
    add_change(world, world.culprit, world.onset_s - rng.uniform(5, 150), "config")
    phrases = rng.sample(MISSET, 1)
    if rng.random() < 0.4:
        dep = rng.choice(world.services[world.culprit].calls)
        phrases.append(
            f"cannot use {world.services[dep].host}: "
            f"{rng.choice(['access denied', 'connection refused', 'pool timeout'])}"
        )
    own_trouble(world, world.culprit, phrases, rng.uniform(0.1, 0.35), world.onset_s, world.end_s)
    spread(world, world.culprit, BROKEN, world.onset_s + rng.uniform(0, 20), world.end_s, rng.uniform(0.5, 1.0))
    maybe_rollback(world)


def maybe_rollback(world: World) -> None:
    if world.end_s < world.duration_s and world.rng.random() < 0.7:
        add_change(world, world.culprit, world.end_s - world.rng.uniform(5, 60), "rollback")


def dependency_outage(world: World) -> None:
    rng = world.rng
    world.culprit = pick(world, "store", "outside")
    service = world.services[world.culprit]
    spread(world, world.culprit, rng.sample(REFUSED, 3), world.onset_s, world.end_s, rng.uniform(0.6, 1.1))
    if service.logs:
        world.outages[world.culprit] = (world.onset_s, world.end_s)
        if rng.random() < 0.6:
            world.streams.append(
                Stream(world.culprit, "error", [rng.choice(DYING)], 20, world.onset_s - 8, world.onset_s + 12)
            )
    during(world, world.culprit, "traffic", 0.03, world.onset_s, world.end_s, 5)


def memory_leak(world: World) -> None:
    rng = world.rng
    world.culprit = pick(world, "middle")
    begin = world.onset_s * rng.uniform(0.25, 0.6)
    first_crash = world.onset_s
    every = (first_crash - begin) * rng.uniform(0.3, 1.1)
    crashes = [first_crash]
    while crashes[-1] + every < world.duration_s and len(crashes) < 5:
        crashes.append(crashes[-1] + every)
    base = world.gauges[world.culprit, "memory"](0)
    top = base * rng.uniform(2.2, 4)

    def memory(t: float) -> float:
        last = max((crash for crash in crashes if crash <= t), default=None)
        if last is None:
            return base + (top - base) * max(0.0, t - begin) / (first_crash - begin)
        return base + (top - base) * min(1.0, (t - last) / every)

    world.gauges[world.culprit, "memory"] = memory
    world.streams.append(
        Stream(
            world.culprit,
            "warn",
            [rng.choice(GROWING)],
            rng.uniform(2, 6),
            first_crash - 900,
            world.duration_s,
            ramp_s=900,
        )
    )
    for crash in crashes:
        down = rng.uniform(60, 240)
        world.streams.append(Stream(world.culprit, "error", [rng.choice(BURSTING)], 30, crash - 10, crash + 6))
        world.streams.append(Stream(world.culprit, "info", STARTING, 20, crash + down * 0.6, crash + down * 0.6 + 8))
        spread(world, world.culprit, rng.sample(REFUSED, 2), crash, crash + down + 120, rng.uniform(0.5, 1.0))
        during(world, world.culprit, "latency", rng.uniform(2, 5), crash - 600, crash, 600)
    if rng.random() < 0.4:
        add_change(world, world.culprit, max(10.0, begin - rng.uniform(0, 1500)), "deploy")


def traffic_surge(world: World) -> None:
    rng = world.rng
    world.culprit = pick(world, "middle")
    factor = rng.uniform(2.5, 6)
    start, end = world.onset_s - rng.uniform(0, 120), world.end_s
    path, name = [world.culprit], world.culprit
    while world.callers(name):
        name = world.callers(name)[0]
        path.append(name)
    for position, each in enumerate(path):
        old, own = world.load[each], 1 + (factor - 1) * (1 if position == 0 else 0.55)
        world.load[each] = lambda t, old=old, own=own: old(t) * (1 + (own - 1) * active(t, start, end, 90))  # type: ignore[misc]  # lambda defaults
    own_trouble(world, world.culprit, rng.sample(TOO_BUSY, 2), rng.uniform(0.3, 0.8), world.onset_s, end)
    during(world, world.culprit, "cpu", 2.5, start, end)
    spread(world, world.culprit, rng.sample(BUSY, 3), world.onset_s + 10, end, rng.uniform(0.5, 1.0))


def expired_certificate(world: World) -> None:
    rng = world.rng
    world.culprit = pick(world, "middle", "store", "outside")
    for name in world.callers(world.culprit):
        service = world.services[name]
        rate = max(4.0, service.load * rng.uniform(0.3, 0.8))
        start = world.onset_s + rng.uniform(0, 15)
        world.streams.append(
            Stream(
                name,
                "error",
                rng.sample(EXPIRED_AT_CALLER, 2),
                rate,
                start,
                world.end_s,
                status=502,
                peer=world.culprit,
            )
        )
        during(world, name, "errors", rng.uniform(15, 50), start, world.end_s)
        spread(world, name, BROKEN, start, world.end_s, rng.uniform(0.4, 0.8), 1)
    service = world.services[world.culprit]
    if service.logs and rng.random() < 0.6:
        world.streams.append(
            Stream(world.culprit, "warn", [rng.choice(EXPIRED_AT_SERVER)], 8, world.onset_s, world.end_s)
        )
    during(world, world.culprit, "traffic", 0.2, world.onset_s, world.end_s, 10)


def nothing(world: World) -> None:
    rng = world.rng
    world.onset_s = world.duration_s * 0.6
    if rng.random() < 0.5:
        name = pick(world, "middle")
        at = world.duration_s * rng.uniform(0.1, 0.9)
        world.streams.append(
            Stream(
                name, "error", [f"{rng.choice(REFUSED)} talking to replica {{n}}"], 20, at, at + rng.uniform(8, 25)
            )
        )
    if rng.random() < 0.6:
        add_change(world, pick(world, "middle"), world.duration_s * rng.uniform(0.3, 0.8), "deploy")


CAUSES: dict[str, Callable[[World], None]] = {
    "bad_deploy": bad_deploy,
    "config_change": config_change,
    "dependency_outage": dependency_outage,
    "memory_leak": memory_leak,
    "traffic_surge": traffic_surge,
    "expired_certificate": expired_certificate,
    "none": nothing,
}
"""By their kind; a seed chooses one by its place."""
