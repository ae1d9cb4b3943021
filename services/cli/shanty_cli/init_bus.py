"""`shanty init-bus`: streams, buckets and consumers, made or brought up to date."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from shanty_cli.dev_bus import Found, bus_settings
from shanty_cli.exits import DONE, UsageError
from shanty_cli.output import Output
from shanty_protocol.ids import checked
from shanty_protocol.streams import DAY_S
from shanty_protocol.zones import INSTALLER
from shanty_runtime.bus import Bus, create_layout
from shanty_runtime.config import read_settings
from shanty_runtime.team import load_team


async def init_bus(
    found: Found,
    team: Path | None,
    agents: Sequence[str],
    starts_on: str,
    lanes: Sequence[str],
    replicas: int | None,
    out: Output,
    *,
    max_bytes: str = "",
    keep_days: int | None = None,
) -> int:
    loaded = None if team is None else load_team(team)
    names = tuple(dict.fromkeys((*agents, *(agent.name for agent in (loaded.agents if loaded else ())))))
    mapped = {**(loaded.mapped if loaded else {}), **_mapped(starts_on)}
    if not names:
        raise UsageError("nobody would have a queue: name the agents with --team FOLDER or --agents a,b")
    if not lanes:
        raise UsageError("--lanes names no lane; the first is 0")
    if keep_days is not None and keep_days < 1:
        raise UsageError(f"--keep-days is {keep_days}: give a number of days from 1 on")
    async with Bus(bus_settings(found, INSTALLER)) as bus:
        # A wait that nobody has named stays what it is on a bus that has one.
        ack_wait_s = read_settings().lease_s if "SHANTY_LEASE_S" in os.environ else None
        changes = await create_layout(
            bus,
            lanes=lanes,
            agents=names,
            mapped=mapped,
            num_replicas=replicas,
            max_bytes=_bytes(max_bytes) if max_bytes else None,
            max_age_s=None if keep_days is None else keep_days * DAY_S,
            ack_wait_s=ack_wait_s,
        )
    if out.json:
        out.data(changes)
        return DONE
    for change in changes:
        why = f": {'; '.join(change.differences)}" if change.differences else ""
        print(f"{change.action:<8} {change.name}{why}", file=out.stdout)
    if not changes:
        print(f"unchanged: everything for {', '.join(names)} is as it should be", file=out.stdout)
    return DONE


def _bytes(text: str) -> int:
    """`8G` as a number of bytes. Raises UsageError."""
    found = re.fullmatch(r"([1-9][0-9]*)([KMGT]?)(i?B)?", text)
    if found is None:
        raise UsageError(f"--max-bytes is {text!r}: write a number of bytes, or 512M, 8G, 2T")
    return int(found[1]) << (10 * " KMGT".index(found[2] or " "))


def _mapped(text: str) -> dict[str, tuple[str, ...]]:
    """`incident=alerts.>,orders.failed` as subjects by team. Raises UsageError."""
    team, _, listed = text.partition("=")
    subjects = tuple(subject.strip() for subject in listed.split(",") if subject.strip())
    if text and not (team.strip() and subjects):
        raise UsageError(
            f"--starts-on is {text!r}: write the team's name and subjects, as incident=alerts.>,orders.>"
        )
    return {checked("team", team.strip()): subjects} if text else {}
