"""A worker takes an agent's mail from the bus and has each thread's work done by one activation at a time.

Any number of workers serve an agent. Which of them has a thread is decided by its lease, and what is written by
the journal's places; a worker keeps nothing that it could not read again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

import msgspec

from shanty_protocol import (
    AddressedEntry,
    DelegationSent,
    MailRetried,
    ProtocolError,
    TimerAddress,
)
from shanty_protocol.codec import decode_timer
from shanty_protocol.ids import OPERATORS
from shanty_protocol.subjects import parse, parse_entry
from shanty_runtime.agent.profile import Profile
from shanty_runtime.bus import Bus, Delivery, Pull, Stored
from shanty_runtime.errors import BusUnavailable
from shanty_runtime.telemetry import metrics
from shanty_runtime.thread.decide import Received
from shanty_runtime.worker.activation import Activation
from shanty_runtime.worker.workplace import Key, Workplace

logger = logging.getLogger("shanty.thread")

PUT_BACK_DELAY_S = 1.0
ANOTHER_TEAMS_DELAY_S = 30.0
"""How long mail is put back that is meant for an agent of the same name in another team."""
LEAVING_S = 2.0
"""How long steps that were broken off may take to end, and their threads to be given back."""


class Drained(msgspec.Struct, frozen=True):
    """How the threads in hand ended when a worker was stopped."""

    handed_back: int = 0
    """Threads that had not come to rest: another replica goes on with them."""
    broken_off: int = 0
    """Those of them that were in the middle of a step. The step is made again, or its outcome is unknown."""


class Worker:
    """`start` returns when mail is being taken; `stop` finishes or hands back what is in hand."""

    def __init__(
        self, bus: Bus, profile: Profile, *, replica: str, lanes: tuple[str, ...] = ("0",), max_active: int = 32
    ) -> None:
        self.workplace = Workplace(bus, profile, replica, self._hear)
        self.lanes = lanes
        self.max_active = max_active
        self._active: dict[Key, Activation] = {}
        self._pulls: list[Pull] = []
        self._receiving: list[asyncio.Task[None]] = []
        self._working: set[asyncio.Task[None]] = set()
        self._handed_back = 0

    @property
    def active(self) -> int:
        """How many threads are being worked on."""
        return len(self._active)

    @property
    def draining(self) -> bool:
        return self.workplace.draining

    async def start(self) -> None:
        bus, profile = self.workplace.bus, self.workplace.profile
        agent = profile.agent
        metrics.agent_begins(agent, profile.model.name if profile.model else "", profile.contracts)
        for lane in self.lanes:
            mail = await bus.pull(lane, agent, "mail", self.max_active)
            self._pulls.append(mail)
            self._receiving.append(asyncio.create_task(self._take_mail(mail)))
            if self.workplace.has_timers:
                timers = await bus.pull(lane, agent, "timers", self.max_active)
                self._pulls.append(timers)
                self._receiving.append(asyncio.create_task(self._take_timers(timers)))

    async def run(self) -> None:
        """Wait while mail is being taken; raises what broke it off, for a worker that is deaf must not stay."""
        done, _ = await asyncio.wait(self._receiving, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        raise BusUnavailable("the bus gives no more mail")

    def drain(self) -> None:
        """From now on no thread is begun, and those in hand stop at the end of their step."""
        self.workplace.draining = True

    async def stop(self, grace_s: float = 20.0, hurry: asyncio.Event | None = None) -> Drained:
        """Take no more mail, let the steps in hand come to their ends, hand back every thread that is not at rest.

        Steps are broken off after `grace_s`, or as soon as there is `hurry`. This ends `LEAVING_S` later at most,
        whether the server can be reached or not.
        """
        self.drain()
        closing = asyncio.create_task(self._take_no_more())
        await _all_done({closing, *self._working}, grace_s, hurry or asyncio.Event())
        at_work = set(self._working)
        for task in (closing, *at_work):
            task.cancel()
        await _all_done({closing, *at_work}, LEAVING_S / 2, asyncio.Event())
        # What cannot be cancelled ends with the process. Its thread need not wait for the lease to run out.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVING_S / 2):
                await asyncio.gather(*(each.hand_back() for each in self._active.values()))
                for pull in self._pulls:
                    await pull.release()
        return Drained(self._handed_back + len(self._active), len(at_work))

    async def _take_no_more(self) -> None:
        for task in self._receiving:
            task.cancel()
        await asyncio.gather(*(pull.close() for pull in self._pulls))
        await asyncio.gather(*self._receiving, return_exceptions=True)

    # Receiving

    async def _take_mail(self, pull: Pull) -> None:
        async for delivery in pull:
            await self._take(delivery)

    async def _take(self, delivery: Delivery) -> None:
        if self.draining:
            await delivery.nak()
            return
        metrics.mail_delivered(self.workplace.profile.agent, delivery.delivered, delivery.stored_at_s)
        if delivery.copied:
            await self._put_away(
                delivery, "wrong_recipient", "the server wrote it as the answer to somebody's request"
            )
            return
        try:
            stored = Stored(parse_entry(delivery.subject), delivery.seq, delivery.data, delivery.headers)
            while isinstance(stored.entry, MailRetried):
                stored = await self._named_by(stored.entry, stored)
                # Should it be rejected again, the letter is about the mail, and not about this request.
                delivery.stand_for(stored.address.subject, stored.headers)
            address, entry = stored.address, stored.entry
        except ProtocolError as error:
            await self._put_away(delivery, error.code, error.detail)
            return
        if not isinstance(entry, AddressedEntry):
            await self._put_away(delivery, "invalid_message", "it is addressed to an agent but is not mail")
            return
        if isinstance(entry, DelegationSent) and entry.team not in ("", self.workplace.profile.team):
            await delivery.nak(ANOTHER_TEAMS_DELAY_S)
            return
        self._activation(address.run, entry.to_thread).post(Received(address, entry), delivery)

    async def _named_by(self, retried: MailRetried, at: Stored) -> Stored:
        """The mail that people want processed once more."""
        if at.address.agent != OPERATORS:
            raise ProtocolError("wrong_recipient", f"{at.address.agent} may not have mail processed again")
        named = parse_entry(retried.mail)
        if (named.to, named.run) != (at.address.to, at.address.run):
            told = f"{retried.mail} is not mail of {at.address.to} in run {at.address.run}"
            raise ProtocolError("wrong_recipient", told)
        stored = await self.workplace.bus.journals.get(retried.mail)
        if stored is None or stored.seq >= at.seq:
            raise ProtocolError("invalid_message", f"there was no mail {retried.mail} before this")
        return stored

    async def _take_timers(self, pull: Pull) -> None:
        async for delivery in pull:
            if self.draining:
                await delivery.nak()
                continue
            try:
                address = parse(delivery.subject)
                due = decode_timer(delivery.data, delivery.headers)
            except ProtocolError as error:
                logger.error("a timer on %s is dropped: %s", delivery.subject, error)
                await delivery.ack()
                continue
            assert isinstance(address, TimerAddress), "the consumer's filter lets nothing else through"
            self._activation(address.run, address.thread).post_timer(due, delivery)

    def _hear(self, stored: Stored) -> None:
        """Mail for threads that are worked on here reaches them at once, whoever it is delivered to."""
        entry = stored.entry
        if isinstance(entry, AddressedEntry) and (active := self._active.get((stored.address.run, entry.to_thread))):
            active.post(Received(stored.address, entry))

    def _activation(self, run: str, thread: str) -> Activation:
        """The activation that has this thread here, or a new one, which begins as soon as mail is posted to it."""
        active = self._active.get((run, thread))
        if active is None:
            active = self._active[run, thread] = Activation(self.workplace, run, thread)
            active.task = asyncio.create_task(self._run(active))
            self._working.add(active.task)
            metrics.threads_active(self.workplace.profile.agent, self.active)
        return active

    async def _run(self, activation: Activation) -> None:
        try:
            await activation.run()
            while activation.deliveries and not self.workplace.draining:  # posted after it had come to rest
                await activation.run()
        except Exception:
            # The mail is not acked, so the thread is taken up again, and its attempts are counted.
            logger.exception("working on %s failed", activation.lease_key)
        finally:
            del self._active[activation.run_id, activation.thread]
            metrics.threads_active(self.workplace.profile.agent, self.active)
            self._handed_back += activation.handed_back
            try:
                if activation.deliveries:
                    await activation.put_back(0 if self.draining else PUT_BACK_DELAY_S)
            finally:
                self._working.discard(activation.task)

    async def _put_away(self, delivery: Delivery, code: str, reason: str) -> None:
        await self.workplace.reject(delivery.subject, delivery.seq, delivery.headers, code, reason)
        await delivery.ack()


async def _all_done(tasks: set[asyncio.Task[None]], within_s: float, hurry: asyncio.Event) -> None:
    """Return when all of them are done, when the time is over, or when there is hurry."""
    hurried = asyncio.create_task(hurry.wait())
    ended = asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.wait((ended, hurried), timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
