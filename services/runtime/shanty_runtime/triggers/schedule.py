"""The times of a schedule: cron in a time zone, and which of the times that have passed are to be obeyed.

Five fields mean what they mean to Debian's cron, also on the days the clocks change: what is due at a time that does
not exist is due at once after the gap, and a time that exists twice is due once, the first time; what runs every hour
or minute follows real time. Six fields begin with seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from shanty_runtime.triggers.definition import Schedule

ON_TIME_MS = 60_000
"""What is not made up for is obeyed all the same while it is no later than this: leads start, and clocks differ."""


def check(cron: str) -> str:
    """What is wrong with it; empty where it is a schedule that has a time."""
    try:
        next(CronSim(cron, datetime.now(UTC)))
    except CronSimError as error:
        return str(error)
    except StopIteration:
        return "there is no such day in the next 50 years"
    return ""


def times_after(schedule: Schedule, after_ms: int) -> Iterator[int]:
    """The times of a schedule after a moment, in milliseconds since 1970, without end."""
    zone = UTC if schedule.timezone == "UTC" else ZoneInfo(schedule.timezone)
    last_ms = after_ms
    for found in CronSim(schedule.cron, datetime.fromtimestamp(after_ms // 1000, UTC).astimezone(zone)):
        at_ms = int(found.timestamp()) * 1000
        # Two times of a gap are one moment, and of an hour that comes twice only the first one counts.
        if at_ms > last_ms:
            last_ms = at_ms
            yield at_ms


def next_time(schedule: Schedule, after_ms: int) -> int | None:
    """The next time after a moment; None where there is none."""
    return next(times_after(schedule, after_ms), None)


def due(schedule: Schedule, since_ms: int, now_ms: int) -> tuple[int, ...]:
    """The times after `since_ms` and up to now that are to be obeyed, oldest first."""
    most = schedule.catch_up_limit if schedule.catch_up == "all" else 1
    passed = _newest(schedule, since_ms, now_ms, most)
    if schedule.catch_up == "none":
        return tuple(at_ms for at_ms in passed if now_ms - at_ms <= ON_TIME_MS)
    return passed


def key_of(at_ms: int) -> str:
    """What a time of a schedule is called: UTC, to the second."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def local(schedule: Schedule, at_ms: int) -> str:
    """The time as the clock on the wall shows it."""
    return datetime.fromtimestamp(at_ms / 1000, ZoneInfo(schedule.timezone)).isoformat()


def _newest(schedule: Schedule, since_ms: int, now_ms: int, most: int) -> tuple[int, ...]:
    """The newest times after `since_ms` and up to now: looked for backwards, however long nobody looked."""
    window_ms = 60_000
    while True:
        begin_ms = max(since_ms, now_ms - window_ms)
        found = tuple(takewhile(lambda at_ms: at_ms <= now_ms, times_after(schedule, begin_ms)))
        if len(found) >= most or begin_ms == since_ms:
            return found[-most:]
        window_ms *= 8
