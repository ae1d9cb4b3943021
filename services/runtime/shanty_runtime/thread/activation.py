"""One worker's hold on one thread: from the mail that wakes it until it rests.

An activation takes the thread's lease, reads its journal, and then does one step after the other as `decide` says.
Each step ends in an entry of the journal, so a crash between any two loses nothing: the mail that woke the thread
is acked only when the thread rests, and whoever gets it again goes on from the journal's end.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Literal

import msgspec

from shanty_protocol import (
    Entry,
    EntryAddress,
    LiveAddress,
    ModelReplied,
    Outcome,
    ProtocolError,
    StepStarted,
    ThreadDue,
    ThreadTakenOver,
    TimerAddress,
    TimerFired,
    ToolCalled,
    ToolReturned,
    UnwritableMessage,
)
from shanty_protocol.ids import LOG
from shanty_protocol.timers import DUE
from shanty_runtime.agent.context import model_request
from shanty_runtime.agent.profile import Profile
from shanty_runtime.bus import Busy, Delivery, Lease, Stored
from shanty_runtime.errors import Fenced, ModelError, PayloadTooLarge
from shanty_runtime.telemetry import SpanContext, inject, log_context, span_context_of
from shanty_runtime.telemetry import spans as telemetry
from shanty_runtime.thread.decide import (
    AskModel,
    Draft,
    FireTimer,
    Park,
    Received,
    Reject,
    RunCalls,
    RunHandler,
    Stamp,
    Write,
    decide,
    reply_to_opener,
)
from shanty_runtime.thread.handling import run_handler
from shanty_runtime.thread.plan import refusals
from shanty_runtime.thread.state import Call, State, apply
from shanty_runtime.tools.base import Tool, ToolContext, ToolResult, failure, to_result
from shanty_runtime.tools.workspace import Workspace

if TYPE_CHECKING:
    from shanty_runtime.thread.worker import Loaded, Worker

logger = logging.getLogger("shanty.thread")

BUSY_DELAY_S = (0.25, 0.5)
"""How long a mail is put back when another worker has its thread. That worker hears it too, and reads it sooner."""
UNREADABLE_DELAY_S = 30.0
"""How long a mail is put back when its thread's journal has entries this version does not know."""
MAX_RESULT_CHARACTERS = 100_000
"""A longer tool result is cut, and says so."""

UNKNOWN_OUTCOME = (
    "The outcome of this call is unknown: the worker that made it died before it heard the answer. It may have "
    "happened or not. It was not repeated. Find out before you do it again."
)


class Activation:
    """Owned by a Worker, which posts mail to it and forgets it once `run` returns."""

    def __init__(self, worker: Worker, run: str, thread: str) -> None:
        self.worker = worker
        self.bus = worker.bus
        self.profile: Profile = worker.profile
        self.run_id, self.thread = run, thread
        self.lease_key = f"{self.profile.agent}.{run}.{thread}"
        self.waiting: dict[str, Received] = {}
        self.deliveries: list[Delivery] = []
        self.rejected: set[str] = set()
        self.due_ms = 0
        self.writing = asyncio.Lock()
        self.state = State(run=run, thread=thread, profile=self.profile)
        self.lease: Lease

    def post(self, mail: Received, delivery: Delivery | None = None) -> None:
        """Hand over a mail; without a delivery it was only heard, and its delivery will come by itself."""
        self.waiting.setdefault(mail.subject, mail)
        if delivery is not None:
            self.deliveries.append(delivery)

    def post_timer(self, due: ThreadDue, delivery: Delivery) -> None:
        self.due_ms = max(self.due_ms, due.at_ms)
        self.deliveries.append(delivery)

    async def run(self) -> None:
        """Work until the thread rests. Returns in any case with every delivery acked or put back."""
        lease = await self.bus.leases.take(self.lease_key, self.worker.replica)
        if isinstance(lease, Busy):
            await self.put_back(random.uniform(*BUSY_DELAY_S))
            return
        self.lease = lease
        with log_context(run=self.run_id, thread=self.thread):
            await self._run_under_lease(self.deliveries[0])

    async def _run_under_lease(self, trigger: Delivery) -> None:
        given_back = False
        try:
            loaded = await self.worker.load(self.run_id, self.thread)
            self.state = loaded.state
            with telemetry.process_span(
                self._trigger_address(trigger),
                trigger.headers,
                self._links(loaded),
                seq=trigger.seq,
                delivered=trigger.delivered,
            ):
                with self._agent_span():
                    rested = await self._work()
            if rested:
                await self._settle()
            else:
                await self.put_back(0)
            given_back = True
        except ProtocolError as error:
            logger.error("the journal of %s cannot be read, so it is left alone: %s", self.lease_key, error)
            await self._leave(UNREADABLE_DELAY_S)
            given_back = True
        except Fenced as error:
            logger.info("left %s to another worker: %s", self.lease_key, error)
            await self._leave(random.uniform(*BUSY_DELAY_S))
            given_back = True
        except asyncio.CancelledError:
            await self._leave(0)
            given_back = True
            raise
        finally:
            # Whatever else goes wrong counts as a death of this worker: the lease runs out instead of being given
            # back, the next holder finds it abandoned, and a thread that does this each time is given up.
            if given_back:
                await self.lease.release()
            else:
                self.worker.forget(self.run_id, self.thread)
                self.lease.abandon()

    async def _leave(self, delay_s: float) -> None:
        """Give the thread up: what is known of it here may be wrong, and its mail is for somebody else."""
        self.worker.forget(self.run_id, self.thread)
        await self.put_back(delay_s)

    @contextmanager
    def _agent_span(self) -> Iterator[None]:
        """One turn of the agent; a lead's turn is a piece of its team's workflow."""
        with ExitStack() as spans:
            if self.profile.role == "lead":
                spans.enter_context(telemetry.workflow_span(self.profile.team, self.run_id))
            spans.enter_context(telemetry.agent_span(self.profile.agent, self.run_id, self.thread))
            yield

    def _trigger_address(self, trigger: Delivery) -> EntryAddress | TimerAddress:
        mail = self.waiting.get(trigger.subject)
        return self._timer("due") if mail is None else mail.address

    def _links(self, loaded: Loaded) -> tuple[SpanContext, ...]:
        """On a takeover: the span in which the worker before us wrote the journal's last entry."""
        before = span_context_of(loaded.last_headers) if self.lease.abandoned else None
        return () if before is None else (before,)

    async def _work(self) -> bool:
        """Step after step. True where the thread rests, False where the worker is draining and hands it back."""
        abandoned = self.lease.abandoned
        while not self.worker.draining:
            step = decide(self.state, self._mails(), self.stamp(), abandoned=abandoned)
            match step:
                case Park():
                    await self._set_timer()
                    if not self._has_news():
                        return True
                case Reject():
                    await self._reject(step)
                case Write():
                    await self.write(step.drafts)
                    abandoned = abandoned and not isinstance(step.drafts[0].entry, ThreadTakenOver)
                case FireTimer():
                    await self._fire_timer(step.late)
                case AskModel():
                    await self._ask_model()
                case RunCalls():
                    await self._run_calls(step.calls)
                case RunHandler():
                    await self._run_handler(step.mail)
        return False

    def _mails(self) -> list[Received]:
        return [mail for subject, mail in self.waiting.items() if subject not in self.rejected]

    def _has_news(self) -> bool:
        """Mail may have come while the timer was being set: then the thread is not at rest yet."""
        step = decide(self.state, self._mails(), self.stamp(), abandoned=False)
        return not isinstance(step, Park)

    def stamp(self) -> Stamp:
        now_ms = max(int(time.time() * 1000), self.due_ms)
        return Stamp(now_ms, self.worker.replica, self.lease.fence)

    # Writing

    async def write(self, drafts: Sequence[Draft]) -> None:
        """Append entries in order, all on the way at once. Raises Fenced where somebody else took a place."""
        if not drafts:
            return
        async with self.writing:
            places = [
                (self.state.address(draft.to, self.state.next_n + offset), draft.entry)
                for offset, draft in enumerate(drafts)
            ]
            stored = await asyncio.gather(*(self._append(address, entry) for address, entry in places))
            for (address, entry), one in zip(places, stored, strict=True):
                apply(self.state, address, entry, self._contents(entry))
                self.state.next_seq = max(self.state.next_seq, one.seq + 1)

    async def _append(self, address: EntryAddress, entry: Entry) -> Stored:
        if address.to == LOG:
            placed = await self.bus.journals.append(address, entry, inject())
        else:
            with telemetry.publish_span(address) as span:
                placed = await self.bus.journals.append(address, entry, inject())
                span.stored(placed.stored.seq)
        if not placed.ours:
            raise Fenced(f"place {address.n} of {self.lease_key} was taken by another worker")
        return placed.stored

    def _contents(self, entry: Entry) -> dict[str, Entry]:
        return {subject: self.waiting[subject].entry for subject in entry.consumed}

    # Steps

    async def _ask_model(self) -> None:
        """One model call. It is in the journal once it is complete, and nothing of it is acted on before."""
        model = self.profile.model
        assert model is not None, "an agent without a handler has a model"
        request = model_request(self.profile, self.state.request_messages())
        await self._show("model", model.name)
        try:
            with telemetry.model_span(self.profile.agent, self.run_id, model.name) as span:
                reply = await model.reply(request)
                span.model_replied(model=reply.model, stop_reason=reply.stop_reason, usage=reply.usage)
            stamp = self.stamp()
            entry = ModelReplied(
                at_ms=stamp.at_ms,
                by=stamp.by,
                fence=stamp.fence,
                blocks=reply.blocks,
                stop_reason=reply.stop_reason,
                model=reply.model,
                usage=reply.usage,
                refused=refusals(self.state, reply.blocks),
            )
            await self.write((Draft(LOG, entry),))
        except (ModelError, UnwritableMessage, PayloadTooLarge) as error:
            logger.warning("a model call of %s failed: %s", self.lease_key, error)
            await self._answer(Outcome(status="failed", code="model_failed", summary=str(error)))

    async def _run_calls(self, calls: Sequence[Call]) -> None:
        """Make calls side by side. What has an effect is announced in the journal first."""
        found_open = {call.id for call in calls if call.intended}
        await self.announce([call for call in calls if call.id not in found_open], self.profile.tools)
        async with _first_error_wins() as group:
            for call in calls:
                group.create_task(
                    self.run_call(call, self.profile.tools.get(call.name), recovered=call.id in found_open)
                )

    async def announce(self, calls: Iterable[Call], tools: Mapping[str, Tool]) -> None:
        stamp = self.stamp()
        intents = [
            ToolCalled(
                at_ms=stamp.at_ms,
                by=stamp.by,
                fence=stamp.fence,
                call_id=call.id,
                name=call.name,
                arguments=call.arguments,
            )
            for call in calls
            if (tool := tools.get(call.name)) is not None and tool.effect != "read"
        ]
        await self.write([Draft(LOG, intent) for intent in intents])

    async def run_call(self, call: Call, tool: Tool | None, *, recovered: bool) -> None:
        if tool is None:
            gone = ToolResult(content=f"{call.name} is not a tool of this agent any more", is_error=True)
            await self._note_result(call, gone)
            return
        if not self.lease.held():
            raise Fenced(f"the lease of {self.lease_key} ran out before {call.name} was called")
        await self._show("tool", call.name)
        with telemetry.tool_span(self.profile.agent, self.run_id, call.name, call.id) as span:
            result = await self._outcome(call, tool, recovered=recovered)
            if result is None:
                span.failed("unknown")
            elif result.is_error:
                span.failed("tool_error")
        await self._note_result(call, result)

    async def _outcome(self, call: Call, tool: Tool, *, recovered: bool) -> ToolResult | None:
        """What a call gives; None where it may have been made before a crash and nobody can tell."""
        context = ToolContext(
            key=f"{self.run_id}.{self.thread}.{call.id}",
            run=self.run_id,
            thread=self.thread,
            agent=self.profile.agent,
            workspace=self.workspace(f"{self.run_id}.{self.thread}.{call.id}"),
        )
        try:
            arguments = msgspec.convert(call.arguments, tool.arguments)
            if recovered and tool.effect == "irreversible":
                found = None if tool.lookup is None else await tool.lookup(arguments, context)
                return None if found is None else to_result(found)
            return to_result(await tool.function(arguments, context))
        except Fenced:
            raise
        except Exception as error:
            # Whatever a tool raises is its result: the model reads it and decides.
            logger.info("tool %s failed: %s", call.name, type(error).__name__)
            return failure(call.name, error)

    async def _note_result(self, call: Call, result: ToolResult | None) -> None:
        stamp = self.stamp()
        entry = ToolReturned(
            at_ms=stamp.at_ms,
            by=stamp.by,
            fence=stamp.fence,
            call_id=call.id,
            name=call.name,
            content=UNKNOWN_OUTCOME if result is None else writable(result.content),
            status="unknown" if result is None else "error" if result.is_error else "ok",
            files=() if result is None else result.files,
        )
        await self.write((Draft(LOG, entry),))

    async def _run_handler(self, mail: Received | None) -> None:
        """Run the Python handler from its start; steps that had returned are not repeated."""
        outcome = await run_handler(self, mail)
        opener = mail if mail is not None and mail.subject not in self.state.consumed else None
        try:
            await self._answer(outcome, opener)
        except (UnwritableMessage, PayloadTooLarge) as error:
            await self._answer(Outcome(status="failed", code="handler_failed", summary=str(error)), opener)

    async def _answer(self, outcome: Outcome, opener: Received | None = None) -> None:
        """Reply to all that the opener has sent so far."""
        answers = self.state.newest if opener is None else opener.subject
        due = reply_to_opener(self.state, self.stamp(), outcome, answers=answers, opener=opener)
        await self.write((Draft(due.to, due.entry),))

    async def _fire_timer(self, late: Sequence[str]) -> None:
        found = await asyncio.gather(*(self._has_started(thread) for thread in late))
        stamp = self.stamp()
        unstarted = tuple(thread for thread, started in zip(late, found, strict=True) if not started)
        entry = TimerFired(at_ms=stamp.at_ms, by=stamp.by, fence=stamp.fence, unstarted=unstarted)
        await self.write((Draft(LOG, entry),))

    async def _has_started(self, thread: str) -> bool:
        specialist = self.state.children[thread].specialist
        first = EntryAddress(LOG, self.run_id, thread, specialist, 0)
        return await self.bus.journals.last_of(first.guard) is not None

    async def _set_timer(self) -> None:
        """One timer a thread: its next deadline. One that is set to an earlier time will do."""
        deadline_ms = self.state.next_deadline_ms
        known_ms = self.worker.timers.get((self.run_id, self.thread), 0)
        still_to_come = known_ms > self.due_ms and known_ms > int(time.time() * 1000)
        if deadline_ms is None:
            if still_to_come:
                await self.bus.timers.cancel(self._timer("set"))
                self.worker.timers.pop((self.run_id, self.thread))
        elif not still_to_come or known_ms > deadline_ms:
            await self.bus.timers.set(self._timer("set"), ThreadDue(at_ms=deadline_ms), deadline_ms)
            self.worker.timers[self.run_id, self.thread] = deadline_ms

    def _timer(self, phase: Literal["set", "due"]) -> TimerAddress:
        return TimerAddress(phase, self.profile.agent, self.run_id, self.thread, DUE)

    async def _reject(self, step: Reject) -> None:
        delivery = next((each for each in self.deliveries if each.subject == step.mail.subject), None)
        if delivery is not None:  # a mail that was only heard is put away when it is delivered
            await self.worker.reject(delivery.subject, delivery.seq, delivery.headers, step.code, step.reason)
        self.rejected.add(step.mail.subject)

    async def _show(self, step: Literal["model", "tool"], name: str) -> None:
        event = StepStarted(
            agent=self.profile.agent,
            replica=self.worker.replica,
            step=step,
            name=name,
            at_ms=int(time.time() * 1000),
        )
        await self.bus.live.publish(LiveAddress(self.run_id, self.thread), event)

    def workspace(self, key: str) -> Workspace:
        return Workspace(self.bus.files, self.run_id, agent=self.profile.agent, thread=self.thread, key=key)

    # Settling

    async def _settle(self) -> None:
        """The thread rests: ack what it took in, and put back what has to wait for an earlier mail."""
        for delivery in self._take_deliveries():
            taken = delivery.subject in self.state.consumed or delivery.subject in self.rejected
            if taken or delivery.subject.startswith("shanty.timer."):
                await delivery.ack()
            else:
                await delivery.nak(random.uniform(*BUSY_DELAY_S))

    async def put_back(self, delay_s: float) -> None:
        for delivery in self._take_deliveries():
            await delivery.nak(delay_s)

    def _take_deliveries(self) -> list[Delivery]:
        taken, self.deliveries = self.deliveries, []
        return taken


@asynccontextmanager
async def _first_error_wins() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group that raises the first error itself, not a group of one."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


def writable(content: str) -> str:
    """A tool's text as it can be journaled: not too long, and in UTF-8."""
    content = content.encode(errors="replace").decode()
    if len(content) <= MAX_RESULT_CHARACTERS:
        return content
    cut = len(content) - MAX_RESULT_CHARACTERS
    return f"{content[:MAX_RESULT_CHARACTERS]}\n[{cut} more characters were cut; ask for a smaller part]"
