"""A worker takes an agent's mail from the bus and has each thread's work done by one activation at a time.

Any number of workers serve an agent. Which of them has a thread is decided by its lease, and what is written by
the journal's places; a worker keeps nothing that it could not read again.
"""

from __future__ import annotations

import asyncio
import logging

from shanty_protocol import AddressedEntry, DelegationSent, ProtocolError, TimerAddress
from shanty_protocol.codec import decode_timer
from shanty_protocol.subjects import parse, parse_entry
from shanty_runtime.agent.profile import Profile
from shanty_runtime.bus import Bus, Delivery, Pull, Stored
from shanty_runtime.errors import BusUnavailable
from shanty_runtime.thread.activation import Activation
from shanty_runtime.thread.decide import Received
from shanty_runtime.thread.workplace import Key, Workplace

logger = logging.getLogger("shanty.thread")

PUT_BACK_DELAY_S = 1.0
ANOTHER_TEAMS_DELAY_S = 30.0
"""How long mail is put back that is meant for an agent of the same name in another team."""


class Worker:
    """`start` returns when mail is being taken; `stop` finishes or hands back what is in hand."""

    def __init__(
        self, bus: Bus, profile: Profile, *, replica: str, lanes: tuple[str, ...] = ("0",), max_active: int = 32
    ) -> None:
        self.workplace = Workplace(bus, profile, replica)
        self.lanes = lanes
        self.max_active = max_active
        self._active: dict[Key, Activation] = {}
        self._pulls: list[Pull] = []
        self._receiving: list[asyncio.Task[None]] = []
        self._working: set[asyncio.Task[None]] = set()

    @property
    def active(self) -> int:
        """How many threads are being worked on."""
        return len(self._active)

    @property
    def draining(self) -> bool:
        return self.workplace.draining

    async def start(self) -> None:
        bus, agent = self.workplace.bus, self.workplace.profile.agent
        for lane in self.lanes:
            mail = await bus.pull(lane, agent, "mail", self.max_active)
            timers = await bus.pull(lane, agent, "timers", self.max_active)
            self._pulls += [mail, timers]
            self._receiving += [
                asyncio.create_task(self._take_mail(mail)),
                asyncio.create_task(self._take_timers(timers)),
                asyncio.create_task(self._hear(lane)),
            ]

    async def run(self) -> None:
        """Wait while mail is being taken; raises what broke it off, for a worker that is deaf must not stay."""
        done, _ = await asyncio.wait(self._receiving, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        raise BusUnavailable("the bus gives no more mail")

    async def stop(self, grace_s: float = 20.0) -> None:
        """Take no more mail; let each thread come to the end of its step; put back what did not rest in time."""
        self.workplace.draining = True
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
        if isinstance(entry, DelegationSent) and entry.team not in ("", self.workplace.profile.team):
            await delivery.nak(ANOTHER_TEAMS_DELAY_S)
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
        hearing = await self.workplace.bus.feed.hear(lane, self.workplace.profile.agent)
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
            active = self._active[run, thread] = Activation(self.workplace, run, thread)
            task = asyncio.create_task(self._run(active))
            self._working.add(task)
            task.add_done_callback(self._working.discard)
        return active

    async def _run(self, activation: Activation) -> None:
        key = (activation.run_id, activation.thread)
        try:
            await activation.run()
            while activation.deliveries and not self.workplace.draining:  # posted after it had come to rest
                await activation.run()
        except Exception:
            # The mail is not acked, so the thread is taken up again, and its attempts are counted.
            logger.exception("working on %s failed", activation.lease_key)
        finally:
            del self._active[key]
            await activation.put_back(PUT_BACK_DELAY_S)

    async def _put_away(self, delivery: Delivery, code: str, reason: str) -> None:
        await self.workplace.reject(delivery.subject, delivery.seq, delivery.headers, code, reason)
        await delivery.ack()
