from __future__ import annotations

from shanty_cli.roster import AgentLine, by_agent
from shanty_protocol import AgentCard


def card(agent: str, replica: str, **fields: object) -> AgentCard:
    return AgentCard(agent=agent, replica=replica, role="specialist", description="", **fields)  # type: ignore[arg-type]  # fields by name


def test_replicas_of_an_agent_are_one_line() -> None:
    cards = (
        card("logs", "b", threads_active=2, threads_max=32, model="rehearsal", started_at_ms=1, tools=("old",)),
        card("deploys", "a"),
        card(
            "logs",
            "a",
            threads_active=1,
            threads_max=32,
            model="m",
            started_at_ms=2,
            tools=("new",),
            specialists=("ocr",),
        ),
        card("logs", "c", waits_for="there is no space"),
    )

    assert by_agent(cards) == (
        AgentLine(
            agent="deploys",
            role="specialist",
            team="",
            replicas=("a",),
            threads_active=0,
            threads_max=0,
            models=("python",),
            tools=(),
        ),
        AgentLine(
            agent="logs",
            role="specialist",
            team="",
            replicas=("a", "b", "c"),
            threads_active=3,
            threads_max=64,
            models=("m", "python", "rehearsal"),
            tools=("new",),
            specialists=("ocr",),
            waits_for="there is no space",
        ),
    )
