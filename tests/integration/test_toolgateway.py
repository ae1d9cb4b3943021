"""The tool gateway on a real bus: every call once, whoever asks, of whichever replica, and however often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shanty_protocol import (
    EffectAnswered,
    EffectEnded,
    EffectFenced,
    EffectInquired,
    EffectRequested,
    EffectStarted,
    Entry,
    ToolAddress,
    chain,
)
from shanty_protocol.codec import digest_of
from shanty_protocol.ids import TOOL_GATEWAY
from shanty_protocol.subjects import effect_address
from shanty_runtime import ToolContext, tool
from shanty_runtime.bus import Bus, BusSettings, EmbeddedServer
from shanty_runtime.errors import BusUnavailable, OutcomeUnknown
from shanty_runtime.team import AgentDefinition, Team
from shanty_runtime.tools.base import Tool
from shanty_toolgateway.gateway import ToolGateway
from shanty_toolgateway.toolbox import Toolbox

RUN, AGENT, THREAD = "0-r", "clerk", "0-1"
LEASE_S = 1

Open = Callable[[str], ToolGateway]


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    to: str = "ann"


class World:
    """What the tools have done, by their keys."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.known: dict[str, str] = {}
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()

    def tools(self) -> dict[str, Tool]:
        @tool(effect="irreversible")
        async def post(args: Letter, context: ToolContext) -> str:
            """Posts."""
            self.done.append(context.key)
            await asyncio.sleep(0)
            return f"posted to {args.to}"

        @tool(effect="irreversible")
        async def walk(args: Letter, context: ToolContext) -> str:
            """Posts, and takes its time."""
            self.begun.set()
            await self.may_end.wait()
            self.done.append(context.key)
            return "walked"

        async def was_rung(args: Letter, context: ToolContext) -> str | None:
            return self.known.get(context.key)

        @tool(effect="irreversible", lookup=was_rung)
        async def ring(args: Letter, context: ToolContext) -> str:
            """Rings."""
            raise AssertionError("it is only looked up")

        @tool(effect="idempotent", fenced=True)
        async def book(args: Letter, context: ToolContext) -> str:
            """Books."""
            self.done.append(context.key)
            return "booked"

        @tool(effect="read", fenced=True)
        async def look(args: Letter, context: ToolContext) -> str:
            """Looks."""
            self.done.append(context.key)
            return "seen"

        @tool(effect="irreversible")
        async def lose(args: Letter, context: ToolContext) -> str:
            """Nobody can tell."""
            raise OutcomeUnknown("the line went dead")

        @tool(effect="irreversible")
        async def print_all(args: Letter, context: ToolContext) -> str:
            """Gives a lot."""
            return "x" * 100_000

        @tool(effect="irreversible")
        async def forbidden(args: Letter, context: ToolContext) -> str:
            """Is not allowed."""
            raise AssertionError("the team denies it")

        @tool(effect="irreversible", fenced=False)
        async def own(args: Letter, context: ToolContext) -> str:
            """Is the agent's."""
            raise AssertionError("the agent makes it itself")

        return {each.name: each for each in (post, walk, ring, book, look, lose, print_all, forbidden, own)}


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def open_gateway(server: EmbeddedServer, bus: Bus, world: World, tmp_path: Path) -> AsyncIterator[Open]:
    """Replicas, each with a connection of its own."""
    tools = world.tools()
    clerk = AgentDefinition(name=AGENT, description="", role="specialist", tools=tuple(tools))
    other = AgentDefinition(name="other", description="", role="lead", tools=("post",))
    team = Team(
        name="office",
        folder=tmp_path,
        lead=other,
        specialists=(clerk,),
        tools=tools,
        permissions={"forbidden": "deny"},
    )
    buses: list[Bus] = []

    def opened(replica: str) -> ToolGateway:
        own = Bus(BusSettings(url=server.url, name=replica, lease_s=LEASE_S))
        buses.append(own)
        return ToolGateway(own, Toolbox(team), replica=replica, max_running=8)

    yield opened
    for each in buses:
        await each.stop()


@pytest.fixture
async def gateway(open_gateway: Open) -> ToolGateway:
    opened = open_gateway("one")
    await opened.bus.start()
    return opened


@pytest.fixture
async def second(open_gateway: Open) -> ToolGateway:
    opened = open_gateway("two")
    await opened.bus.start()
    return opened


def said(name: str, fence: int, call_id: str, to: str, within_s: float) -> dict[str, Any]:
    arguments = {"to": to}
    return {
        "run": RUN,
        "thread": THREAD,
        "call_id": call_id,
        "name": name,
        "fence": fence,
        "arguments": arguments,
        "digest": digest_of(arguments),
        "within_s": within_s,
    }


def request(
    name: str, fence: int = 5, call_id: str = "c1", *, to: str = "ann", within_s: float = 20.0
) -> EffectRequested:
    return EffectRequested(**said(name, fence, call_id, to, within_s))


def inquiry(
    name: str, fence: int = 5, call_id: str = "c1", *, within_s: float = 20.0, withdraw: bool = False
) -> EffectInquired:
    return EffectInquired(**said(name, fence, call_id, "ann", within_s), withdraw=withdraw)


async def ask(gateway: ToolGateway, question: EffectRequested | EffectInquired) -> EffectAnswered:
    return await gateway.answer(AGENT, question, {})


async def journal(bus: Bus, call_id: str = "c1") -> list[Entry]:
    place = effect_address(RUN, AGENT, THREAD, call_id, 0)
    return [stored.entry for stored in (await bus.journals.read(RUN, place.thread, TOOL_GATEWAY)).entries]


async def started_by_a_dead_replica(bus: Bus, name: str, call_id: str = "c1") -> None:
    entry = EffectStarted(
        at_ms=1,
        by="dead",
        fence=4,
        agent=AGENT,
        thread=THREAD,
        call_id=call_id,
        name=name,
        digest=digest_of({"to": "ann"}),
    )
    await bus.journals.append(effect_address(RUN, AGENT, THREAD, call_id, 0), entry)


async def test_a_call_is_made_once_however_often_and_of_whichever_replica_it_is_asked(
    bus: Bus, gateway: ToolGateway, second: ToolGateway, world: World
) -> None:
    answers = await asyncio.gather(*(ask(each, request("post")) for each in (gateway, second) * 8))

    assert answers == [EffectAnswered(status="result", content="posted to ann")] * 16
    assert world.done == ["0-r.0-1.c1"]
    assert [type(entry) for entry in await journal(bus)] == [EffectStarted, EffectEnded]


async def test_what_is_written_about_a_call_is_chained(bus: Bus, gateway: ToolGateway) -> None:
    await ask(gateway, inquiry("post"))
    await ask(gateway, request("post"))
    place = effect_address(RUN, AGENT, THREAD, "c1", 0)
    stored = (await bus.journals.read(RUN, place.thread, TOOL_GATEWAY)).entries

    assert [chain.flaw_of(each.address.subject, each.headers, each.data) for each in stored] == [None] * 3
    links = [chain.link_of(each.headers) for each in stored]
    assert all(after and before and after.before == before.own for before, after in pairwise(links))


async def test_after_never_started_nobody_with_an_earlier_lease_starts_it_on_any_replica(
    bus: Bus, gateway: ToolGateway, second: ToolGateway, world: World
) -> None:
    assert (await ask(gateway, inquiry("post", 7))).status == "never_started"
    late = await ask(second, request("post", 6))
    assert (late.status, late.reason) == ("refused", "a worker with the later lease 7 has asked")
    assert world.done == []
    assert (await ask(second, request("post", 7))).content == "posted to ann"
    assert (await ask(gateway, request("post", 6))).status == "refused"
    assert [type(entry) for entry in await journal(bus)] == [EffectFenced, EffectStarted, EffectEnded]


async def test_of_a_late_start_and_a_question_at_the_same_moment_one_wins_and_both_know_which(
    bus: Bus, gateway: ToolGateway, second: ToolGateway, world: World
) -> None:
    async def late_request(call_id: str, pause_s: float) -> EffectAnswered:
        await asyncio.sleep(pause_s)
        return await ask(gateway, request("post", 6, call_id))

    fenced = 0
    for number in range(40):
        call_id = f"race-{number}"
        late, told = await asyncio.gather(
            late_request(call_id, number / 2_000), ask(second, inquiry("post", 7, call_id))
        )
        (first, *_) = await journal(bus, call_id)
        if isinstance(first, EffectFenced):
            fenced += 1
            assert (late.status, told.status) == ("refused", "never_started")
        else:
            assert (late.status, told.status) == ("result", "result")
    assert fenced, "the question never came first"
    assert len(world.done) == 40 - fenced


async def test_what_it_gave_is_told_again_to_whoever_did_not_hear_it(
    gateway: ToolGateway, second: ToolGateway, world: World
) -> None:
    first = await ask(gateway, request("post"))
    assert [await ask(second, request("post")), await ask(second, inquiry("post", 9))] == [first, first]
    assert len(world.done) == 1


async def test_a_call_that_takes_its_time_is_running_for_every_replica_and_goes_on_without_its_asker(
    gateway: ToolGateway, second: ToolGateway, world: World
) -> None:
    asking = asyncio.create_task(ask(gateway, request("walk", within_s=0.2)))
    await asyncio.wait_for(world.begun.wait(), 30)
    assert (await ask(second, inquiry("walk", 6, within_s=0.2))).status == "running"
    assert (await asking).status == "running"
    assert (await ask(gateway, request("walk", within_s=0.0))).status == "running"
    world.may_end.set()
    assert (await ask(second, inquiry("walk", 6))).content == "walked"
    assert len(world.done) == 1


@pytest.mark.parametrize(
    ("name", "known", "answer", "times"),
    [
        ("post", "", EffectAnswered(status="unknown"), 0),
        ("ring", "", EffectAnswered(status="unknown"), 0),
        ("ring", "rang at nine", EffectAnswered(status="result", content="rang at nine"), 0),
        ("book", "", EffectAnswered(status="result", content="booked"), 1),
    ],
)
async def test_a_call_whose_replica_died_is_looked_up_or_repeated_if_its_tool_allows_that_and_else_unknown(
    bus: Bus, gateway: ToolGateway, world: World, name: str, known: str, answer: EffectAnswered, times: int
) -> None:
    if known:
        world.known["0-r.0-1.c1"] = known
    await started_by_a_dead_replica(bus, name)

    assert await ask(gateway, inquiry(name)) == answer
    assert world.done == ["0-r.0-1.c1"] * times
    assert await ask(gateway, request(name, 6)) == answer, "the answer does not change"
    assert [type(entry) for entry in await journal(bus)] == [EffectStarted, EffectEnded]


async def test_a_replica_that_lost_a_call_does_not_speak_against_what_was_said_meanwhile(
    bus: Bus, gateway: ToolGateway, second: ToolGateway, world: World
) -> None:
    asking = asyncio.create_task(ask(gateway, request("walk")))
    await asyncio.wait_for(world.begun.wait(), 30)
    await gateway.bus.leases.stop()  # as if it were frozen: nothing renews what it holds
    assert (await ask(second, inquiry("walk", 6))).status == "unknown"
    world.may_end.set()
    assert (await asking).status == "unknown"
    assert [type(entry) for entry in await journal(bus)] == [EffectStarted, EffectEnded]


async def test_what_is_withdrawn_is_not_started_any_more(bus: Bus, gateway: ToolGateway, world: World) -> None:
    assert (await ask(gateway, inquiry("post", withdraw=True))).status == "never_started"
    late = await ask(gateway, request("post", 9))
    assert (late.is_error, late.content) == (True, "This call was withdrawn before it was started.")
    assert world.done == []


async def test_only_what_is_fenced_and_not_denied_is_called_and_only_with_the_arguments_it_was_asked_with(
    bus: Bus, gateway: ToolGateway, world: World
) -> None:
    other_digest = msgspec.structs.replace(request("post"), digest=digest_of({"to": "bob"}))
    nobodys = await gateway.answer("stranger", request("post"), {})
    answers = [
        *[await ask(gateway, request(name)) for name in ("own", "nothing", "forbidden")],
        await ask(gateway, other_digest),
        nobodys,
        await gateway.answer("other", request("book"), {}),
    ]

    assert [(answer.status, answer.is_error, answer.content) for answer in answers] == [
        ("result", True, "own is no tool of clerk that the tool gateway calls"),
        ("result", True, "nothing is no tool of clerk that the tool gateway calls"),
        ("result", True, "the team's permissions deny forbidden to clerk"),
        ("result", True, "the arguments of post are not those their digest says"),
        ("result", True, "post is no tool of stranger that the tool gateway calls"),
        ("result", True, "book is no tool of other that the tool gateway calls"),
    ]
    assert world.done == [] and await journal(bus) == []


async def test_what_a_tool_gave_is_told_although_the_tool_is_gone(
    gateway: ToolGateway, second: ToolGateway, world: World
) -> None:
    assert (await ask(gateway, request("post"))).content == "posted to ann"
    second.toolbox = Toolbox(
        Team(name="office", folder=Path(), lead=AgentDefinition(name="x", description="", role="lead"))
    )

    assert (await ask(second, request("post"))).content == "posted to ann"
    assert (await ask(second, inquiry("post", 6))).content == "posted to ann"
    assert (await ask(second, request("post", 6, "c2"))).content.startswith("post is no tool of clerk")


async def test_a_tool_that_cannot_tell_is_unknown_and_a_failure_is_a_result(gateway: ToolGateway) -> None:
    assert await ask(gateway, request("lose")) == EffectAnswered(status="unknown")
    assert await ask(gateway, request("lose", 6)) == EffectAnswered(status="unknown")


async def test_a_large_result_goes_to_a_file_and_its_beginning_is_told(bus: Bus, gateway: ToolGateway) -> None:
    answer = await ask(gateway, request("print_all"))

    assert answer.content.endswith("[The whole result has 100000 characters and is in results/0-1-c1.txt.]")
    assert len(answer.content) < 5_000
    version = await bus.files.latest(RUN, "results/0-1-c1.txt")
    assert version is not None and version.size_bytes == 100_000


async def test_nothing_is_written_about_a_tool_that_only_reads(bus: Bus, gateway: ToolGateway, world: World) -> None:
    assert (await ask(gateway, request("look"))).content == "seen"
    assert (await ask(gateway, request("look"))).content == "seen"
    assert len(world.done) == 2 and await journal(bus) == []


async def test_calls_that_are_broken_off_when_it_stops_are_unknown_to_whoever_asks_next(
    gateway: ToolGateway, second: ToolGateway, world: World
) -> None:
    asking = asyncio.create_task(ask(gateway, request("walk")))
    await asyncio.wait_for(world.begun.wait(), 30)
    assert await gateway.stop(0.05) == 1
    assert (await asking).status == "running"
    assert (await ask(second, inquiry("walk", 6))).status == "unknown"


async def test_questions_of_an_agent_are_answered_over_the_bus_and_shared_among_replicas(
    bus: Bus, gateway: ToolGateway, second: ToolGateway, world: World
) -> None:
    address = ToolAddress("office", AGENT)
    with pytest.raises(BusUnavailable):
        await bus.effects.ask(address, request("post", within_s=0.1))
    servings = [await each.bus.effects.serve("office", each.answer) for each in (gateway, second)]
    answers = await asyncio.gather(*(bus.effects.ask(address, request("post", 5, f"c{n}")) for n in range(20)))

    assert {answer.status for answer in answers} == {"result"}
    assert sorted(world.done) == sorted(f"0-r.0-1.c{n}" for n in range(20))
    for serving in servings:
        await serving.stop()
        await serving.stop()
    with pytest.raises(BusUnavailable):
        await bus.effects.ask(address, request("post", within_s=0.1))
