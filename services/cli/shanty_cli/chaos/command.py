"""`shanty chaos`: the storm from its beginning to its one line."""

from __future__ import annotations

import logging
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from shanty_cli.chaos.audit import Report, audit
from shanty_cli.chaos.faults import plan
from shanty_cli.chaos.ledgers import Ledgers
from shanty_cli.chaos.nodes import Nodes
from shanty_cli.chaos.storm import Hit, Storm
from shanty_cli.chaos.workload import TEAM, Workload
from shanty_cli.exits import DONE, FAILED, UsageError
from shanty_cli.fleet import members_of
from shanty_cli.output import Output
from shanty_cli.text import plural
from shanty_runtime.bus import Bus, BusSettings
from shanty_runtime.team import load_team

REPLICAS = 2
IN_FLIGHT = 6
CALM_DEADLINE_S = 120.0
"""How long the runs that are under way when the last fault is over may take to end."""
TOLD_EVERY_S = 10.0
MOST_TOLD = 20


class Weather(msgspec.Struct, frozen=True, kw_only=True):
    """What kind of storm."""

    seed: int
    kills: int
    nodes: int
    lease_s: int


async def chaos(weather: Weather, keep: Path | None, out: Output) -> int:
    """Make a storm and say what it did. Exit code 1 where anything was lost, repeated or left unanswered."""
    if weather.kills < 1 or weather.lease_s < 1:
        raise UsageError("--kills and --lease must be 1 or more")
    logging.getLogger("shanty.bus").setLevel(logging.ERROR)  # that servers are gone now and then is no news here
    with tempfile.TemporaryDirectory(prefix="shanty-chaos-") as temporary:
        report = await _storm(weather, _empty(keep or Path(temporary)), out)
    _tell(report, keep, out)
    return DONE if report.clean else FAILED


def _empty(folder: Path) -> Path:
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"--keep {folder}: it is not empty")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


async def _storm(weather: Weather, folder: Path, out: Output) -> Report:
    team = load_team(TEAM)
    members = members_of(team, {member.agent: REPLICAS for member in members_of(team, {})})
    async with AsyncExitStack() as stack:
        nodes = await stack.enter_async_context(Nodes(weather.nodes, folder / "nats"))
        await nodes.prepare([agent.name for agent in team.agents], ack_wait_s=weather.lease_s)
        bus = await stack.enter_async_context(Bus(BusSettings(url=nodes.url, name="chaos")))
        storm = Storm(team, members, nodes, bus, folder, weather.lease_s)
        stack.push_async_callback(storm.stop)
        await storm.start()
        out.say(f"{plural(len(members), 'process', 'processes')} and {plural(weather.nodes, 'nats-server')} are up")
        workload = Workload(bus, team, f"chaos-{weather.seed}", IN_FLIGHT)
        stack.push_async_callback(workload.stop)
        faults = plan(weather.seed, weather.kills, tuple(storm.members), nodes.names, weather.lease_s)
        await storm.strike(faults, _Progress(weather.kills, workload, out).tell)
        out.say("the storm is over; what is under way may end")
        await workload.finish(CALM_DEADLINE_S)
        return await audit(
            bus,
            workload.ended,
            storm.hits,
            storm.deaths,
            Ledgers(folder),
            seed=weather.seed,
            nodes=weather.nodes,
        )


class _Progress:
    """A line now and then."""

    def __init__(self, kills: int, workload: Workload, out: Output) -> None:
        self._kills, self._workload, self._out = kills, workload, out
        self._done = 0
        self._told_s = time.monotonic()

    def tell(self, hit: Hit) -> None:
        self._done += hit.fault.kind == "kill"
        if time.monotonic() - self._told_s > TOLD_EVERY_S:
            self._told_s = time.monotonic()
            self._out.say(f"  {self._done} of {self._kills} kills, {plural(len(self._workload.ended), 'run')} ended")


def _tell(report: Report, keep: Path | None, out: Output) -> None:
    for problem in report.problems[:MOST_TOLD]:
        out.say(f"WRONG: {problem}")
    if len(report.problems) > MOST_TOLD:
        out.say(f"and {len(report.problems) - MOST_TOLD} more")
    if keep is not None:
        out.say(f"everything is in {keep}: faults.jsonl, effects.txt, model-calls.txt, logs, and the stores in nats")
    elif not report.clean:
        out.say(f"the same faults again, and everything kept: shanty chaos --seed {report.seed} --keep DIR")
    if out.json:
        out.data(report)
        return
    print(
        f"{plural(report.runs, 'run')}, {plural(report.kills, 'kill')} ({report.server_kills} of nats-server), "
        f"{plural(report.pauses, 'pause')}, {plural(report.partitions, 'partition')}: {report.lost} lost, "
        f"{plural(report.repeated_effects, 'repeated effect')}, "
        f"{plural(report.repeated_model_calls, 'repeated model call')}, {report.unanswered} unanswered; "
        f"worst recovery {report.worst_recovery_s:.1f} s, {report.worst_takeover_s:.1f} s where no server was hit",
        file=out.stdout,
        flush=True,
    )
