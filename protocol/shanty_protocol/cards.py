"""The roster: each replica of an agent keeps one card in a bucket, renewed while it lives."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class AgentCard(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="agent.card"):
    """One replica of one agent: what it does, what it takes and gives, and how busy it is."""

    agent: str
    replica: str
    role: Literal["lead", "specialist"]
    description: str
    team: str = ""
    model: str = ""
    """Empty for an agent that is Python code."""
    tools: tuple[str, ...] = ()
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None
    protocol_version: int = 1
    started_at_ms: int = 0
    threads_active: int = 0
    threads_max: int = 0
    specialists: tuple[str, ...] = ()
    """Whom it may delegate to."""
    waits_for: str = ""
    """Why its work waits for the bus, in words; empty while it does not."""


class AgentDraining(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="agent.draining"):
    """This replica takes no new work and is about to leave."""

    agent: str
    replica: str


Card = AgentCard | AgentDraining
