"""A thread whose lease we hold: its state, and the pen that writes its journal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Literal

from shanty_protocol import Entry, EntryAddress, LiveAddress, StepStarted
from shanty_protocol.ids import LOG
from shanty_runtime.agent.profile import Profile
from shanty_runtime.bus import Bus, Lease, Stored
from shanty_runtime.errors import Fenced
from shanty_runtime.telemetry import inject, metrics, publish_span
from shanty_runtime.thread.decide import Draft, Received, Stamp, due_drafts
from shanty_runtime.thread.fold import apply
from shanty_runtime.thread.state import State
from shanty_runtime.thread.workplace import Workplace
from shanty_runtime.tools.workspace import Workspace


class HeldThread:
    """Entries are appended one batch after the other, and taken into the state as they stand in the journal."""

    def __init__(self, workplace: Workplace, lease: Lease, state: State, mail: dict[str, Received]) -> None:
        self.workplace = workplace
        self.bus: Bus = workplace.bus
        self.profile: Profile = workplace.profile
        self.lease = lease
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
        return self.lease.key

    def stamp(self) -> Stamp:
        now_ms = max(int(time.time() * 1000), self.due_ms)
        return Stamp(now_ms, self.workplace.replica, self.lease.fence)

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
        stored = await asyncio.gather(*(self._append(address, entry) for address, entry in places))
        for (address, entry), one in zip(places, stored, strict=True):
            answered_before = bool(self.state.answered)
            apply(self.state, address, entry, {subject: self.mail[subject].entry for subject in entry.consumed})
            self.state.next_seq = max(self.state.next_seq, one.seq + 1)
            metrics.entry_written(address, entry, 0 if answered_before else self.state.opened_at_ms)

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
        if address.to == LOG:
            placed = await self.bus.journals.append(address, entry, inject())
        else:
            with publish_span(address, server=self.bus.server_address) as span:
                placed = await self.bus.journals.append(address, entry, inject())
                span.stored(placed.stored.seq, len(placed.stored.data))
        if not placed.ours:
            raise Fenced(f"place {address.n} of {self.name} was taken by another worker")
        return placed.stored
