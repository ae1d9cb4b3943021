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

from shanty_protocol import Entry, EntryAddress, LiveAddress, StepStarted
from shanty_protocol.ids import LOG
from shanty_runtime.agent.profile import Profile
from shanty_runtime.bus import Bus, Busy, Lease, Stored
from shanty_runtime.errors import Fenced
from shanty_runtime.telemetry import inject, metrics, publish_span, recording
from shanty_runtime.thread.decide import Draft, Received, Stamp, due_drafts
from shanty_runtime.thread.fold import apply
from shanty_runtime.thread.state import State
from shanty_runtime.thread.workplace import Workplace
from shanty_runtime.tools.workspace import Workspace


class HeldThread:
    """Entries are appended one batch after the other, and taken into the state as they stand in the journal."""

    def __init__(self, workplace: Workplace, lease: Lease | None, state: State, mail: dict[str, Received]) -> None:
        self.workplace = workplace
        self.bus: Bus = workplace.bus
        self.profile: Profile = workplace.profile
        self.lease = lease
        """None as long as nothing was done that needs one."""
        self.state = state
        self.mail = mail
        """What has been received for the thread, by subject; more may be posted at any time."""
        self.due_ms = 0
        """A deadline that a timer says has come, should our own clock be behind."""
        self.stop_requested = False
        """A Python handler ends before its next step."""
        self._writing = asyncio.Lock()

    @property
    def name(self) -> str:
        """For people and log lines."""
        return self.workplace.name_of(self.state.run, self.state.thread)

    def stamp(self) -> Stamp:
        now_ms = max(int(time.time() * 1000), self.due_ms)
        return Stamp(now_ms, self.workplace.replica, 0 if self.lease is None else self.lease.fence)

    @property
    def abandoned(self) -> bool:
        """Whether the worker that had the thread before is gone."""
        return self.lease is not None and self.lease.abandoned

    def holds(self) -> bool:
        """Whether nobody else can have the thread right now."""
        return self.lease is not None and self.lease.held()

    async def hold(self) -> None:
        """Take the lease, where that was not needed so far. Raises Fenced where somebody has or had it."""
        if self.lease is not None:
            return
        lease = await self.bus.leases.take(self.name, self.workplace.replica)
        if isinstance(lease, Busy):
            raise Fenced(f"{self.name} is with {lease.holder}")
        if lease.abandoned:
            # There is a journal to be read, and an attempt to be counted: by whoever is delivered the mail next.
            lease.abandon()
            raise Fenced(f"somebody vanished who had {self.name}")
        self.lease = lease

    def workspace(self, key: str) -> Workspace:
        """The run's files, in this agent's name."""
        state = self.state
        return Workspace(self.bus.files, state.run, agent=self.profile.agent, thread=state.thread, key=key)

    async def write(self, drafts: Sequence[Draft]) -> None:
        """Append entries in order, all on the way at once, and then whatever they make due.

        Raises Fenced where somebody else took a place.
        """
        async with self._writing:
            while drafts:
                await self._write(drafts)
                drafts = due_drafts(self.state)

    async def _write(self, drafts: Sequence[Draft]) -> None:
        places = [
            (self.state.address(draft.to, self.state.next_n + offset), draft.entry)
            for offset, draft in enumerate(drafts)
        ]
        if len(places) == 1:
            stored = [await self._append(*places[0])]
        else:
            stored = await asyncio.gather(*(self._append(address, entry) for address, entry in places))
        if self.lease is None:
            self._note_answer(*places[0])
            return
        for (address, entry), one in zip(places, stored, strict=True):
            answered_before = bool(self.state.answered)
            apply(self.state, address, entry, {subject: self.mail[subject].entry for subject in entry.consumed})
            self.state.next_seq = max(self.state.next_seq, one.seq + 1)
            metrics.entry_written(address, entry, 0 if answered_before else self.state.opened_at_ms)

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
            at_ms=int(time.time() * 1000),
        )
        await self.bus.live.publish(LiveAddress(self.state.run, self.state.thread, self.profile.agent), event)

    async def _append(self, address: EntryAddress, entry: Entry) -> Stored:
        if address.to == LOG or not recording():
            placed = await self.bus.journals.append(address, entry, inject())
        else:
            with publish_span(address, server=self.bus.server_address) as span:
                placed = await self.bus.journals.append(address, entry, inject())
                span.stored(placed.stored.seq, len(placed.stored.data))
        if not placed.ours:
            raise Fenced(f"place {address.n} of {self.name} was taken by another worker")
        return placed.stored
