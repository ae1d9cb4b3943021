"""The life of a tool gateway: start, be ready, drain, stop.

settings from the environment → team from its folder → connection, layout checked → MCP servers → questions, health
SIGTERM or SIGINT: no more questions; calls that are running come to their end; then the process ends. A second one,
or the end of SHANTY_DRAIN_S, breaks them off: their outcome is unknown unless the tool can be asked.

The environment of this process has the secrets of the tools it calls. The agents need none of them.
"""

from __future__ import annotations

import asyncio
import logging

from shanty_protocol import AgentCard
from shanty_protocol.ids import TOOL_GATEWAY
from shanty_protocol.streams import entry_stream
from shanty_runtime.bus import Bus, Serving, login_of
from shanty_runtime.config import Settings
from shanty_runtime.health import HealthServer
from shanty_runtime.profiles import STARTED_AT_MS
from shanty_runtime.service import CARD_GONE_S, GOODBYE_S, Part, check_durability, team_of, wait_for_layout, within
from shanty_runtime.team import Team
from shanty_runtime.telemetry import watch_event_loop
from shanty_toolgateway.gateway import ToolGateway
from shanty_toolgateway.toolbox import Toolbox

logger = logging.getLogger("shanty.toolgateway")


def cast(settings: Settings) -> Part:
    team = team_of(settings)
    return Part(team=team, principal=TOOL_GATEWAY, service=lambda: ToolGatewayService(settings, team))


class ToolGatewayService:
    """One replica. `start` returns when it hears questions; `stop` may be called at any time, and twice."""

    def __init__(self, settings: Settings, team: Team) -> None:
        self.settings, self.team = settings, team
        self.bus = Bus(login_of(TOOL_GATEWAY, settings, name=f"{TOOL_GATEWAY}-{settings.replica}"))
        self.toolbox = Toolbox(team)
        self.gateway = ToolGateway(self.bus, self.toolbox, replica=settings.replica, max_running=settings.concurrency)
        self.health = HealthServer(settings.http_host, settings.http_port, self.conditions)
        self._serving: Serving | None = None
        self._watching: list[asyncio.Task[None]] = []

    def conditions(self) -> dict[str, bool]:
        """What has to hold for this replica to be ready."""
        return {"connected": self.bus.connected, "hears_questions": self._serving is not None}

    def card(self) -> AgentCard:
        """It plays no agent, but people look for it where they look for those."""
        return AgentCard(
            agent=TOOL_GATEWAY,
            replica=self.settings.replica,
            role="specialist",
            description="makes the calls that must not be made twice",
            team=self.team.name,
            started_at_ms=STARTED_AT_MS,
            threads_max=self.settings.concurrency,
        )

    async def start(self) -> None:
        await self.health.start()
        await self.bus.start()
        await wait_for_layout(self.bus, self.settings, TOOL_GATEWAY, [])
        await check_durability(self.bus, self.settings)
        await self.toolbox.start()
        self._serving = await self.bus.effects.serve(self.team.name, self.gateway.answer)
        clock = f"STREAM.INFO.{entry_stream(self.settings.lanes[0])}"
        self._watching = [asyncio.create_task(watch_event_loop()), asyncio.create_task(self.bus.watch_clock(clock))]
        await self.bus.roster.announce(self.card())
        logger.info(
            "%s is ready",
            TOOL_GATEWAY,
            extra={"replica": self.settings.replica, "http_port": self.health.port, "team": self.team.name},
        )

    async def run(self) -> None:
        """Work until it is cancelled. Raises what makes this replica useless."""
        await self.start()
        await asyncio.get_running_loop().create_future()

    async def stop(self, hurry: asyncio.Event | None = None) -> None:
        serving, self._serving = self._serving, None
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        if serving is not None:
            await within(GOODBYE_S, serving.close())
            await within(CARD_GONE_S, self.bus.roster.withdraw())
            logger.info("%s is draining", TOOL_GATEWAY, extra={"calls": self.gateway.in_hand})
        if broken_off := await self.gateway.stop(self.settings.drain_s, hurry):
            logger.warning("calls broken off, of which nobody can tell what became: %d", broken_off)
        if serving is not None:
            await within(GOODBYE_S, serving.stop())
        await asyncio.gather(within(GOODBYE_S, self.toolbox.stop()), within(GOODBYE_S, self.bus.stop()))
        await within(GOODBYE_S, self.health.stop())
