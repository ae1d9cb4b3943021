"""Leases: who works on which thread. Losing one costs the step under way and nothing else: the journal decides.

A lease is a key with a time to live, in a bucket that no disk is waited for: a server that is killed forgets the
newest. Its holder renews it. Whoever finds it run out takes it over, and learns from the trace it left that it was
not given back; one that was given back says how much of the journal there is to be read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time

import msgspec

from shanty_protocol.headers import ABANDONED, JOURNAL_LENGTH
from shanty_protocol.streams import LEASE_BUCKET
from shanty_runtime.bus import jetstream
from shanty_runtime.bus.backoff import Backoff
from shanty_runtime.bus.connection import Connection
from shanty_runtime.bus.jetstream import EXPECT_SEQ, TTL, Taken
from shanty_runtime.errors import BusError, BusUnavailable
from shanty_runtime.telemetry import metrics

logger = logging.getLogger("shanty.bus")

STREAM = f"KV_{LEASE_BUCKET}"
RENEWALS_PER_LEASE = 3
MARGIN = 0.1
"""The part of a lease its holder does not count on: clocks do not run at quite the same speed."""
RELEASED_TTL_S = 1
"""How long the trace of a lease that was given back stays: the shortest the server knows."""

OPERATION = "KV-Operation"
MARKER_REASON = "Nats-Marker-Reason"
RAN_OUT = "MaxAge"

MAX_TRACES = 1_000

RECENT_S = 0.2
"""How old the last word of the bus may be for whoever has to be certain: a process that stood still cannot know."""
MOST_PROOFS = 3
"""How often it is asked again because its answer took longer. A bus that is slow each time is slow."""


class Busy(msgspec.Struct, frozen=True):
    """Somebody has the thread."""

    holder: str


class _Value(msgspec.Struct, frozen=True):
    holder: str
    token: str
    """Different for every lease, so that a renewal whose ack was lost is known for our own."""


class _Wish(msgspec.Struct):
    """A lease that somebody tries to get, over as many tries as it takes."""

    value: _Value
    began_s: float
    after_run_out: bool = False
    """A try without an answer was for a key whose lease had run out: should it have worked, that is not forgotten."""


_values = msgspec.json.Decoder(_Value)


class _Standing(msgspec.Struct, frozen=True):
    """What a key has at the moment: a holder, or the trace of one."""

    revision: int
    value: _Value | None = None
    abandoned: bool = False
    journal_length: int | None = None
    """None where whoever had it did not know how much of the journal there is."""


class Lease:
    """Held while `held()` says so. `fence` grows from holder to holder as long as the server forgets none."""

    def __init__(
        self, leases: Leases, key: str, value: _Value, revision: int, trace: _Standing | None, *, abandoned: bool
    ) -> None:
        self.key = key
        self.fence = revision
        self.abandoned = abandoned
        """Whether the holder before this one vanished without giving it back."""
        self.noted = False
        """Whether a journal says so. To be set by whoever writes it."""
        self.unsettled = False
        """Whether it was given back with an entry on its way, see `release`."""
        self.journal_length = 0 if trace is None else trace.journal_length or 0
        """How many entries the journal has at least; 0 where nobody has said."""
        self.traced = abandoned or (trace is not None and trace.journal_length is not None)
        """Whether the bus knew what had become of the holder before this one. If not there was none, or it is long
        ago, or see `may_be_one_of_two`. Whoever has the lease may find out by other means, and set it."""
        self.lost = asyncio.Event()
        """Set once it is certain that this lease is over."""
        self.value = value
        self.revision = revision
        self.until_s = 0.0
        self.known_since = 0
        """On which connection, counted from the first, the bus has last said that it is ours."""
        self.proven_s = 0.0
        """When that was asked which the bus has last answered, about the lease or by storing what is written under
        it: what has happened since is not known."""
        self.changing = asyncio.Lock()
        self._leases = leases

    def held(self) -> bool:
        """Whether nobody else can have the thread right now. False while the server cannot be reached for long."""
        return not self.lost.is_set() and time.monotonic() < self.until_s

    @property
    def may_be_one_of_two(self) -> bool:
        """Whether a server that was killed may have forgotten one that is still held. That one is over by the time
        our own connection is as old as a lease, or its holder has made the server know of it again."""
        return self._leases.connected_for_s < self._leases.lease_s

    async def confirm(self) -> None:
        """Return once it is certain that the bus knows of it, or it is over.

        `held` is about time. A server that was killed may have forgotten the lease meanwhile, and let another have
        it; so after each loss of the connection the bus is asked. And where it has not said anything for a moment:
        a process that stood still finds what had come before in its socket, and only then that the connection broke.
        """
        await self._leases.confirm(self)

    async def release(self, journal_length: int = 0, *, unsettled: bool = False) -> None:
        """Give it back, if it is still ours, and tell the next holder how much there is to be read.

        `unsettled`: an entry may be on its way that is not counted. As after a holder that vanished, the next one has
        to take the place after those it reads before it does anything else.
        """
        self.journal_length = max(self.journal_length, journal_length)
        self.unsettled = unsettled
        await self._leases.release(self)

    def trace(self) -> _Standing:
        """What the next holder has to know of it."""
        return _Standing(
            self.revision,
            None,
            self.unsettled or (self.abandoned and not self.noted),
            self.journal_length if self.traced else None,
        )

    def abandon(self) -> None:
        """Renew it no more: it runs out by itself, and the next holder finds it abandoned."""
        self._leases.forget(self)


class Leases:
    """Takes leases, and renews all that are held by one task."""

    def __init__(self, connection: Connection, lease_s: int) -> None:
        self.lease_s = lease_s
        self._connection = connection
        self._held: dict[Lease, None] = {}
        """In the order they were taken, so that what is simulated happens the same way every time."""
        self._traces: dict[str, _Standing] = {}
        """What keys that were given back here had last: the next holder is often we ourselves."""
        self._renewing: asyncio.Task[None] | None = None
        self._at_once = asyncio.Event()
        self._times_connected = 0
        self._connected_at_s = time.monotonic()
        connection.on_reconnect.append(self._note_connected)
        connection.elections.on_elected.append(self._at_once.set)

    async def take(self, key: str, holder: str) -> Lease | Busy:
        """Take the lease of `<agent>.<run>.<thread>`, or learn who has it. One round trip where nobody had it."""
        wish = _Wish(_Value(holder, secrets.token_hex(8)), time.monotonic())
        return await self._connection.persist(f"taking the lease of {key}", lambda: self._take(key, wish))

    @property
    def connected_for_s(self) -> float:
        return time.monotonic() - self._connected_at_s

    async def release(self, lease: Lease) -> None:
        async with lease.changing:
            if self._end(lease):
                await self._give_back(lease)

    def forget(self, lease: Lease) -> None:
        self._end(lease)

    async def confirm(self, lease: Lease) -> None:
        backoff, proofs = Backoff(first_s=0.01, most_s=0.2), 0
        while lease.held():
            certain = self._is_certain(lease)
            if certain and (self._is_recent(lease) or proofs == MOST_PROOFS):
                return
            await self._renew(lease)
            if certain:
                proofs += 1
            elif lease.held() and not self._is_certain(lease):
                await backoff.pause()

    def _is_recent(self, lease: Lease) -> bool:
        return time.monotonic() - lease.proven_s < RECENT_S

    def _is_certain(self, lease: Lease) -> bool:
        return self._connection.connected and self._is_known(lease)

    def _is_known(self, lease: Lease) -> bool:
        """Whether its revision was given on the present connection. A server that was killed may have lost the newest
        ones, and counts them anew: what has our revision is then another's."""
        return lease.known_since == self._times_connected

    def _note_connected(self) -> None:
        self._times_connected += 1
        self._connected_at_s = time.monotonic()
        self._traces.clear()
        self._at_once.set()

    async def stop(self) -> None:
        """Renew no more. What is still held runs out."""
        self._held.clear()
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
            self._renewing = None

    # Taking

    async def _take(self, key: str, wish: _Wish) -> Lease | Busy:
        value, trace = wish.value, self._traces.pop(key, None)
        backoff = Backoff(first_s=0.002, most_s=0.1)
        while True:
            sent_s, abandoned = time.monotonic(), trace is not None and trace.abandoned
            try:
                revision = await self._put(key, value, 0 if trace is None else trace.revision)
                return self._begin(key, value, revision, trace, sent_s, abandoned=abandoned)
            except BusUnavailable:
                wish.after_run_out = wish.after_run_out or abandoned
                raise
            except Taken:
                trace = await self._look(key)
            if trace is not None and trace.value == value:
                # An earlier try had worked, and its ack was lost. When it was stored nobody knows.
                self._at_once.set()
                return self._begin(key, value, trace.revision, None, wish.began_s, abandoned=wish.after_run_out)
            if trace is not None and trace.value is not None:
                return Busy(trace.value.holder)
            await backoff.pause()  # a replica that lags may have shown an old state

    def _begin(
        self, key: str, value: _Value, revision: int, trace: _Standing | None, sent_s: float, *, abandoned: bool
    ) -> Lease:
        lease = Lease(self, key, value, revision, trace, abandoned=abandoned)
        lease.known_since = self._times_connected
        lease.proven_s, lease.until_s = sent_s, self._until_s(sent_s)
        self._held[lease] = None
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._keep_renewing())
        return lease

    def _end(self, lease: Lease) -> bool:
        """Whether the lease was counted as held until now."""
        if lease not in self._held:
            return False
        del self._held[lease]
        lease.until_s = 0.0
        return True

    async def _give_back(self, lease: Lease) -> None:
        try:
            if not self._is_known(lease):
                standing = await self._look(lease.key)
                if standing is None or standing.value != lease.value:
                    return
                lease.revision = standing.revision
            headers = {
                OPERATION: "PURGE",
                "Nats-Rollup": "sub",
                EXPECT_SEQ: str(lease.revision),
                TTL: f"{RELEASED_TTL_S}s",
            }
            trace = lease.trace()
            if trace.abandoned:
                headers[ABANDONED] = "true"
            if trace.journal_length is not None:
                headers[JOURNAL_LENGTH] = str(trace.journal_length)
            connection = self._times_connected
            revision = await jetstream.publish(self._connection, _subject(lease.key), b"", headers)
        except Taken:
            logger.debug("the lease of %s was somebody else's already", lease.key)
        except BusError as error:
            logger.info("the lease of %s runs out by itself: %s", lease.key, error)
        else:
            if connection == self._times_connected:  # else that revision may be another's by now
                self._traces[lease.key] = msgspec.structs.replace(trace, revision=revision)
            if len(self._traces) > MAX_TRACES:
                self._traces.pop(next(iter(self._traces)))

    # Renewing

    async def _keep_renewing(self) -> None:
        """For as long as any is held."""
        complained = False
        while self._held:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.lease_s / RENEWALS_PER_LEASE):
                    await self._at_once.wait()
            self._at_once.clear()
            found = await asyncio.gather(*(self._renew(lease) for lease in tuple(self._held)))
            failed = [error for error in found if error is not None]
            if failed and not complained:  # once for all of them, and not at every try
                logger.info("%d leases could not be renewed yet: %s", len(failed), failed[0])
            complained = bool(failed)
        self._renewing = None

    async def _renew(self, lease: Lease) -> BusError | None:
        """Why it could not be renewed yet, where it could not."""
        async with lease.changing:
            if lease not in self._held:
                return None
            try:
                extended = self._is_known(lease) and await self._extend(lease)
                if not extended and not await self._recover(lease):
                    logger.warning("the lease of %s is lost", lease.key)
                    metrics.lease_lost(lease.key.partition(".")[0])
                    self._end(lease)
                    lease.lost.set()
            except BusError as error:
                return error
        return None

    async def _extend(self, lease: Lease) -> bool:
        sent_s, connection = time.monotonic(), self._times_connected
        try:
            lease.revision = await self._put(lease.key, lease.value, lease.revision)
        except Taken:
            return False
        lease.proven_s, lease.until_s, lease.known_since = sent_s, self._until_s(sent_s), connection
        return True

    async def _recover(self, lease: Lease) -> bool:
        """Look first: the key may be ours at another revision, another's, or free because the server has lost it."""
        backoff = Backoff(first_s=0.002, most_s=0.1)
        while True:
            standing = await self._look(lease.key)
            if standing is None:
                # Only while the lease cannot have run out: later somebody else may have had the thread, and be done.
                if not lease.held():
                    return False
                lease.revision, lease.traced = 0, False
            elif standing.value == lease.value:
                if lease.revision == 0:  # an earlier try has stored it, nobody knows when
                    lease.traced = False
                lease.revision = standing.revision
            else:
                return False
            anew = lease.revision == 0
            if await self._extend(lease):
                if anew:
                    lease.traced = False  # until it was stored, another may have had the thread
                return True
            await backoff.pause()  # a replica that lags may have shown an old state

    def _until_s(self, sent_s: float) -> float:
        """The server counts from when it stored the key, which is later than when we sent it."""
        return sent_s + self.lease_s * (1 - MARGIN)

    # The bucket

    async def _put(self, key: str, value: _Value, expected: int) -> int:
        headers = {EXPECT_SEQ: str(expected), TTL: f"{self.lease_s}s"}
        data = msgspec.json.encode(value)
        timeout_s = self.lease_s / RENEWALS_PER_LEASE
        return await jetstream.publish(self._connection, _subject(key), data, headers, timeout_s=timeout_s)

    async def _look(self, key: str) -> _Standing | None:
        found = await jetstream.get(self._connection, STREAM, _subject(key))
        if found is None:
            return None
        if not found.data:
            length = found.headers.get(JOURNAL_LENGTH, "")
            abandoned = found.headers.get(MARKER_REASON) == RAN_OUT or ABANDONED in found.headers
            return _Standing(found.seq, None, abandoned, int(length) if length.isdecimal() else None)
        return _Standing(found.seq, _values.decode(found.data))


def _subject(key: str) -> str:
    return f"$KV.{LEASE_BUCKET}.{key}"
