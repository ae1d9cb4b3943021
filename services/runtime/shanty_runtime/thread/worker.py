"""A worker takes an agent's mail from the bus and has each thread's work done by one activation at a time.

Any number of workers serve an agent. Which of them has a thread is decided by its lease, and what is written by
the journal's places; a worker keeps nothing that it could not read again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping

import msgspec

from shanty_protocol import AddressedEntry, Entry, EntryAddress, MailRejected, ProtocolError, TimerAddress
from shanty_protocol.codec import decode_timer
from shanty_protocol.headers import TRACEPARENT
from shanty_protocol.ids import DEAD, checked_run
from shanty_protocol.subjects import parse, parse_entry
from shanty_runtime.agent.profile import Profile
from shanty_runtime.bus import Bus, Delivery, Pull, Stored
from shanty_runtime.thread.activation import Activation
from shanty_runtime.thread.decide import Received
from shanty_runtime.thread.state import State, apply

logger = logging.getLogger("shanty.thread")

MAX_STATES = 512
"""States kept in memory, newest first; any other is folded from its journal again."""

PUT_BACK_DELAY_S = 1.0

Key = tuple[str, str]
"""Run and thread."""


class Loaded(msgspec.Struct, frozen=True):
    """A thread's state as its journal has it, and the headers of the last entry that was read for it."""

    state: State
    last_headers: Mapping[str, str]


class Worker:
    """`start` returns when mail is being taken; `stop` finishes or hands back what is in hand."""

    def __init__(
        self, bus: Bus, profile: Profile, *, replica: str, lanes: tuple[str, ...] = ("0",), max_active: int = 32
    ) -> None:
        self.bus = bus
        self.profile = profile
        self.replica = replica
        self.lanes = lanes
        self.max_active = max_active
        self.draining = False
        self.timers: dict[Key, int] = {}
        """When the timers this worker has set are due, in milliseconds since 1970."""
        self._active: dict[Key, Activation] = {}
        self._states: OrderedDict[Key, State] = OrderedDict()
        self._pulls: list[Pull] = []
        self._receiving: list[asyncio.Task[None]] = []
        self._working: set[asyncio.Task[None]] = set()

    @property
    def active(self) -> int:
        """How many threads are being worked on."""
        return len(self._active)

    async def start(self) -> None:
        for lane in self.lanes:
            mail = await self.bus.pull(lane, self.profile.agent, "mail", self.max_active)
            timers = await self.bus.pull(lane, self.profile.agent, "timers", self.max_active)
            self._pulls += [mail, timers]
            self._receiving += [
                asyncio.create_task(self._take_mail(mail)),
                asyncio.create_task(self._take_timers(timers)),
                asyncio.create_task(self._hear(lane)),
            ]

    async def stop(self, grace_s: float = 20.0) -> None:
        """Take no more mail; let each thread come to the end of its step; put back what did not rest in time."""
        self.draining = True
        for pull in self._pulls:
            await pull.close()
        for task in self._receiving:
            task.cancel()
        await asyncio.gather(*self._receiving, return_exceptions=True)
        if self._working:
            _, unfinished = await asyncio.wait(self._working, timeout=grace_s)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
        for pull in self._pulls:
            await pull.release()

    # Receiving

    async def _take_mail(self, pull: Pull) -> None:
        async for delivery in pull:
            await self._take(delivery)

    async def _take(self, delivery: Delivery) -> None:
        if delivery.copied:
            await self._put_away(
                delivery, "wrong_recipient", "the server wrote it as the answer to somebody's request"
            )
            return
        try:
            address = parse_entry(delivery.subject)
            entry = Stored(address, delivery.seq, delivery.data, delivery.headers).entry
        except ProtocolError as error:
            await self._put_away(delivery, error.code, error.detail)
            return
        if not isinstance(entry, AddressedEntry):
            await self._put_away(delivery, "invalid_message", "it is addressed to an agent but is not mail")
            return
        self._activation(address.run, entry.to_thread).post(Received(address, entry), delivery)

    async def _take_timers(self, pull: Pull) -> None:
        async for delivery in pull:
            try:
                address = parse(delivery.subject)
                due = decode_timer(delivery.data, delivery.headers)
            except ProtocolError as error:
                logger.error("a timer on %s is dropped: %s", delivery.subject, error)
                await delivery.ack()
                continue
            assert isinstance(address, TimerAddress), "the consumer's filter lets nothing else through"
            self._activation(address.run, address.thread).post_timer(due, delivery)

    async def _hear(self, lane: str) -> None:
        """Mail for threads that are worked on here reaches them at once, whoever it is delivered to."""
        hearing = await self.bus.feed.hear(lane, self.profile.agent)
        async for stored in hearing:
            try:
                entry = stored.entry
            except ProtocolError:
                continue  # its delivery is put away by whoever gets it
            if isinstance(entry, AddressedEntry) and (
                active := self._active.get((stored.address.run, entry.to_thread))
            ):
                active.post(Received(stored.address, entry))

    def _activation(self, run: str, thread: str) -> Activation:
        """The activation that has this thread here, or a new one, which begins as soon as mail is posted to it."""
        active = self._active.get((run, thread))
        if active is None:
            active = self._active[run, thread] = Activation(self, run, thread)
            task = asyncio.create_task(self._run(active))
            self._working.add(task)
            task.add_done_callback(self._working.discard)
        return active

    async def _run(self, activation: Activation) -> None:
        key = (activation.run_id, activation.thread)
        try:
            await activation.run()
            while activation.deliveries and not self.draining:  # posted after it had come to rest
                await activation.run()
        except Exception:
            # The mail is not acked, so the thread is taken up again, and its attempts are counted.
            logger.exception("working on %s failed", activation.lease_key)
        finally:
            del self._active[key]
            await activation.put_back(PUT_BACK_DELAY_S)

    # Dead letters

    async def _put_away(self, delivery: Delivery, code: str, reason: str) -> None:
        await self.reject(delivery.subject, delivery.seq, delivery.headers, code, reason)
        await delivery.ack()

    async def reject(self, subject: str, seq: int, headers: Mapping[str, str], code: str, reason: str) -> None:
        """Write a dead letter for a mail, at a place that follows from the mail: two workers write one."""
        lane = subject.split(".")[1]
        try:
            run = checked_run(subject.split(".")[3])
        except (ProtocolError, IndexError):
            run = f"{lane}-rejected"
        logger.error("mail %s is a dead letter: %s: %s", subject, code, reason)
        letter = MailRejected(
            at_ms=int(time.time() * 1000),
            by=self.replica,
            mail=subject,
            code=code,
            reason=reason[:500],
            traceparent=headers.get(TRACEPARENT, ""),
        )
        place = EntryAddress(DEAD, run, f"dead-{seq}", self.profile.agent, 0)
        await self.bus.journals.append(place, letter)

    # States

    async def load(self, run: str, thread: str) -> Loaded:
        """The state of a thread, brought up to the end of its journal. Raises ProtocolError for unknown entries."""
        state = self._states.pop((run, thread), None)
        if state is None:
            state = State(run=run, thread=thread, profile=self.profile)
        part = await self.bus.journals.read(
            run, thread, self.profile.agent, from_n=state.next_n, from_seq=state.next_seq
        )
        entries = [(stored.address, stored.entry) for stored in part.entries]
        mails = await self._contents({subject for _, entry in entries for subject in entry.consumed})
        for address, entry in entries:
            apply(state, address, entry, mails)
        state.next_seq = part.next_seq
        self._keep(state)
        return Loaded(state, part.entries[-1].headers if part.entries else {})

    async def _contents(self, subjects: set[str]) -> dict[str, Entry]:
        stored = await self.bus.journals.get_all(sorted(subjects))
        if missing := subjects - stored.keys():
            raise ProtocolError("invalid_message", f"mail {min(missing)} is named by a journal but not in the stream")
        return {subject: one.entry for subject, one in stored.items()}

    def _keep(self, state: State) -> None:
        self._states[state.run, state.thread] = state
        if len(self._states) > MAX_STATES:
            self._states.popitem(last=False)

    def forget(self, run: str, thread: str) -> None:
        """What is known of a thread may be wrong: read its journal from the beginning next time."""
        self._states.pop((run, thread), None)
