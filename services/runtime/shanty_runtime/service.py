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
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from shanty_protocol import AgentCard
from shanty_runtime import telemetry
from shanty_runtime.agent import Profile
from shanty_runtime.bus import Bus, check_layout, durability, login_of, watch_queues
from shanty_runtime.config import Settings, read_settings
from shanty_runtime.errors import BusError, BusUnavailable, ConfigError, LayoutDrift, ShantyError, TeamError
from shanty_runtime.health import HealthServer
from shanty_runtime.profiles import card_of, profile_of
from shanty_runtime.team import AgentDefinition, Team, load_team
from shanty_runtime.thread.worker import Worker
from shanty_runtime.tools.mcp import McpServers

logger = logging.getLogger("shanty.service")

EXIT_USAGE = 2
EXIT_FAILED = 1
CARD_INTERVAL_S = 2.0
LAYOUT_POLL_S = 1.0
"""No event tells that a stream was made; nobody waits for longer than this once it is there."""
CARD_GONE_S = 1.0
"""How long taking the card off the roster may keep a service that stops; after that it vanishes by itself."""
GARBAGE_AFTER_OBJECTS = 20_000
"""How many more objects there are than before when Python looks for cycles among them; 700 is its own default."""
GOODBYE_S = 1.5
"""How long each of tools, bus and threads may take to end once no thread is in hand any more."""


def run_service(name: str) -> int:
    """The whole process of `python -m shanty_lead` or `python -m shanty_specialist`. Returns its exit code."""
    try:
        settings = read_settings()
        team, definition = _cast(name, settings)
        telemetry.configure_logging(
            name,
            settings.log_level,
            json=settings.log_format == "json",
            agent=definition.name,
            replica=settings.replica,
        )
    except (ConfigError, TeamError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_USAGE
    tracing = telemetry.configure(
        name,
        settings.replica,
        team=team.name,
        agent=definition.name,
        content_in_spans=settings.capture_content == "spans",
    )
    try:
        _runner().run(_serve(settings, team, definition))
    except ConfigError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_USAGE
    except ShantyError as error:
        logger.error("%s cannot run: %s", definition.name, error)
        return EXIT_FAILED
    finally:
        tracing.shutdown()
    return _leave(0)


def _cast(name: str, settings: Settings) -> tuple[Team, AgentDefinition]:
    """Which agent of which team this process plays."""
    if not settings.team:
        raise ConfigError("SHANTY_TEAM is not set; it is the path of the team's folder")
    team = load_team(Path(settings.team))
    if name == "lead":
        return team, team.lead
    if not settings.agent:
        names = ", ".join(each.name for each in team.specialists)
        raise ConfigError(f"SHANTY_AGENT is not set; the specialists of team {team.name} are {names}")
    return team, team.agent(settings.agent)


def _runner() -> asyncio.Runner:
    """An event loop that is uvloop's where that is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


async def _serve(settings: Settings, team: Team, definition: AgentDefinition) -> None:
    executor = ThreadPoolExecutor(thread_name_prefix="call")
    asyncio.get_running_loop().set_default_executor(executor)
    signals = Signals()
    service = AgentService(settings, team, definition)
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
        self.mcp = McpServers(definition.name, definition.mcp_servers, team.folder, taken=tuple(self.profile.tools))
        self.worker = Worker(
            self.bus,
            self.profile,
            replica=settings.replica,
            lanes=settings.lanes,
            max_active=settings.concurrency,
        )
        self.health = HealthServer(settings.http_host, settings.http_port, self.conditions)
        self._taking_mail = False
        self._renewing: asyncio.Task[None] | None = None
        self._watching: list[asyncio.Task[None]] = []

    def conditions(self) -> dict[str, bool]:
        """What has to hold for this replica to be ready."""
        return {"connected": self.bus.connected, "taking_mail": self._taking_mail and not self.worker.draining}

    def card(self) -> AgentCard:
        return card_of(self.definition, self.profile, self.settings, active=self.worker.active)

    async def start(self) -> None:
        await self.health.start()
        await self.bus.start()
        await self._wait_for_layout()
        await self._check_durability()
        await self.mcp.start()
        # Before the first mail, so that a model is told of the same tools for the whole life of this process.
        self.profile.tools.update(self.mcp.tools)
        await self.worker.start()
        _leave_to_collector_what_comes_and_goes()
        self._taking_mail = True
        await self.bus.roster.announce(self.card())
        self._renewing = asyncio.create_task(self._renew_card())
        self._watching = [asyncio.create_task(telemetry.watch_event_loop())]
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
        await self.worker.run()

    async def stop(self, hurry: asyncio.Event | None = None) -> None:
        self._taking_mail = False
        self.worker.drain()
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
        await asyncio.gather(_within(GOODBYE_S, self.mcp.stop()), _within(GOODBYE_S, self.bus.stop()))
        await _within(GOODBYE_S, self.health.stop())

    async def _leave_roster(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            self._renewing = None
            await _within(CARD_GONE_S, self.bus.roster.withdraw())

    async def _renew_card(self) -> None:
        """Keep the figures on the roster's card true."""
        shown = self.worker.active
        while True:
            await asyncio.sleep(CARD_INTERVAL_S)
            if self.worker.active != shown:
                shown = self.worker.active
                with contextlib.suppress(BusError):
                    await self.bus.roster.update(self.card())

    async def _wait_for_layout(self) -> None:
        """Whoever installs Shanty starts services and `shanty init-bus` in any order, so what is missing may come."""
        deadline_s, said = time.monotonic() + self.settings.start_wait_s, ""
        while True:
            try:
                return await check_layout(self.bus, self.settings.lanes, [self.definition.name])
            except (LayoutDrift, BusUnavailable) as error:
                if time.monotonic() >= deadline_s:
                    raise
                if str(error) != said:
                    said = str(error)
                    logger.warning("%s waits: %s", self.definition.name, error)
            await asyncio.sleep(LAYOUT_POLL_S)

    async def _check_durability(self) -> None:
        found = await durability(self.bus, self.settings.nats_monitor_url)
        telemetry.metrics.bus_durable(found.verified is True)
        if self.settings.durability == "required" and found.verified is not True:
            raise ConfigError(f"an ack of this server is not known to be durable: {found.reason}")
        if found.verified is not True:
            logger.warning("durability is relaxed: %s", found.reason)


def _leave_to_collector_what_comes_and_goes() -> None:
    """All that a service has loaded by now stays. Looking through it for garbage again and again finds nothing."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER_OBJECTS, 20, 20)


async def _within(limit_s: float, work: Coroutine[None, None, None]) -> None:
    """Do it, or leave it half done when it takes longer than there is time for."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            await work
