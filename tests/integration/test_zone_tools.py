"""Who may have the tool gateway make calls, on a real server with the generated configuration."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from shanty_protocol import EffectAnswered, EffectInquired, EffectRequested, ToolAddress
from shanty_protocol.codec import digest_of
from shanty_protocol.ids import TOOL_GATEWAY
from shanty_protocol.zones import INSTALLER, Access, zones_of
from shanty_runtime.bus import Bus, EmbeddedServer, create_layout
from shanty_runtime.errors import BusUnavailable, PermissionDenied
from shanty_runtime.team import AgentDefinition, Team
from shanty_runtime.tools.base import Tool, ToolContext
from shanty_toolgateway.gateway import ToolGateway
from shanty_toolgateway.toolbox import Toolbox
from support.zones import Logins

ZONES = zones_of("crew", "lead", {"logs": Access(), "notes": Access()}, fenced=("lead", "logs"))

Buses = Mapping[str, Bus]


@pytest.fixture
async def buses(tmp_path: Path) -> AsyncIterator[Buses]:
    logins = Logins(ZONES, tmp_path / "keys")
    async with (
        EmbeddedServer(store_dir=tmp_path / "nats", extra=logins.configuration()) as server,
        AsyncExitStack() as stack,
    ):
        names = (INSTALLER, "lead", "logs", "notes", TOOL_GATEWAY)
        opened = {name: await stack.enter_async_context(logins.bus(server.url, name)) for name in names}
        await create_layout(opened[INSTALLER], agents=("lead", "logs", "notes"))
        yield opened


def question() -> EffectRequested:
    return EffectRequested(
        run="0-r", thread="0-1", call_id="c1", name="post", fence=1, digest=digest_of({}), within_s=5.0
    )


async def test_an_agent_asks_in_its_own_name_and_in_no_other_and_only_if_it_has_anything_to_ask_for(
    buses: Buses,
) -> None:
    heard: list[str] = []

    async def answer(
        agent: str, asked: EffectRequested | EffectInquired, headers: Mapping[str, str]
    ) -> EffectAnswered:
        heard.append(agent)
        return EffectAnswered(status="result", content=agent)

    serving = await buses[TOOL_GATEWAY].effects.serve("crew", answer)
    for agent in ("lead", "logs"):
        assert (await buses[agent].effects.ask(ToolAddress("crew", agent), question())).content == agent
    for agent, name in (("logs", "lead"), ("notes", "notes"), ("notes", "logs")):
        with pytest.raises((PermissionDenied, BusUnavailable)):
            await buses[agent].effects.ask(ToolAddress("crew", name), question())
    assert heard == ["lead", "logs"]
    await serving.stop()


async def test_nobody_else_hears_what_is_asked_or_writes_what_the_gateway_writes(buses: Buses) -> None:
    async def answer(
        agent: str, asked: EffectRequested | EffectInquired, headers: Mapping[str, str]
    ) -> EffectAnswered:
        raise AssertionError("this is not the gateway")

    for agent in ("lead", "logs", "notes"):
        with pytest.raises(PermissionDenied):
            await buses[agent].effects.serve("crew", answer)


async def test_a_gateway_with_the_permissions_it_is_given_can_do_all_that_it_does(
    buses: Buses, tmp_path: Path
) -> None:
    async def give(args: dict[str, str], context: ToolContext) -> str:
        await context.workspace.write("note.txt", "given")
        return "x" * 100_000

    tools = {"post": Tool(name="post", description="Posts.", effect="irreversible", function=give, fenced=True)}
    lead = AgentDefinition(name="lead", description="", role="lead")
    logs = AgentDefinition(name="logs", description="", role="specialist", tools=("post",))
    team = Team(name="crew", folder=tmp_path, lead=lead, specialists=(logs,), tools=tools)
    bus = buses[TOOL_GATEWAY]
    gateway = ToolGateway(bus, Toolbox(team), replica="one", max_running=1)
    serving = await bus.effects.serve("crew", gateway.answer)

    answers = [await buses["logs"].effects.ask(ToolAddress("crew", "logs"), question()) for _ in range(2)]
    assert answers[0] == answers[1]
    assert answers[0].content.endswith("is in results/0-1-c1.txt.]")
    found = await buses["logs"].files.latest("0-r", "note.txt")
    assert found is not None and found.agent == TOOL_GATEWAY
    await serving.stop()
