"""What all threads of one worker share: the bus, who the worker plays, and the states it remembers."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import msgspec

from shanty_protocol import Entry, EntryAddress, MailRejected, ProtocolError
from shanty_protocol.headers import TRACEPARENT
from shanty_protocol.ids import DEAD, checked_run
from shanty_runtime.agent.profile import Profile
from shanty_runtime.bus import Bus, Stored
from shanty_runtime.errors import Fenced, JournalExpired
from shanty_runtime.redaction import redact
from shanty_runtime.telemetry import metrics
from shanty_runtime.thread.fold import apply
from shanty_runtime.thread.state import State
from shanty_runtime.worker.ears import Ears
from shanty_runtime.worker.patience import Patience

logger = logging.getLogger("shanty.thread")

MAX_STATES = 512
"""States kept in memory, newest first; any other is folded from its journal again."""

LEAST_AGE_S = 3_600
"""How old an entry must be for something before it to be taken for dropped."""

SOME_TIME_MS = 1 << 62
"""When a timer is due that somebody else may have set since: later than any other one."""

Key = tuple[str, str]
"""Run and thread."""


class Loaded(msgspec.Struct, frozen=True):
    """A thread's state as its journal has it, and the headers of the last entry that was read for it."""

    state: State
    last_headers: Mapping[str, str]


class Workplace:
    def __init__(self, bus: Bus, profile: Profile, replica: str, heard: Callable[[Stored], None]) -> None:
        self.bus = bus
        self.profile = profile
        self.replica = replica
        self.ears = Ears(bus, profile.agent, heard)
        self.draining = False
        """No new step is begun any more."""
        self.has_timers = bus.settings.zone == "control"
        """In an account of its own an agent has none: a thread that waits leaves a mail with the server instead."""
        self.reaches_leader = bus.settings.zone == "control"
        """Whether it may ask the one server that cannot lag what stands at a place."""
        self.patience = Patience()
        self.timers: dict[Key, int] = {}
        """When the timers that were set here are due, in milliseconds since 1970."""
        self._states: OrderedDict[Key, State] = OrderedDict()
        self._taken: OrderedDict[Key, int] = OrderedDict()
        """Places that others had taken when they were to be written here: what is read later must have them."""

    def name_of(self, run: str, thread: str) -> str:
        """What a thread's lease is taken by, and what people are told."""
        return f"{self.profile.agent}.{run}.{thread}"

    def knows(self, run: str, thread: str) -> bool:
        """Whether the thread was worked on here before."""
        return (run, thread) in self._states

    async def load(self, run: str, thread: str) -> Loaded:
        """The state of a thread, brought up to the end of its journal.

        Raises ProtocolError for unknown entries, JournalExpired where it cannot be known any more, and Fenced where
        what was read is known not to be all of it: a model that is asked from there would be asked once more.
        """
        state = self._states.pop((run, thread), None)
        if state is None:
            state = State(run=run, thread=thread, profile=self.profile)
        part = await self.bus.journals.read(
            run, thread, self.profile.agent, from_n=state.next_n, from_seq=state.next_seq
        )
        if not state.next_n and not part.entries and part.beyond is not None and self._is_old(part.beyond):
            raise JournalExpired(f"{self.profile.agent}.{run}.{thread}", "place 0")
        entries = [(stored.address, stored.entry) for stored in part.entries]
        mails = await self._contents(part.entries)
        for address, entry in entries:
            apply(state, address, entry, mails)
        for stored in part.entries:
            state.chained_to = stored.own(state.chained_to)
        state.next_seq = part.next_seq
        self._keep(state)
        if part.entries and (run, thread) in self.timers:
            self.timers[run, thread] = SOME_TIME_MS
        if state.next_n <= (taken := self._taken.get((run, thread), -1)):
            raise Fenced(f"place {taken} of {self.name_of(run, thread)} is taken, and cannot be read yet")
        self._taken.pop((run, thread), None)
        return Loaded(state, part.entries[-1].headers if part.entries else {})

    def forget(self, run: str, thread: str) -> None:
        """What is known of a thread may be wrong: read its journal from the beginning next time."""
        self._states.pop((run, thread), None)

    def was_taken(self, run: str, thread: str, n: int) -> Fenced:
        """Note that somebody else has written to a place: the error that says so."""
        self._taken[run, thread] = n
        if len(self._taken) > MAX_STATES:
            self._taken.popitem(last=False)
        return Fenced(f"place {n} of {self.name_of(run, thread)} was taken by another worker")

    async def reject(self, subject: str, seq: int, headers: Mapping[str, str], code: str, reason: str) -> None:
        """Write a dead letter for a mail, at a place that follows from the mail: two workers write one."""
        lane = subject.split(".")[1]
        try:
            run = checked_run(subject.split(".")[3])
        except (ProtocolError, IndexError):
            run = f"{lane}-rejected"
        logger.error("mail %s is a dead letter: %s: %s", subject, code, reason)
        metrics.mail_rejected(self.profile.agent, code)
        letter = MailRejected(
            at_ms=self.bus.clock.now_ms(),
            by=self.replica,
            mail=subject,
            code=code,
            reason=redact(reason),
            traceparent=headers.get(TRACEPARENT, ""),
        )
        await self.bus.journals.append(EntryAddress(DEAD, run, f"dead-{seq}", self.profile.agent, 0), letter)

    async def _contents(self, entries: Sequence[Stored]) -> dict[str, Entry]:
        named_by = {subject: stored for stored in entries for subject in stored.entry.consumed}
        found = await self.bus.journals.get_named(sorted(named_by))
        for subject in sorted(named_by.keys() - found.keys()):
            address = named_by[subject].address
            if self._is_old(named_by[subject]):
                raise JournalExpired(f"{address.agent}.{address.run}.{address.thread}", f"mail {subject}")
            raise ProtocolError("invalid_message", f"mail {subject} is named by a journal but not in the stream")
        return {subject: one.entry for subject, one in found.items()}

    def _is_old(self, stored: Stored) -> bool:
        """Whether what was stored before it may have been dropped: a replica that lags does so for seconds."""
        return self.bus.clock.now_ms() - stored.entry.at_ms > LEAST_AGE_S * 1000

    def _keep(self, state: State) -> None:
        self._states[state.run, state.thread] = state
        if len(self._states) > MAX_STATES:
            self._states.popitem(last=False)
