"""An MCP server as a team's file describes it, and what it says: data without the SDK, which is slow to import."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from shanty_runtime.errors import ConfigError
from shanty_runtime.tools.base import Effect

REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
HIDDEN = "[secret]"
SHORTEST_SECRET = 6
"""A shorter value is not looked for in what servers say: it would be found everywhere."""


class McpServer(msgspec.Struct, frozen=True, kw_only=True):
    """A server that an agent may use: a command to start, or a URL."""

    name: str
    command: str = ""
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    url: str = ""
    headers: dict[str, str] = {}
    allow: tuple[str, ...] | None = ()
    """The tools the agent is offered, by the server's names; None for every one it has."""
    effects: dict[str, Effect] = {}
    """What repeating a call does, by tool. The team says so, never the server; unsaid, it is irreversible."""
    timeout_s: float = 60.0
    max_result_bytes: int = 2**20
    fenced: bool = False
    """The tool gateway has it, with the secrets it needs, and makes all calls of its tools."""

    def effect_of(self, tool: str) -> Effect:
        return self.effects.get(tool, "irreversible")


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """How to start a server that talks over its standard input and output."""

    command: str
    args: Sequence[str] = ()
    env: Mapping[str, str] = {}
    folder: Path


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a server is that talks streamable HTTP."""

    url: str
    headers: Mapping[str, str] = {}


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A tool as its server describes it."""

    name: str
    description: str
    input_schema: dict[str, Any]


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """The server answered: this is what it said."""

    text: str
    is_error: bool = False


class NotAnswered(msgspec.Struct, frozen=True, kw_only=True):
    """There is no answer to use.

    not_sent    the server never got the call
    late        it did not answer in time
    lost        the connection broke, or what came back cannot be read: the call may have been carried out
    too_large   it answered with more than is taken: the call was carried out
    """

    why: Literal["not_sent", "late", "lost", "too_large"]
    detail: str = ""


class Unreachable(Exception):
    """No connection could be made; says why, without anything secret in it."""


class Secrets:
    """Values of `${NAME}` references. They go to servers, and are struck out of whatever comes back."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment
        self._values: set[str] = set()

    def resolve(self, text: str, where: str) -> str:
        """The text with every reference replaced. Raises ConfigError, which names the variable that is missing."""

        def value_of(found: re.Match[str]) -> str:
            name = found[1]
            if name not in self._environment:
                raise ConfigError(f"{where} refers to ${{{name}}}, which is not set in the environment")
            value = self._environment[name]
            if len(value) >= SHORTEST_SECRET:
                self._values.add(value)
            return value

        return REFERENCE.sub(value_of, text)

    def redact(self, text: str) -> str:
        for value in sorted(self._values, key=len, reverse=True):
            text = text.replace(value, HIDDEN)
        return text


def endpoint(server: McpServer, folder: Path, secrets: Secrets) -> Command | Address:
    """Where a server is, with its secrets filled in. Raises ConfigError."""
    where = f"MCP server {server.name}"
    if server.url:
        headers = {name: secrets.resolve(value, where) for name, value in server.headers.items()}
        return Address(url=secrets.resolve(server.url, where), headers=headers)
    return Command(
        command=secrets.resolve(server.command, where),
        args=tuple(secrets.resolve(argument, where) for argument in server.args),
        env={name: secrets.resolve(value, where) for name, value in server.env.items()},
        folder=folder,
    )
