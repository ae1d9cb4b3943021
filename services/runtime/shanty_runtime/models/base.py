"""What a model is to Shanty. Implementations stand beside this file, one a provider."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import msgspec

from shanty_protocol import Usage

Block = dict[str, Any]
"""One content block in the form of Anthropic's Messages API, kept verbatim: text, tool_use, tool_result, thinking."""

Effort = Literal["low", "medium", "high", "xhigh", "max"]

Thinking = Literal["summarized", "omitted", "off"]
"""How much of the model's thinking is shown, or that it should not think. A model that always thinks ignores `off`
and omits; one that cannot think ignores all three."""


class Message(msgspec.Struct, frozen=True):
    role: Literal["user", "assistant"]
    content: tuple[Block, ...]


def marked_as_data(source: str, text: str) -> str:
    """Text that came from a tool, a file or another agent, as a model is shown it: material, not instructions."""
    return f'<data from="{source}">\n{text.replace("</data>", "</ data>")}\n</data>'


def unmarked(text: str) -> str:
    """What `marked_as_data` was given, but for a mark inside it."""
    opening, _, rest = text.partition("\n")
    return rest.removesuffix("\n</data>") if opening.startswith('<data from="') else text


class ToolCard(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is told about a tool."""

    name: str
    description: str
    input_schema: dict[str, Any]


class ModelRequest(msgspec.Struct, frozen=True, kw_only=True):
    agent: str
    thread: str = ""
    """Which of the agent's threads asks. It is not sent; a recording tells threads with equal briefs apart by it."""
    purpose: Literal["turn", "summary"] = "turn"
    """`summary` asks for a summary of the conversation, which then takes its place. It is not sent either."""
    system: str
    messages: tuple[Message, ...]
    tools: tuple[ToolCard, ...]
    max_tokens: int = 16_000
    effort: Effort | None = None
    """None leaves it to the model."""
    thinking: Thinking = "summarized"
    cache: bool = True
    """Have the provider keep what the next turn, or another thread of this agent, begins with."""


class ModelReply(msgspec.Struct, frozen=True, kw_only=True):
    """A complete reply. A stream that broke off is a `ModelError`, never a reply."""

    blocks: tuple[Block, ...]
    stop_reason: str
    model: str
    usage: Usage = Usage()
    stop_details: dict[str, Any] | None = None
    """What the provider says about a refusal."""
    id: str = ""
    """The provider's own, to ask it about this reply."""


class Stream(Protocol):
    """Hears a reply while it is being made. Of a reply that breaks off it has heard a part."""

    def text(self, text: str, offset: int) -> None:
        """More words. `offset` counts the characters of this reply that came before."""


class Model(Protocol):
    name: str
    provider: str
    """Who runs it, in the words of OpenTelemetry's conventions: anthropic and so on."""

    async def reply(self, request: ModelRequest, *, stream: Stream | None = None) -> ModelReply:
        """The next assistant message, whole. Raises ModelError; nothing is acted on before this returns."""

    async def count_tokens(self, request: ModelRequest) -> int:
        """How many input tokens this request has, at least roughly. Raises ModelError."""


def estimated_tokens(blocks: object) -> int:
    """A guess that needs no tokenizer: four characters a token."""
    return len(str(blocks)) // 4
