"""Journals: every entry of every thread, each written once at its own place, and read back in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from functools import partial

import msgspec

from shanty_protocol import Entry, EntryAddress, ProtocolError, chain, subjects
from shanty_protocol.codec import decode_entry, encode, message_headers
from shanty_protocol.headers import CHAIN
from shanty_protocol.ids import LOG, ROOT_THREAD, lane_of
from shanty_protocol.lazy import lazy
from shanty_protocol.streams import entry_stream
from shanty_runtime.bus import jetstream
from shanty_runtime.bus.backoff import Backoff
from shanty_runtime.bus.connection import Connection
from shanty_runtime.bus.jetstream import RawMessage, authored
from shanty_runtime.telemetry import metrics

logger = logging.getLogger("shanty.bus")

READS_IN_FLIGHT = 64
LAG_TRIES = 20
"""How often an entry that another one names is looked for before it is taken for deleted."""
ENTRY_TOKENS = 7
"""`shanty.<lane>.<to>.<run>.<thread>.<agent>.<n>`"""
FIRST_WINDOW = 4
"""Places that are read at once at first, where a journal is read place by place; then twice as many, and so on."""


class Stored(msgspec.Struct, frozen=True, dict=True):
    """An entry as it stands in its journal. `entry` raises ProtocolError where this version cannot read it."""

    address: EntryAddress
    seq: int
    data: bytes
    headers: dict[str, str]

    @lazy
    def entry(self) -> Entry:
        return decode_entry(self.data, self.headers)

    def own(self, before: str) -> str:
        """What the next entry of its journal is chained to. `before` counts where this one is not chained itself."""
        return chain.own_of(before, self.address.subject, self.headers, self.data)


class Written(msgspec.Struct, frozen=True):
    """An entry as it is going to stand in its journal, its trace left out."""

    address: EntryAddress
    subject: str
    data: bytes
    headers: dict[str, str]
    own: str
    """What the next entry of its journal is chained to."""


def written(address: EntryAddress, entry: Entry, before: str = "") -> Written:
    """The bytes and headers of an entry. `before` is what it is chained to; at place 0 that need not be said, and
    elsewhere an entry without it is not chained. Raises UnwritableMessage."""
    data, headers, subject = encode(entry), message_headers(entry), address.subject
    if not before and address.n == 0:
        before = chain.NOTHING_BEFORE
    own = chain.digest_of_entry(before, subject, headers, data) if before else ""
    if own:
        headers[CHAIN] = chain.Link(before, own).header
    return Written(address, subject, data, headers, own)


class Placed(msgspec.Struct, frozen=True):
    """What stands at a place after an append. `ours`: it has our recipient and our bytes."""

    stored: Stored
    ours: bool
    fresh: bool = False
    """Whether the place was free until now. What is ours may also have been stored by an earlier try."""


class JournalPart(msgspec.Struct, frozen=True):
    """Entries without a gap. A later read that starts at `next_seq` misses none that was not among them."""

    entries: tuple[Stored, ...]
    next_seq: int
    beyond: Stored | None = None
    """What stands beyond a gap. Nothing but a journal whose beginning is not stored any more has something there
    and no entries: place 0 is taken before any other one is."""


class Journals:
    """Every call waits out an outage of the bus; cancel it to give up."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        # A filter in the body of a request could name anybody's entries, so no agent's account may send one.
        self._by_place = connection.settings.zone == "agent"

    async def append(
        self, address: EntryAddress, entry: Entry, headers: Mapping[str, str] = {}, *, before: str = ""
    ) -> Placed:
        """Take a place for an entry. Durable once this returns. `headers` say the trace, and nothing else.

        The place has one entry for good, so the same append may be tried again at any time, by anybody: whoever
        comes later is told what stands there. Raises PayloadTooLarge and PermissionDenied.
        """
        return await self.place(written(address, entry, before), headers)

    async def place(self, entry: Written, headers: Mapping[str, str] = {}) -> Placed:
        """Take a place for an entry whose bytes are known. Otherwise as `append`."""
        address, subject, data = entry.address, entry.subject, entry.data
        sent = entry.headers
        if headers:
            sent = {**sent, **headers}
            if entry.own and (seal := chain.seal_of(entry.own, sent)):
                sent[CHAIN] = f"{sent[CHAIN]}-{seal}"
        stream = entry_stream(address.lane)
        standing = await jetstream.write_once(self._connection, stream, subject, address.guard, data, sent)
        if standing.subject == subject:
            metrics.message_stored(address)
            fresh = standing.headers is sent  # as it is where we have stored it just now
            stored = Stored(address, standing.seq, standing.data, sent if fresh else authored(standing.headers))
            return Placed(stored, standing.data == data, fresh)
        return Placed(as_stored(standing), False)

    async def read(self, run: str, thread: str, agent: str, *, from_n: int = 0, from_seq: int = 0) -> JournalPart:
        """The journal from place `from_n` to its first gap. `from_seq` is what an earlier read gave as `next_seq`."""
        first = EntryAddress(LOG, run, thread, agent, from_n)
        if from_n > 0:
            return await self._read_places(first, from_seq)
        if self._by_place:
            part, newest = await asyncio.gather(
                self._read_places(first, from_seq), self.get(subjects.journal_filter(run, thread, agent))
            )
            return part if part.entries else msgspec.structs.replace(part, beyond=newest)
        found: dict[int, Stored] = {}
        next_seq = 1
        async for message in self._read_on(run, subjects.journal_filter(run, thread, agent), 0):
            stored = as_stored(message)
            next_seq = stored.seq + 1
            found[stored.address.n] = stored
        entries: list[Stored] = []
        while (following := found.pop(len(entries), None)) is not None:
            entries.append(following)
        # What is left stands beyond a gap. It may have been stored before the entry that will fill the gap.
        beyond = min(found.values(), key=lambda stored: stored.seq, default=None)
        return JournalPart(tuple(entries), next_seq if beyond is None else beyond.seq, beyond)

    async def _read_places(self, first: EntryAddress, from_seq: int) -> JournalPart:
        """What is stored of other journals makes no difference to this: the server is asked for single places."""
        entries: list[Stored] = []
        next_seq, window = max(from_seq, 1), FIRST_WINDOW
        while True:
            begin = first.n + len(entries)
            places = [msgspec.structs.replace(first, n=n) for n in range(begin, begin + window)]
            found = await (self._get_places(places) if self._by_place else self._look_up_places(places))
            for place in places:
                if (stored := found.get(place.n)) is None:
                    return JournalPart(tuple(entries), next_seq)
                entries.append(stored)
                next_seq = max(next_seq, stored.seq + 1)
            window = min(2 * window, READS_IN_FLIGHT)

    async def _get_places(self, places: Sequence[EntryAddress]) -> dict[int, Stored]:
        found = await asyncio.gather(*(self.get(place.guard) for place in places))
        return {stored.address.n: stored for stored in found if stored is not None}

    async def _look_up_places(self, places: Sequence[EntryAddress]) -> dict[int, Stored]:
        stream, guards = entry_stream(lane_of(places[0].run)), [place.guard for place in places]
        found: dict[int, Stored] = {}
        more, from_seq = True, 1
        while more:
            asking = partial(jetstream.get_few, self._connection, stream, guards, from_seq=from_seq)
            answer = await self._connection.persist(f"reading {guards[0]}", asking)
            assert answer is not None, "a place is taken once, so there are no more answers than places"
            page, more = answer
            for message in page:
                stored = as_stored(message)
                found[stored.address.n] = stored
                from_seq = message.seq + 1
        return found

    async def get(self, subject: str) -> Stored | None:
        """The entry with this subject, or at the place that a guard names."""
        stream = entry_stream(subject.split(".")[1])
        found = await self._connection.persist(
            f"reading {subject}", lambda: jetstream.get(self._connection, stream, subject)
        )
        return None if found is None else as_stored(found)

    async def is_taken(self, address: EntryAddress) -> bool:
        """Whether a place has an entry, by the server that cannot lag. An agent's zone does not reach that one."""
        stream = entry_stream(lane_of(address.run))
        standing = await self._connection.persist(
            f"looking at {address.guard}",
            lambda: jetstream.get_last_from_leader(self._connection, stream, address.guard),
        )
        return standing is not None

    async def get_all(self, subjects: Sequence[str]) -> dict[str, Stored]:
        """Those of these entries that there are, by subject."""
        free = asyncio.Semaphore(READS_IN_FLIGHT)

        async def one(subject: str) -> Stored | None:
            async with free:
                return await self.get(subject)

        found = await asyncio.gather(*(one(subject) for subject in subjects))
        return {subject: stored for subject, stored in zip(subjects, found, strict=True) if stored is not None}

    async def get_named(self, subjects: Sequence[str]) -> dict[str, Stored]:
        """These entries, which others name: they are stored, so a replica that lacks one lags, and is asked again."""
        found, lag = await self.get_all(subjects), Backoff(first_s=0.005, most_s=0.2)
        while (missing := [each for each in subjects if each not in found]) and lag.tries < LAG_TRIES:
            await lag.pause()
            found |= await self.get_all(missing)
        return found

    def run_entries(self, run: str, from_seq: int = 0) -> AsyncIterator[Stored]:
        """Everything of a run, by every agent, in the order it was stored."""
        return self._entries(lane_of(run), subjects.run_filter(run), from_seq)

    async def run_messages(self, run: str) -> AsyncIterator[RawMessage]:
        """The same as it is stored, readable or not: for audits and archives."""
        async for message in self._read_on(run, subjects.run_filter(run), 0):
            yield msgspec.structs.replace(message, headers=authored(message.headers))

    def first_entries(self, lane: str, *, newest_first: bool = False) -> AsyncIterator[Stored]:
        """The first entry of every lead's thread: one a run, oldest first."""
        if newest_first:
            return self._newest_first(lane, _is_first_entry)
        return self._entries(lane, subjects.first_entries_filter(lane), 0)

    def mail_entries(self, lane: str, recipient: str) -> AsyncIterator[Stored]:
        """Everything that is addressed to an agent, or to people, in the order it was stored."""
        return self._entries(lane, subjects.mail_filter(lane, recipient), 0)

    async def mail_at(self, lane: str, recipient: str, seq: int) -> Stored | None:
        """What is stored at this place of the lane's stream, if it is addressed so."""
        stream, mail = entry_stream(lane), subjects.mail_filter(lane, recipient)
        page, _ = await self._connection.persist(
            f"reading {mail}",
            lambda: jetstream.get_batch(self._connection, stream, mail, from_seq=seq, max_messages=1),
        )
        if not page or page[0].seq != seq:
            return None
        with contextlib.suppress(ProtocolError):
            return as_stored(page[0])
        return None

    async def last_of(self, filter_subject: str) -> Stored | None:
        """The newest entry under a filter."""
        stream = entry_stream(filter_subject.split(".")[1])
        found = await self._connection.persist(
            f"reading {filter_subject}",
            lambda: jetstream.get_last(self._connection, stream, filter_subject),
        )
        return None if found is None else as_stored(found)

    def _entries(self, lane: str, filter_subject: str, from_seq: int) -> AsyncIterator[Stored]:
        return _readable(lane, jetstream.read_on(self._connection, entry_stream(lane), filter_subject, from_seq))

    def _newest_first(self, lane: str, wanted: Callable[[str], bool]) -> AsyncIterator[Stored]:
        return _readable(lane, jetstream.read_back(self._connection, entry_stream(lane), wanted))

    def _read_on(self, run: str, filter_subject: str, from_seq: int) -> AsyncIterator[RawMessage]:
        return jetstream.read_on(self._connection, entry_stream(lane_of(run)), filter_subject, from_seq)


async def _readable(lane: str, reading: AsyncGenerator[RawMessage, None]) -> AsyncIterator[Stored]:
    async with contextlib.aclosing(reading) as messages:
        async for message in messages:
            try:
                stored = as_stored(message)
            except ProtocolError as error:
                logger.warning("passed over in lane %s: %s", lane, error)
                continue
            yield stored


def _is_first_entry(subject: str) -> bool:
    """Whether `first_entries_filter` has it."""
    tokens = subject.split(".")
    return len(tokens) == ENTRY_TOKENS and tokens[4] == ROOT_THREAD and tokens[6] == "0"


def as_stored(message: RawMessage) -> Stored:
    return Stored(subjects.parse_entry(message.subject), message.seq, message.data, authored(message.headers))
