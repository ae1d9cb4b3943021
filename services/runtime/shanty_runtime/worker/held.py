"""A thread we work on: its state, and the pen that writes its journal.

It is worked on under its lease, so that two workers do not do the same work at once. What keeps the journal right is
not the lease: each place is taken once. One answer that is all a thread ever does is therefore given without:

    A delegation that a Python handler answers without a step of its own makes a journal of one entry. Whoever writes
    place 0 has given the one answer; of two workers that were given the same mail (only the silence of one for longer
    than the consumer waits makes it so) the other is told that the place is taken, and what it has made of the mail
    is dropped. That the place was free also says that the journal had been empty, so it need not be read before.
    Nothing else has happened by then: a step takes the lease first (`hold`) and names the delegation at place 0
    before it begins, and everything but that one answer is done under the lease and from the journal.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Literal

from shanty_protocol import Entry, EntryAddress, LiveAddress, StepStarted, ThreadTakenOver
from shanty_protocol.ids import LOG
from shanty_runtime.agent.profile import Profile
from shanty_runtime.bus import Bus, Busy, Lease, Placed, Stored, Written, written
from shanty_runtime.errors import Fenced
from shanty_runtime.telemetry import inject, metrics, publish_span, recording
from shanty_runtime.thread import people
from shanty_runtime.thread.decide import Draft, Received, Stamp, due_drafts
from shanty_runtime.thread.fold import apply
from shanty_runtime.thread.state import State
from shanty_runtime.tools.workspace import Workspace
from shanty_runtime.worker.workplace import Workplace


class HeldThread:
    """Entries are appended one batch after the other, and taken into the state as they stand in the journal."""

    def __init__(self, workplace: Workplace, lease: Lease | None, state: State, mail: dict[str, Received]) -> None:
        self.workplace = workplace
        self.bus: Bus = workplace.bus
        self.lease = lease
        """None as long as nothing was done that needs one."""
        self.fence = 0
        self.state = state
        self.mail = mail
        """What has been received for the thread, by subject; more may be posted at any time."""
        self.due_ms = 0
        """A deadline that a timer says has come, should what we take for the time be behind."""
        self._unsettled = False
        """Whether nothing was heard of an entry that was sent."""
        self._listens = False
        self._writing = asyncio.Lock()
        if lease is not None:
            self.go_on(state)

    @property
    def profile(self) -> Profile:
        """Who works on the thread: the agent of this worker, as far as the journal does not say who that is here."""
        return self.state.profile

    @property
    def name(self) -> str:
        """For people and log lines."""
        return self.workplace.name_of(self.state.run, self.state.thread)

    def stamp(self) -> Stamp:
        now_ms = max(self.bus.clock.now_ms(), self.due_ms)
        return Stamp(now_ms, self.workplace.replica, self.fence)

    @property
    def abandoned(self) -> bool:
        """Whether the worker that had the thread before is gone."""
        return self.lease is not None and self.lease.abandoned

    @property
    def takes_over(self) -> bool:
        """Whether that is so and the journal does not say it yet."""
        return self.lease is not None and self.lease.abandoned and not self.lease.noted

    def go_on(self, state: State) -> None:
        """Under the lease, from what the journal amounts to. Raises Fenced where that was not all of it."""
        assert self.lease is not None, "a journal is gone on with under a lease"
        self.state = state
        if state.next_n < self.lease.journal_length:
            raise Fenced(f"a server that lags has shown {state.next_n} of its {self.lease.journal_length} entries")
        if state.next_n > self.lease.journal_length and not self.lease.abandoned:
            self.lease.traced = False  # somebody has gone on since it was given back, and the bus has forgotten whom
        # Leases are counted by a bucket that may be lost. Whoever goes on with a journal is later than what it says.
        self.fence = self.lease.fence if self.lease.fence >= state.newest_fence else state.newest_fence + 1

    async def hold(self) -> None:
        """Take the lease, where that was not needed so far. Raises Fenced where somebody has or had it."""
        if self.lease is not None:
            return
        self.listen()
        lease = await self.bus.leases.take(self.name, self.workplace.replica)
        if isinstance(lease, Busy):
            raise Fenced(f"{self.name} is with {lease.holder}")
        if lease.abandoned:
            # There is a journal to be read, and an attempt to be counted: by whoever is delivered the mail next.
            lease.abandon()
            raise Fenced(f"somebody vanished who had {self.name}")
        self.lease, self.fence = lease, lease.fence

    async def release(self) -> None:
        """Give the lease back, where there is one."""
        if self.lease is not None:
            await self.lease.release(self.state.next_n, unsettled=self._unsettled)

    def listen(self) -> None:
        """From now on hear the run's mail as it is stored."""
        if not self._listens:
            self._listens = True
            self.workplace.ears.listen(self.state.run)

    def stop_listening(self) -> None:
        if self._listens:
            self._listens = False
            self.workplace.ears.stop(self.state.run)

    def check_lease(self, before: str) -> None:
        """Raises Fenced where somebody else may have the thread by now. For just before what cannot be undone."""
        if self.lease is None or not self.lease.held():
            raise Fenced(f"the lease of {self.name} ran out before {before}")

    async def confirm_lease(self, before: str) -> None:
        """As `check_lease`, and the bus is asked where it may have forgotten it. For what is paid for each time."""
        if self.lease is not None:
            await self.lease.confirm()
        self.check_lease(before)

    async def has_read_all(self) -> bool:
        """Whether nothing is beyond what was read of the journal, as far as that is known without writing to it.

        Another may be at work on it whom the bus has forgotten. An entry of theirs may be on its way, or stored and
        not be among those that were read. Once we have taken the place after those that were, there is none. Raises
        Fenced where something is there that a server which lags has not shown.
        """
        lease = self.lease
        if lease is None or lease.traced or self.state.next_n == 0:
            return True
        if lease.may_be_one_of_two:
            return False
        if self.workplace.reaches_leader and await self.bus.journals.is_taken(self.state.address(LOG)):
            raise Fenced("what was read of its journal is not all of it")
        lease.traced = True
        return True

    def workspace(self, key: str) -> Workspace:
        """The run's files, in this agent's name."""
        state = self.state
        return Workspace(self.bus.files, state.run, agent=self.profile.agent, thread=state.thread, key=key)

    async def write(self, drafts: Sequence[Draft]) -> None:
        """Append entries in order, and then whatever they make due: what is due is on the way all at once.

        Raises Fenced where somebody else took a place.
        """
        async with self._writing:
            if not self.state.due:
                # Nothing in the journal says that these come next, so whoever goes on after a crash writes others.
                # One that was stored without the one before it would then stand in the middle of those.
                for draft in drafts:
                    await self._write((draft,))
                drafts = due_drafts(self.state)
            while drafts:
                await self._write(drafts)
                drafts = due_drafts(self.state)

    async def _write(self, drafts: Sequence[Draft]) -> None:
        places = [
            (self.state.address(draft.to, self.state.next_n + offset), draft.entry)
            for offset, draft in enumerate(drafts)
        ]
        chained: list[Written] = []
        for address, entry in places:
            chained.append(written(address, entry, chained[-1].own if chained else self.state.chained_to))
        if len(chained) == 1:
            stored = [await self._append(chained[0])]
        else:
            stored = await asyncio.gather(*(self._append(each) for each in chained))
        if self.lease is None:
            self._note_answer(*places[0])
            return
        waited_before = people.requests_open(self.state)
        for (address, entry), one in zip(places, stored, strict=True):
            answered_before = bool(self.state.answered)
            self.state.chained_to = one.own(self.state.chained_to)
            apply(self.state, address, entry, {subject: self.mail[subject].entry for subject in entry.consumed})
            self.state.next_seq = max(self.state.next_seq, one.seq + 1)
            self.lease.noted = self.lease.noted or isinstance(entry, ThreadTakenOver)
            metrics.entry_written(address, entry, 0 if answered_before else self.state.opened_at_ms)
            waiting = people.requests_open(self.state)
            metrics.people_wait(self.profile.agent, waited_before, waiting)
            waited_before = waiting

    def _note_answer(self, address: EntryAddress, entry: Entry) -> None:
        """Of the one answer: whatever else is done with the thread begins with its lease, and with its journal."""
        self.state.next_n = address.n + 1
        self.state.consumed.update(entry.consumed)
        sent = self.mail[entry.consumed[0]].entry
        metrics.entry_written(address, entry, sent.at_ms)

    async def show(self, step: Literal["model", "tool"], name: str) -> None:
        """Tell whoever watches what begins now."""
        event = StepStarted(
            agent=self.profile.agent,
            replica=self.workplace.replica,
            step=step,
            name=name,
            at_ms=self.bus.clock.now_ms(),
        )
        await self.bus.live.publish(LiveAddress(self.state.run, self.state.thread, self.profile.agent), event)

    async def _append(self, entry: Written) -> Stored:
        address, sent_s = entry.address, time.monotonic()
        try:
            placed = await self._place(entry)
        except asyncio.CancelledError:
            self._unsettled = True  # it may be stored all the same
            raise
        if not placed.ours:
            raise self.workplace.was_taken(address.run, address.thread, address.n)
        if self.lease is not None and placed.fresh:  # so nobody has written beyond
            self.lease.traced, self.lease.proven_s = True, max(self.lease.proven_s, sent_s)
        return placed.stored

    async def _place(self, entry: Written) -> Placed:
        if entry.address.to == LOG or not recording():
            return await self.bus.journals.place(entry, inject())
        with publish_span(entry.address, server=self.bus.server_address) as span:
            placed = await self.bus.journals.place(entry, inject())
            span.stored(placed.stored.seq, len(placed.stored.data))
        return placed
