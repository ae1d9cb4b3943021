"""`mcpServers` of a front matter: as Claude Code writes it, and what is ours besides.

    mcpServers:
      github:
        command: github-mcp-server
        args: [stdio]
        env: {GITHUB_TOKEN: "${GITHUB_TOKEN}"}
        allow: [search_code, create_issue]
        effect: {search_code: read}
        timeoutS: 20
        fenced: true

A server that is `fenced` is the tool gateway's: the agent knows its tools from team.lock.json and calls them there.

A list of names, as Claude Code also has it, refers to servers that are set up somewhere else, and has no effect.
"""

from __future__ import annotations

import re
from typing import cast
from urllib.parse import urlsplit

from shanty_runtime.team.fields import Fields, both_spellings
from shanty_runtime.team.positions import Located
from shanty_runtime.team.problems import Problems, described
from shanty_runtime.tools.base import Effect
from shanty_runtime.tools.mcp_server import REFERENCE, McpServer

KEYS = (
    "type",
    "command",
    "args",
    "env",
    "url",
    "headers",
    "allow",
    "effect",
    "timeout_s",
    "max_result_bytes",
    "fenced",
)
TYPES = ("stdio", "http")
EFFECTS = ("read", "idempotent", "irreversible")
MOST_TIMEOUT_S = 3600.0
MOST_RESULT_BYTES = 2**26

_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_SECRET = re.compile(r"token|secret|passw|api[-_]?key|authorization|cookie|credential|private[-_]?key", re.IGNORECASE)


def only_refers(given: Located | None) -> bool:
    """Whether `mcpServers` names servers without saying what they are."""
    return given is not None and isinstance(given.value, list) and all(isinstance(each, str) for each in given.value)


def read_mcp_servers(fields: Fields, problems: Problems, path: str) -> tuple[McpServer, ...]:
    """The servers of an agent; those that are wrong are reported and left out."""
    given = fields.located("mcp_servers")
    if given is None or only_refers(given):
        return ()
    entries = (
        given.entries if isinstance(given.value, dict) else [pair for item in given.items for pair in item.entries]
    )
    if not isinstance(given.value, dict | list):
        fields.report(
            given, f"mcpServers: expected a mapping, got {described(given.value)}", "write name: {command: …}"
        )
    servers: dict[str, McpServer] = {}
    for key, value in entries:
        if not _NAME.fullmatch(key.value) or len(key.value) > 32:
            hint = "use at most 32 lower-case letters, digits and dashes: tools are named after it"
            fields.report(key, f"{described(key.value)} is not a name for an MCP server", hint)
        elif key.value in servers:
            fields.report(key, f"the MCP server {key.value} is given twice", "keep one")
        else:
            reading = _Reading(problems, path, key, value)
            servers[key.value] = reading.server()
    return tuple(servers.values())


class _Reading:
    """One server's mapping."""

    def __init__(self, problems: Problems, path: str, key: Located, value: Located) -> None:
        self._key = key
        self._is_mapping = isinstance(value.value, dict)
        self._fields = Fields(problems, path, value, both_spellings(KEYS))

    def server(self) -> McpServer:
        fields, name = self._fields, str(self._key.value)
        command, url = fields.text("command"), fields.text("url")
        self._check_kind(command, url)
        return McpServer(
            name=name,
            command=command,
            args=tuple(str(each.value) for each in fields.listed("args") or ()),
            env=self._texts("env"),
            url=url,
            headers=self._texts("headers"),
            allow=self._allowed(),
            effects=self._effects(),
            timeout_s=fields.seconds("timeout_s", 60.0, high=MOST_TIMEOUT_S),
            max_result_bytes=fields.whole("max_result_bytes", 2**20, low=1, high=MOST_RESULT_BYTES),
            fenced=fields.flag("fenced"),
        )

    def _check_kind(self, command: str, url: str) -> None:
        fields, name = self._fields, self._key.value
        kind = fields.located("type")
        if kind is not None and kind.value not in TYPES:
            hint = "write http: the older transport of events alone is not supported" if kind.value == "sse" else ""
            fields.report(kind, f"type: expected stdio or http, got {described(kind.value)}", hint)
        elif kind is not None and (kind.value == "http") != bool(url):
            fields.report(kind, f"{name} is of type {kind.value}", "give `url` for http, `command` for stdio")
        elif self._is_mapping and bool(command) == bool(url):
            what = "both a command and a url" if command else "neither a command nor a url"
            fields.report(self._key, f"{name} has {what}", "give `command` for a process, `url` for http")
        given = fields.located("url")
        if url and given is not None:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.netloc:
                fields.report(given, f"url: {described(url)} is not a URL", "begin it with https://")
            elif "@" in parts.netloc:
                fields.report(given, "url: has a user name or password in it", "put it into a header, by reference")

    def _texts(self, key: str) -> dict[str, str]:
        """A mapping of texts, in which secrets are only referred to."""
        given = self._fields.located(key)
        if given is None:
            return {}
        if not isinstance(given.value, dict):
            self._fields.report(
                given, f"{key}: expected a mapping, got {described(given.value)}", "write `name: value`"
            )
        texts = {}
        for name, value in given.entries:
            if not isinstance(value.value, str):
                message = f"{key}.{name.value}: expected text, got {described(value.value)}"
                self._fields.report(value, message, "put it in quotes")
            elif _SECRET.search(name.value) and not REFERENCE.search(value.value):
                # The value is not repeated: it is a secret, even if it is in the wrong place.
                hint = "set it in the environment and write ${NAME}"
                self._fields.report(value, f"{key}.{name.value}: a secret must not be written here", hint)
            else:
                texts[name.value] = value.value
        return texts

    def _allowed(self) -> tuple[str, ...] | None:
        given = self._fields.located("allow")
        if given is None:
            if self._is_mapping:
                hint = 'list the tools the agent may call, or write allow: "*" for every tool of the server'
                self._fields.report(self._key, f"{self._key.value}: allow is missing", hint)
            return ()
        if given.value == "*":
            return None
        return tuple(dict.fromkeys(str(each.value) for each in self._fields.listed("allow") or ()))

    def _effects(self) -> dict[str, Effect]:
        given = self._fields.located("effect")
        if given is None:
            return {}
        if not isinstance(given.value, dict):
            hint = "write effect: {tool: read}; what is not named is irreversible"
            self._fields.report(given, f"effect: expected a mapping, got {described(given.value)}", hint)
        allowed = self._fields.located("allow")
        effects: dict[str, Effect] = {}
        for tool, effect in given.entries:
            if effect.value not in EFFECTS:
                message = f"effect.{tool.value}: expected one of {', '.join(EFFECTS)}, got {described(effect.value)}"
                self._fields.report(effect, message, "leave it out for irreversible")
            elif allowed is not None and isinstance(allowed.value, list) and tool.value not in allowed.value:
                self._fields.report(
                    tool, f"effect.{tool.value} is not in allow", "add it there, or leave it out here"
                )
            else:
                effects[tool.value] = cast(Effect, effect.value)
        return effects
