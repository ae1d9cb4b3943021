"""What `shanty doctor` says about age: does an open run come near the day its first entries are dropped.

A stream drops what is older than its `max_age`, whether the run has ended or not. Nobody could go on with a run whose
journal has lost its beginning: its mail would become dead letters.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from functools import partial

import msgspec

from shanty_cli.lookup import view_of
from shanty_cli.sickness import Check, Stream
from shanty_cli.text import plural
from shanty_protocol import EntryAddress, ProtocolError, ThreadReplied
from shanty_protocol.ids import ROOT_THREAD
from shanty_protocol.streams import DAY_S, entry_stream
from shanty_protocol.subjects import journal_filter, parse_entry
from shanty_runtime.bus import Bus
from shanty_runtime.bus.jetstream import get_batch
from shanty_runtime.errors import BusError

NEARLY_OLD = 0.8
"""The part of its time after which an open run is worth a word."""
MOST_ENTRIES_LOOKED_AT = 20_000
"""Of each lane, the oldest first."""


class _Begun(msgspec.Struct, frozen=True):
    """A lead has begun a run."""

    address: EntryAddress
    age_s: float


async def ages(
    bus: Bus, lanes: Sequence[str], streams: Mapping[str, Stream | BusError], now_s: float | None = None
) -> Check | None:
    """The open runs that will have lost their beginning before long. None where no stream can be looked at."""
    now_s = time.time() if now_s is None else now_s
    limits_s = {
        lane: stream.config.max_age / 10**9
        for lane in lanes
        if isinstance(stream := streams[entry_stream(lane)], Stream)
    }
    near: list[str] = []
    for lane, limit_s in limits_s.items():
        if limit_s:
            async for begun in _begun_before(bus, lane, now_s, NEARLY_OLD * limit_s):
                if await _is_open(bus, begun.address):
                    left = max(0.0, limit_s - begun.age_s) / DAY_S
                    near.append(
                        f"run {begun.address.run} is open, and its first entries are dropped in {left:.1f} days"
                    )
    if near:
        rest = f", and so it is with {plural(len(near) - 1, 'other run')}" if len(near) > 1 else ""
        return Check(
            name="age",
            state="bad",
            found=f"{near[0]}{rest}",
            mend="end it with `shanty runs cancel`, or keep entries longer with `shanty init-bus --keep-days`",
        )
    if not limits_s:
        return None
    kept = " or ".join(dict.fromkeys(f"{each / DAY_S:g} days" if each else "ever" for each in limits_s.values()))
    return Check(name="age", state="ok", found=f"entries are kept for {kept}, and no open run comes near it")


async def _begun_before(bus: Bus, lane: str, now_s: float, least_age_s: float) -> AsyncIterator[_Begun]:
    """Runs whose first entry is at least so old, the oldest first."""
    stream, from_seq, looked_at, more = entry_stream(lane), 1, 0, True
    while more and looked_at < MOST_ENTRIES_LOOKED_AT:
        # A filter would have the server count all that is under it, each time.
        attempt = partial(get_batch, bus.connection, stream, ">", from_seq=from_seq)
        page, more = await bus.connection.persist(f"reading {stream}", attempt)
        for message in page:
            looked_at, from_seq = looked_at + 1, message.seq + 1
            age_s = now_s - msgspec.convert(message.headers["Nats-Time-Stamp"], datetime).timestamp()
            if age_s < least_age_s:
                return
            try:
                address = parse_entry(message.subject)
            except ProtocolError:
                continue
            if address.thread == ROOT_THREAD and address.n == 0:
                yield _Begun(address, age_s)


async def _is_open(bus: Bus, first: EntryAddress) -> bool:
    newest = await bus.journals.last_of(journal_filter(first.run, first.thread, first.agent))
    try:
        if newest is None or isinstance(newest.entry, ThreadReplied):
            return False
    except ProtocolError:
        pass  # a later version has written it, and what came before says whether it has ended
    view = await view_of(bus, first.run)
    return view.lead == first.agent and view.outcome is None
