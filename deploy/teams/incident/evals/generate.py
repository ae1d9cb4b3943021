"""Writes an invented incident: logs, metrics, deploys and tickets of a small system, and the truth about them.

    python deploy/teams/incident/evals/generate.py --seed 7 --out DIR [--kind KIND] [--size-mb N]

The same seed gives the same bytes. Each system has services of random names that call one another, each with a
notation of its own. One of them fails in one of six ways, or none does; its callers fail with it, louder than it
does. Around that lie things that look like causes and are none: changes elsewhere, constant errors, slow growth,
nightly jobs, tickets about something else. `truth.json` is for `score.py` alone.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

KINDS = (
    "bad_deploy",
    "config_change",
    "dependency_outage",
    "memory_leak",
    "traffic_surge",
    "expired_certificate",
    "none",
)
MINUTE_S = 60.0

FIRST = (
    "order cart ledger quote parcel media invoice tariff seat roster claim fleet coupon wallet badge depot menu lease"
).split()
SECOND = "api svc worker hub engine store core router sync desk".split()
SINGLE = (
    "atlas quill harbor mosaic lantern saffron juniper kestrel orchid basalt comet tundra maple "
    "falcon search auth pricing"
).split()
STORES = "main-db users-pg eventlog session-cache blobstore redis-a mq orders-mysql vault searchdb".split()
OUTSIDE = "paywise geoloc smsgate shipfast taxonomy mailbeam kyc-check fxrates".split()
ENTRIES = "gateway edge web-front ingress bff portal".split()
PEOPLE = "amara ben chloe dmitri elif farid grace hugo ines jonas kemi liu".split()
CUSTOMERS = (
    "Nordwind,Bluefin,Casa "
    "Verde,Obelisk,Tamarind,Pelagia,Quarzo,Ridgeway,Sunhaven,Tallgrass,Umbra,Vesper,Westmark,Yarrow,Zephyr,Alder "
    "& Co,Brightside,Copperfield,Dunmore,Eastgate"
).split(",")


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
    notes: list[str] = field(default_factory=list)
    volume: float = 1.0

    def callers(self, name: str) -> list[str]:
        return [each.name for each in self.services.values() if name in each.calls]


# The system.


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
    {
        "bad_deploy": bad_deploy,
        "config_change": config_change,
        "dependency_outage": dependency_outage,
        "memory_leak": memory_leak,
        "traffic_surge": traffic_surge,
        "expired_certificate": expired_certificate,
        "none": nothing,
    }[chosen](world)
    decoys(world)
    return world


def populate(world: World) -> None:
    rng = world.rng
    middle = rng.randint(3, 5)
    names = [rng.choice(ENTRIES)]
    pool = [f"{a}-{b}" for a in rng.sample(FIRST, 6) for b in rng.sample(SECOND, 1)] + rng.sample(SINGLE, 5)
    rng.shuffle(pool)
    middles = pool[:middle]
    stores = rng.sample(STORES, rng.randint(1, 2))
    outside = rng.sample(OUTSIDE, rng.randint(1, 2))
    notations = ["plain", "json", "logfmt", "log4j", "python", "syslog", "glog", "bracket"]
    mixed = [rng.choice(notations) for _ in range(3)]
    world.services[names[0]] = Service(
        names[0], "entry", notation=rng.choice(["access", "json", "access"]), load=rng.uniform(40, 90)
    )
    for name in middles:
        world.services[name] = Service(name, "middle", notation=rng.choice(mixed), load=rng.uniform(20, 60))
    for name in stores:
        world.services[name] = Service(
            name,
            "store",
            notation=rng.choice(["postgres", "plain", "mysql"]),
            load=rng.uniform(6, 18),
            logs=rng.random() < 0.75,
        )
    for name in outside:
        world.services[name] = Service(name, "outside", logs=False, load=10)
    for each in world.services.values():
        each.host = f"{each.name}{rng.choice(['', '.internal', '.svc.cluster.local', '.prod.int'])}"
        if each.role == "outside":
            each.host = rng.choice([each.name, f"api.{each.name}.com"])
    wire(world, names[0], middles, [*stores, *outside])


def wire(world: World, entry: str, middles: list[str], leaves: list[str]) -> None:
    rng = world.rng
    for position, name in enumerate(middles):
        service = world.services[name]
        later = middles[position + 1 :]
        if later:
            service.calls += rng.sample(later, min(len(later), rng.randint(0, 2)))
        service.calls += rng.sample(leaves, min(len(leaves), rng.randint(1, 2)))
    called = {name for each in world.services.values() for name in each.calls}
    world.services[entry].calls = [name for name in middles if name not in called] or middles[:1]
    for name in leaves:
        callers = world.callers(name)
        # A leaf that others need is used by two of them, so that an outage can be told from a fault of its caller.
        if len(callers) < 2:
            for other in rng.sample(middles, len(middles)):
                if other not in callers:
                    world.services[other].calls.append(name)
                    break


CALM = (
    "request {id} handled in {ms} ms",
    "processed {what} {id} for user {n}",
    "cache {hit} for key {what}:{n}",
    "job {id} finished, {n} rows",
    "session {id} opened from {ip}",
    "published event {what}.updated offset={n}",
    "fetched {n} records of {what}",
    "scheduled refresh of {what} done in {ms}ms",
    "GET /v1/{what}/{n} 200 {ms}ms",
    "synced {n} items, {n} unchanged",
)
GRUMBLES = (
    "slow query took {ms} ms on {what}",
    "retrying {what} lookup, attempt 2",
    "deprecated field {what} used by client {n}",
    "connection from {ip} closed by peer",
    "payload for {what} {n} larger than usual",
    "rate limit close for tenant {n}",
)
ALWAYS_WRONG = (
    "failed to parse optional header from client {ip}",
    "could not deliver webhook {id}: endpoint of tenant {n} returned 410",
    "thumbnail for {what} {n} missing, skipping",
    "unable to resolve avatar of user {n}: not found",
    "login failed for user {n}: wrong password",
)
THINGS = "basket item address label shipment price profile stock receipt voucher".split()


def ordinary(world: World) -> None:
    rng = world.rng
    for service in world.services.values():
        world.load[service.name] = wave(rng, 0.15)
        if not service.logs:
            continue
        phrases = rng.sample(CALM, rng.randint(3, 6))
        world.streams.append(Stream(service.name, "info", phrases, service.load))
        world.streams.append(
            Stream(service.name, "warn", rng.sample(GRUMBLES, 2), service.load * rng.uniform(0.005, 0.03), status=404)
        )
        if service.notation == "access":
            world.streams.append(
                Stream(service.name, "error", ["."], service.load * rng.uniform(0.001, 0.006), status=502)
            )
    for name in world.services:
        resources(world, name)


def wave(rng: random.Random, depth: float) -> Callable[[float], float]:
    phase, period = rng.uniform(0, 6.28), rng.uniform(2.5, 8) * 3600
    return lambda t: 1 + depth * math.sin(phase + 6.28 * t / period)


def resources(world: World, name: str) -> None:
    """Metrics of a healthy service. Noise is added when they are written."""
    rng, service = world.rng, world.services[name]
    if service.role == "outside" or (service.role == "store" and rng.random() < 0.2):
        return
    rate, latency, memory = rng.uniform(20, 400), rng.uniform(8, 120), rng.uniform(200, 900)
    world.gauges[name, "traffic"] = lambda t: rate * world.load[name](t)
    world.gauges[name, "latency"] = lambda t: latency
    world.gauges[name, "errors"] = lambda t: rate * 0.002
    world.gauges[name, "memory"] = lambda t: memory
    cpu = rng.uniform(0.1, 0.4)
    world.gauges[name, "cpu"] = lambda t: cpu * world.load[name](t)


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


# What each cause does.

CALL_FAILED = (
    "call to {host} failed: {why}",
    "request to {host} failed after {ms} ms: {why}",
    "upstream {dep} returned error: {why}",
    "{why} while contacting {dep}",
    "could not complete {what} {id}: {dep} {why}",
    "GET http://{host}/v1/{what}/{n} failed: {why}",
    "dependency={dep} {why} attempt=3",
)
CALL_FAILED_SILENT = (
    "could not complete {what} {id}",
    "{what} request {id} aborted, giving up",
    "error handling {what} {id}, status 500",
)
REFUSED = (
    "connection refused",
    "connect: connection refused",
    "i/o timeout",
    "timed out after {ms} ms",
    "no route to host",
    "connection reset by peer",
    "context deadline exceeded",
    "socket hang up",
    "read timeout",
    "service unavailable",
)
BROKEN = (
    "status 500",
    "unexpected status 500 Internal Server Error",
    "502 bad gateway",
    "internal error",
    "HTTP 500",
    "timed out after {ms} ms",
)
BUSY = (
    "status 503",
    "503 Service Unavailable",
    "timed out after {ms} ms",
    "429 too many requests",
    "read timeout",
    "deadline exceeded",
)


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


FAULTS = (
    (
        "unhandled exception in {what} handler",
        (
            'java.lang.NullPointerException: Cannot invoke "Tariff.code()" because "tariff" is null',
            "\tat com.acme.{what}.Handler.apply(Handler.java:{n})",
        ),
    ),
    ("failed to render {what} {id}: KeyError: 'discount_v2'", ()),
    ("TypeError: Cannot read properties of undefined (reading 'total') {id}", ()),
    ("panic recovered: runtime error: index out of range [{n}] with length 0", ()),
    ('could not deserialize {what} {id}: unexpected field "currencyMode"', ()),
    ('query failed: column "legacy_code" does not exist', ()),
    ("IllegalStateException: transition from NEW to SENT for {what} {id}", ()),
    ("assertion failed: stock of {what} {n} must not be negative", ()),
    (
        "Traceback (most recent call last)",
        ('  File "app/{what}.py", line {n}, in apply', "AttributeError: 'NoneType' object has no attribute 'rate'"),
    ),
    ("internal error while handling {what} {id}, returning 500", ()),
)
MISSET = (
    "timeout waiting for a connection from the pool (size 2)",
    "permission denied for {what} store: credential not accepted",
    "could not obtain connection: pool exhausted, max=2",
    "invalid value for setting {what}.timeout: 5ms",
    "request to {what} rejected: feature {what}-v2 not enabled for tenant {n}",
    'authentication failed for user "svc_{what}"',
    "no such host: {what}-new.internal",
    "worker limit 1 reached, {what} {id} not accepted",
    "payload of {n} bytes exceeds configured limit",
    "missing environment variable {what}_URL",
)
TOO_BUSY = (
    "worker pool exhausted, rejecting request {id}",
    "queue full: {n} pending, dropping {what} {id}",
    "too many requests, shedding load",
    "request {id} rejected: at capacity",
    "accept queue overflow, {n} waiting",
    "concurrency limit reached, {n} in flight",
)
GROWING = (
    "heap usage at {n}% after full GC",
    "GC pause of {ms} ms",
    "memory pressure: {n} MiB of limit used",
    "Full GC took {ms} ms, reclaimed 1%",
)
BURSTING = (
    ("java.lang.OutOfMemoryError: Java heap space"),
    "Out of memory: cannot allocate {n} bytes",
    "process killed (OOM), exit code 137",
    "fatal: runtime: out of memory",
    "container terminated: memory limit exceeded",
)
STARTING = ("service starting, version {n}.{n}", "listening on port 8080", "server started in {ms} ms, pid {n}")
DYING = (
    "database system is shutting down",
    "shutting down after I/O error",
    ("no space left on device, entering read-only mode"),
    "node lost quorum, stopping",
    "terminating: disk failure",
)
EXPIRED_AT_CALLER = (
    "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: https://{host}/",
    "SSL handshake with {host} failed: certificate has expired",
    "request to https://{host}/v2/{what} failed, reason: certificate has expired code=CERT_HAS_EXPIRED",
    (
        "PKIX path validation failed: CertPathValidatorException: validity check failed calling {host}: "
        "certificate expired"
    ),
    "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired ({dep})",
)
EXPIRED_AT_SERVER = (
    "TLS handshake error from {ip}:{n}: remote error: tls: bad certificate",
    "ssl alert received from {ip}: certificate expired",
)


def add_change(world: World, service: str, at_s: float, sort: str, text: str = "") -> None:
    rng = world.rng
    version = f"{rng.randint(1, 9)}.{rng.randint(0, 40)}.{rng.randint(0, 9)}"
    texts = {
        "deploy": (
            f"release {version}",
            f"{rng.choice(THINGS)} rework",
            "dependency upgrades",
            f"new {rng.choice(THINGS)} flow",
            ("refactoring, no functional change"),
        ),
        "config": (
            (f"{rng.choice(THINGS)}.pool.max lowered"),
            "timeout tuning",
            f"enable {rng.choice(THINGS)}-v2",
            "rotate credentials",
            "move to new endpoint",
            "cost saving: smaller limits",
        ),
        "rollback": (f"back to {version}", "revert last change"),
    }
    world.changes.append(
        {
            "at": at_s,
            "service": service,
            "sort": sort,
            "version": version if sort != "config" else "",
            "text": text or rng.choice(texts[sort]),
            "by": rng.choice(PEOPLE),
        }
    )


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
    service = world.services[world.culprit]
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
    del service
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


# Writing it down.


def fill(world: World, phrase: str, peer: str) -> str:
    rng = world.rng
    host = world.services[peer].host if peer else ""
    values = {"{dep}": peer, "{host}": host}
    for key, value in values.items():
        phrase = phrase.replace(key, value)
    makers: dict[str, Callable[[], str]] = {
        "{id}": lambda: f"{rng.getrandbits(40):010x}",
        "{n}": lambda: str(rng.randint(1, 98)),
        "{ms}": lambda: str(rng.randint(3, 4000)),
        "{ip}": lambda: f"10.{rng.randint(0, 9)}.{rng.randint(0, 255)}.{rng.randint(1, 254)}",
        "{what}": lambda: rng.choice(THINGS),
        "{hit}": lambda: rng.choice(["hit", "miss"]),
    }
    for key, make in makers.items():
        while key in phrase:
            phrase = phrase.replace(key, make(), 1)
    return phrase


def clock(moment: float, style: str) -> str:
    at = datetime.fromtimestamp(moment, UTC)
    millis = int(moment * 1000) % 1000
    if style == "iso":
        return f"{at:%Y-%m-%dT%H:%M:%S}.{millis:03d}Z"
    if style == "comma":
        return f"{at:%Y-%m-%d %H:%M:%S},{millis:03d}"
    if style == "space":
        return f"{at:%Y-%m-%d %H:%M:%S}.{millis:03d} UTC"
    if style == "slash":
        return f"{at:%Y/%m/%d %H:%M:%S}"
    if style == "clf":
        return f"{at:%d/%b/%Y:%H:%M:%S} +0000"
    if style == "syslog":
        return f"{at:%b %d %H:%M:%S}"
    if style == "glog":
        return f"{at:%m%d %H:%M:%S}.{millis:03d}000"
    return f"{moment:.3f}"


JSON_KEYS = (
    ("ts", "level", "msg", "service"),
    ("timestamp", "severity", "message", "app"),
    ("@timestamp", "level", "message", "service"),
    ("time", "lvl", "event", ""),
)


class Writer:
    """One log: its notation is fixed by the service."""

    def __init__(self, world: World, service: Service, out: TextIO) -> None:
        self.world, self.service, self.out = world, service, out
        rng = random.Random(f"{service.name}{world.start}")
        self.rng = rng
        self.keys = rng.choice(JSON_KEYS)
        self.epoch = rng.random() < 0.3
        self.pid = rng.randint(100, 9000)

    def write(self, at: float, stream: Stream) -> None:
        moment = self.world.start + at
        message = fill(self.world, self.world.rng.choice(stream.phrases), stream.peer)
        line = getattr(self, f"_{self.service.notation}")(moment, stream.level, message, stream)
        self.out.write(line + "\n")
        if self.service.notation not in ("json", "logfmt", "access"):
            for each in stream.trace:
                self.out.write(fill(self.world, each, stream.peer) + "\n")

    def _plain(self, moment: float, level: str, message: str, stream: Stream) -> str:
        return f"{clock(moment, 'iso')} {level.upper():5} {message}"

    def _bracket(self, moment: float, level: str, message: str, stream: Stream) -> str:
        return f"[{clock(moment, 'slash')}] [{level}] [{self.pid}] {message}"

    def _log4j(self, moment: float, level: str, message: str, stream: Stream) -> str:
        return (
            f"{clock(moment, 'comma')} "
            f"[pool-{self.rng.randint(1, 4)}-thread-{self.rng.randint(1, 32)}] {level.upper()} "
            f"c.a.Handler - {message}"
        )

    def _python(self, moment: float, level: str, message: str, stream: Stream) -> str:
        word = "WARNING" if level == "warn" else level.upper()
        return f"{clock(moment, 'comma')} - app.main - {word} - {message}"

    def _syslog(self, moment: float, level: str, message: str, stream: Stream) -> str:
        return (
            f"{clock(moment, 'syslog')} node-{self.pid % 7} {self.service.name}[{self.pid}]: "
            f"{level.upper()}: {message}"
        )

    def _glog(self, moment: float, level: str, message: str, stream: Stream) -> str:
        return (
            f"{level[0].upper()}{clock(moment, 'glog')} {self.pid} handler.go:{self.rng.randint(20, 300)}] {message}"
        )

    def _postgres(self, moment: float, level: str, message: str, stream: Stream) -> str:
        word = {"info": "LOG", "warn": "WARNING", "error": "FATAL"}[level]
        return f"{clock(moment, 'space')} [{self.pid}] app@main {word}:  {message}"

    def _mysql(self, moment: float, level: str, message: str, stream: Stream) -> str:
        word = {"info": "Note", "warn": "Warning", "error": "ERROR"}[level]
        return (
            f"{clock(moment, 'iso')} {self.rng.randint(1, 99)} [{word}] "
            f"[MY-0{self.rng.randint(10000, 13999)}] [Server] {message}"
        )

    def _logfmt(self, moment: float, level: str, message: str, stream: Stream) -> str:
        quoted = message.replace('"', '\\"')
        return (
            f'ts={clock(moment, "iso")} level={level} svc={self.service.name} msg="{quoted}" '
            f"req={self.rng.getrandbits(32):08x}"
        )

    def _json(self, moment: float, level: str, message: str, stream: Stream) -> str:
        time_key, level_key, text_key, service_key = self.keys
        fields: dict[str, Any] = {
            time_key: round(moment, 3) if self.epoch else clock(moment, "iso"),
            level_key: level,
            text_key: message,
        }
        if service_key:
            fields[service_key] = self.service.name
        if stream.trace:
            fields["stack"] = "\n".join(fill(self.world, each, stream.peer) for each in stream.trace)
        if self.rng.random() < 0.3:
            fields["trace_id"] = f"{self.rng.getrandbits(64):016x}"
        return json.dumps(fields)

    def _access(self, moment: float, level: str, message: str, stream: Stream) -> str:
        rng = self.rng
        status = stream.status if level != "info" else 200
        method = rng.choice(["GET", "GET", "GET", "POST"])
        slow = rng.uniform(0.5, 5) if status >= 500 else rng.uniform(0.005, 0.2)
        return (
            f"10.1.{rng.randint(0, 255)}.{rng.randint(1, 254)} - - [{clock(moment, 'clf')}] "
            f'"{method} /{rng.choice(THINGS)}/{rng.randint(1, 9999)} HTTP/1.1" '
            f'{status} {rng.randint(100, 9000)} "-" "client/1.{rng.randint(0, 9)}" {slow:.3f}'
        )


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


METRIC_NAMES = (
    {
        "traffic": "requests_per_s",
        "latency": "latency_p95_ms",
        "errors": "errors_per_s",
        "memory": "memory_mb",
        "cpu": "cpu_cores",
        "disk": "disk_used_pct",
    },
    {
        "traffic": "rps",
        "latency": "p99",
        "errors": "error_rate",
        "memory": "rss_bytes",
        "cpu": "cpu",
        "disk": "fs_usage",
    },
    {
        "traffic": "http_requests_total",
        "latency": "response_time",
        "errors": "http_errors",
        "memory": "heap_used",
        "cpu": "load1",
        "disk": "disk",
    },
)


def write_metrics(world: World, folder: Path) -> None:
    rng = world.rng
    names, step = rng.choice(METRIC_NAMES), rng.choice([10, 15, 30, 60])
    shape = rng.choice(["long", "wide", "by-service"])
    style = rng.choice(["iso", "epoch", "iso"])
    series = {key: sampled(world, key, names[key[1]], step) for key in sorted(world.gauges)}
    moments = [world.start + step * index for index in range(int(world.duration_s // step))]
    stamps = [f"{int(m)}" if style == "epoch" else clock(m, "iso")[:19] + "Z" for m in moments]
    if shape == "long":
        rows = [
            [stamp, service, names[gauge], values[i]]
            for i, stamp in enumerate(stamps)
            for (service, gauge), values in series.items()
        ]
        write_csv(
            folder / "metrics.csv", [rng.choice(["timestamp", "time", "ts"]), "service", "metric", "value"], rows
        )
    elif shape == "wide":
        for gauge in sorted({gauge for _, gauge in series}):
            columns = {service: values for (service, each), values in series.items() if each == gauge}
            rows = [[stamp, *(values[i] for values in columns.values())] for i, stamp in enumerate(stamps)]
            header = ["time", *(f"{service}.{names[gauge]}" for service in columns)]
            write_csv(folder / f"{gauge}.csv", header, rows)
    else:
        for service in sorted({service for service, _ in series}):
            columns = {gauge: values for (each, gauge), values in series.items() if each == service}
            rows = [[stamp, *(values[i] for values in columns.values())] for i, stamp in enumerate(stamps)]
            write_csv(folder / f"{service}.csv", ["timestamp", *(names[gauge] for gauge in columns)], rows)


def sampled(world: World, key: tuple[str, str], name: str, step: int) -> list[str]:
    rng, gauge = world.rng, world.gauges[key]
    noise = {"memory": 0.01, "disk": 0.002, "traffic": 0.08, "latency": 0.12, "errors": 0.4, "cpu": 0.1}[key[1]]
    factor = 1e6 if name == "rss_bytes" else 1.0
    values, total = [], 0.0
    for index in range(int(world.duration_s // step)):
        value = max(0.0, gauge(index * step) * (1 + rng.gauss(0, noise)) * factor)
        total += value * step
        values.append(f"{total:.0f}" if name.endswith("_total") else f"{value:.3f}")
    return values


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8", newline="\n")


CHANGE_KEYS = (
    {"at": "time", "service": "service", "sort": "type", "version": "version", "text": "description", "by": "by"},
    {"at": "timestamp", "service": "app", "sort": "kind", "version": "tag", "text": "summary", "by": "author"},
    {
        "at": "deployed_at",
        "service": "component",
        "sort": "action",
        "version": "to_version",
        "text": "notes",
        "by": "user",
    },
)
SORT_WORDS: tuple[dict[str, str], ...] = (
    {"deploy": "deploy", "config": "config", "rollback": "rollback"},
    {"deploy": "release", "config": "config_change", "rollback": "revert"},
    {"deploy": "DEPLOYMENT", "config": "feature_flag", "rollback": "ROLLBACK"},
)


def write_changes(world: World, path: Path) -> None:
    rng = world.rng
    keys, words = rng.choice(CHANGE_KEYS), rng.choice(SORT_WORDS)
    epoch = rng.random() < 0.25
    items = []
    for change in sorted(world.changes, key=lambda each: float(each["at"])):
        moment = world.start + float(change["at"])
        values = {
            **change,
            "at": int(moment) if epoch else clock(moment, "iso")[:19] + "Z",
            "sort": words[change["sort"]],
        }
        items.append({keys[name]: values[name] for name in keys if values[name] != ""})
    whole: Any = {rng.choice(["deploys", "changes"]): items} if rng.random() < 0.3 else items
    path.write_text(json.dumps(whole, indent=rng.choice([None, 2, 2])) + "\n", encoding="utf-8", newline="\n")


SMALL_TALK = (
    "How do I change my billing address?",
    ("Invoice for last month is missing VAT id"),
    "Feature request: dark mode",
    "Please delete my account",
    ("Question about the new price list"),
    "Can I add a second user?",
    "Export as CSV possible?",
    "Where do I find my API key?",
)
PROBLEMS = (
    "Checkout fails with an error",
    "Page does not load",
    "Getting error 500 since a few minutes",
    "Cannot complete my {what}",
    ("Everything is very slow, then an error"),
    "App says something went wrong",
    ("{what} not saved, error message"),
    "Your service is down?",
    "Requests time out",
)
ELSEWHERE = ("Newsletter link points to old page", "Question on the new terms", "Why did my plan get renamed?")
TICKET_COLUMNS = (
    ("created_at", "customer", "subject", "body", "priority"),
    ("time", "account", "title", "description", "severity"),
    ("opened", "client_name", "summary", "text", "prio"),
)


def write_tickets(world: World, path: Path) -> None:
    rng = world.rng
    tickets = [
        (rng.uniform(0, world.duration_s), rng.choice(SMALL_TALK), "normal") for _ in range(rng.randint(6, 20))
    ]
    tickets += [(rng.uniform(0, world.duration_s), rng.choice(PROBLEMS), "normal") for _ in range(rng.randint(0, 3))]
    affected = 0
    if world.kind != "none" and rng.random() < 0.9:
        affected = rng.randint(5, 25)
        last = min(world.end_s + 900, world.duration_s)
        begin = min(world.onset_s + rng.uniform(120, 600), last - 60)
        tickets += [(rng.uniform(begin, last), rng.choice(PROBLEMS), "high") for _ in range(affected)]
    if rng.random() < 0.35:
        at, subject = rng.uniform(0, world.duration_s * 0.9), rng.choice(ELSEWHERE)
        tickets += [
            (min(at + rng.uniform(0, 900), world.duration_s), subject, "low") for _ in range(rng.randint(6, 12))
        ]
    rows = [
        [
            clock(world.start + at, "iso")[:19] + "Z",
            rng.choice(CUSTOMERS),
            fill(world, subject, ""),
            f"Hi, {fill(world, subject, '').lower()}. Regards",
            priority,
        ]
        for at, subject, priority in sorted(tickets)
    ]
    write_csv(path, rng.choice(TICKET_COLUMNS), rows)


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


def generate(seed: int, out: Path, kind: str | None = None, size_mb: float = 0.0, hours: float | None = None) -> None:
    world = build(seed, kind, hours)
    if size_mb > 0:
        ordinary_bytes = (
            sum(service.load for service in world.services.values() if service.logs) * world.duration_s / 60 * 95
        )
        world.volume = max(1.0, size_mb * 1e6 / ordinary_bytes)
    write(world, out)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write an invented incident and the truth about it.")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--size-mb", type=float, default=0.0, help="make the logs about this large in total")
    parser.add_argument("--hours", type=float, help="how long the record is; 2 to 5 if not given")
    arguments = parser.parse_args()
    generate(arguments.seed, arguments.out, arguments.kind, arguments.size_mb, arguments.hours)


if __name__ == "__main__":
    main()
