"""Whose tools are which: those of the team that are fenced, and the MCP servers that are."""

from __future__ import annotations

import asyncio
from typing import Any

from shanty_runtime.agent.permissions import ruling_on
from shanty_runtime.errors import ConfigError
from shanty_runtime.team import Team
from shanty_runtime.tools.base import Tool
from shanty_runtime.tools.mcp import McpServers


class Toolbox:
    """`start` returns when the tools of all MCP servers are known, or raises; `stop` may be called twice."""

    def __init__(self, team: Team) -> None:
        self._team = team
        self._servers = {
            agent.name: McpServers(agent.name, [each for each in agent.mcp_servers if each.fenced], team.folder)
            for agent in team.agents
        }

    async def start(self) -> None:
        for servers in self._servers.values():
            await servers.start()

    async def stop(self) -> None:
        await asyncio.gather(*(servers.stop() for servers in self._servers.values()))

    def find(self, agent: str, name: str) -> Tool | None:
        """A tool of an agent; none where the gateway does not make its calls for that agent."""
        try:
            definition = self._team.agent(agent)
        except ConfigError:
            return None
        if name in self._team.fenced_of(definition):
            return self._team.tools[name]
        return self._servers[agent].tools.get(name)

    def denied(self, agent: str, name: str, arguments: dict[str, Any]) -> bool:
        """Whether the team's permissions say that this is never called."""
        permissions = self._team.permissions | self._team.agent(agent).permissions
        return ruling_on(permissions.get(name), arguments).word == "deny"
