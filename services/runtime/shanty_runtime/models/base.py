"""What a model is to Shanty: one method. Implementations stand beside this file, one a provider."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import msgspec

from shanty_protocol import Usage

Block = dict[str, Any]
"""One content block in the form of Anthropic's Messages API, kept verbatim: text, tool_use, tool_result, thinking."""


class Message(msgspec.Struct, frozen=True):
    role: Literal["user", "assistant"]
    content: tuple[Block, ...]


class ToolCard(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is told about a tool."""

    name: str
    description: str
    input_schema: dict[str, Any]


class ModelRequest(msgspec.Struct, frozen=True, kw_only=True):
    agent: str
    system: str
    messages: tuple[Message, ...]
    tools: tuple[ToolCard, ...]
    max_tokens: int = 16_000


class ModelReply(msgspec.Struct, frozen=True, kw_only=True):
    """A complete reply. A stream that broke off is a `ModelError`, never a reply."""

    blocks: tuple[Block, ...]
    stop_reason: str
    model: str
    usage: Usage = Usage()


class Model(Protocol):
    name: str

    async def reply(self, request: ModelRequest) -> ModelReply:
        """The next assistant message, whole. Raises ModelError; nothing is acted on before this returns."""
