from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from shanty_runtime.bus.clock import Clock

HOUR_S = 3600.0


def said(at_s: float) -> dict[str, Any]:
    return {"ts": datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")}


def now_s(clock: Clock) -> float:
    return clock.now_ms() / 1000


@pytest.fixture
def monotonic(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the monotonic clock says, in a list of one."""
    now = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_until_the_server_has_said_anything_the_time_is_this_machines() -> None:
    clock = Clock()
    assert not clock.known
    assert abs(now_s(clock) - time.time()) < 1
    clock.told({}, 1.0, 2.0)
    clock.told({"ts": "yesterday"}, 1.0, 2.0)
    assert not clock.known


def test_the_time_is_the_servers_whatever_this_machine_is_set_to(
    monotonic: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    clock.told(said(5_000_000.0), 999.9, 1_000.1)
    monotonic[0] += 60
    monkeypatch.setattr(time, "time", lambda: 5_000_060.0 - 10 * 60)
    assert abs(now_s(clock) - 5_000_060.0) < 0.002
    assert abs(clock.ahead_s() + 600) < 0.01


def test_a_slow_answer_does_not_spoil_what_a_quick_one_told(monotonic: list[float]) -> None:
    clock = Clock()
    clock.told(said(5_000.0), 999.999, 1_000.001)
    clock.told(said(5_000.0), 995.0, 1_000.0)
    assert abs(now_s(clock) - 5_000.0) < 0.01
    clock = Clock()
    clock.told(said(5_000.0), 995.0, 1_000.0)
    assert abs(now_s(clock) - 5_000.0) > 1, "the answer was made at some instant of five seconds"
    clock.told(said(5_000.0), 999.999, 1_000.001)
    assert abs(now_s(clock) - 5_000.0) < 0.01


def test_a_server_whose_clock_was_set_and_a_machine_that_slept_are_believed_at_once(monotonic: list[float]) -> None:
    clock = Clock()
    clock.told(said(5_000.0), 999.9, 1_000.1)
    clock.told(said(5_000.0 + HOUR_S), 1_000.1, 1_000.2)
    monotonic[0] = 1_000.2
    assert abs(now_s(clock) - 5_000.0 - HOUR_S) < 0.2


def test_what_was_told_long_ago_gives_way_to_what_is_told_now(monotonic: list[float]) -> None:
    clock = Clock()
    clock.told(said(5_000.0), 999.999, 1_000.001)
    drifted_s = 0.1 * HOUR_S / 1000
    clock.told(said(5_000.0 + HOUR_S + drifted_s), 1_000.0 + HOUR_S, 1_000.001 + HOUR_S)
    monotonic[0] += HOUR_S
    assert abs(now_s(clock) - 5_000.0 - HOUR_S - drifted_s) < 0.01
