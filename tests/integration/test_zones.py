"""Who can do what on a real server with the generated configuration: the whole matrix.

Expected is what zones.py says, and nothing else. Observed is what a witness in the control account hears, or what
somebody hears that the witness sends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from shanty_protocol import AgentCard
from shanty_protocol.zones import Access, Zone, inbox_of, zones_of
from shanty_runtime.bus import Bus, EmbeddedServer, check_layout, create_layout, durability
from shanty_runtime.bus.jetstream import manage
from shanty_runtime.errors import LayoutDrift, PermissionDenied
from shanty_runtime.tools.workspace import one_part
from support.patterns import covers, example
from support.zones import WITNESS, Logins

ZONES = zones_of(
    "crew",
    "lead",
    {
        "logs": Access(),
        "notes": Access(memory="write"),
        "reader": Access(memory="read", leads=("lead", "notes")),
        "index": Access(leads=("notes",)),
    },
)
EVERYBODY = tuple(zone.principal for zone in ZONES.all)
GUESTS = tuple(zone.principal for zone in ZONES.guests)
SUBJECTS = sorted(
    {grant.subject for zone in ZONES.all for grant in zone.grants}
    | {f"{inbox_of(principal)}.>" for principal in EVERYBODY}
    | {"shanty.>", "$JS.API.STREAM.DELETE.*", "$SRV.PING", "$SYS.>", "_INBOX.>"}
)


PROBES = frozenset(example(subject) for subject in SUBJECTS)


class Ground:
    """One server, and a connection for everybody."""

    def __init__(self, server: EmbeddedServer, logins: Logins, stack: AsyncExitStack) -> None:
        self.server, self.logins, self._stack = server, logins, stack
        self.buses: dict[str, Bus] = {}

    async def log_in(self, principal: str) -> Bus:
        bus = self.buses[principal] = await self._stack.enter_async_context(
            self.logins.bus(self.server.url, principal)
        )
        return bus


@pytest.fixture(params=["as it is generated", "by accounts alone"])
async def ground(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ground]:
    logins = Logins(ZONES, tmp_path / "keys")
    extra = logins.configuration(witness=True, permissions=request.param == "as it is generated")
    logging.getLogger("shanty.bus").setLevel(logging.CRITICAL)  # hundreds of denials are what this is about
    async with EmbeddedServer(store_dir=tmp_path / "nats", extra=extra) as server, AsyncExitStack() as stack:
        made = Ground(server, logins, stack)
        for principal in (*EVERYBODY, WITNESS):
            await made.log_in(principal)
        await create_layout(made.buses["installer"], agents=logins.agents)
        yield made
    logging.getLogger("shanty.bus").setLevel(logging.NOTSET)


def whom_to_try(ground: Ground) -> tuple[Zone, ...]:
    """Residents are kept in their place by permissions alone, guests by their account as well."""
    return ZONES.all if has_permissions(ground) else ZONES.guests


def has_permissions(ground: Ground) -> bool:
    return ground.server.extra.count("permissions: {") == len(ZONES.all)


async def test_what_anybody_sends_gets_into_the_control_account_exactly_where_the_zones_say_so(
    ground: Ground,
) -> None:
    zones = whom_to_try(ground)
    arrived: set[tuple[str, str]] = set()
    refused: set[tuple[str, str]] = set()
    witness = ground.buses[WITNESS].connection
    await witness.listen(">", lambda message: arrived.add((message.data.decode(), message.subject)))
    for zone in zones:
        connection = ground.buses[zone.principal].connection
        for subject in PROBES:
            connection.watch_denial(subject, _noting(refused, (zone.principal, subject)))
            await connection.publish(subject, zone.principal.encode(), reply=f"{inbox_of(zone.principal)}.probe")
        await connection.flush()
    await witness.flush()

    expected = {(zone.principal, subject) for zone in zones for subject in PROBES if may_send(zone, subject)}
    tried = {(zone.principal, subject) for zone in zones for subject in PROBES}
    elsewhere = {(zone.principal, subject) for zone in zones for subject in PROBES if stays_at_home(zone, subject)}
    assert {each for each in arrived if each in tried} == expected - elsewhere
    assert refused == (tried - expected if has_permissions(ground) else set())


async def test_what_is_sent_in_the_control_account_is_heard_exactly_where_the_zones_say_so(ground: Ground) -> None:
    zones = whom_to_try(ground)
    came: set[tuple[str, str]] = set()
    refused: set[tuple[str, str]] = set()
    for zone in zones:
        for pattern in SUBJECTS:
            try:
                hear = _noting(came, (zone.principal, pattern))
                await ground.buses[zone.principal].connection.listen(pattern, hear)
            except PermissionDenied:
                refused.add((zone.principal, pattern))
    witness = ground.buses[WITNESS].connection
    for subject in PROBES:
        await witness.publish(subject, b"said by the witness")
    await witness.flush()
    await asyncio.gather(*(bus.connection.flush() for bus in ground.buses.values()))

    tried = {(zone.principal, pattern) for zone in zones for pattern in SUBJECTS}
    may = {(zone.principal, pattern) for zone in zones for pattern in SUBJECTS if may_hear(zone, pattern)}
    inboxes = {(zone.principal, f"{inbox_of(zone.principal)}.>") for zone in zones}
    if has_permissions(ground):
        assert refused == tried - may - inboxes
        assert came == may | {each for each in inboxes if each[0] not in GUESTS}, "an inbox of a guest is elsewhere"
    else:
        assert refused == set()
        assert came == {
            (zone.principal, pattern) for zone in zones for pattern in SUBJECTS if overlaps(zone, pattern)
        }


def may_send(zone: Zone, subject: str) -> bool:
    return any(covers(grant.subject, subject) for grant in zone.grants if grant.verb != "subscribe")


def stays_at_home(zone: Zone, subject: str) -> bool:
    return any(covers(grant.subject, subject) and grant.source == zone.account for grant in zone.grants)


def may_hear(zone: Zone, pattern: str) -> bool:
    return any(covers(wide, pattern) for wide in heard(zone))


def overlaps(zone: Zone, pattern: str) -> bool:
    """Whether any of the probes is both imported and asked for."""
    return any(covers(wide, subject) and covers(pattern, subject) for wide in heard(zone) for subject in PROBES)


def heard(zone: Zone) -> list[str]:
    return [grant.subject for grant in zone.grants if grant.verb == "subscribe"]


def _noting(found: set[tuple[str, str]], what: tuple[str, str]) -> Callable[[object], None]:
    return lambda _: found.add(what)


async def test_each_zone_is_enough_for_what_it_is_for(ground: Ground) -> None:
    logs, notes, reader, operators = (ground.buses[name] for name in ("logs", "notes", "reader", "operators"))
    for bus, agents in ((logs, ["logs"]), (ground.buses["lead"], ["lead"]), (operators, ["lead", "logs"])):
        await check_layout(bus, ("0",), agents)
        assert (await durability(bus)).verified is None
        assert (await durability(bus, ground.server.monitor_url)).verified is True
    await logs.roster.announce(AgentCard(agent="logs", replica="logs-1", role="specialist", description="reads"))
    for bus in (operators, ground.buses["lead"], ground.buses["console"]):
        assert [card.replica for card in await bus.roster.cards()] == ["logs-1"]
    await logs.roster.withdraw()

    content = b"x" * 300_000
    written = await logs.files.commit(
        "0-r", "big.txt", one_part(content), base_version=0, agent="logs", thread="0-1", key="k"
    )
    for bus in (notes, operators, ground.buses["gateway"]):
        assert b"".join([part async for part in bus.files.content("0-r", written)]) == content

    document = await notes.memory.commit(
        "crew", "tea.md", "blue", base_version=0, agent="notes", run="0-r", thread="0-1", key="k", quarantined=True
    )
    assert await reader.memory.documents("crew") == ()
    await operators.memory.release("crew", "tea.md", document.version, by="ann")
    assert [each.path for each in await reader.memory.documents("crew")] == ["tea.md"]


async def test_a_consumer_that_is_not_as_it_should_be_keeps_a_confined_service_from_starting(ground: Ground) -> None:
    with pytest.raises(LayoutDrift, match="mail-nobody"):
        await check_layout(ground.buses["installer"], ("0",), ["nobody"])
    await manage(ground.buses["installer"].connection, "CONSUMER.DELETE.SHANTY_0.mail-logs")
    with pytest.raises(LayoutDrift, match="SHANTY_0/mail-logs"):
        await check_layout(ground.buses["logs"], ("0",), ["logs"])
