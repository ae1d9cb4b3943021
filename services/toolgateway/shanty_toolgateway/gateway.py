"""Answering questions about calls, and making those calls: each once, whoever asks and however often.

The lease of a call says which replica has it in hand, the journal of the call what became of it. A replica that dies
in the middle of a call leaves one that was started and has not ended: it is made again if its tool honours the key,
looked up if the tool can do that, and otherwise its outcome is unknown.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from shanty_protocol import (
    EffectAnswered,
    EffectEnded,
    EffectFenced,
    EffectInquired,
    EffectRequested,
    EffectStarted,
    Entry,
    ProtocolError,
)
from shanty_protocol.codec import digest_of
from shanty_protocol.ids import TOOL_GATEWAY
from shanty_protocol.subjects import effect_address
from shanty_runtime.bus import Bus, Busy, Lease, Placed, Stored
from shanty_runtime.bus.backoff import Backoff
from shanty_runtime.errors import OutcomeUnknown
from shanty_runtime.telemetry import inject, tool_span
from shanty_runtime.tools.base import Tool, ToolContext, ToolFunction, ToolResult, failure, to_result
from shanty_runtime.tools.results import journaled, result_path
from shanty_runtime.tools.workspace import Workspace
from shanty_toolgateway.effect import Effect, Question, answer_of, decide, fold, take
from shanty_toolgateway.toolbox import Toolbox

logger = logging.getLogger("shanty.toolgateway")

LONGEST_WAIT_S = 60.0
"""How long an answer may take, whatever its asker says it waits."""
LOOK_AGAIN_S = 0.5
"""Longest pause between two looks at a call that another replica has in hand: nothing tells that a lease ran out."""

USUAL_ENTRIES = 2

RUNNING = EffectAnswered(status="running")


class ToolGateway:
    """`answer` may be called at any time; `stop` breaks off what is still running after its time."""

    def __init__(self, bus: Bus, toolbox: Toolbox, *, replica: str, max_running: int) -> None:
        self.bus, self.toolbox, self.replica = bus, toolbox, replica
        self.room = asyncio.Semaphore(max_running)
        self._in_hand: dict[str, asyncio.Task[EffectAnswered | None]] = {}

    @property
    def in_hand(self) -> int:
        """How many calls are being looked at or made."""
        return len(self._in_hand)

    async def stop(self, grace_s: float, hurry: asyncio.Event | None = None) -> int:
        """Let what is running come to its end, for so long at most. Returns how many calls were broken off."""
        hurried = asyncio.create_task((hurry or asyncio.Event()).wait())
        ended = asyncio.gather(*self._in_hand.values(), return_exceptions=True)
        await asyncio.wait((ended, hurried), timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        broken_off = list(self._in_hand.values())
        for task in broken_off:
            task.cancel()
        await asyncio.gather(*broken_off, return_exceptions=True)
        return len(broken_off)

    async def answer(self, agent: str, question: Question, headers: Mapping[str, str]) -> EffectAnswered:
        """What becomes of a call, as far as that can be said within the time that its asker waits."""
        call = _Call(self, agent, question, headers)
        until_s = time.monotonic() + min(max(question.within_s, 0.0), LONGEST_WAIT_S)
        backoff = Backoff(first_s=0.02, most_s=LOOK_AGAIN_S)
        while True:
            joined = call.key in self._in_hand
            task = self._in_hand[call.key] if joined else self._begin(call)
            await asyncio.wait((task,), timeout=max(0.0, until_s - time.monotonic()))
            if not task.done() or task.cancelled():
                return RUNNING
            answer = task.result()
            if answer is not None and (not joined or call.is_read):
                return answer
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return RUNNING
            if answer is None:  # another replica has it
                await asyncio.sleep(min(left_s, backoff.next_s()))

    def _begin(self, call: _Call) -> asyncio.Task[EffectAnswered | None]:
        def ended(task: asyncio.Task[EffectAnswered | None]) -> None:
            del self._in_hand[call.key]
            if not task.cancelled() and (error := task.exception()) is not None:
                logger.warning("a call of %s was not settled: %s: %s", call.name, type(error).__name__, error)

        task = self._in_hand[call.key] = asyncio.create_task(call.settle())
        task.add_done_callback(ended)
        return task


class _Call:
    """One question about one call, and what it takes to answer it."""

    def __init__(self, gateway: ToolGateway, agent: str, question: Question, headers: Mapping[str, str]) -> None:
        self._gateway, self._agent, self._question, self._headers = gateway, agent, question, headers
        self._bus = gateway.bus
        self._tool = gateway.toolbox.find(agent, question.name)
        self._first = effect_address(question.run, agent, question.thread, question.call_id, 0)
        self.key = f"{TOOL_GATEWAY}.{question.run}.{self._first.thread}"
        self.name = question.name

    @property
    def is_read(self) -> bool:
        return self._tool is not None and self._tool.effect == "read"

    async def settle(self) -> EffectAnswered | None:
        """The answer; None while another replica has the call in hand."""
        if self.is_read:
            return await self._read()
        if isinstance(self._question, EffectInquired) and (answer := await self._known()) is not None:
            return answer
        lease = await self._bus.leases.take(self.key, self._gateway.replica)
        if isinstance(lease, Busy):
            return await self._known()
        try:
            return await self._under(lease)
        finally:
            await lease.release()

    async def _known(self) -> EffectAnswered | None:
        """The answer, if the journal has it: what stands there needs nobody's lease."""
        step = decide(await self._journal(), self._question)
        return step if isinstance(step, EffectAnswered) else None

    async def _under(self, lease: Lease) -> EffectAnswered | None:
        refusal = self._refusal()
        # A first request finds an empty journal, so that is not read: its first entry is refused where it is not.
        first = isinstance(self._question, EffectRequested) and refusal is None
        effect = Effect() if first else await self._journal()
        backoff = Backoff(first_s=0.002, most_s=0.1)
        while True:
            match decide(effect, self._question):
                case "start":
                    if refusal is not None:
                        return refusal
                    async with self._gateway.room:
                        if await self._append(effect, self._started()):
                            return await self._make(lease, effect)
                case "fence":
                    if await self._append(effect, self._fenced()):
                        return EffectAnswered(status="never_started")
                case "recover":
                    return await self._recover(lease, effect)
                case EffectAnswered() as answer:
                    return answer
            if backoff.tries:
                await backoff.pause()  # a replica of the server that lags has shown an old state
            backoff.tries += 1
            effect = await self._journal()

    # Acting

    async def _make(self, lease: Lease, effect: Effect) -> EffectAnswered | None:
        if not lease.held():
            return None  # somebody else may have said by now that nobody can tell what became of it
        assert self._tool is not None
        return await self._end(effect, await self._result(self._tool, self._tool.function))

    async def _recover(self, lease: Lease, effect: Effect) -> EffectAnswered | None:
        """It was started by a replica that is gone."""
        tool, withdraw = self._tool, isinstance(self._question, EffectInquired) and self._question.withdraw
        if tool is not None and tool.effect == "idempotent" and not withdraw:
            return await self._make(lease, effect)
        found = None
        if tool is not None and tool.lookup is not None:
            found = await self._result(tool, tool.lookup, looked_up=True)
        return await self._end(effect, found)

    async def _result(self, tool: Tool, function: ToolFunction, *, looked_up: bool = False) -> ToolResult | None:
        """What a tool gives, or its lookup; None where nobody can tell."""
        question = self._question
        key = f"{question.run}.{question.thread}.{question.call_id}"
        context = ToolContext(
            key=key,
            run=question.run,
            thread=question.thread,
            agent=self._agent,
            workspace=self._workspace(key),
            tainted=question.tainted,
        )
        with tool_span(
            TOOL_GATEWAY, question.run, tool.name, question.call_id, name=self._agent, asked_in=self._headers
        ) as span:
            try:
                value = await function(tool.decode(question.arguments), context)
                if looked_up and value is None:
                    return None
                result = to_result(value)
            except OutcomeUnknown as error:
                logger.warning("the outcome of %s is unknown: %s", tool.name, error)
                span.failed("unknown")
                return None
            except Exception as error:
                # Whatever a tool raises is its result: the model reads it and decides. A lookup that fails has not
                # said what became of the call.
                logger.info("tool %s failed: %s", tool.name, type(error).__name__)
                span.failed("tool_error")
                return None if looked_up else failure(tool.name, error)
            if result.is_error:
                span.failed("tool_error")
            return result

    async def _read(self) -> EffectAnswered:
        """Nothing changes by it, so it is made for whoever asks, and nothing is written about it."""
        if isinstance(self._question, EffectInquired):
            return EffectAnswered(status="never_started")
        if (refusal := self._refusal()) is not None:
            return refusal
        assert self._tool is not None
        async with self._gateway.room:
            result = await self._result(self._tool, self._tool.function)
        if result is None:
            return EffectAnswered(status="unknown")
        content = await self._journaled(result)
        return EffectAnswered(status="result", content=content, is_error=result.is_error, files=result.files)

    def _refusal(self) -> EffectAnswered | None:
        """Why this is not made for whoever asks."""
        question, said = self._question, ""
        if self._tool is None:
            said = f"{question.name} is no tool of {self._agent} that the tool gateway calls"
        elif self._gateway.toolbox.denied(self._agent, question.name, question.arguments):
            said = f"the team's permissions deny {question.name} to {self._agent}"
        elif digest_of(question.arguments) != question.digest:
            said = f"the arguments of {question.name} are not those their digest says"
        if not said:
            return None
        logger.warning("a call is refused: %s", said)
        return EffectAnswered(status="result", is_error=True, content=said)

    # The journal

    async def _journal(self) -> Effect:
        """Place by place: most have two entries, and a read by subject takes as long however full the stream is."""
        entries: list[Stored] = []
        while True:
            places = range(len(entries), len(entries) + USUAL_ENTRIES + 1)
            subjects = (msgspec.structs.replace(self._first, n=n).subject for n in places)
            for stored in await asyncio.gather(*map(self._bus.journals.get, subjects)):
                if stored is None:
                    return fold(entries)
                entries.append(stored)

    async def _append(self, effect: Effect, entry: Entry) -> bool:
        """Whether the entry stands at the next place now. What else may stand there is for whoever reads it."""
        return (await self._place(effect, entry)).ours

    async def _place(self, effect: Effect, entry: Entry) -> Placed:
        """What stands at the next place now: the entry, or what somebody else has written there."""
        place = msgspec.structs.replace(self._first, n=effect.next_n)
        placed = await self._bus.journals.append(place, entry, inject(), before=effect.chained_to)
        if placed.ours:
            take(effect, placed.stored)
        return placed

    async def _end(self, effect: Effect, result: ToolResult | None) -> EffectAnswered:
        """Write down what the call gave. Should somebody have written that nobody can tell, that stands."""
        ended = EffectEnded(**self._stamp(), call_id=self._question.call_id, status="unknown")
        if result is not None:
            ended = EffectEnded(
                **self._stamp(),
                call_id=self._question.call_id,
                status="error" if result.is_error else "ok",
                content=await self._journaled(result),
                files=result.files,
            )
        standing = (await self._place(effect, ended)).stored.entry
        if not isinstance(standing, EffectEnded):
            raise ProtocolError("invalid_message", f"the journal of {self.key} has something else where it ends")
        return answer_of(standing)

    def _started(self) -> EffectStarted:
        asked = self._question
        return EffectStarted(
            **self._stamp(),
            agent=self._agent,
            thread=asked.thread,
            call_id=asked.call_id,
            name=asked.name,
            digest=asked.digest,
        )

    def _fenced(self) -> EffectFenced:
        asked = self._question
        return EffectFenced(
            **self._stamp(),
            agent=self._agent,
            thread=asked.thread,
            call_id=asked.call_id,
            withdrawn=isinstance(asked, EffectInquired) and asked.withdraw,
        )

    def _stamp(self) -> dict[str, Any]:
        return {"at_ms": self._bus.clock.now_ms(), "by": self._gateway.replica, "fence": self._question.fence}

    async def _journaled(self, result: ToolResult) -> str:
        asked = self._question
        workspace = self._workspace(f"{asked.run}.{asked.thread}.{asked.call_id}.result")
        return await journaled(result.content, workspace, result_path(asked.thread, asked.call_id))

    def _workspace(self, key: str) -> Workspace:
        asked = self._question
        return Workspace(self._bus.files, asked.run, agent=TOOL_GATEWAY, thread=asked.thread, key=key)
