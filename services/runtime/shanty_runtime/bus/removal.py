"""Taking a whole run off the bus. Single entries are never removed: the streams do not allow it."""

from __future__ import annotations

from functools import partial

import msgspec

from shanty_protocol.ids import lane_of
from shanty_protocol.streams import entry_stream, file_stream, timer_stream
from shanty_protocol.subjects import run_filter, versions_filter
from shanty_runtime.bus import jetstream
from shanty_runtime.bus.bus import Bus


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """How many messages were removed."""

    timers: int
    files: int
    """Versions of files, and the parts of their contents."""
    entries: int


class Newest(msgspec.Struct, frozen=True, kw_only=True):
    """Places in their streams of what was stored last of a run; 0 where there is nothing."""

    entry: int
    file: int


async def newest_of(bus: Bus, run: str) -> Newest:
    """What was stored last of a run, from the server that cannot lag."""
    lane = lane_of(run)
    return Newest(
        entry=await _newest(bus, entry_stream(lane), run_filter(run)),
        file=await _newest(bus, file_stream(lane), versions_filter(run)),
    )


async def remove_run(bus: Bus, run: str) -> Removed:
    """Remove all that is stored of a run. It may be called again where it was broken off: the entries go last.

    Its addresses can be taken again from then on, so nobody may be at work on it any more. The account needs the
    right to purge streams, which is the installer's.
    """
    lane = lane_of(run)
    filters = {
        timer_stream(lane): f"shanty.timer.{lane}.*.*.{run}.>",
        file_stream(lane): f"shanty.file.{lane}.{run}.>",
        entry_stream(lane): run_filter(run),
    }
    timers, files, entries = [await _purge(bus, stream, each) for stream, each in filters.items()]
    return Removed(timers=timers, files=files, entries=entries)


async def _newest(bus: Bus, stream: str, filter_subject: str) -> int:
    read = partial(jetstream.get_last_from_leader, bus.connection, stream, filter_subject)
    found = await bus.connection.persist(f"reading {filter_subject}", read)
    return 0 if found is None else found.seq


async def _purge(bus: Bus, stream: str, filter_subject: str) -> int:
    call = partial(jetstream.manage, bus.connection, f"STREAM.PURGE.{stream}", {"filter": filter_subject})
    answer = await bus.connection.persist(f"removing {filter_subject}", call)
    return int(answer["purged"])
