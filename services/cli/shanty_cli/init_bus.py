"""`shanty init-bus`: streams, buckets and consumers, made or brought up to date."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from shanty_cli.dev_bus import Found, bus_settings
from shanty_cli.exits import DONE, UsageError
from shanty_cli.output import Output
from shanty_protocol.zones import INSTALLER
from shanty_runtime.bus import Bus, create_layout
from shanty_runtime.config import read_settings
from shanty_runtime.team import load_team


async def init_bus(
    found: Found, team: Path | None, agents: Sequence[str], lanes: Sequence[str], replicas: int | None, out: Output
) -> int:
    names = tuple(dict.fromkeys((*agents, *_agents_of(team))))
    if not names:
        raise UsageError("nobody would have a queue: name the agents with --team FOLDER or --agents a,b")
    if not lanes:
        raise UsageError("--lanes names no lane; the first is 0")
    async with Bus(bus_settings(found, INSTALLER)) as bus:
        # A wait that nobody has named stays what it is on a bus that has one.
        ack_wait_s = read_settings().lease_s if "SHANTY_LEASE_S" in os.environ else None
        changes = await create_layout(bus, lanes=lanes, agents=names, num_replicas=replicas, ack_wait_s=ack_wait_s)
    if out.json:
        out.data(changes)
        return DONE
    for change in changes:
        why = f": {'; '.join(change.differences)}" if change.differences else ""
        print(f"{change.action:<8} {change.name}{why}", file=out.stdout)
    if not changes:
        print(f"unchanged: everything for {', '.join(names)} is as it should be", file=out.stdout)
    return DONE


def _agents_of(team: Path | None) -> tuple[str, ...]:
    return () if team is None else tuple(agent.name for agent in load_team(team).agents)
