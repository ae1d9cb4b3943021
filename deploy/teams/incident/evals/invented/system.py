"""Which services there are, who calls whom, and what an ordinary day of theirs looks like."""

from __future__ import annotations

from .phrases import CALM, GRUMBLES
from .world import Service, Stream, World, wave

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
