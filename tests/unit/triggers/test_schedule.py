from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice

import pytest

from shanty_runtime.triggers import Schedule
from shanty_runtime.triggers.definition import CatchUp
from shanty_runtime.triggers.schedule import check, due, key_of, local, next_time, times_after

HOUR_MS = 3_600_000


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def keys(cron: str, timezone: str, after: str, count: int) -> list[str]:
    times = times_after(Schedule(cron=cron, timezone=timezone), ms(after))
    return [key_of(at_ms)[:16] for at_ms in islice(times, count)]


def test_times_come_after_a_moment_and_never_at_it() -> None:
    assert keys("0 6 * * *", "UTC", "2026-11-21T06:00", 2) == ["2026-11-22T06:00", "2026-11-23T06:00"]
    assert keys("0 6 * * *", "UTC", "2026-11-21T05:59:59.999", 1) == ["2026-11-21T06:00"]


def test_a_time_zone_has_its_own_six_o_clock_in_summer_and_in_winter() -> None:
    assert keys("0 6 * * *", "Europe/Berlin", "2026-10-24T00:00", 3) == [
        "2026-10-24T04:00",
        "2026-10-25T05:00",
        "2026-10-26T05:00",
    ]


def test_what_is_due_at_a_time_that_does_not_exist_is_due_once_after_the_gap() -> None:
    # In Berlin 2:00 to 3:00 is left out on 29 March 2026; 3:00 is 1:00 in UTC.
    assert keys("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", 2) == ["2026-03-29T01:00", "2026-03-30T00:30"]
    assert keys("0,30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", 2) == ["2026-03-29T01:00", "2026-03-30T00:00"]


def test_a_gap_is_the_same_from_within_it() -> None:
    assert keys("30 2 * * *", "Europe/Berlin", "2026-03-29T00:59:59", 1) == ["2026-03-29T01:00"]
    assert keys("30 2 * * *", "Europe/Berlin", "2026-03-29T01:00", 1) == ["2026-03-30T00:30"]


def test_a_time_that_exists_twice_is_due_the_first_time_alone() -> None:
    # In Berlin 2:30 on 25 October 2026 is 0:30 and again 1:30 in UTC.
    expected = ["2026-10-25T00:30", "2026-10-26T01:30"]
    assert keys("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", 2) == expected
    for after in ("2026-10-25T00:30", "2026-10-25T00:59", "2026-10-25T01:10", "2026-10-25T01:30"):
        assert keys("30 2 * * *", "Europe/Berlin", after, 1) == ["2026-10-26T01:30"]


def test_what_runs_every_hour_follows_real_time_when_clocks_change() -> None:
    autumn = keys("0 * * * *", "Europe/Berlin", "2026-10-24T23:30", 4)
    assert autumn == ["2026-10-25T00:00", "2026-10-25T01:00", "2026-10-25T02:00", "2026-10-25T03:00"]
    spring = keys("0 * * * *", "Europe/Berlin", "2026-03-28T23:30", 3)
    assert spring == ["2026-03-29T00:00", "2026-03-29T01:00", "2026-03-29T02:00"]


def test_six_fields_begin_with_seconds() -> None:
    schedule = Schedule(cron="*/20 * * * * *")
    assert [at_ms - ms("2026-11-21T06:00") for at_ms in islice(times_after(schedule, ms("2026-11-21T06:00")), 3)] == [
        20_000,
        40_000,
        60_000,
    ]


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [("none", []), ("latest", ["12:00"]), ("all", ["10:00", "11:00", "12:00"])],
)
def test_what_was_missed_is_made_up_for_as_it_says(catch_up: CatchUp, expected: list[str]) -> None:
    schedule = Schedule(cron="0 * * * *", catch_up=catch_up, catch_up_limit=3)
    found = due(schedule, ms("2026-11-01T00:00"), ms("2026-11-21T12:20"))
    assert [key_of(at_ms)[11:16] for at_ms in found] == expected


@pytest.mark.parametrize("catch_up", ["none", "latest", "all"])
def test_what_is_due_now_is_due_whatever_is_said_of_what_was_missed(catch_up: CatchUp) -> None:
    schedule = Schedule(cron="0 * * * *", catch_up=catch_up)
    noon_ms = ms("2026-11-21T12:00")
    assert due(schedule, noon_ms - HOUR_MS, noon_ms + 30) == (noon_ms,)
    assert due(schedule, noon_ms, noon_ms + 30) == ()
    assert due(schedule, noon_ms - HOUR_MS, noon_ms - 1) == ()


def test_ten_years_of_every_second_cost_no_more_than_its_newest_times() -> None:
    schedule = Schedule(cron="* * * * * *", catch_up="all", catch_up_limit=5)
    now_ms = ms("2026-11-21T12:00")
    assert due(schedule, now_ms - 10 * 365 * 24 * HOUR_MS, now_ms) == tuple(
        now_ms - n * 1000 for n in (4, 3, 2, 1, 0)
    )


def test_the_newest_of_a_rare_schedule_is_found_however_long_ago_it_was() -> None:
    schedule = Schedule(cron="0 0 29 2 *")
    found = due(schedule, ms("2020-01-01T00:00"), ms("2026-11-21T12:00"))
    assert [key_of(at_ms) for at_ms in found] == ["2024-02-29T00:00:00Z"]
    assert next_time(schedule, ms("2026-11-21T12:00")) == ms("2028-02-29T00:00")


@pytest.mark.parametrize(
    "cron", ["", "* * * *", "61 * * * *", "0 6 31 2 *", "every day", "@daily", "0 6 * * fri-mon"]
)
def test_what_is_no_time_for_cron_is_told(cron: str) -> None:
    assert check(cron)


def test_a_time_is_shown_as_the_clock_on_the_wall_does() -> None:
    schedule = Schedule(cron="0 6 * * *", timezone="Asia/Kolkata")
    assert local(schedule, ms("2026-11-21T00:30")) == "2026-11-21T06:00:00+05:30"
