"""The live roster, as a tool of whoever leads: who is up, and how busy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import msgspec

from shanty_protocol import AgentCard
from shanty_protocol.ids import HOST
from shanty_runtime.tools.base import Tool, ToolContext, tool


class CardSource(Protocol):
    """Whoever knows the replicas that are up (the bus does)."""

    async def cards(self) -> tuple[AgentCard, ...]: ...


class ListSpecialists(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


def roster_tool(source: CardSource, descriptions: Mapping[str, str]) -> Tool:
    """`list_specialists` for a lead whose specialists, up or not, are these."""

    @tool(effect="read")
    async def list_specialists(args: ListSpecialists, context: ToolContext) -> list[dict[str, Any]]:
        """Your specialists right now: what each does, how many replicas of it are up and how busy they are. One
        without a replica takes work all the same, and does it when one comes up."""
        cards = await source.cards()
        listed = [
            _entry(name, text, [card for card in cards if card.agent == name]) for name, text in descriptions.items()
        ]
        hosts = [card for card in cards if card.agent == HOST]
        for hired in context.hired:
            # The figures are its host's, whose replicas work for all that are hired.
            listed.append({**_entry(hired.name, hired.role, hosts), "tools": hired.tools, "hired": True})
        return listed

    return list_specialists


def _entry(name: str, description: str, cards: Iterable[AgentCard]) -> dict[str, Any]:
    up = list(cards)
    newest = max(up, key=lambda card: card.started_at_ms, default=None)
    return {
        "specialist": name,
        "description": description,
        "replicas": len(up),
        "threads_active": sum(card.threads_active for card in up),
        "threads_max": sum(card.threads_max for card in up),
        "model": newest.model if newest else "",
        "tools": newest.tools if newest else (),
        "specialists": newest.specialists if newest else (),
    }
