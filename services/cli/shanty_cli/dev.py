"""`shanty dev`: a whole team on this machine, until somebody ends it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping

import msgspec

from shanty_cli.dev_bus import STORE_MAX_BYTES, Found, Holder, Home, bus_settings, own_server
from shanty_cli.exits import DONE, Interrupted, UsageError
from shanty_cli.fleet import Fleet, environment_for, members_of
from shanty_cli.interrupts import until_interrupted
from shanty_cli.output import Output
from shanty_cli.run import model_of
from shanty_runtime.bus import Bus, check_layout, create_layout
from shanty_runtime.config import read_settings
from shanty_runtime.errors import LayoutDrift
from shanty_runtime.team import Team


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """What to play, and how."""

    team: Team
    model: str = ""
    scale: Mapping[str, int] = {}
    pace_s: float | None = None


async def dev(stage: Stage, nats_url: str, home: Home, out: Output) -> int:
    """Serve the team until Ctrl-C or SIGTERM; both are the good end."""
    if (other := home.dev()) is not None:
        raise UsageError(
            f"`shanty dev` runs in this directory already: process {other.pid}, team {other.team}, {other.nats_url}"
        )
    with contextlib.suppress(Interrupted):
        await until_interrupted(_serve(stage, nats_url, home, out))
    out.say("everything has ended")
    return DONE


async def _serve(stage: Stage, nats_url: str, home: Home, out: Output) -> None:
    team, members = stage.team, members_of(stage.team, stage.scale)
    model = model_of(team, stage.model, out)
    async with _bus_of(nats_url, home, team) as found, Bus(bus_settings(found)) as bus:
        if not found.kept:
            out.say(f"another process has {home.store}: what is stored here lasts only until this ends")
        await _prepare(bus, found, team)
        environment = environment_for(
            team,
            nats_url=found.nats_url,
            monitor_url=found.monitor_url,
            model=model,
            pace_s=stage.pace_s,
            own_server=found.ours,
        )
        async with Fleet(members, environment, home.logs, say=out.say) as fleet:
            await fleet.wait_ready(bus)
            holder = Holder(
                pid=os.getpid(), nats_url=found.nats_url, monitor_url=found.monitor_url, team=team.name, use="dev"
            )
            with home.announced(holder):
                _tell(stage, found, fleet, out)
                await asyncio.get_running_loop().create_future()


async def _prepare(bus: Bus, found: Found, team: Team) -> None:
    """Make what the team needs. On somebody else's server only if it is not there: its settings are theirs."""
    agents, ack_wait_s = [agent.name for agent in team.agents], read_settings().lease_s
    if found.ours:
        await create_layout(bus, agents=agents, mapped=team.mapped, max_bytes=STORE_MAX_BYTES, ack_wait_s=ack_wait_s)
        return
    try:
        await check_layout(bus, read_settings().lanes, agents, team.mapped)
    except LayoutDrift:
        await create_layout(
            bus, lanes=read_settings().lanes, agents=agents, mapped=team.mapped, ack_wait_s=ack_wait_s
        )


@contextlib.asynccontextmanager
async def _bus_of(nats_url: str, home: Home, team: Team) -> AsyncIterator[Found]:
    if nats_url:
        yield Found(nats_url=nats_url, monitor_url=read_settings().nats_monitor_url, ours=False)
        return
    async with own_server(home, "dev", team.name) as found:
        yield found


def _tell(stage: Stage, found: Found, fleet: Fleet, out: Output) -> None:
    services = [
        {"agent": each.member.agent, "replica": each.replica, "pid": each.pid, "log": str(each.log)}
        for each in fleet.services
    ]
    if out.json:
        out.data(
            {
                "team": stage.team.name,
                "pid": os.getpid(),
                "nats_url": found.nats_url,
                "monitor_url": found.monitor_url,
                "services": services,
            }
        )
    for service in services:
        out.say(f"{service['replica']:<16} pid {service['pid']:<8} {service['log']}")
    out.say(
        f"team {stage.team.name} is up on {found.nats_url}. In this directory: shanty run {stage.team.folder}; "
        f"from elsewhere: shanty run {stage.team.folder} --nats-url {found.nats_url}. Ctrl-C ends it."
    )
