"""Tools of MCP servers, for one agent of one process.

    async with McpServers("logs", definition.mcp_servers, team.folder) as servers:
        servers.tools["github__search_code"]

A server has one connection in a process, opened when it is first needed and made again, with growing pauses, when it
broke. Where `team.lock.json` says what a server's tools are, nothing is opened before the first call; otherwise every
server has to be there when the service starts, because a model is told of its tools.

What a call gives when no answer comes depends on what the team says repeating it does:

    read, idempotent  a broken connection: the call is made once more. No answer in time: an error
    irreversible      the outcome is unknown, and nothing is repeated

The key of the call travels in its metadata as `shanty/effect-key`, for servers that can tell a repetition by it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shanty_runtime.errors import ConfigError, OutcomeUnknown, ToolError
from shanty_runtime.tools.base import Effect, Tool, ToolContext, ToolResult
from shanty_runtime.tools.mcp_pins import (
    ACCEPT_HINT,
    LOCK_FILE,
    LockFile,
    Pin,
    ServerPins,
    differences,
    pin_of,
    read_lock,
    repeated_names,
    unfit,
    write_lock,
)
from shanty_runtime.tools.mcp_server import Answered, Listed, McpServer, NotAnswered, Secrets, Unreachable, endpoint

if TYPE_CHECKING:
    from shanty_runtime.tools.mcp_connection import Connection

logger = logging.getLogger("shanty.mcp")

OPEN_S = 30.0
"""How long a server may take to start, to answer the first request, or to list its tools."""
LISTING_AGE_S = 30.0
"""How old the knowledge of a tool's schema may be when a call is made that could be made again."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 30.0
OVERHEAD_BYTES = 2**16
SMALLEST_LIMIT_BYTES = 2**21
"""A message may always be this large, so that a list of tools fits wherever results are limited to less."""


class McpServers:
    """The MCP servers of an agent. `start` returns when its tools are known; `stop` may be called twice."""

    def __init__(
        self,
        agent: str,
        servers: Sequence[McpServer],
        folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
        taken: Collection[str] = (),
        elsewhere: bool = False,
    ) -> None:
        """`taken`: names of tools the agent has already. `elsewhere`: the tool gateway has the servers that are
        fenced. None of their secrets are needed here; what their tools are is known from team.lock.json."""
        self.tools: dict[str, Tool] = {}
        self._agent = agent
        self._specs = tuple(servers)
        self._folder = folder
        self._environment = environment
        self._taken = frozenset(taken)
        self._elsewhere = elsewhere
        self._servers: list[Server] = []

    async def start(self) -> None:
        """Raises ConfigError where a server, a secret or an accepted tool is missing."""
        if not self._specs:
            return
        lock = read_lock(self._folder)
        secrets = Secrets(self._environment)
        for spec in self._specs:
            if self._elsewhere and spec.fenced:
                self._add_fenced(spec, lock)
                continue
            server = Server(spec, self._folder, secrets)
            self._servers.append(server)
            server.pins = await server.offered() if lock is None else self._accepted(spec, lock)
            server.check_effects()
            for name, pin in server.pins.items():
                self._add(spec, server.tool(name, tool_name(spec.name, name), pin))

    async def stop(self) -> None:
        await asyncio.gather(*(server.close() for server in self._servers))

    async def __aenter__(self) -> McpServers:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    def _accepted(self, spec: McpServer, lock: LockFile) -> dict[str, Pin]:
        accepted = lock.mcp.get(self._agent, {}).get(spec.name)
        if accepted is None:
            raise ConfigError(f"the MCP server {spec.name} of {self._agent} is not in {LOCK_FILE}; {ACCEPT_HINT}")
        allowed = spec.allow
        missing = [name for name in allowed or () if name not in accepted.tools]
        if missing:
            raise ConfigError(f"{spec.name}: {', '.join(missing)} is not in {LOCK_FILE}; {ACCEPT_HINT}")
        return {name: pin for name, pin in accepted.tools.items() if allowed is None or name in allowed}

    def _add_fenced(self, spec: McpServer, lock: LockFile | None) -> None:
        if lock is None:
            raise ConfigError(
                f"the MCP server {spec.name} of {self._agent} is fenced: the agent knows its tools from {LOCK_FILE}, "
                f"which is not there; {ACCEPT_HINT}"
            )
        for name, pin in self._accepted(spec, lock).items():
            self._add(spec, fenced_tool(spec, name, pin))

    def _add(self, spec: McpServer, tool: Tool) -> None:
        if tool.name in self.tools or tool.name in self._taken:
            raise ConfigError(f"the MCP server {spec.name} would make a second tool {tool.name}: leave it out")
        self.tools[tool.name] = tool


class Server:
    """One server: its connection, its pins, and how its calls end."""

    def __init__(self, spec: McpServer, folder: Path, secrets: Secrets) -> None:
        self.spec = spec
        self.pins: dict[str, Pin] = {}
        self._to = endpoint(spec, folder, secrets)
        self._redact = secrets.redact
        self._connection: Connection | None = None
        self._retired: list[Connection] = []
        self._opening = asyncio.Lock()
        self._losses = 0
        self._not_before_s = 0.0
        self._listed_s = float("-inf")
        self._changed: dict[str, str] = {}
        self._closed = False

    async def offered(self) -> dict[str, Pin]:
        """What the server has of the allowed tools, fit to be shown to a model. Raises ConfigError."""
        try:
            listed = await self._listing(await self._connected(OPEN_S), OPEN_S)
        except Unreachable as error:
            raise ConfigError(f"the MCP server {self.spec.name} cannot be used: {error}") from error
        return self._fit(listed)

    def _fit(self, listed: Sequence[Listed]) -> dict[str, Pin]:
        name, allowed = self.spec.name, self.spec.allow
        if repeated := [each for each in repeated_names(listed) if allowed is None or each in allowed]:
            raise ConfigError(f"the MCP server {name} has two tools {repeated[0]}")
        by_name = {tool.name: tool for tool in listed}
        if allowed is not None and (missing := [each for each in allowed if each not in by_name]):
            there_are = ", ".join(sorted(by_name)[:30]) or "none"
            raise ConfigError(f"the MCP server {name} has no tool {missing[0]}; there are {there_are}")
        pins = {}
        for each in sorted(by_name if allowed is None else allowed):
            reason = unfit(by_name[each])
            if reason and allowed is not None:
                raise ConfigError(f"the tool {each} of the MCP server {name} cannot be offered: {reason}")
            if reason:
                logger.warning("a tool of the MCP server %s is left out: %s", name, reason)
            else:
                pins[each] = pin_of(by_name[each])
        return pins

    def check_effects(self) -> None:
        """Raises ConfigError where the team says what a tool does that is not there."""
        unknown = [name for name in self.spec.effects if name not in self.pins]
        if unknown and self.spec.allow is None:
            there_are = ", ".join(self.pins) or "none"
            raise ConfigError(f"effect: {self.spec.name} has no tool {unknown[0]}; there are {there_are}")

    def tool(self, name: str, shown: str, pin: Pin) -> Tool:
        async def called(arguments: dict[str, Any], context: ToolContext) -> ToolResult:
            return await self.call(name, arguments, context.key)

        return Tool(
            name=shown,
            description=pin.description or f"{name} of {self.spec.name}",
            effect=self.spec.effect_of(name),
            function=called,
            schema=pin.input_schema,
            untrusted=True,
        )

    async def call(self, name: str, arguments: dict[str, Any], key: str) -> ToolResult:
        """Raises ToolError, and OutcomeUnknown where an irreversible call may have been carried out."""
        effect = self.spec.effect_of(name)
        outcome = await self._attempt(name, effect, arguments, key)
        if isinstance(outcome, NotAnswered) and outcome.why == "lost" and effect != "irreversible":
            logger.info("%s of the MCP server %s is called again: its connection broke", name, self.spec.name)
            outcome = await self._attempt(name, effect, arguments, key)
        match outcome:
            case Answered():
                return ToolResult(content=self._redact(outcome.text), is_error=outcome.is_error)
            case NotAnswered():
                raise self._without_answer(name, effect, outcome)

    def _without_answer(self, name: str, effect: Effect, outcome: NotAnswered) -> ToolError:
        shown = tool_name(self.spec.name, name)
        detail = f": {self._redact(outcome.detail)}" if outcome.detail else ""
        match outcome.why:
            case "not_sent":
                return ToolError(f"{shown} was not called{detail}")
            case "too_large":
                return ToolError(
                    f"{shown} was carried out, but its result has more than {self.spec.max_result_bytes} bytes and "
                    "was dropped; ask for less"
                )
            case "late":
                sentence = f"{shown} did not answer within {self.spec.timeout_s:g} s"
            case "lost":
                sentence = f"the connection to {self.spec.name} broke before {shown} answered{detail}"
        return OutcomeUnknown(sentence) if effect == "irreversible" else ToolError(sentence)

    async def _attempt(
        self, name: str, effect: Effect, arguments: dict[str, Any], key: str
    ) -> Answered | NotAnswered:
        try:
            connection = await self._connected(OPEN_S)
            if effect == "irreversible" or time.monotonic() - self._listed_s > LISTING_AGE_S:
                await self._listing(connection, min(OPEN_S, self.spec.timeout_s))
        except Unreachable as error:
            return NotAnswered(why="not_sent", detail=str(error))
        if name in self._changed:
            shown = tool_name(self.spec.name, name)
            raise ToolError(
                f"{shown} is frozen: since it was accepted it {self._changed[name]}. It is not called until somebody "
                f"accepts that. For the operator: {ACCEPT_HINT}"
            )
        outcome = await connection.call(name, arguments, key=key, within_s=self.spec.timeout_s)
        return self._noted(connection, outcome)

    def _noted(self, connection: Connection, outcome: Answered | NotAnswered) -> Answered | NotAnswered:
        match outcome:
            case Answered(text=text):
                self._losses = 0
                if len(text.encode(errors="replace")) > self.spec.max_result_bytes:
                    return NotAnswered(why="too_large")
            case NotAnswered(why="late" | "lost"):
                # A server that hangs may go on hanging: the next call starts with another one.
                self._retire(connection)
        return outcome

    async def _listing(self, connection: Connection, within_s: float) -> tuple[Listed, ...]:
        """Ask what the server offers now, and note what differs from what was accepted. Raises Unreachable."""
        listed = await connection.tools(within_s)
        self._listed_s = time.monotonic()
        repeated = repeated_names(listed)
        now = {tool.name: pin_of(tool) for tool in listed}
        changed = differences(self.pins, {name: pin for name, pin in now.items() if name in self.pins})
        changed |= {name: "is there twice" for name in repeated if name in self.pins}
        for name in changed.keys() - self._changed.keys():
            logger.warning("the tool %s of the MCP server %s is frozen: it %s", name, self.spec.name, changed[name])
        self._changed = changed
        return listed

    async def _connected(self, within_s: float) -> Connection:
        """The connection, opened where there is none. Raises Unreachable."""
        async with self._opening:
            if self._connection is not None and self._connection.usable:
                return self._connection
            if self._connection is not None:
                self._retire(self._connection)
            await self._pause_is_over(within_s)
            if self._closed:
                raise Unreachable("this service is stopping")
            self._connection = connection = self._open()
            try:
                await connection.open(within_s)
            except BaseException:
                self._connection = None
                self._pause()
                await connection.close()
                raise
            self._listed_s = float("-inf")
            return connection

    def _open(self) -> Connection:
        # Imported here: the SDK takes as long to import as the rest of a service, and most agents have no servers.
        from shanty_runtime.tools.mcp_connection import Connection

        limit_bytes = max(self.spec.max_result_bytes + OVERHEAD_BYTES, SMALLEST_LIMIT_BYTES)
        return Connection(self.spec.name, self._to, limit_bytes=limit_bytes, redact=self._redact)

    async def _pause_is_over(self, within_s: float) -> None:
        wait_s = self._not_before_s - time.monotonic()
        if wait_s > within_s:
            raise Unreachable(f"it is being restarted; try again in {wait_s:.0f} s")
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    def _pause(self) -> None:
        """Before the next connection is made; longer each time until a call succeeds."""
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self._losses)
        self._losses = min(self._losses + 1, 16)
        self._not_before_s = time.monotonic() + pause_s

    def _retire(self, connection: Connection) -> None:
        if connection is self._connection:
            self._connection = None
            self._pause()
            self._retired = [each for each in self._retired if not each.closed]
            self._retired.append(connection)
            connection.retire()

    async def close(self) -> None:
        self._closed = True
        open_ones = [*self._retired, *([self._connection] if self._connection else [])]
        await asyncio.gather(*(connection.close() for connection in open_ones))
        self._connection, self._retired = None, []


def tool_name(server: str, tool: str) -> str:
    """The name a model sees: letters that models do not take in a name become `_`."""
    return f"{server}__{re.sub(r'[^A-Za-z0-9_-]', '_', tool)}"


def fenced_tool(spec: McpServer, name: str, pin: Pin) -> Tool:
    """A tool as an agent has it whose calls the tool gateway makes."""
    shown = tool_name(spec.name, name)

    async def called(arguments: dict[str, Any], context: ToolContext) -> ToolResult:
        raise ToolError(f"{shown} is fenced: the tool gateway makes its calls")

    return Tool(
        name=shown,
        description=pin.description or f"{name} of {spec.name}",
        effect=spec.effect_of(name),
        function=called,
        schema=pin.input_schema,
        untrusted=True,
        fenced=True,
    )


async def accept(
    agents: Mapping[str, Sequence[McpServer]], folder: Path, environment: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Pin what the servers of these agents offer now, in team.lock.json. Gives a sentence for each difference.

    Raises ConfigError, and changes nothing, where a server cannot be reached.
    """
    try:
        before = read_lock(folder) or LockFile()
    except ConfigError:
        before = LockFile()
    secrets = Secrets(environment)
    after: dict[str, dict[str, ServerPins]] = {}
    sentences: list[str] = []
    for agent, specs in agents.items():
        for spec in specs:
            server = Server(spec, folder, secrets)
            try:
                tools = await server.offered()
            finally:
                await server.close()
            after.setdefault(agent, {})[spec.name] = ServerPins(tools=tools)
            known = before.mcp.get(agent, {}).get(spec.name, ServerPins(tools={})).tools
            found = differences(known, tools)
            sentences += [f"{tool_name(spec.name, name)} of {agent} {what}" for name, what in found.items()]
    write_lock(folder, LockFile(mcp=after))
    return tuple(sentences)


__all__ = ["McpServer", "McpServers", "accept"]
