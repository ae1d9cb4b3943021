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
    TimerAddress,
    TimerFired,
    UnwritableMessage,
)
from shanty_protocol.ids import LOG
from shanty_protocol.timers import DUE
from shanty_runtime import telemetry
from shanty_runtime.bus import Busy, Delivery, Lease, written
from shanty_runtime.errors import Fenced, JournalExpired, PayloadTooLarge
from shanty_runtime.telemetry.metrics import ActivationEnd
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
    Stamp,
    StartFanOut,
    Step,
    Write,
    answer_at_once,
    asked_to_stop,
    decide,
    interject,
    may_be_opened_by,
    reply_to_asker,
)
from shanty_runtime.thread.hiring import played
from shanty_runtime.thread.state import State
from shanty_runtime.worker.asking import ask_model, compact
from shanty_runtime.worker.calls import run_calls
from shanty_runtime.worker.fanning import finish_fan_out, read_items, start_fan_out
from shanty_runtime.worker.fenced import withdraw
from shanty_runtime.worker.handling import run_handler
from shanty_runtime.worker.held import HeldThread
from shanty_runtime.worker.news import News
from shanty_runtime.worker.patience import waited_in_vain
from shanty_runtime.worker.permitting import ask_people
from shanty_runtime.worker.workplace import SOME_TIME_MS, Loaded, Workplace

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
        self.task: asyncio.Task[None]
        """What runs it: whoever makes it says so."""
        self.deliveries: list[Delivery] = []
        self.handed_back = False
        """Whether it ended before the thread rested, because the worker is draining."""
        self._waiting: dict[str, Received] = workplace.patience.remembered(run, thread)
        self._rejected: set[str] = set()
        self._due_ms = 0
        self._is_timer_known = True
        """Whether no timer came that was set by somebody else, and so took the place of ours or gave way to it."""
        self._news = News()
        self.stop_requested = False
        """A Python handler ends before its next step."""
        self._thread: HeldThread | None = None

    @property
    def lease_key(self) -> str:
        return self.workplace.name_of(self.run_id, self.thread)

    @property
    def held(self) -> HeldThread:
        """The thread as far as it is known: before its journal is read, nothing is."""
        if self._thread is None:
            state = State(run=self.run_id, thread=self.thread, profile=self.workplace.profile)
            self._thread = HeldThread(self.workplace, None, state, self._waiting)
        return self._thread

    @property
    def untouched(self) -> bool:
        """Whether nothing was done that `held` would have to know."""
        return self._thread is None

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
        if due.at_ms != self.workplace.timers.get((self.run_id, self.thread)):
            self._is_timer_known = False
        self._news.put()
        self.deliveries.append(delivery)

    async def run(self) -> None:
        """Work until the thread rests. Returns with every delivery acked or put back."""
        self._thread = None
        opener = self._may_be_all()
        try:
            if opener is None:
                self.held.listen()
                lease = await self.workplace.bus.leases.take(self.lease_key, self.workplace.replica)
                if isinstance(lease, Busy):
                    telemetry.metrics.activation_ended(self.workplace.profile.agent, "busy")
                    await self.put_back(random.uniform(*BUSY_DELAY_S))
                    return
                self.held.lease = lease
            with telemetry.log_context(run=self.run_id, thread=self.thread):
                await self._take_up(self.deliveries[0], opener)
        finally:
            if not self.untouched:
                self.held.stop_listening()

    async def hand_back(self) -> None:
        """Let another worker go on. The lease goes first: whoever gets the mail must not find the thread taken."""
        self.handed_back = True
        if not self.untouched:
            await self.held.release()
        await self.put_back(0)

    async def put_back(self, delay_s: float) -> None:
        """Leave the mail in hand to whoever gets it next."""
        for delivery in self._take_deliveries():
            await delivery.nak(delay_s)

    # One hold

    @property
    def _lease(self) -> Lease | None:
        return None if self._thread is None else self._thread.lease

    def _may_be_all(self) -> Received | None:
        """What wakes the thread, where that may be all it is ever told: its answer may need no lease, see `held`."""
        profile = self.workplace.profile
        if profile.handler is None or len(self.deliveries) != 1 or len(self._waiting) != 1:
            return None
        delivery = self.deliveries[0]
        mail = self._waiting.get(delivery.subject)
        if mail is None or delivery.delivered != 1 or self.workplace.knows(self.run_id, self.thread):
            return None
        return mail if may_be_opened_by(profile, self.thread, mail) else None

    async def _load(self) -> Loaded:
        loaded = await self.workplace.load(self.run_id, self.thread)
        if loaded.state.team not in ("", self.workplace.profile.team):
            raise Fenced(f"it belongs to team {loaded.state.team}")
        self.held.go_on(loaded.state)
        return loaded

    async def _take_up(self, trigger: Delivery, opener: Received | None) -> None:
        """`opener`: the delegation, where it may be all there is."""
        end: ActivationEnd = "failed"
        try:
            loaded = await self._load() if opener is None else None
            with self._spans(trigger, loaded):
                rested = (opener is not None and await self._answered_at_once(opener)) or await self._work()
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
            if end == "failed":
                self.workplace.forget(self.run_id, self.thread)
                if self._lease is not None:
                    self._lease.abandon()
            elif not self.untouched:
                await self.held.release()

    async def _answered_at_once(self, opener: Received) -> bool:
        """Run the handler, and nothing else. True where it has answered without a step, and that was all."""
        if self.workplace.draining:
            return False
        self._news.clear()
        answered = await self._run_handler(opener)
        return answered and self._lease is None and not self._news.come

    async def _work(self) -> bool:
        """Step after step. True where the thread rests, False where the worker is draining and hands it back."""
        read_to = self.held.state.next_n
        while not self.workplace.draining:
            self._news.clear()
            if self._lease is None:  # there is more to it than its answer
                await self.held.hold()
                await self._load()
            self.held.check_lease("the next step")
            step = self._decide(abandoned=self.held.takes_over)
            if isinstance(step, (AskModel, Compact)):
                await self.held.confirm_lease("its model was asked")
                if not await self.held.has_read_all():  # another's reply may be on its way: one of us gets the place
                    step = self._decide(abandoned=True)
            match step:
                case Park():
                    await self._be_sure_that_nothing_is_due(read_to)
                    if self.workplace.has_timers:
                        await self._set_timer()
                    # Mail may have come while the timer was being set, or another timer.
                    if not self._news.come or (self._is_timer_known and self._has_to_wait()):
                        return True
                case Reject():
                    await self._reject(step)
                case Write():
                    await self.held.write(step.drafts)
                    await self._ack_surplus()
                case FireTimer():
                    await self._fire_timer(step.late)
                case AskModel():
                    await self._attentively(ask_model(self.held))
                case Compact():
                    await self._attentively(compact(self.held))
                case AskPeople():
                    await ask_people(self.held, step.calls)
                case RunCalls():
                    await self._attentively(run_calls(self.held, step.calls, self.held.profile.tools))
                case StartFanOut():
                    await start_fan_out(self.held, step.call)
                case ReadItems():
                    await read_items(self.held, step.call_id)
                case FinishFanOut():
                    await finish_fan_out(self.held, step.call_id)
                case RunHandler():
                    await self._run_handler(step.mail)
        return False

    async def _be_sure_that_nothing_is_due(self, read_to: int) -> None:
        """A timer came, and the journal says there is nothing to do. A replica that lags may have shown an old one.

        Elsewhere the next write would be refused and tell; here none follows, and the timer would have come in vain.
        """
        state, journals = self.held.state, self.workplace.bus.journals
        if self._due_ms and state.next_n == read_to and await journals.is_taken(state.address(LOG)):
            raise Fenced("what was read of its journal is not all of it")

    def _has_to_wait(self) -> bool:
        return isinstance(self._decide(abandoned=False), Park)

    def _decide(self, *, abandoned: bool) -> Step:
        self.held.due_ms = self._due_ms
        return decide(self.held.state, self._mails(), self.held.stamp(), abandoned=abandoned)

    def _mails(self) -> list[Received]:
        consumed = self.held.state.consumed
        for subject in [each for each in self._waiting if each in consumed]:
            del self._waiting[subject]
        return [mail for subject, mail in self._waiting.items() if subject not in self._rejected]

    # Steps that take a while

    async def _attentively(self, work: Coroutine[None, None, None]) -> None:
        """Do a step, and meanwhile take in advice and requests to stop."""
        step = asyncio.create_task(work)
        step.add_done_callback(lambda _: self._news.wake())
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
        await self._put_back_surplus()
        held, mails = self.held, self._mails()
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
        if step.done():
            return
        stopping = self.held.state.stopping
        left_s = None if stopping is None else max(0.0, (stopping.until_ms - self.held.stamp().at_ms) / 1000)
        await self._news.wait(left_s)

    async def _settle(self) -> None:
        """The thread rests: ack what it took in, and put back what has to wait for an earlier mail."""
        if self.untouched:
            for delivery in self._take_deliveries():
                await delivery.ack()
            return
        wake_ms = None if self.workplace.has_timers else self.held.state.next_wake_ms
        for mail in self._waits_in_vain():
            await self._reject(Reject(mail, "out_of_order", waited_in_vain(mail.entry)))
            self.workplace.patience.given_up(mail)
        self.workplace.patience.rested(self.run_id, self.thread, self.held.state.consumed, self._rejected)
        for delivery in self._take_deliveries():
            taken = delivery.subject in self.held.state.consumed
            if taken and wake_ms is not None:
                # What the thread took in long ago wakes it when it is delivered again.
                await delivery.nak((wake_ms - self.workplace.bus.clock.now_ms()) / 1000)
                wake_ms = None
            elif taken or delivery.subject in self._rejected or delivery.subject.startswith("shanty.timer."):
                await delivery.ack()
            else:
                await delivery.nak(waiting_delay_s(delivery.delivered))

    def _waits_in_vain(self) -> list[Received]:
        """Mail of senders that leave too much waiting for what does not come."""
        if self.held.lease is None:
            return []
        consumed, over = self.held.state.consumed, self.workplace.patience.is_over
        return [
            mail
            for each in self.deliveries
            if each.subject not in consumed and each.subject not in self._rejected
            if (mail := self._waiting.get(each.subject)) is not None
            if over(mail, self.run_id, self.thread, len(each.data))
        ]

    async def _ack_surplus(self) -> None:
        """Ack what was taken in, long before the thread rests. One is kept: should we die, it wakes the thread."""
        if len(self.deliveries) > MOST_IN_HAND:
            taken = [each for each in self.deliveries if each.subject in self.held.state.consumed]
            for delivery in taken[1:]:
                await delivery.ack()
            self.deliveries = [each for each in self.deliveries if not each.settled]

    async def _put_back_surplus(self) -> None:
        """Leave room to other threads while a step takes long. What is put back is known here all the same."""
        while len(self.deliveries) > MOST_IN_HAND:
            delivery = self.deliveries.pop()
            await delivery.nak(waiting_delay_s(delivery.delivered))

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

    async def _run_handler(self, mail: Received | None) -> bool:
        """Run the Python handler from its start; steps that had returned are not repeated. True: it has answered."""
        task, aborted = self.task, False

        def listen() -> None:
            # A handler names what it has begun itself, so nothing is taken in before it has ended.
            nonlocal aborted
            stop = asked_to_stop(self.held.state, self._mails())
            self.stop_requested = bool(stop)
            if stop == "abort" and not aborted:
                aborted = True
                task.cancel()

        self.stop_requested = False
        self._news.tell = listen
        try:
            outcome = await run_handler(self, mail)
        except asyncio.CancelledError:
            if not aborted or task.uncancel():
                raise
            return False
        finally:
            self._news.tell = None
        if aborted and task.uncancel():
            raise asyncio.CancelledError
        if outcome is None or aborted:
            return False
        try:
            await self._answer(outcome, mail)
        except (UnwritableMessage, PayloadTooLarge) as error:
            await self._answer(Outcome(status="failed", code="handler_failed", summary=str(error)), mail)
        return True

    async def _answer(self, outcome: Outcome, opener: Received | None) -> None:
        """Reply to all that was asked so far. `opener`: the delegation, where no entry named it before."""
        if opener is not None and self.untouched and not telemetry.recording():
            await self._answer_at_once(outcome, opener)
            return
        held = self.held
        unnamed = opener if opener is not None and opener.subject not in held.state.consumed else None
        due = reply_to_asker(held.state, held.stamp(), outcome, unnamed)
        await held.write((Draft(due.to, due.entry),))

    async def _answer_at_once(self, outcome: Outcome, opener: Received) -> None:
        """What `held.write` does of a thread of which nothing is known but the delegation."""
        bus, agent = self.workplace.bus, self.workplace.profile.agent
        due = answer_at_once(opener, Stamp(bus.clock.now_ms(), self.workplace.replica, fence=0), outcome)
        address = EntryAddress(due.to, self.run_id, self.thread, agent, 0)
        placed = await bus.journals.place(written(address, due.entry), telemetry.inject())
        if not placed.ours:
            raise self.workplace.was_taken(self.run_id, self.thread, 0)
        telemetry.metrics.entry_written(address, due.entry, opener.entry.at_ms)

    async def _fire_timer(self, late: Sequence[str]) -> None:
        """Write down that a deadline has passed, and which of the late threads nobody had even started on."""
        found = await asyncio.gather(*(self._has_started(thread) for thread in late))
        stamp = self.held.stamp()
        unstarted = tuple(thread for thread, started in zip(late, found, strict=True) if not started)
        entry = TimerFired(at_ms=stamp.at_ms, by=stamp.by, fence=stamp.fence, unstarted=unstarted)
        await self.held.write((Draft(LOG, entry),))

    async def _has_started(self, thread: str) -> bool:
        """Whether its first entry is there: a step of its own, or its reply. A lead in a zone may read no other."""
        specialist = self.held.state.children[thread].specialist
        to = (LOG, self.workplace.profile.agent)
        first = [EntryAddress(each, self.run_id, thread, specialist, 0).subject for each in to]
        return bool(await self.workplace.bus.journals.get_all(first))

    async def _set_timer(self) -> None:
        """One timer a thread: when it has to wake next. One that is set to an earlier time will do."""
        key, timers = (self.run_id, self.thread), self.workplace.timers
        deadline_ms = self.held.state.next_wake_ms
        if not self._is_timer_known and key in timers:
            timers[key] = SOME_TIME_MS  # what was set here may stand no more
        self._is_timer_known = True
        known_ms = timers.get(key, 0)
        still_to_come = known_ms > max(self._due_ms, self.workplace.bus.clock.now_ms())
        if deadline_ms is None:
            if still_to_come:
                await self.workplace.bus.timers.cancel(self._timer("set"), before=self._confirm_lease)
            timers.pop(key, None)
        elif not still_to_come or known_ms > deadline_ms:
            due = ThreadDue(at_ms=deadline_ms)
            await self.workplace.bus.timers.set(self._timer("set"), due, deadline_ms, before=self._confirm_lease)
            timers[key] = deadline_ms

    async def _confirm_lease(self) -> None:
        """Before each try: a thread has one timer, and whoever has it by now has set it."""
        await self.held.confirm_lease("its timer was set")

    def _timer(self, phase: Literal["set", "due"]) -> TimerAddress:
        return TimerAddress(phase, self.workplace.profile.agent, self.run_id, self.thread, DUE)

    async def _reject(self, step: Reject) -> None:
        if self.held.lease is None or not self.held.lease.held():
            raise Fenced("what cannot be taken in here may be for whoever has the thread now")
        if await self.workplace.bus.journals.get(self.held.state.address(LOG).guard) is not None:
            raise Fenced("it may be taken in by what another worker has written since this one read the journal")
        delivery = next((each for each in self.deliveries if each.subject == step.mail.subject), None)
        if delivery is not None:  # a mail that was only heard is put away when it is delivered
            await self.workplace.reject(delivery.subject, delivery.seq, delivery.headers, step.code, step.reason)
        self._rejected.add(step.mail.subject)

    # Tracing

    def _spans(self, trigger: Delivery, loaded: Loaded | None) -> AbstractContextManager[object]:
        """One turn of the agent, caused by the mail that woke it. Nothing need be loaded for its first one."""
        if telemetry.recording():
            return self._turn_spans(trigger, loaded)
        mail = self._waiting.get(trigger.subject)
        return telemetry.process_span(self._timer("due") if mail is None else mail.address, trigger.headers)

    @contextmanager
    def _turn_spans(self, trigger: Delivery, loaded: Loaded | None) -> Iterator[None]:
        """A lead's turn is a piece of its team's workflow."""
        mail = self._waiting.get(trigger.subject)
        opening = mail.entry if mail is not None and isinstance(mail.entry, DelegationSent) else None
        profile = self.workplace.profile if loaded is None else loaded.state.profile
        if opening is not None and opening.hired is not None:
            profile = played(profile, opening.hired)
        address = self._timer("due") if mail is None else mail.address
        # On a takeover the trace goes on from where the worker before us broke off.
        before = telemetry.span_context_of(loaded.last_headers) if loaded and self.held.abandoned else None
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
            caller = (mail.address.agent, mail.address.thread) if mail and opening else None
            if caller is None and loaded is not None:
                caller = loaded.state.opener
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
