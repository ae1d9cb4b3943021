"""The life of a service that plays one agent: start, be ready, drain, stop.

settings from the environment → team from its folder → connection, layout checked → worker, roster, health
SIGTERM or SIGINT: not ready any more, no new mail, steps in hand finish or are put back, then the process ends
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from shanty_protocol import AgentCard
from shanty_runtime import telemetry
from shanty_runtime.agent import Profile
from shanty_runtime.bus import Bus, BusSettings, check_layout, durability
from shanty_runtime.config import Settings, read_settings
from shanty_runtime.errors import BusError, ConfigError, ShantyError, TeamError
from shanty_runtime.health import HealthServer
from shanty_runtime.profiles import card_of, profile_of
from shanty_runtime.team import AgentDefinition, Team, load_team
from shanty_runtime.thread.worker import Worker
from shanty_runtime.tools.mcp import McpServers

logger = logging.getLogger("shanty.service")

EXIT_USAGE = 2
EXIT_FAILED = 1
CARD_INTERVAL_S = 2.0


def run_service(name: str) -> int:
    """The whole process of `python -m shanty_lead` or `python -m shanty_specialist`. Returns its exit code."""
    try:
        settings = read_settings()
        telemetry.configure_logging(name, settings.log_level, json=settings.log_format == "json")
        team, definition = _cast(name, settings)
    except (ConfigError, TeamError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_USAGE
    tracing = telemetry.configure(name, settings.replica)
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
    return 0


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
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stopped.set)
    async with AgentService(settings, team, definition) as service:
        waiting = [asyncio.create_task(stopped.wait()), asyncio.create_task(service.worker.run())]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        for task in done:
            task.result()
        logger.info("%s is draining", definition.name)


class AgentService:
    """One replica of one agent. `start` returns when it takes mail; `stop` may be called twice."""

    def __init__(self, settings: Settings, team: Team, definition: AgentDefinition) -> None:
        self.settings = settings
        self.definition = definition
        self.bus = Bus(bus_settings(settings, definition.name))
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

    def conditions(self) -> dict[str, bool]:
        """What has to hold for this replica to be ready."""
        return {"connected": self.bus.connected, "taking_mail": self._taking_mail and not self.worker.draining}

    def card(self) -> AgentCard:
        return card_of(self.definition, self.profile, self.settings, active=self.worker.active)

    async def start(self) -> None:
        await self.health.start()
        await self.bus.start()
        await check_layout(self.bus, self.settings.lanes, [self.definition.name])
        await self._check_durability()
        await self.mcp.start()
        # Before the first mail, so that a model is told of the same tools for the whole life of this process.
        self.profile.tools.update(self.mcp.tools)
        await self.worker.start()
        self._taking_mail = True
        await self.bus.roster.announce(self.card())
        self._renewing = asyncio.create_task(self._renew_card())
        logger.info(
            "%s is ready",
            self.definition.name,
            extra={"replica": self.settings.replica, "http_port": self.health.port, "lanes": self.settings.lanes},
        )

    async def stop(self) -> None:
        self._taking_mail = False
        if self._renewing is not None:
            self._renewing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._renewing
            self._renewing = None
            await self.bus.roster.withdraw()
        await self.worker.stop(self.settings.drain_s)
        await self.mcp.stop()
        await self.bus.stop()
        await self.health.stop()

    async def __aenter__(self) -> AgentService:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def _renew_card(self) -> None:
        """Keep the figures on the roster's card true."""
        shown = self.worker.active
        while True:
            await asyncio.sleep(CARD_INTERVAL_S)
            if self.worker.active != shown:
                shown = self.worker.active
                with contextlib.suppress(BusError):
                    await self.bus.roster.update(self.card())

    async def _check_durability(self) -> None:
        found = await durability(self.bus, self.settings.nats_monitor_url)
        if self.settings.durability == "required" and found.verified is not True:
            raise ConfigError(f"an ack of this server is not known to be durable: {found.reason}")
        if found.verified is not True:
            logger.warning("durability is relaxed: %s", found.reason)


def bus_settings(settings: Settings, name: str) -> BusSettings:
    return BusSettings(
        url=settings.nats_url,
        name=f"{name}-{settings.replica}",
        user=settings.nats_user,
        password=settings.nats_password,
        token=settings.nats_token,
        creds=settings.nats_creds,
        nkey_seed_file=settings.nats_nkey_seed,
        inbox_prefix=settings.nats_inbox_prefix,
        lease_s=settings.lease_s,
    )


@contextlib.asynccontextmanager
async def connected(settings: Settings, name: str) -> AsyncIterator[Bus]:
    """A connection for a program that plays no agent, such as the command line."""
    async with Bus(bus_settings(settings, name)) as bus:
        yield bus
