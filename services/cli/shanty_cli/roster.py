"""Who is up: the cards of the roster, put together by agent."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shanty_protocol import AgentCard


class AgentLine(msgspec.Struct, frozen=True, kw_only=True):
    agent: str
    role: str
    team: str
    replicas: tuple[str, ...]
    threads_active: int
    threads_max: int
    models: tuple[str, ...]
    """More than one while a change is being rolled out; `python` for an agent that is code."""
    tools: tuple[str, ...]
    specialists: tuple[str, ...] = ()
    """Whom it leads."""
    waits_for: str = ""
    """Why its work waits for the bus, as one of its replicas says it; empty while none does."""


def by_agent(cards: Sequence[AgentCard]) -> tuple[AgentLine, ...]:
    agents: dict[str, list[AgentCard]] = {}
    for card in cards:
        agents.setdefault(card.agent, []).append(card)
    return tuple(_line(agents[name]) for name in sorted(agents))


def _line(cards: list[AgentCard]) -> AgentLine:
    newest = max(cards, key=lambda card: card.started_at_ms)
    return AgentLine(
        agent=newest.agent,
        role=newest.role,
        team=newest.team,
        replicas=tuple(sorted(card.replica for card in cards)),
        threads_active=sum(card.threads_active for card in cards),
        threads_max=sum(card.threads_max for card in cards),
        models=tuple(sorted({card.model or "python" for card in cards})),
        tools=newest.tools,
        specialists=newest.specialists,
        waits_for=next((card.waits_for for card in cards if card.waits_for), ""),
    )
