"""Journals: every entry of every thread, each written once at its own place, and read back in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import cached_property

import msgspec

from shanty_protocol import Entry, EntryAddress, ProtocolError, subjects
from shanty_protocol.codec import decode_entry, encode, message_headers
from shanty_protocol.ids import LOG, lane_of
from shanty_protocol.streams import entry_stream
from shanty_runtime.bus import jetstream
from shanty_runtime.bus.connection import Connection
from shanty_runtime.bus.jetstream import RawMessage, authored
from shanty_runtime.telemetry import metrics

logger = logging.getLogger("shanty.bus")

READS_IN_FLIGHT = 64
FIRST_WINDOW = 4
"""Places that are read at once at first, where a journal is read place by place; then twice as many, and so on."""


class Stored(msgspec.Struct, frozen=True, dict=True):
    """An entry as it stands in its journal. `entry` raises ProtocolError where this version cannot read it."""

    address: EntryAddress
    seq: int
    data: bytes
    headers: dict[str, str]

    @cached_property
    def entry(self) -> Entry:
        return decode_entry(self.data, self.headers)


class Placed(msgspec.Struct, frozen=True):
    """What stands at a place after an append. `ours`: it has our recipient and our bytes."""

    stored: Stored
    ours: bool


class JournalPart(msgspec.Struct, frozen=True):
    """Entries without a gap. A later read that starts at `next_seq` misses none that was not among them."""

    entries: tuple[Stored, ...]
    next_seq: int


class Journals:
    """Every call waits out an outage of the bus; cancel it to give up."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        # A filter in the body of a request could name anybody's entries, so no agent's account may send one.
        self._by_place = connection.settings.zone == "agent"

    async def append(self, address: EntryAddress, entry: Entry, headers: Mapping[str, str] = {}) -> Placed:
        """Take a place for an entry. Durable once this returns.

        The place has one entry for good, so the same append may be tried again at any time, by anybody: whoever
        comes later is told what stands there. Raises PayloadTooLarge and PermissionDenied.
        """
        subject, data = address.subject, encode(entry)
        sent = {**message_headers(entry), **headers}
        stream = entry_stream(lane_of(address.run))
        standing = await jetstream.write_once(self._connection, stream, subject, address.guard, data, sent)
        if standing.subject == subject:
            metrics.message_stored(address)
            own = standing.headers is sent  # as it is where we have stored it just now
            stored = Stored(address, standing.seq, standing.data, sent if own else authored(standing.headers))
            return Placed(stored, standing.data == data)
        return Placed(as_stored(standing), False)

    async def read(self, run: str, thread: str, agent: str, *, from_n: int = 0, from_seq: int = 0) -> JournalPart:
        """The journal from place `from_n` to its first gap. `from_seq` skips what an earlier read has covered."""
        if self._by_place:
            return await self._read_places(EntryAddress(LOG, run, thread, agent, from_n), from_seq)
        found: dict[int, Stored] = {}
        next_seq = max(from_seq, 1)
        async for message in self._read_on(run, subjects.journal_filter(run, thread, agent), from_seq):
            stored = as_stored(message)
            next_seq = stored.seq + 1
            if stored.address.n >= from_n:
                found[stored.address.n] = stored
        entries: list[Stored] = []
        while (following := found.pop(from_n + len(entries), None)) is not None:
            entries.append(following)
        # What is left stands beyond a gap. It may have been stored before the entry that will fill the gap.
        beyond = min((stored.seq for stored in found.values()), default=next_seq)
        return JournalPart(tuple(entries), beyond)

    async def _read_places(self, first: EntryAddress, from_seq: int) -> JournalPart:
        entries: list[Stored] = []
        next_seq, window = max(from_seq, 1), FIRST_WINDOW
        while True:
            begin = first.n + len(entries)
            places = (msgspec.structs.replace(first, n=n) for n in range(begin, begin + window))
            for stored in await asyncio.gather(*(self.get(place.guard) for place in places)):
                if stored is None:
                    return JournalPart(tuple(entries), next_seq)
                entries.append(stored)
                next_seq = max(next_seq, stored.seq + 1)
            window = min(2 * window, READS_IN_FLIGHT)

    async def get(self, subject: str) -> Stored | None:
        """The entry with this subject, or at the place that a guard names."""
        stream = entry_stream(subject.split(".")[1])
        found = await self._connection.persist(
            f"reading {subject}", lambda: jetstream.get(self._connection, stream, subject)
        )
        return None if found is None else as_stored(found)

    async def get_all(self, subjects: Sequence[str]) -> dict[str, Stored]:
        """Those of these entries that there are, by subject."""
        free = asyncio.Semaphore(READS_IN_FLIGHT)

        async def one(subject: str) -> Stored | None:
            async with free:
                return await self.get(subject)

        found = await asyncio.gather(*(one(subject) for subject in subjects))
        return {subject: stored for subject, stored in zip(subjects, found, strict=True) if stored is not None}

    def run_entries(self, run: str, from_seq: int = 0) -> AsyncIterator[Stored]:
        """Everything of a run, by every agent, in the order it was stored."""
        return self._entries(lane_of(run), subjects.run_filter(run), from_seq)

    def first_entries(self, lane: str) -> AsyncIterator[Stored]:
        """The first entry of every lead's thread: one a run, oldest first."""
        return self._entries(lane, subjects.first_entries_filter(lane), 0)

    def mail_entries(self, lane: str, recipient: str) -> AsyncIterator[Stored]:
        """Everything that is addressed to an agent, or to people, in the order it was stored."""
        return self._entries(lane, subjects.mail_filter(lane, recipient), 0)

    async def last_of(self, filter_subject: str) -> Stored | None:
        """The newest entry under a filter."""
        stream = entry_stream(filter_subject.split(".")[1])
        found = await self._connection.persist(
            f"reading {filter_subject}",
            lambda: jetstream.get_last(self._connection, stream, filter_subject),
        )
        return None if found is None else as_stored(found)

    async def _entries(self, lane: str, filter_subject: str, from_seq: int) -> AsyncIterator[Stored]:
        async for message in jetstream.read_on(self._connection, entry_stream(lane), filter_subject, from_seq):
            try:
                stored = as_stored(message)
            except ProtocolError as error:
                logger.warning("passed over in lane %s: %s", lane, error)
                continue
            yield stored

    def _read_on(self, run: str, filter_subject: str, from_seq: int) -> AsyncIterator[RawMessage]:
        return jetstream.read_on(self._connection, entry_stream(lane_of(run)), filter_subject, from_seq)


def as_stored(message: RawMessage) -> Stored:
    return Stored(subjects.parse_entry(message.subject), message.seq, message.data, authored(message.headers))
