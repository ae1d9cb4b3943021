"""`shanty doctor`: is the bus there, is it what this version needs, does an ack mean the disk, who is up."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import AsyncIterator
from datetime import datetime

import msgspec

from shanty_cli.ageing import ages
from shanty_cli.dev_bus import Found, bus_settings, cards_of
from shanty_cli.roster import by_agent
from shanty_cli.sickness import Check, copies, server_health, slow_consumers, space, streams_of, waiting_work
from shanty_cli.text import plural
from shanty_protocol.ids import TOOL_GATEWAY
from shanty_runtime.bus import Bus, check_layout, durability
from shanty_runtime.bus.jetstream import manage
from shanty_runtime.bus.server import server_binary
from shanty_runtime.errors import BusError, BusRefused, BusUnavailable, ConfigError, LayoutDrift
from shanty_runtime.team import Team

LEAST_VERSION = (2, 15, 1)
MOST_SKEW_S = 1.0
"""Clocks further apart than this make deadlines and elapsed times wrong that people look at."""
MONITOR_TIMEOUT_S = 2.0


async def examine(found: Found | None, team: Team | None, lanes: tuple[str, ...]) -> AsyncIterator[Check]:
    """Each check as it is made. Where the bus cannot be reached there is nothing more to look at."""
    yield _binary()
    if found is None:
        yield Check(
            name="nats",
            state="bad",
            found="there is no bus: no --nats-url, no SHANTY_NATS_URL, and no `shanty dev` in this directory",
            mend="shanty dev TEAM starts one here; or name one with --nats-url",
        )
        return
    bus = Bus(bus_settings(found))
    try:
        await bus.start()
    except (BusError, ConfigError) as error:
        yield Check(name="nats", state="bad", found=str(error), mend=_way_in(error))
        return
    try:
        yield Check(name="nats", state="ok", found=f"connected to {found.nats_url}")
        async for check in _examine_bus(bus, found, team, lanes):
            yield check
    finally:
        await bus.stop()


def _way_in(error: BusError | ConfigError) -> str:
    if isinstance(error, BusUnavailable):
        return "start nats-server there, or name another with --nats-url or SHANTY_NATS_URL"
    return (
        "`shanty bus-auth` writes keys; SHANTY_NATS_CREDS, SHANTY_NATS_NKEY_SEED or SHANTY_NATS_TOKEN_FILE name "
        "yours, SHANTY_NATS_TLS_CA, _CERT and _KEY what TLS needs"
    )


async def _examine_bus(bus: Bus, found: Found, team: Team | None, lanes: tuple[str, ...]) -> AsyncIterator[Check]:
    yield _version(bus.connection.server_version)
    yield await server_health(found.monitor_url)
    async for check in slow_consumers(found.monitor_url):
        yield check
    jetstream = await _jetstream(bus)
    yield jetstream
    if jetstream.state == "bad":
        return
    yield await _durable(bus, found)
    streams = await streams_of(bus, lanes)
    yield await space(bus, found.monitor_url, streams)
    if (found_of_copies := copies(streams)) is not None:
        yield found_of_copies
    if (found_of_ages := await ages(bus, lanes, streams)) is not None:
        yield found_of_ages
    layout = await _layout(bus, team, lanes)
    yield layout
    if layout.state != "bad":
        yield await _roster(bus, team)
        if (waiting := waiting_work(await cards_of(bus))) is not None:
            yield waiting
    yield await _clocks(found)


def _binary() -> Check:
    try:
        return Check(name="nats-server here", state="ok", found=server_binary())
    except ConfigError as error:
        return Check(name="nats-server here", state="unknown", found=str(error), mend="only shanty dev needs it")


def _version(version: str) -> Check:
    least = ".".join(map(str, LEAST_VERSION))
    try:
        numbers = tuple(int(part) for part in version.partition("-")[0].split("."))
    except ValueError:
        return Check(
            name="server version", state="unknown", found=f"{version!r}", mend=f"it should be {least} or newer"
        )
    if numbers >= LEAST_VERSION:
        return Check(name="server version", state="ok", found=version)
    return Check(name="server version", state="bad", found=version, mend=f"use nats-server {least} or newer")


async def _jetstream(bus: Bus) -> Check:
    try:
        await manage(bus.connection, "INFO")
    except (BusUnavailable, BusRefused) as error:
        return Check(
            name="jetstream",
            state="bad",
            found=str(error),
            mend="put `jetstream {}` into the server's configuration, and allow it for this account",
        )
    return Check(name="jetstream", state="ok", found="it is on")


async def _durable(bus: Bus, found: Found) -> Check:
    answer = await durability(bus, found.monitor_url)
    mend = "put `sync_interval: always` into the jetstream block of the server's configuration"
    match answer.verified:
        case True:
            return Check(name="durable acks", state="ok", found=answer.reason)
        case False:
            return Check(name="durable acks", state="bad", found=answer.reason, mend=mend)
        case None:
            unseen = "set SHANTY_NATS_MONITOR_URL to the server's monitoring address, so that it can be looked at"
            return Check(name="durable acks", state="unknown", found=answer.reason, mend=unseen)


async def _layout(bus: Bus, team: Team | None, lanes: tuple[str, ...]) -> Check:
    agents = [] if team is None else [agent.name for agent in team.agents]
    try:
        await check_layout(bus, lanes, agents, {} if team is None else team.mapped)
    except LayoutDrift as error:
        given = f" --team {team.folder}" if team is not None else ""
        return Check(name="layout", state="bad", found=str(error), mend=f"shanty init-bus{given}")
    except BusRefused as error:
        return Check(name="layout", state="unknown", found=str(error), mend="look with an account that may")
    whose = f"for {', '.join(agents)}" if agents else "of the streams; --team also looks at a team's consumers"
    return Check(name="layout", state="ok", found=f"as this version needs it, {whose}")


async def _roster(bus: Bus, team: Team | None) -> Check:
    lines = by_agent(await cards_of(bus))
    up = ", ".join(f"{line.agent} ({plural(len(line.replicas), 'replica')})" for line in lines) or "nobody"
    needed = [] if team is None else [agent.name for agent in team.agents]
    if team is not None and team.fenced:
        needed.append(TOOL_GATEWAY)
    missing = [name for name in needed if name not in {each.agent for each in lines}]
    if missing:
        return Check(
            name="roster",
            state="bad",
            found=f"up: {up}; nobody plays {', '.join(missing)}",
            mend="start their services; until then their work waits",
        )
    return Check(name="roster", state="ok" if lines or team is not None else "unknown", found=f"up: {up}")


async def _clocks(found: Found) -> Check:
    if not found.monitor_url:
        unseen = "set SHANTY_NATS_MONITOR_URL to the server's monitoring address"
        return Check(name="clocks", state="unknown", found="the server's clock cannot be seen", mend=unseen)
    try:
        skew_s = await asyncio.to_thread(_skew_s, found.monitor_url)
    except (OSError, ValueError) as error:
        return Check(name="clocks", state="unknown", found=f"{found.monitor_url}/varz: {error}")
    said = f"the server's clock is {abs(skew_s) * 1000:.0f} ms {'ahead' if skew_s > 0 else 'behind'}"
    if abs(skew_s) <= MOST_SKEW_S:
        return Check(name="clocks", state="ok", found=said)
    return Check(name="clocks", state="bad", found=said, mend="let NTP set the clocks of both machines")


class _Varz(msgspec.Struct):
    now: datetime


_varz_decoder = msgspec.json.Decoder(_Varz)


def _skew_s(monitor_url: str) -> float:
    """How far the server's clock is ahead of ours, as seen in the middle of the request."""
    before = time.time()
    with urllib.request.urlopen(f"{monitor_url}/varz", timeout=MONITOR_TIMEOUT_S) as answer:
        body = answer.read()
    try:
        server_s = _varz_decoder.decode(body).now.timestamp()
    except msgspec.DecodeError as error:
        raise ValueError(f"that is not a NATS server: {error}") from error
    return server_s - (before + time.time()) / 2
