"""`shanty run`: start a run and watch it to its end, on the bus that is there or with a fleet of our own."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from shanty_cli.dev_bus import STORE_MAX_BYTES, Found, Home, bus_settings, cards_of, existing_bus, own_server
from shanty_cli.exits import DONE, FAILED, RUN_FAILED, WAITS, NotRunning, UsageError
from shanty_cli.fleet import Fleet, environment_for, members_of
from shanty_cli.output import Output
from shanty_cli.report import ending, report
from shanty_cli.spending import how_to_raise
from shanty_cli.start import Ids, InputFile, start, started_before, upload
from shanty_cli.text import one_line, plural, size
from shanty_cli.view import RunView
from shanty_cli.watch import watch
from shanty_protocol import Budget, Criterion
from shanty_runtime.bus import Bus, create_layout
from shanty_runtime.config import read_settings
from shanty_runtime.profiles import REPLAY, open_model
from shanty_runtime.team import Team
from shanty_runtime.team.outcomes import rubric_in

ROSTER_DEADLINE_S = 5.0
POLL_S = 0.2
TOLD_BYTES = 10 * 2**20
"""Input larger than this says how far it is."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants to be done."""

    team: Team
    goal: str
    ids: Ids
    files: tuple[InputFile, ...] = ()
    model: str = ""
    record: Path | None = None
    label: str = ""
    budget: Budget | None = None
    """Besides what the team limits."""
    rubric: tuple[Criterion, ...] = ()
    """In place of what the team judges by."""
    detach: bool = False
    timeout_s: float | None = None
    pace_s: float | None = None


def goal_of(team: Team, given: str) -> str:
    goal = given.strip() or team.goal.strip()
    if not goal:
        raise UsageError(f"team {team.name} has no goal of its own: say what to do with --goal TEXT")
    return goal


def rubric_of(team: Team, file: Path | None) -> tuple[Criterion, ...]:
    """The criteria in a Markdown file that whoever starts a run has given."""
    if file is None:
        return ()
    if team.grading is None:
        raise UsageError(f"--rubric: team {team.name} has nobody who judges: add `outcome: {{}}` to its team.yaml")
    try:
        return rubric_in(file.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"--rubric {file}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"--rubric {file}: {error}") from error


def model_of(team: Team, given: str, out: Output, *, record: str = "") -> str:
    """The model that every agent is to speak with; empty where each has its own. Raises ConfigError early."""
    model = given or os.environ.get("SHANTY_MODEL", "")
    spoken = [agent for agent in team.agents if agent.handler is None]
    if not model and not team.model and team.rehearsals and all(agent.model == "inherit" for agent in spoken):
        model = "rehearsal"
        out.say(f"team {team.name} names no model, so its rehearsal.py plays it (as --model rehearsal does)")
    if model.startswith(REPLAY):
        model = f"{REPLAY}{Path(model.removeprefix(REPLAY)).absolute()}"
    settings = read_settings()
    settings = msgspec.structs.replace(settings, model=model, record=record or settings.record)
    for agent in spoken:
        open_model(team, agent, settings)
    return model


async def run(order: Order, nats_url: str, home: Home, out: Output) -> int:
    """Exit code: 0 where the run ended well, 3 where it failed, 4 where it waits for a person at the timeout."""
    found = existing_bus(nats_url, home)
    if found is None:
        return await _with_own_fleet(order, home, out)
    if order.record is not None:
        raise UsageError(
            "--record has no effect on services that are up already: start them with "
            f"SHANTY_RECORD={order.record.absolute()}"
        )
    if order.model:
        out.say("--model has no effect here: the services that are up have their model already")
    async with Bus(bus_settings(found)) as bus:
        await _require_services(bus, order, out)
        await _open(bus, order, out)
        if order.detach:
            return _detached(order, out)
        return await follow(bus, order.ids.run, found, out, timeout_s=order.timeout_s)


async def follow(bus: Bus, run_id: str, found: Found, out: Output, *, timeout_s: float | None = None) -> int:
    """Watch a run to its end. Whoever stops watching leaves it as it is."""
    view = RunView(run=run_id)
    try:
        await asyncio.wait_for(watch(bus, view, out.screen()), timeout_s)
    except asyncio.CancelledError:
        _say_left(view, found, out, "you have stopped watching")
        raise
    except TimeoutError:
        waits = [f"{each.id} ({each.kind}: {each.text})" for each in view.waiting.values()]
        if view.spending.out_of:
            waits.append(f"more budget ({how_to_raise(run_id, view.spending.out_of)})")
        why = f"it waits for a person: {', '.join(waits)}" if waits else f"there is no result after {timeout_s:g} s"
        _say_left(view, found, out, why)
        return WAITS if view.status == "waiting" else FAILED
    if out.json:
        out.data(report(view))
    else:
        out.show(ending(view))
    return DONE if view.status in ("completed", "partial") else RUN_FAILED


async def _with_own_fleet(order: Order, home: Home, out: Output) -> int:
    if order.detach:
        raise UsageError(
            f"--detach needs services that stay up: start them with `shanty dev {order.team.folder}` in another "
            "terminal, or name a bus with --nats-url"
        )
    record = "" if order.record is None else str(order.record.absolute())
    model = model_of(order.team, order.model, out, record=record)
    async with own_server(home, "run", order.team.name) as own:
        if not own.kept:
            out.say(f"another run has {home.store}, so this one keeps its records only while it lasts")
        async with Bus(bus_settings(own)) as bus:
            return await _serve(order, model, record, own, bus, home, out)


async def _serve(order: Order, model: str, record: str, own: Found, bus: Bus, home: Home, out: Output) -> int:
    settings = read_settings()
    await create_layout(
        bus,
        agents=[agent.name for agent in order.team.agents],
        mapped=order.team.mapped,
        max_bytes=STORE_MAX_BYTES,
        ack_wait_s=settings.lease_s,
    )
    environment = environment_for(
        order.team,
        nats_url=own.nats_url,
        monitor_url=own.monitor_url,
        model=model,
        record=record,
        pace_s=order.pace_s,
        own_server=True,
    )
    # These services are here for one run, and leave with it: nothing else begins meanwhile.
    environment["SHANTY_TRIGGERS"] = "off"
    logs = home.logs if own.kept else home.logs / order.ids.run
    async with Fleet(members_of(order.team, {}), environment, logs, say=out.say) as fleet:
        await _open(bus, order, out)
        await fleet.wait_ready(bus)
        return await follow(bus, order.ids.run, own, out, timeout_s=order.timeout_s)


async def _open(bus: Bus, order: Order, out: Output) -> None:
    """Bring the input and start the run, unless it was started before."""
    before = await started_before(bus, order.ids, order.team)
    if before is not None:
        other = (
            ""
            if before.brief.objective == order.goal
            else f", with the goal {one_line(before.brief.objective, 80)!r}"
        )
        out.say(f"run {order.ids.run} was started before{other}; this is its view")
        return
    if order.files:
        await upload(bus, order.ids, order.files, _telling(order.files, out))
    started = await start(
        bus,
        order.ids,
        order.team,
        order.goal,
        order.files,
        label=order.label,
        budget=order.budget,
        rubric=order.rubric,
    )
    if started.ours:
        out.say(f"run {order.ids.run} has started")
    else:
        out.say(f"run {order.ids.run} was started at the same moment by somebody else; this is its view")


def _telling(files: Sequence[InputFile], out: Output) -> _Telling:
    return _Telling(out, len(files), sum(file.size_bytes for file in files))


class _Telling:
    """Says how much of a large input is read, a tenth at a time."""

    def __init__(self, out: Output, count: int, total: int) -> None:
        self.out = out
        self.next_bytes = total + 1 if total < TOLD_BYTES else total // 10
        if total >= TOLD_BYTES:
            out.say(f"storing {plural(count, 'file')}, {size(total)}")

    def __call__(self, stored: int, total: int) -> None:
        if stored >= self.next_bytes:
            self.out.say(f"{size(stored)} of {size(total)} read")
            self.next_bytes = stored + max(1, total // 10)


async def _require_services(bus: Bus, order: Order, out: Output) -> None:
    """Somebody has to be there who takes the work."""
    wanted = {agent.name for agent in order.team.agents}
    deadline = time.monotonic() + ROSTER_DEADLINE_S
    while True:
        up = {card.agent for card in await cards_of(bus)}
        if wanted <= up or time.monotonic() > deadline:
            break
        await asyncio.sleep(POLL_S)
    missing = ", ".join(sorted(wanted - up))
    if not missing:
        return
    if order.detach or wanted & up:
        out.say(f"nobody plays {missing} right now; their work waits until somebody does")
        return
    raise NotRunning(
        f"none of the agents of team {order.team.name} is up ({missing}): start them with `shanty dev "
        f"{order.team.folder}`, or start the run all the same with --detach"
    )


def _detached(order: Order, out: Output) -> int:
    if out.json:
        out.data(report(RunView(run=order.ids.run)))
    else:
        out.say(f"follow it with: shanty runs tail {order.ids.run}")
        print(order.ids.run, file=out.stdout)
    return DONE


def _say_left(view: RunView, found: Found, out: Output, why: str) -> None:
    if not found.ours:
        out.say(f"{why}; the run goes on. Follow it with: shanty runs tail {view.run}")
    elif found.kept:
        out.say(
            f"{why}, and the services of this run end with it. What it has done is stored: it goes on when "
            f"`shanty dev TEAM` is started in this directory; look at it with: shanty runs show {view.run}"
        )
    else:
        out.say(f"{why}, and this run ends with it: its records were kept only while it lasted")
    if out.json:
        out.data(report(view))
