"""A model that is a Python function over the transcript: a team runs without paying, on what its tools really return.

A team's `rehearsal.py` has one function for each agent, with the agent's name (`-` becomes `_`):

    def logs(turn: Turn) -> Move:
        mined = turn.result("mine_logs")
        if mined is None:
            return call("mine_logs", path="logs/api.log")
        return call("submit_result", status="ok", summary="...", result={"bursts": mined["bursts"]})

The function is asked again at each turn and sees everything said so far; it keeps nothing between turns. So a
rehearsed thread can be taken over by another process at any point, just as a real one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from shanty_protocol import Usage
from shanty_runtime.errors import ModelError
from shanty_runtime.models.base import Block, Message, ModelReply, ModelRequest, Stream, estimated_tokens, unmarked


class Call(msgspec.Struct, frozen=True):
    """One tool call."""

    name: str
    arguments: dict[str, Any]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A finished tool call: `value` is the decoded JSON of its result, or its text where that is not JSON."""

    name: str
    arguments: dict[str, Any]
    value: Any
    is_error: bool


Move = Call | str | Sequence[Call]
"""What a rehearsed agent does next: call a tool, call several at once, or say its last word."""


def call(name: str, /, **arguments: Any) -> Call:
    return Call(name, arguments)


class Turn:
    """What a rehearsed agent sees: the same transcript a paid model would be sent."""

    def __init__(self, request: ModelRequest) -> None:
        self.request = request
        self.number = sum(message.role == "assistant" for message in request.messages)
        """How many times this agent has spoken before."""

    @property
    def texts(self) -> tuple[str, ...]:
        """What was said to this agent, in order: the brief first, then follow-ups."""
        return tuple(
            block["text"]
            for message in self.request.messages
            if message.role == "user"
            for block in message.content
            if block["type"] == "text"
        )

    @property
    def brief(self) -> str:
        return self.texts[0]

    @property
    def follow_ups(self) -> tuple[str, ...]:
        return self.texts[1:]

    def section(self, name: str) -> str | None:
        """The text between <name> and </name> in the brief, or None: objective, input, guidance and so on."""
        found = re.search(rf"<{name}>\n?(.*?)\n?</{name}>", self.brief, re.DOTALL)
        return found[1] if found else None

    @property
    def input(self) -> Any:
        """The brief's typed input, decoded; None where there is none."""
        text = self.section("input")
        return None if text is None else msgspec.json.decode(text)

    @property
    def results(self) -> tuple[Result, ...]:
        """Every finished tool call, oldest first."""
        return tuple(finished_calls(self.request.messages))

    def results_of(self, name: str) -> tuple[Result, ...]:
        return tuple(result for result in self.results if result.name == name)

    def result(self, name: str) -> Any:
        """The value of the newest call of that tool that did not fail; None where there is none."""
        good = [result for result in self.results_of(name) if not result.is_error]
        return good[-1].value if good else None


Rehearsal = Callable[[Turn], Move]


class RehearsalModel:
    """Plays one agent by its function. `pace_s` is how long a turn takes, so that people can watch."""

    def __init__(self, rehearsal: Rehearsal, *, pace_s: float = 0.0) -> None:
        self.name = self.provider = "rehearsal"
        self.rehearsal = rehearsal
        self.pace_s = pace_s

    async def reply(self, request: ModelRequest, *, stream: Stream | None = None) -> ModelReply:
        turn = Turn(request)
        try:
            move = self.rehearsal(turn) if request.purpose == "turn" else summary_of(turn)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise ModelError(f"the rehearsal of {request.agent} failed: {type(error).__name__}: {error}") from error
        # The function is asked first: what it notes is when the call began, as a provider's meter would.
        await asyncio.sleep(self.pace_s)
        blocks = tuple(to_blocks(move, turn.number))
        stop_reason = "tool_use" if any(block["type"] == "tool_use" for block in blocks) else "end_turn"
        usage = Usage(input_tokens=await self.count_tokens(request), output_tokens=estimated_tokens(blocks))
        return ModelReply(blocks=blocks, stop_reason=stop_reason, model=self.name, usage=usage)

    async def count_tokens(self, request: ModelRequest) -> int:
        return estimated_tokens([message.content for message in request.messages])


def summary_of(turn: Turn) -> str:
    """What a rehearsed agent says of a conversation that has become too long: its calls, and how they went."""
    made = [f"{result.name} {'failed' if result.is_error else 'returned'}" for result in turn.results]
    return "Calls so far: " + (", ".join(made) or "none")


def to_blocks(move: Move, turn_number: int) -> Iterator[Block]:
    if isinstance(move, str):
        yield {"type": "text", "text": move}
        return
    calls = [move] if isinstance(move, Call) else list(move)
    for position, made in enumerate(calls, 1):
        # The id follows from the transcript alone, so whoever asks again gets the same one.
        identity = f"call-{turn_number + 1}-{position}"
        yield {"type": "tool_use", "id": identity, "name": made.name, "input": made.arguments}


def finished_calls(messages: Sequence[Message]) -> Iterator[Result]:
    called = {
        block["id"]: block
        for message in messages
        if message.role == "assistant"
        for block in message.content
        if block["type"] == "tool_use"
    }
    for message in messages:
        for block in message.content:
            if block["type"] == "tool_result":
                asked = called[block["tool_use_id"]]
                yield Result(
                    name=asked["name"],
                    arguments=asked["input"],
                    value=decoded(unmarked(block["content"])),
                    is_error=bool(block.get("is_error")),
                )


def decoded(content: str) -> Any:
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError:
        return content
