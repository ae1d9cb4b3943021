"""What customers write: small talk, and complaints once something has gone wrong."""

from __future__ import annotations

from pathlib import Path

from .notations import clock
from .phrases import fill
from .tables import write_csv
from .world import World

CUSTOMERS = (
    "Nordwind,Bluefin,Casa Verde,Obelisk,Tamarind,Pelagia,Quarzo,Ridgeway,Sunhaven,Tallgrass,Umbra,Vesper,Westmark,"
    "Yarrow,Zephyr,Alder & Co,Brightside,Copperfield,Dunmore,Eastgate"
).split(",")
SMALL_TALK = (
    "How do I change my billing address?",
    "Invoice for last month is missing VAT id",
    "Feature request: dark mode",
    "Please delete my account",
    "Question about the new price list",
    "Can I add a second user?",
    "Export as CSV possible?",
    "Where do I find my API key?",
)
PROBLEMS = (
    "Checkout fails with an error",
    "Page does not load",
    "Getting error 500 since a few minutes",
    "Cannot complete my {what}",
    "Everything is very slow, then an error",
    "App says something went wrong",
    "{what} not saved, error message",
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
