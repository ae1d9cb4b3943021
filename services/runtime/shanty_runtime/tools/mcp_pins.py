"""What was accepted of each MCP tool: its description and schema, by their hash.

A server may change what a tool says and takes while an agent uses it. What somebody accepted is pinned: in
`team.lock.json` in the team's folder, or, where there is no such file, as it was when the service started. A tool
that differs from its pin is not called.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec

from shanty_runtime.errors import ConfigError
from shanty_runtime.tools.mcp_server import Listed

LOCK_FILE = "team.lock.json"
MAX_DESCRIPTION_CHARACTERS = 8_000
MAX_SCHEMA_BYTES = 2**16
ACCEPT_HINT = "see what it is now, and accept it with `shanty lint --accept-mcp`"


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted tool."""

    sha256: str
    description: str
    input_schema: dict[str, Any]


class ServerPins(msgspec.Struct, frozen=True, kw_only=True):
    tools: dict[str, Pin]
    """By the names the server gives them."""


class LockFile(msgspec.Struct, frozen=True, kw_only=True):
    """The part of team.lock.json that is about MCP: agent → server → tools."""

    mcp: dict[str, dict[str, ServerPins]] = {}


_lock_files = msgspec.json.Decoder(LockFile)


def fingerprint(tool: Listed) -> str:
    """Changes with anything a model is shown of a tool, and with nothing else."""
    shown = {"name": tool.name, "description": tool.description, "input_schema": tool.input_schema}
    return hashlib.sha256(msgspec.json.encode(shown, order="sorted")).hexdigest()


def pin_of(tool: Listed) -> Pin:
    return Pin(sha256=fingerprint(tool), description=tool.description, input_schema=tool.input_schema)


def read_lock(folder: Path) -> LockFile | None:
    """The lock file of a team's folder; None where there is none. Raises ConfigError where it cannot be read."""
    path = folder / LOCK_FILE
    try:
        found = _lock_files.decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}; write it anew with `shanty lint --accept-mcp`") from error
    for agent, servers in found.mcp.items():
        for server, pins in servers.items():
            for name, pin in pins.tools.items():
                listed = Listed(name=name, description=pin.description, input_schema=pin.input_schema)
                if fingerprint(listed) != pin.sha256:
                    raise ConfigError(
                        f"{path}: the hash of {server}'s tool {name} for {agent} is not that of its description and "
                        f"schema; {ACCEPT_HINT}"
                    )
    return found


def write_lock(folder: Path, lock: LockFile) -> None:
    """Replace the MCP part of the lock file, and leave the rest of it as it is."""
    path = folder / LOCK_FILE
    whole = _rest_of(path)
    whole["mcp"] = msgspec.to_builtins(lock.mcp)
    text = msgspec.json.format(msgspec.json.encode(whole, order="sorted"), indent=2)
    beside = path.with_name(f".{LOCK_FILE}.{os.getpid()}")
    beside.write_bytes(text + b"\n")
    beside.replace(path)


def _rest_of(path: Path) -> dict[str, Any]:
    """What else a lock file holds; nothing where it cannot be read, for it is about to be written anew."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (FileNotFoundError, msgspec.DecodeError):
        return {}


def differences(before: Mapping[str, Pin], after: Mapping[str, Pin]) -> dict[str, str]:
    """By tool, what became of it: only those that are new, gone or changed."""
    found: dict[str, str] = {}
    for name in sorted({*before, *after}):
        if name not in after:
            found[name] = "is gone"
        elif name not in before:
            found[name] = "is new"
        elif before[name].sha256 != after[name].sha256:
            what = [
                part
                for part in ("description", "input_schema")
                if getattr(before[name], part) != getattr(after[name], part)
            ]
            found[name] = f"has another {' and another '.join(what)}"
    return found


def repeated_names(tools: Iterable[Listed]) -> list[str]:
    """Names that a server gives to more than one tool."""
    seen: set[str] = set()
    repeated = []
    for tool in tools:
        if tool.name in seen and tool.name not in repeated:
            repeated.append(tool.name)
        seen.add(tool.name)
    return repeated


def unfit(tool: Listed) -> str:
    """Why a tool cannot be offered to a model; empty where it can."""
    if not re.fullmatch(r"[A-Za-z0-9_./-]{1,100}", tool.name):
        return "its name has characters other than letters, digits and _ . / -, or more than 100"
    if len(tool.description) > MAX_DESCRIPTION_CHARACTERS:
        return f"its description has more than {MAX_DESCRIPTION_CHARACTERS} characters"
    if len(msgspec.json.encode(tool.input_schema)) > MAX_SCHEMA_BYTES:
        return f"its schema has more than {MAX_SCHEMA_BYTES} bytes"
    if tool.input_schema.get("type", "object") != "object":
        return "its schema is not that of an object"
    if _refers_outside(tool.input_schema):
        # Following the reference would open a connection of the server's choice.
        return "its schema refers to another document"
    try:
        jsonschema_rs.meta.validate(tool.input_schema)
        jsonschema_rs.validator_for(tool.input_schema)
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError):
        return "its schema is not a valid JSON Schema"
    return ""


def _refers_outside(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_refers_outside, value))
    if not isinstance(value, dict):
        return False
    for key in ("$ref", "$dynamicRef"):
        if isinstance(value.get(key), str) and not value[key].startswith("#"):
            return True
    schema = value.get("$schema")
    if isinstance(schema, str) and not schema.startswith(("https://json-schema.org/", "http://json-schema.org/")):
        return True
    return any(map(_refers_outside, value.values()))
