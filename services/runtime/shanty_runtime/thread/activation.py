"""One worker's hold on one thread: from the mail that wakes it until it rests.

An activation takes the thread's lease, reads its journal, and then does one step after the other as `decide` says.
(The one answer that needs neither is explained in `held`.)
Each step ends in an entry of the journal, so a crash between any two loses nothing: the mail that woke the thread
is acked only when the thread rests, and whoever gets it again goes on from the journal's end.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Literal

from shanty_protocol import (
    DelegationSent,
    EntryAddress,
    Outcome,
    ProtocolError,
    ThreadDue,
    ThreadTakenOver,
    TimerAddress,
    TimerFired,
    UnwritableMessage,
)
from shanty_protocol.ids import LOG
from shanty_protocol.timers import DUE
from shanty_runtime import telemetry
from shanty_runtime.bus import Busy, Delivery
from shanty_runtime.errors import Fenced, JournalExpired, PayloadTooLarge
from shanty_runtime.telemetry.metrics import ActivationEnd
from shanty_runtime.thread.asking import ask_model, compact
from shanty_runtime.thread.calls import run_calls
from shanty_runtime.thread.decide import (
    AskModel,
    AskPeople,
    Compact,
    Draft,
    FinishFanOut,
    FireTimer,
    Park,
    ReadItems,
    Received,
    Reject,
    RunCalls,
    RunHandler,
    StartFanOut,
    Step,
    Write,
    asked_to_stop,
    decide,
    interject,
    reply_to_asker,
)
from shanty_runtime.thread.fanning import finish_fan_out, read_items, start_fan_out
from shanty_runtime.thread.fenced import withdraw
from shanty_runtime.thread.handling import run_handler
from shanty_runtime.thread.held import HeldThread
from shanty_runtime.thread.hiring import played
from shanty_runtime.thread.news import News
from shanty_runtime.thread.permitting import ask_people
from shanty_runtime.thread.state import State
from shanty_runtime.thread.workplace import Loaded, Workplace

logger = logging.getLogger("shanty.thread")

BUSY_DELAY_S = (0.25, 0.5)
"""How long a mail is put back when another worker has its thread. That worker hears it too, and reads it sooner."""
MOST_IN_HAND = 8
"""Mails of one thread that are held back from the server: a worker's pull has room for few, and for many threads."""
UNREADABLE_DELAY_S = 30.0
"""How long a mail is put back when its thread's journal has entries this version does not know."""

PATIENT_DELIVERIES = 20
"""How often a mail that waits for an earlier one comes back as soon as one whose thread is taken; then less often."""


def waiting_delay_s(delivered: int) -> float:
    """How long a mail is put back that waits for an earlier one. If that one is a dead letter, it may be days."""
    times = 1 << min(max(0, delivered - PATIENT_DELIVERIES), 10)
    return min(random.uniform(*BUSY_DELAY_S) * times, UNREADABLE_DELAY_S)


class Activation:
    """Owned by a Worker, which posts mail to it and forgets it once `run` returns."""

    def __init__(self, workplace: Workplace, run: str, thread: str) -> None:
        self.workplace = workplace
        self.run_id, self.thread = run, thread
        self.lease_key = workplace.name_of(run, thread)
        self.deliveries: list[Delivery] = []
        self.handed_back = False
        """Whether it ended before the thread rested, because the worker is draining."""
        self._waiting: dict[str, Received] = {}
        self._rejected: set[str] = set()
        self._due_ms = 0
        self._news = News()
        self._held = self._taken_up()

    def post(self, mail: Received, delivery: Delivery | None = None) -> None:
        """Hand over a mail; without a delivery it was only heard, and its delivery will come by itself."""
        self._waiting.setdefault(mail.subject, mail)
        self._news.put()
        if delivery is not None:
            self.deliveries.append(delivery)
            # What was rejected when it was only heard can be put away now, so it is looked at once more.
            self._rejected.discard(mail.subject)

    def post_timer(self, due: ThreadDue, delivery: Delivery) -> None:
        self._due_ms = max(self._due_ms, due.at_ms)
        self._news.put()
        self.deliveries.append(delivery)

    async def run(self) -> None:
        """Work until the thread rests. Returns with every delivery acked or put back."""
        if self._held.lease is not None or self._held.state.next_n:
            self._held = self._taken_up()
        alone = self._may_be_all()
        try:
            if not alone:
                self._held.listen()
                lease = await self.workplace.bus.leases.take(self.lease_key, self.workplace.replica)
                if isinstance(lease, Busy):
                    telemetry.metrics.activation_ended(self.workplace.profile.agent, "busy")
                    await self.put_back(random.uniform(*BUSY_DELAY_S))
                    return
                self._held.lease = lease
            with telemetry.log_context(run=self.run_id, thread=self.thread):
                await self._take_up(self.deliveries[0], alone=alone)
        finally:
            self._held.stop_listening()

    async def hand_back(self) -> None:
        """Let another worker go on. The lease goes first: whoever gets the mail must not find the thread taken."""
        self.handed_back = True
        if self._held.lease is not None:
            await self._held.lease.release()
        await self.put_back(0)

    async def put_back(self, delay_s: float) -> None:
        """Leave the mail in hand to whoever gets it next."""
        for delivery in self._take_deliveries():
            await delivery.nak(delay_s)

    # One hold

    def _taken_up(self) -> HeldThread:
        """The thread as it is before anything is known of it."""
        state = State(run=self.run_id, thread=self.thread, profile=self.workplace.profile)
        return HeldThread(self.workplace, None, state, self._waiting)

    def _may_be_all(self) -> bool:
        """Whether what wakes the thread may be all it is ever told: then its answer may need no lease, see `held`."""
        if self.workplace.profile.handler is None or len(self.deliveries) != 1 or len(self._waiting) != 1:
            return False
        delivery, known = self.deliveries[0], self.workplace.knows(self.run_id, self.thread)
        mail = self._waiting.get(delivery.subject)
        first = mail is not None and isinstance(mail.entry, DelegationSent) and not mail.entry.after
        return first and delivery.delivered == 1 and not known

    async def _load(self) -> Loaded:
        loaded = await self.workplace.load(self.run_id, self.thread)
        if loaded.state.team not in ("", self.workplace.profile.team):
            raise Fenced(f"it belongs to team {loaded.state.team}")
        self._held.go_on(loaded.state)
        return loaded

    async def _take_up(self, trigger: Delivery, *, alone: bool) -> None:
        end: ActivationEnd = "failed"
        try:
            loaded = Loaded(self._held.state, {}) if alone else await self._load()
            with self._spans(trigger, loaded):
                rested = await self._work()
            if rested:
                await self._settle()
            else:
                await self.hand_back()
            end = "rested" if rested else "handed_back"
        except ProtocolError as error:
            logger.error("the journal of %s cannot be read, so it is left alone: %s", self.lease_key, error)
            await self._leave(UNREADABLE_DELAY_S)
            end = "unreadable"
        except JournalExpired as error:
            await self._put_away(str(error))
            end = "rested"
        except Fenced as error:
            logger.info("left %s to another worker: %s", self.lease_key, error)
            await self._leave(random.uniform(*BUSY_DELAY_S))
            end = "fenced"
        except asyncio.CancelledError:
            end = "handed_back"
            self.workplace.forget(self.run_id, self.thread)
            await self.hand_back()
            raise
        finally:
            # Whatever else goes wrong counts as a death of this worker: the lease runs out instead of being given
            # back, the next holder finds it abandoned, and a thread that does this each time is given up.
            telemetry.metrics.activation_ended(self.workplace.profile.agent, end)
            lease = self._held.lease
            if end != "failed":
                if lease is not None:
                    await lease.release()
            else:
                self.workplace.forget(self.run_id, self.thread)
                if lease is not None:
                    lease.abandon()

    async def _work(self) -> bool:
        """Step after step. True where the thread rests, False where the worker is draining and hands it back."""
        abandoned, read_to = self._held.abandoned, self._held.state.next_n
        while not self.workplace.draining:
            self._news.clear()
            if self._held.lease is None and self._held.state.next_n:  # it has answered, and there is more
                await self._go_on_under_lease()
                continue
            if self._held.lease is not None and not self._held.lease.held():
                raise Fenced("the lease ran out before the next step")
            step = self._decide(abandoned=abandoned)
            if self._held.lease is None and not isinstance(step, RunHandler):
                await self._go_on_under_lease()
                continue
            match step:
                case Park():
                    await self._be_sure_that_nothing_is_due(read_to)
                    if self.workplace.has_timers:
                        await self._set_timer()
                    # Mail may have come while the timer was being set.
                    if not self._news.come or isinstance(self._decide(abandoned=False), Park):
                        return True
                case Reject():
                    await self._reject(step)
                case Write():
                    await self._held.write(step.drafts)
                    await self._ack_surplus()
                    abandoned = abandoned and not isinstance(step.drafts[0].entry, ThreadTakenOver)
                case FireTimer():
                    await self._fire_timer(step.late)
                case AskModel():
                    await self._attentively(ask_model(self._held))
                case Compact():
                    await self._attentively(compact(self._held))
                case AskPeople():
                    await ask_people(self._held, step.calls)
                case RunCalls():
                    await self._attentively(run_calls(self._held, step.calls, self._held.profile.tools))
                case StartFanOut():
                    await start_fan_out(self._held, step.call)
                case ReadItems():
                    await read_items(self._held, step.call_id)
                case FinishFanOut():
                    await finish_fan_out(self._held, step.call_id)
                case RunHandler():
                    await self._run_handler(step.mail)
                    if self._held.lease is None and self._held.state.next_n and not self._news.come:
                        return True  # it has answered, and that was all
        return False

    async def _go_on_under_lease(self) -> None:
        await self._held.hold()
        await self._load()

    async def _be_sure_that_nothing_is_due(self, read_to: int) -> None:
        """A timer came, and the journal says there is nothing to do. A replica that lags may have shown an old one.

        Elsewhere the next write would be refused and tell; here none follows, and the timer would have come in vain.
        """
        state, journals = self._held.state, self.workplace.bus.journals
        if self._due_ms and state.next_n == read_to and await journals.is_taken(state.address(LOG)):
            raise Fenced("what was read of its journal is not all of it")

    def _decide(self, *, abandoned: bool) -> Step:
        self._held.due_ms = self._due_ms
        return decide(self._held.state, self._mails(), self._held.stamp(), abandoned=abandoned)

    def _mails(self) -> list[Received]:
        consumed = self._held.state.consumed
        for subject in [each for each in self._waiting if each in consumed]:
            del self._waiting[subject]
        return [mail for subject, mail in self._waiting.items() if subject not in self._rejected]

    # Steps that take a while

    async def _attentively(self, work: Coroutine[None, None, None]) -> None:
        """Do a step, and meanwhile take in advice and requests to stop."""
        step = asyncio.create_task(work)
        try:
            await self._news_or_end(step)  # what had come before was decided on
            while not step.done():
                self._news.clear()
                if await self._interrupted(step):
                    return
                await self._news_or_end(step)
            step.result()
        finally:
            if not step.done():
                step.cancel()
                await asyncio.gather(step, return_exceptions=True)

    async def _interrupted(self, step: asyncio.Task[None]) -> bool:
        """Take in what cannot wait for the end of the step. True where it ended the step."""
        held, mails = self._held, self._mails()
        stop = asked_to_stop(held.state, mails)
        if stop == "abort":
            await withdraw(held)
            return True
        if held.state.stopping is not None and held.state.stopping.until_ms <= held.stamp().at_ms:
            await withdraw(held)
            return True
        if (draft := interject(held.state, mails, held.stamp())) is not None:
            await held.write((draft,))
        return not held.state.owes_reply

    async def _news_or_end(self, step: asyncio.Task[None]) -> None:
        """Until mail comes, the step ends, or the time to wrap up is over."""
        stopping = self._held.state.stopping
        left_s = None if stopping is None else max(0.0, (stopping.until_ms - self._held.stamp().at_ms) / 1000)
        waited_for: tuple[asyncio.Future[None], ...] = (step, self._news.arrival())
        await asyncio.wait(waited_for, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)

    async def _settle(self) -> None:
        """The thread rests: ack what it took in, and put back what has to wait for an earlier mail."""
        wake_ms = None if self.workplace.has_timers else self._held.state.next_wake_ms
        for delivery in self._take_deliveries():
            taken = delivery.subject in self._held.state.consumed
            if taken and wake_ms is not None:
                # What the thread took in long ago wakes it when it is delivered again.
                await delivery.nak((wake_ms - self.workplace.bus.clock.now_ms()) / 1000)
                wake_ms = None
            elif taken or delivery.subject in self._rejected or delivery.subject.startswith("shanty.timer."):
                await delivery.ack()
            else:
                await delivery.nak(waiting_delay_s(delivery.delivered))

    async def _ack_surplus(self) -> None:
        """Ack what was taken in, long before the thread rests. One is kept: should we die, it wakes the thread."""
        if len(self.deliveries) > MOST_IN_HAND:
            taken = [each for each in self.deliveries if each.subject in self._held.state.consumed]
            for delivery in taken[1:]:
                await delivery.ack()
            self.deliveries = [each for each in self.deliveries if not each.settled]

    async def _leave(self, delay_s: float) -> None:
        """Give the thread up: what is known of it here may be wrong, and its mail is for somebody else."""
        self.workplace.forget(self.run_id, self.thread)
        await self.put_back(delay_s)

    async def _put_away(self, reason: str) -> None:
        """Nobody can go on with this thread, now or later: its mail becomes dead letters."""
        self.workplace.forget(self.run_id, self.thread)
        for delivery in self._take_deliveries():
            if delivery.subject in self._waiting:
                await self.workplace.reject(delivery.subject, delivery.seq, delivery.headers, "expired", reason)
            await delivery.ack()

    def _take_deliveries(self) -> list[Delivery]:
        taken, self.deliveries = self.deliveries, []
        return taken

    # Steps

    async def _run_handler(self, mail: Received | None) -> None:
        """Run the Python handler from its start; steps that had returned are not repeated."""
        task, aborted = asyncio.current_task(), False
        assert task is not None, "an activation is a task"

        def listen() -> None:
            # A handler names what it has begun itself, so nothing is taken in before it has ended.
            nonlocal aborted
            stop = asked_to_stop(self._held.state, self._mails())
            self._held.stop_requested = bool(stop)
            if stop == "abort" and not aborted:
                aborted = True
                task.cancel()

        self._held.stop_requested = False
        self._news.tell = listen
        try:
            outcome = await run_handler(self._held, mail)
        except asyncio.CancelledError:
            if not aborted or task.uncancel():
                raise
            return
        finally:
            self._news.tell = None
        if aborted and task.uncancel():
            raise asyncio.CancelledError
        if outcome is None or aborted:
            return
        opener = mail if mail is not None and mail.subject not in self._held.state.consumed else None
        try:
            await self._answer(outcome, opener)
        except (UnwritableMessage, PayloadTooLarge) as error:
            await self._answer(Outcome(status="failed", code="handler_failed", summary=str(error)), opener)

    async def _answer(self, outcome: Outcome, opener: Received | None = None) -> None:
        """Reply to all that was asked so far."""
        held = self._held
        due = reply_to_asker(held.state, held.stamp(), outcome, opener)
        await held.write((Draft(due.to, due.entry),))

    async def _fire_timer(self, late: Sequence[str]) -> None:
        """Write down that a deadline has passed, and which of the late threads nobody had even started on."""
        found = await asyncio.gather(*(self._has_started(thread) for thread in late))
        stamp = self._held.stamp()
        unstarted = tuple(thread for thread, started in zip(late, found, strict=True) if not started)
        entry = TimerFired(at_ms=stamp.at_ms, by=stamp.by, fence=stamp.fence, unstarted=unstarted)
        await self._held.write((Draft(LOG, entry),))

    async def _has_started(self, thread: str) -> bool:
        """Whether its first entry is there: a step of its own, or its reply. A lead in a zone may read no other."""
        specialist = self._held.state.children[thread].specialist
        to = (LOG, self.workplace.profile.agent)
        first = [EntryAddress(each, self.run_id, thread, specialist, 0).subject for each in to]
        return bool(await self.workplace.bus.journals.get_all(first))

    async def _set_timer(self) -> None:
        """One timer a thread: when it has to wake next. One that is set to an earlier time will do."""
        key, timers = (self.run_id, self.thread), self.workplace.timers
        deadline_ms = self._held.state.next_wake_ms
        known_ms = timers.get(key, 0)
        still_to_come = known_ms > max(self._due_ms, self.workplace.bus.clock.now_ms())
        if deadline_ms is None:
            if still_to_come:
                await self.workplace.bus.timers.cancel(self._timer("set"))
            timers.pop(key, None)
        elif not still_to_come or known_ms > deadline_ms:
            await self.workplace.bus.timers.set(self._timer("set"), ThreadDue(at_ms=deadline_ms), deadline_ms)
            timers[key] = deadline_ms

    def _timer(self, phase: Literal["set", "due"]) -> TimerAddress:
        return TimerAddress(phase, self.workplace.profile.agent, self.run_id, self.thread, DUE)

    async def _reject(self, step: Reject) -> None:
        if self._held.lease is None or not self._held.lease.held():
            raise Fenced("what cannot be taken in here may be for whoever has the thread now")
        if await self.workplace.bus.journals.get(self._held.state.address(LOG).guard) is not None:
            raise Fenced("it may be taken in by what another worker has written since this one read the journal")
        delivery = next((each for each in self.deliveries if each.subject == step.mail.subject), None)
        if delivery is not None:  # a mail that was only heard is put away when it is delivered
            await self.workplace.reject(delivery.subject, delivery.seq, delivery.headers, step.code, step.reason)
        self._rejected.add(step.mail.subject)

    # Tracing

    def _spans(self, trigger: Delivery, loaded: Loaded) -> AbstractContextManager[object]:
        """One turn of the agent, caused by the mail that woke it."""
        if telemetry.recording():
            return self._turn_spans(trigger, loaded)
        mail = self._waiting.get(trigger.subject)
        return telemetry.process_span(self._timer("due") if mail is None else mail.address, trigger.headers)

    @contextmanager
    def _turn_spans(self, trigger: Delivery, loaded: Loaded) -> Iterator[None]:
        """A lead's turn is a piece of its team's workflow."""
        mail = self._waiting.get(trigger.subject)
        opening = mail.entry if mail is not None and isinstance(mail.entry, DelegationSent) else None
        profile = loaded.state.profile
        if opening is not None and opening.hired is not None:
            profile = played(profile, opening.hired)
        address = self._timer("due") if mail is None else mail.address
        # On a takeover the trace goes on from where the worker before us broke off.
        before = telemetry.span_context_of(loaded.last_headers) if self._held.abandoned else None
        with ExitStack() as spans:
            spans.enter_context(
                telemetry.process_span(
                    address,
                    trigger.headers,
                    () if before is None else (before,),
                    seq=trigger.seq,
                    delivered=trigger.delivered,
                    size_bytes=len(trigger.data),
                    server=self.workplace.bus.server_address,
                )
            )
            if profile.role == "lead":
                spans.enter_context(telemetry.workflow_span(profile.team, self.run_id))
            caller = (mail.address.agent, mail.address.thread) if mail and opening else loaded.state.opener
            spans.enter_context(
                telemetry.agent_span(
                    profile.name,
                    self.run_id,
                    self.thread,
                    team=profile.team,
                    description=profile.description,
                    version=profile.version,
                    caller=caller,
                )
            )
            yield
