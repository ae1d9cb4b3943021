"""The life of a service that plays one agent: start, be ready, drain, stop.

settings from the environment → team from its folder → connection, layout checked → worker, roster, health
SIGTERM or SIGINT: not ready any more, off the roster, no new thread; each thread in hand ends its step, journals it
and is handed back; then the process ends. A second signal, or the end of SHANTY_DRAIN_S, breaks the steps off. Ten
seconds after that the process is gone at the latest, whatever the bus, a tool or a collector do.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import msgspec

from shanty_protocol import AgentCard
from shanty_protocol.streams import agent_consumers
from shanty_runtime import telemetry
from shanty_runtime.agent import Profile
from shanty_runtime.bus import Bus, check_layout, durability, login_of, watch_queues
from shanty_runtime.config import Settings, read_settings
from shanty_runtime.errors import BusError, ConfigError, LayoutDrift, ShantyError, TeamError
from shanty_runtime.health import HealthServer
from shanty_runtime.profiles import card_of, profile_of
from shanty_runtime.team import AgentDefinition, Team, load_team
from shanty_runtime.tools.mcp import McpServers
from shanty_runtime.triggers import Firing, Terms, TriggerWatch
from shanty_runtime.worker import Worker

logger = logging.getLogger("shanty.service")

EXIT_USAGE = 2
EXIT_FAILED = 1
CARD_INTERVAL_S = 2.0
MOST_OF_A_REASON = 300
"""Characters on a card about why work waits: it may name a long subject."""
LAYOUT_POLL_S = 1.0
"""No event tells that a stream was made; nobody waits for longer than this once it is there."""
CARD_GONE_S = 1.0
"""How long taking the card off the roster may keep a service that stops; after that it vanishes by itself."""
GARBAGE_AFTER_OBJECTS = 20_000
"""How many more objects there are than before when Python looks for cycles among them; 700 is its own default."""
GOODBYE_S = 1.5
"""How long each of tools, bus and threads may take to end once no thread is in hand any more."""


class Service(Protocol):
    """What a process does from its start to its end."""

    async def run(self) -> None:
        """Work until it is cancelled. Raises what makes this replica useless."""

    async def stop(self, hurry: asyncio.Event | None = None) -> None:
        """Finish or hand back what is in hand. May be called at any time, and twice."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What a process is in a team."""

    team: Team
    principal: str
    """Its name on the bus: that of the agent it plays, or its own."""
    service: Callable[[], Service]
    """Called once the event loop runs."""


def run_service(name: str, cast: Callable[[Settings], Part] | None = None) -> int:
    """The whole process of `python -m shanty_<name>`. Returns its exit code.

    `cast` says what it is in its team; none: it plays an agent, the lead or a specialist.
    """
    try:
        settings = read_settings()
        part = _cast(name, settings) if cast is None else cast(settings)
        telemetry.configure_logging(
            name,
            settings.log_level,
            json=settings.log_format == "json",
            agent=part.principal,
            replica=settings.replica,
        )
    except (ConfigError, TeamError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_USAGE
    tracing = telemetry.configure(
        name,
        settings.replica,
        team=part.team.name,
        agent=part.principal,
        content_in_spans=settings.capture_content == "spans",
    )
    try:
        _runner().run(_serve(part))
    except ConfigError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_USAGE
    except ShantyError as error:
        logger.error("%s cannot run: %s", part.principal, error)
        return EXIT_FAILED
    finally:
        tracing.shutdown()
    return _leave(0)


def team_of(settings: Settings) -> Team:
    if not settings.team:
        raise ConfigError("SHANTY_TEAM is not set; it is the path of the team's folder")
    return load_team(Path(settings.team))


def _cast(name: str, settings: Settings) -> Part:
    """Which agent of which team this process plays."""
    team = team_of(settings)
    if name != "lead" and not settings.agent:
        names = ", ".join(each.name for each in team.specialists)
        raise ConfigError(f"SHANTY_AGENT is not set; the specialists of team {team.name} are {names}")
    definition = team.lead if name == "lead" else team.agent(settings.agent)
    return Part(team=team, principal=definition.name, service=lambda: AgentService(settings, team, definition))


def _runner() -> asyncio.Runner:
    """An event loop that is uvloop's where that is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


async def _serve(part: Part) -> None:
    executor = ThreadPoolExecutor(thread_name_prefix="call")
    asyncio.get_running_loop().set_default_executor(executor)
    signals = Signals()
    service = part.service()
    try:
        await _unless(signals.stop, service.run())
    finally:
        await service.stop(signals.hurry)
        executor.shutdown(wait=False, cancel_futures=True)


class Signals:
    """What this process was told: to stop, by the first SIGTERM or SIGINT, and to hurry, by the second."""

    def __init__(self) -> None:
        self.stop, self.hurry = asyncio.Event(), asyncio.Event()
        for each in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(each, self._hear)

    def _hear(self) -> None:
        (self.hurry if self.stop.is_set() else self.stop).set()


async def _unless(stop: asyncio.Event, work: Coroutine[None, None, None]) -> None:
    """Work until it ends by itself, or is told to stop."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.wait((working, stopping), timeout=GOODBYE_S)


def _leave(code: int) -> int:
    """Wait a moment for calls that run in threads. One that goes on would keep a process that has nothing to do."""
    deadline_s = time.monotonic() + GOODBYE_S
    others = [each for each in threading.enumerate() if each is not threading.current_thread() and not each.daemon]
    for thread in others:
        thread.join(max(0.0, deadline_s - time.monotonic()))
    if any(thread.is_alive() for thread in others):
        logger.warning("a call does not end, and is left behind")
        logging.shutdown()
        os._exit(code)
    return code


class AgentService:
    """One replica of one agent. `start` returns when it takes mail; `stop` may be called at any time, and twice."""

    def __init__(self, settings: Settings, team: Team, definition: AgentDefinition) -> None:
        self.settings = settings
        self.team = team
        self.definition = definition
        self.bus = Bus(login_of(definition.name, settings, name=f"{definition.name}-{settings.replica}"))
        self.profile: Profile = profile_of(team, definition, settings, self.bus.roster, self.bus.memory)
        self.mcp = McpServers(
            definition.name,
            definition.mcp_servers,
            team.folder,
            taken=tuple(self.profile.tools),
            elsewhere=self.profile.fences,
        )
        self.worker = Worker(
            self.bus,
            self.profile,
            replica=settings.replica,
            lanes=settings.lanes,
            max_active=settings.concurrency,
        )
        self.triggers = self._triggers() if self._starts_runs else None
        self.health = HealthServer(settings.http_host, settings.http_port, self.conditions)
        self._taking_mail = False
        self._renewing: asyncio.Task[None] | None = None
        self._watching: list[asyncio.Task[None]] = []

    def conditions(self) -> dict[str, bool]:
        """What has to hold for this replica to be ready."""
        return {"connected": self.bus.connected, "taking_mail": self._taking_mail and not self.worker.draining}

    def card(self) -> AgentCard:
        card = card_of(self.definition, self.profile, self.settings, active=self.worker.active)
        return msgspec.structs.replace(card, waits_for=self.bus.waits_for[:MOST_OF_A_REASON])

    async def start(self) -> None:
        await self.health.start()
        await self.bus.start()
        mapped = self.team.mapped if self._starts_runs else {}
        await wait_for_layout(self.bus, self.settings, self.definition.name, [self.definition.name], mapped)
        await check_durability(self.bus, self.settings)
        await self.mcp.start()
        # Before the first mail, so that a model is told of the same tools for the whole life of this process.
        self.profile.tools.update(self.mcp.tools)
        await self.worker.start()
        if self.triggers is not None:
            await self.triggers.start()
        _leave_to_collector_what_comes_and_goes()
        self._taking_mail = True
        await self.bus.roster.announce(self.card())
        self._renewing = asyncio.create_task(self._renew_card())
        own_mail = agent_consumers(self.settings.lanes[0], self.definition.name)[0]
        self._watching = [
            asyncio.create_task(telemetry.watch_event_loop()),
            asyncio.create_task(self.bus.watch_clock(f"CONSUMER.INFO.{own_mail.stream}.{own_mail.name}")),
        ]
        if self.definition.role == "lead":
            names = [agent.name for agent in self.team.agents]
            self._watching.append(asyncio.create_task(watch_queues(self.bus, self.settings.lanes, names)))
        logger.info(
            "%s is ready",
            self.definition.name,
            extra={"replica": self.settings.replica, "http_port": self.health.port, "lanes": self.settings.lanes},
        )

    async def run(self) -> None:
        """Work until it is cancelled. Raises what makes this replica useless."""
        await self.start()
        watching = [] if self.triggers is None else [self.triggers.run()]
        await _until_one_ends(self.worker.run(), *watching)

    async def stop(self, hurry: asyncio.Event | None = None) -> None:
        self._taking_mail = False
        self.worker.drain()
        if self.triggers is not None:
            await within(GOODBYE_S, self.triggers.stop())
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        began_s, name = time.monotonic(), self.definition.name
        if self._renewing is not None:
            logger.info("%s is draining", name, extra={"threads": self.worker.active})
        _, drained = await asyncio.gather(self._leave_roster(), self.worker.stop(self.settings.drain_s, hurry))
        if drained.handed_back:
            logger.info(
                "%s handed back %d threads", name, drained.handed_back, extra={"broken_off": drained.broken_off}
            )
        logger.debug("%s drained for %.3f s", name, time.monotonic() - began_s)
        await asyncio.gather(within(GOODBYE_S, self.mcp.stop()), within(GOODBYE_S, self.bus.stop()))
        await within(GOODBYE_S, self.health.stop())

    @property
    def _starts_runs(self) -> bool:
        return self.definition.role == "lead" and self.settings.triggers == "on" and bool(self.team.triggers)

    def _triggers(self) -> TriggerWatch:
        team, settings = self.team, self.settings
        terms = Terms(budget=team.budget, input_schema=self.definition.input_schema)
        firing = Firing(
            self.bus, team=team.name, lead=team.lead.name, lane=settings.lanes[0], by=settings.replica, terms=terms
        )
        return TriggerWatch(firing, team.triggers)

    async def _leave_roster(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            self._renewing = None
            await within(CARD_GONE_S, self.bus.roster.withdraw())

    async def _renew_card(self) -> None:
        """Keep what the roster's card says of this moment true."""
        shown = self.card()
        while True:
            await asyncio.sleep(CARD_INTERVAL_S)
            if (card := self.card()) != shown:
                shown = card
                with contextlib.suppress(BusError):
                    await self.bus.roster.update(card)


def _leave_to_collector_what_comes_and_goes() -> None:
    """All that a service has loaded by now stays. Looking through it for garbage again and again finds nothing."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER_OBJECTS, 20, 20)


async def wait_for_layout(
    bus: Bus, settings: Settings, name: str, agents: Sequence[str], mapped: Mapping[str, Sequence[str]] = {}
) -> None:
    """Whoever installs Shanty starts services and `shanty init-bus` in any order, so what is missing may come.

    A bus that does not answer is waited for in any case, as it is later on: a service that ended because of it would
    be started again and again.
    """
    began_s, said = time.monotonic(), ""
    while True:
        try:
            return await bus.connection.persist(
                "looking at the layout of the bus", lambda: check_layout(bus, settings.lanes, agents, mapped)
            )
        except LayoutDrift as error:
            if time.monotonic() - began_s >= settings.start_wait_s:
                raise
            if str(error) != said:
                said = str(error)
                logger.warning("%s waits: %s", name, error)
        await asyncio.sleep(LAYOUT_POLL_S)


async def check_durability(bus: Bus, settings: Settings) -> None:
    """Raises ConfigError where it is required and not verified."""
    found = await durability(bus, settings.nats_monitor_url)
    telemetry.metrics.bus_durable(found.verified is True)
    if settings.durability == "required" and found.verified is not True:
        raise ConfigError(f"an ack of this server is not known to be durable: {found.reason}")
    if found.verified is not True:
        logger.warning("durability is relaxed: %s", found.reason)


async def _until_one_ends(*work: Coroutine[None, None, None]) -> None:
    """Do all of it at once, until some of it ends. Raises what that ended with."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def within(limit_s: float, work: Coroutine[None, None, None]) -> None:
    """Do it, or leave it half done when it takes longer than there is time for."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            await work
