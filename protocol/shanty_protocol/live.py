"""Live events: what a thread does right now. Sent over core NATS, never stored, never needed."""

from __future__ import annotations

from typing import Literal

import msgspec


class StepStarted(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="step.started"):
    """A thread began a model call or a tool call."""

    agent: str
    replica: str
    step: Literal["model", "tool"]
    name: str
    at_ms: int


class TextStreamed(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="text.streamed"):
    """Words of a model reply that is not complete yet. `offset` counts characters since the reply began."""

    agent: str
    text: str
    offset: int


LiveEvent = StepStarted | TextStreamed
