"""The team that is simulated: real profiles, with a model that follows a program and tools that leave a line behind.

A thread's program is named by its objective, and a follow-up names one more: a list of steps, each the calls of one
model turn. The model keeps nothing; how far it is follows from the transcript, as with a rehearsal.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from shanty_protocol import Criterion, Usage
from shanty_protocol.ids import HOST
from shanty_runtime.agent import Contract, HirePolicy, Profile
from shanty_runtime.agent.handler import Context, handler_from
from shanty_runtime.agent.outcomes import GRADER, INPUT_SCHEMA, OUTPUT_SCHEMA, Grading
from shanty_runtime.errors import ModelError, ToolError
from shanty_runtime.models.base import Block, ModelReply, ModelRequest, Stream
from shanty_runtime.models.rehearsal import Call, call, to_blocks
from shanty_runtime.thread.hiring import hire_card
from shanty_runtime.thread.verbs import LEAD_VERBS, SPECIALIST_VERBS, verb_cards
from shanty_runtime.tools.base import Tool, ToolContext, argument_schema, tool

if TYPE_CHECKING:
    from simulation.world import World

Program = list[list[Call]]

TEAM = "simulated"
DEADLINE_S = 60.0
GHOST_DEADLINE_S = 8.0
TOKENS_READ, TOKENS_WRITTEN = 10, 5
PRICE_MICROUSD = 100

PATIENCE_S = 61.0
"""By this deadline a wait is known that no program asked for."""


class Stage:
    """Which world the tools and the model play in: one at a time."""

    world: World


stage = Stage()


# Tools


class Note(msgspec.Struct, frozen=True, kw_only=True):
    text: str


@tool(effect="read")
async def look(args: Note, context: ToolContext) -> str:
    """Looks something up."""
    await stage.world.begin(context, "look")
    return args.text


@tool(effect="idempotent")
async def book(args: Note, context: ToolContext) -> str:
    """Books something. The same key booked again changes nothing."""
    await stage.world.begin(context, "book")
    if stage.world.ledgers.effect_of(context.key) is None:
        stage.world.happen(context, "book", args)
    await stage.world.reach("book is done")
    return "booked"


async def was_rung(args: Note, context: ToolContext) -> str | None:
    await stage.world.reach("it is looked up whether it was rung")
    return "rung" if stage.world.ledgers.effect_of(context.key) else None


@tool(effect="irreversible", lookup=was_rung)
async def ring(args: Note, context: ToolContext) -> str:
    """Rings a bell, which can be heard."""
    await stage.world.begin(context, "ring")
    stage.world.happen(context, "ring", args)
    await stage.world.reach("ring is done")
    return "rung"


@tool(effect="irreversible")
async def pay(args: Note, context: ToolContext) -> str:
    """Pays somebody."""
    await stage.world.begin(context, "pay")
    stage.world.happen(context, "pay", args)
    await stage.world.reach("pay is done")
    return "paid"


@tool(effect="irreversible")
async def sign(args: Note, context: ToolContext) -> str:
    """Signs something. A person decides on it first."""
    await stage.world.begin(context, "sign")
    stage.world.happen(context, "sign", args)
    await stage.world.reach("sign is done")
    return "signed"


TOOLS: dict[str, Tool] = {each.name: each for each in (look, book, ring, pay, sign)}


# The handler


class Order(msgspec.Struct, frozen=True, kw_only=True):
    calls: tuple[str, ...]
    progress: bool = False


class Done(msgspec.Struct, frozen=True, kw_only=True):
    calls: int


async def handle(order: Order, context: Context) -> Done:
    """Makes the calls it is told to, one after the other."""
    for number, name in enumerate(order.calls):
        try:
            await context.call(TOOLS[name], Note(text=f"{name} {number}"))
        except ToolError:
            continue
        if order.progress:
            await context.progress(f"{name} is done")
    return Done(calls=len(order.calls))


# The model

_QUESTION = re.compile(r'"id":"(q-[^"]+)"')


class ProgramModel:
    name = provider = "program"

    async def reply(self, request: ModelRequest, *, stream: Stream | None = None) -> ModelReply:
        world = stage.world
        turn = sum(message.role == "assistant" for message in request.messages)
        world.ask(request, turn)
        await world.reach(f"the model of {request.agent} {request.thread} is asked, turn {turn}")
        if world.schedule.unsteady and world.chance.random() < 0.1:
            raise ModelError("the stream broke off", kind="transient")
        move = verdict(world) if request.agent == GRADER else next_move(request, world.programs)
        # Ids are never the same twice, whatever else a model repeats.
        blocks = tuple({**block, "id": f"{block['id']}-{world.number()}"} for block in to_blocks(move, turn))
        await world.reach(f"the model of {request.agent} {request.thread} has replied, turn {turn}")
        usage = Usage(input_tokens=TOKENS_READ, output_tokens=TOKENS_WRITTEN)
        return ModelReply(blocks=blocks, stop_reason="tool_use", model=self.name, usage=usage)

    async def count_tokens(self, request: ModelRequest) -> int:
        return TOKENS_READ


def next_move(request: ModelRequest, programs: dict[str, Program]) -> Sequence[Call]:
    """The calls of the next turn."""
    texts: list[str] = []
    said: list[list[Block]] = []
    waits: dict[str, Block] = {}
    results: dict[str, Any] = {}
    asked: list[str] = []
    for message in request.messages:
        if message.role == "assistant":
            uses = [block for block in message.content if block["type"] == "tool_use"]
            said.append(uses)
            continue
        for block in message.content:
            if block["type"] == "text":
                texts.append(block["text"])
                asked += _QUESTION.findall(block["text"])
            else:
                results[block["tool_use_id"]] = block["content"]
    for use in (use for uses in said for use in uses):
        if use["name"] == "wait_for_replies":
            waits[use["id"]] = use
            asked += _QUESTION.findall(results.get(use["id"], ""))
    if any(text.startswith("You are asked to stop") for text in texts):
        return [call("submit_result", summary="stopped", status="partial")]
    answered = {use["input"]["question"] for uses in said for use in uses if use["name"] == "answer_specialist"}
    if open_questions := [each for each in dict.fromkeys(asked) if each not in answered]:
        return [call("answer_specialist", question=open_questions[0], answer="yes")]
    last = said[-1][-1]["name"] if said and said[-1] else ""
    last_wait = results.get(next(reversed(waits)), "") if waits else ""
    if last == "answer_specialist" and waits and '"satisfied":false' in last_wait:
        return [call("wait_for_replies", deadline_s=PATIENCE_S)]
    steps = [step for text in texts for step in programs.get(_named(text), [])]
    made = sum(not _of_itself(uses) for uses in said)
    if made < len(steps):
        return steps[made]
    return [call("submit_result", summary=f"{made} steps")]


def verdict(world: World) -> Sequence[Call]:
    """What a grader says, which is another thing whenever it is asked."""
    if world.chance.random() < 0.1:
        return [call("submit_result", summary="it cannot be judged", status="failed")]
    findings = [{"name": each.name, "met": world.chance.random() < 0.6, "reason": "so it is"} for each in CRITERIA]
    return [call("submit_result", summary="judged", result={"findings": findings})]


@functools.lru_cache(1_024)
def _named(text: str) -> str:
    found = re.search(r"<objective>\n?(.*?)\n?</objective>", text, re.DOTALL)
    return found[1] if found else text


def _of_itself(uses: list[Block]) -> bool:
    """Whether a turn was not a step of a program."""
    first = uses[0] if uses else None
    if first is None or first["name"] in ("answer_specialist", "submit_result"):
        return True
    return bool(first["name"] == "wait_for_replies" and first["input"].get("deadline_s") == PATIENCE_S)


# Who they are


def _price(model: str, usage: Usage, at_ms: int) -> int:
    return PRICE_MICROUSD


def _profiles() -> dict[str, Profile]:
    handler = handler_from(handle)
    contracts = {
        "alpha": Contract(name="alpha", description="does things"),
        "beta": Contract(name="beta", description="does things for others"),
        "gamma": Contract(name="gamma", description="is Python", input_schema=argument_schema(Order)),
        "ghost": Contract(name="ghost", description="is not there"),
    }
    below = {name: contracts[name] for name in ("beta", "gamma")}
    lead_of_specialists = tuple(dict.fromkeys((*LEAD_VERBS, *SPECIALIST_VERBS)))
    shared: dict[str, Any] = {
        "price": _price,
        "tools": TOOLS,
        "permissions": {"sign": "ask"},
        "delegation_deadline_s": DEADLINE_S,
        "decision_deadline_s": 90.0,
        "max_attempts": 1_000,
        "max_turns": 60,
    }
    model = ProgramModel()
    made = (
        Profile(agent="lead", role="lead", model=model, verbs=verb_cards(LEAD_VERBS), contracts=contracts, **shared),
        Profile(
            agent="alpha",
            role="specialist",
            model=model,
            verbs=verb_cards(lead_of_specialists),
            contracts=below,
            **shared,
        ),
        Profile(agent="beta", role="specialist", model=model, verbs=verb_cards(SPECIALIST_VERBS), **shared),
        Profile(
            agent="gamma",
            role="specialist",
            handler=handler,
            input_schema=handler.input_schema,
            output_schema=handler.output_schema,
            **shared,
        ),
    )
    return {profile.agent: profile for profile in made}


PROFILES = _profiles()


# And others who may be in their places

HEDGE_AFTER_S = 0.5
"""Some threads are done by then, and others are not."""
CRITERIA = (Criterion(name="whole"), Criterion(name="true", description="It is what happened."))
MOST_ROUNDS = 2
HIRED_TOOLS = ("look", "book", "ring")
"""All that those who are hired may be given."""


def _hedging() -> dict[str, Profile]:
    """A lead that has whatever takes long done by a second thread as well."""
    lead = PROFILES["lead"]
    contracts = {
        name: msgspec.structs.replace(each, hedge_after_s=HEDGE_AFTER_S) for name, each in lead.contracts.items()
    }
    return {**PROFILES, "lead": msgspec.structs.replace(lead, contracts=contracts)}


def _grading() -> dict[str, Profile]:
    """A lead whose deliverables are judged, and who judges them."""
    grading = Grading(criteria=CRITERIA, max_rounds=MOST_ROUNDS)
    grader = msgspec.structs.replace(
        PROFILES["beta"],
        agent=GRADER,
        tools={},
        verbs=verb_cards(("submit_result",), OUTPUT_SCHEMA),
        input_schema=INPUT_SCHEMA,
        output_schema=OUTPUT_SCHEMA,
        judges=True,
    )
    return {**PROFILES, "lead": msgspec.structs.replace(PROFILES["lead"], grading=grading), GRADER: grader}


def _hiring() -> dict[str, Profile]:
    """A lead that makes up specialists, and who plays them."""
    lead, tools = PROFILES["lead"], {name: TOOLS[name] for name in HIRED_TOOLS}
    policy = HirePolicy(at_most=2, tools=HIRED_TOOLS)
    leading = msgspec.structs.replace(lead, verbs=(*lead.verbs, hire_card(policy)), hire=policy)
    host = msgspec.structs.replace(PROFILES["beta"], agent=HOST, tools=tools, hire=policy)
    return {**PROFILES, "lead": leading, HOST: host}


def _fencing() -> dict[str, Profile]:
    """A team whose irreversible calls the tool gateway makes."""
    return {name: msgspec.structs.replace(each, team=TEAM, fences=True) for name, each in PROFILES.items()}


FENCING = _fencing()
HEDGING = _hedging()
HIRING = _hiring()
GRADING = _grading()
