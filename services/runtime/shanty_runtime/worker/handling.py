"""Running a Python handler as a thread: its steps are journaled, and found again when it is run again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

import msgspec

from shanty_protocol import DelegationSent, MessageSent, Outcome, ThreadOpened
from shanty_protocol.codec import digest_of
from shanty_protocol.ids import LOG
from shanty_protocol.lazy import lazy
from shanty_runtime.errors import Fenced, ToolError
from shanty_runtime.redaction import redact
from shanty_runtime.thread import approvals
from shanty_runtime.thread.decide import Draft, Received
from shanty_runtime.thread.dialogue import Call
from shanty_runtime.thread.ending import exhausted_outcome
from shanty_runtime.tools.base import Tool
from shanty_runtime.tools.workspace import Workspace
from shanty_runtime.worker.calls import announce, run_call
from shanty_runtime.worker.held import HeldThread
from shanty_runtime.worker.permitting import ask_people
from shanty_runtime.worker.workplace import Workplace

logger = logging.getLogger("shanty.thread")


class Holder(Protocol):
    """Who has the thread. What a handler does without is not made for it."""

    workplace: Workplace
    task: asyncio.Task[None]
    run_id: str
    thread: str
    stop_requested: bool
    """A handler ends before its next step."""

    @property
    def held(self) -> HeldThread: ...

    @property
    def untouched(self) -> bool:
        """Whether `held` has not been asked for."""


async def run_handler(holder: Holder, mail: Received | None) -> Outcome | None:
    """What the handler answers; None where it came to a step that may not begin: it is to stop, or its worker is.

    `mail` is the delegation, until an entry of the journal has named it.
    """
    handler = holder.workplace.profile.handler
    assert handler is not None
    context = HandlerContext(holder, mail)
    given = context.brief.input or {}
    if problem := handler.problems_with_input(given):
        return Outcome(status="refused", code="invalid_input", summary=problem)
    try:
        order = msgspec.convert(given, handler.input_type)
        value = await context.run_to_end(handler.function(order, context))
        if context.halted:
            return exhausted_outcome(holder.held.state, context.exhausted) if context.exhausted else None
    except Fenced:
        raise
    except Exception as error:
        # A handler's exception is its answer: what fails by itself fails the second time too.
        logger.exception("the handler of %s failed", holder.workplace.profile.agent)
        return Outcome(status="failed", code="handler_failed", summary=redact(f"{type(error).__name__}: {error}"))
    result = None if value is None else msgspec.to_builtins(value)
    files = () if holder.untouched else tuple(holder.held.state.files.values())
    return Outcome(status="ok", result=result, files=files)


class HandlerContext:
    """Implements `agent.handler.Context`. Steps are known by their order: the third call is `step-3` in every run."""

    def __init__(self, holder: Holder, mail: Received | None) -> None:
        self._holder = holder
        self._mail = mail
        self._steps = 0
        self._steps_at_work = 0
        self._stopped = False
        self.exhausted = ""
        """The limit it has come to: the code of its reply."""
        self._fresh_calls = 0
        """Those that were not begun before a crash."""
        self._calls_before = 0 if mail else holder.held.state.escrow.counted["tool_calls"]
        self._runs_in = holder.task
        self.halted = False
        """True once the handler has come to a step it may not begin, and none that it began is at work."""
        self.run, self.thread = holder.run_id, holder.thread
        order = None if mail is None else mail.entry
        brief = order.brief if isinstance(order, DelegationSent) else holder.held.state.brief
        assert brief is not None, "a handler runs for a delegation"
        self.brief = brief

    @property
    def _held(self) -> HeldThread:
        return self._holder.held

    # Most handlers answer without a step, and need none of these.

    @lazy
    def _opening(self) -> asyncio.Lock:
        return asyncio.Lock()

    @lazy
    def _requesting(self) -> asyncio.Lock:
        return asyncio.Lock()

    @lazy
    def workspace(self) -> Workspace:
        """The run's files."""
        return self._held.workspace(f"{self.run}.{self.thread}.handler")

    async def run_to_end(self, work: Awaitable[Any]) -> Any:
        """What the handler gives; None where it was halted: then nothing of it runs any more."""
        try:
            value = await work
        except (asyncio.CancelledError, Exception):
            if not self.halted:
                raise
            # What a handler makes of being halted is not its answer.
        else:
            if not self.halted:
                return value
            # Our cancellation is still under way where the handler has ended without waiting for anything.
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        if self._runs_in.uncancel():
            raise asyncio.CancelledError  # somebody else has it end as well
        return None

    async def call(self, tool: Tool, arguments: msgspec.Struct) -> Any:
        held, call_id = self._held, self._next_step()
        call = held.state.calls.get(call_id)
        if call is not None and call.name != tool.name:
            raise ToolError(
                f"{call_id} was {call.name} before the crash and is {tool.name} now: "
                "between two calls a handler must do the same thing each time it is run"
            )
        if call is None or not call.settled:
            given = Call(id=call_id, name=tool.name, arguments=msgspec.to_builtins(arguments))
            self._check_permission(call, given)
            if approvals.needs_decision(held.state, call or given):
                async with self._step():
                    await self._open()
                    await self._request(call or given)
                call = held.state.calls[call_id]
            if call is not None and call.approval is not None and call.approval.waiting:
                await self._halt()
            recovered = call is not None and call.intended
            call = call or given
            async with self._step():
                await self._open()
                allowed = recovered or self._may_call()
                if allowed:
                    if not recovered and tool.effect != "read":
                        await announce(held, [call], {tool.name: tool})
                    await run_call(held, call, tool, recovered=recovered)
            if not allowed:
                await self._halt()
            call = held.state.calls[call_id]
        if call.status != "ok":
            raise ToolError(call.content)
        try:
            return msgspec.json.decode(call.content)
        except msgspec.DecodeError:
            return call.content

    async def progress(self, text: str, percent: int | None = None) -> None:
        held, call_id = self._held, self._next_step()
        if call_id in held.state.calls:
            return
        async with self._step():
            await self._open()
            opener = held.state.opener
            assert opener is not None
            stamp = held.stamp()
            message = MessageSent(
                at_ms=stamp.at_ms,
                by=stamp.by,
                fence=stamp.fence,
                to_thread=opener[1],
                after=held.state.sent_to.get(opener, ""),
                purpose="progress",
                text=text,
                percent=percent,
                call_id=call_id,
            )
            await held.write((Draft(opener[0], message),))

    def _check_permission(self, call: Call | None, given: Call) -> None:
        found = approvals.ruling(self._held.state, given)
        if problem := approvals.denial(self._held.profile, given.name, found):
            raise ToolError(problem)
        if call is None or call.approval is None or digest_of(given.arguments) == call.approval.digest:
            return
        raise ToolError(
            f"{call.id} was to call {call.name} with other arguments when a person was asked: "
            "between two calls a handler must do the same thing each time it is run"
        )

    async def _request(self, call: Call) -> None:
        """Ask a person whether a call may be made, or note what allows it."""
        async with self._requesting:
            await ask_people(self._held, [call])

    async def _halt(self) -> None:
        """Wait here until the handler is cancelled: it is run again when there is a decision."""
        self._stopped = True
        self._halt_between_steps()
        await asyncio.get_running_loop().create_future()

    @asynccontextmanager
    async def _step(self) -> AsyncIterator[None]:
        """No step begins once the thread or its worker is to stop: the handler waits here until it is cancelled."""
        if self._holder.stop_requested or self._holder.workplace.draining:
            await self._halt()
        self._steps_at_work += 1
        try:
            yield
        finally:
            self._steps_at_work -= 1
            self._halt_between_steps()

    def _may_call(self) -> bool:
        """Whether one more call is within what the thread may spend. If not, no further step begins."""
        escrow = self._held.state.escrow
        most = escrow.limits.tool_calls
        if escrow.time_is_over(self._held.stamp().at_ms):
            self.exhausted = "time_limit"
        elif most is not None and self._calls_before + self._fresh_calls >= most:
            self.exhausted = "tool_call_limit"
        self._stopped = self._stopped or bool(self.exhausted)
        self._fresh_calls += 1
        return not self.exhausted

    def _halt_between_steps(self) -> None:
        if self._stopped and not self._steps_at_work and not self.halted:
            self.halted = True
            self._runs_in.cancel()

    async def _open(self) -> None:
        """Before the first step: name the delegation in the journal. A handler without steps needs no such entry."""
        async with self._opening:
            if self._mail is None or self._mail.subject in self._held.state.consumed:
                return
            await self._held.hold()
            stamp = self._held.stamp()
            opened = ThreadOpened(at_ms=stamp.at_ms, by=stamp.by, fence=stamp.fence, consumed=(self._mail.subject,))
            await self._held.write((Draft(LOG, opened),))

    def _next_step(self) -> str:
        self._steps += 1
        return f"step-{self._steps}"
