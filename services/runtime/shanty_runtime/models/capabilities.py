"""What a Claude model takes, and the short names of the current ones: `claude.toml`, read once."""

from __future__ import annotations

import functools
import re
from importlib import resources
from typing import Literal

import msgspec


class Capabilities(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    thinking: Literal["always", "adaptive", "none"] = "adaptive"
    effort: bool = True


class ClaudeData(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    aliases: dict[str, str]
    models: dict[str, Capabilities]


@functools.cache
def claude_data() -> ClaudeData:
    text = resources.files("shanty_runtime.models").joinpath("claude.toml").read_bytes()
    return msgspec.toml.decode(text, type=ClaudeData)


def claude_name(name: str) -> str | None:
    """The id of the Claude model that is meant by a name, a short one or a full one; None where none is."""
    return name if name.startswith("claude-") else claude_data().aliases.get(name)


def claude_aliases() -> tuple[str, ...]:
    return tuple(claude_data().aliases)


def capabilities(model: str) -> Capabilities:
    return claude_data().models.get(undated(model), Capabilities())


def undated(model: str) -> str:
    """A model's name without the date of its snapshot: `claude-haiku-4-5-20251001` is `claude-haiku-4-5`."""
    return re.sub(r"-\d{8}$", "", model)
