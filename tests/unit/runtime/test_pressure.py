from __future__ import annotations

import logging
import time

import pytest

from shanty_runtime.bus.jetstream import ApiError, refused
from shanty_runtime.bus.pressure import SILENT_TRIES, Pressure
from shanty_runtime.bus.wire import header_block, parse_headers
from shanty_runtime.errors import BusFull, BusUnavailable

FULL = BusFull("the message on a", 10077, "maximum bytes exceeded")
SILENT = BusUnavailable("no answer on a within 5 s")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_hundred_writes_that_wait_are_one_line_and_one_when_they_are_through(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    pressure = Pressure()
    for tries in range(1, 4):
        for who in range(100):
            pressure.refused(who, tries, "writing a", FULL)
    assert pressure.reason == str(FULL)
    for who in range(99):
        pressure.over(who)
    assert pressure.reason == str(FULL)
    pressure.over(99)
    assert pressure.reason == ""
    assert [line.split(":")[0].split(";")[0] for line in lines(caplog)] == [
        "work waits for the bus, and goes on by itself once it can",
        "work does not wait for the bus any more",
    ]
    assert "maximum bytes exceeded (10077)" in lines(caplog)[0]


def test_a_bus_at_its_edge_is_told_of_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    now_s = [50.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    pressure = Pressure()
    for _ in range(600):
        pressure.refused("a", 1, "writing a", FULL)
        pressure.over("a")
        now_s[0] += 0.25
    assert len(lines(caplog)) == 2 * 3, "three times in 150 s, each with its end"


def test_a_request_that_gets_lost_now_and_then_is_told_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    pressure = Pressure()
    for tries in range(1, SILENT_TRIES):
        pressure.refused("a", tries, "reading a", SILENT)
    assert (pressure.reason, lines(caplog)) == ("", [])
    pressure.refused("a", SILENT_TRIES, "reading a", SILENT)
    assert pressure.reason == "reading a: no answer on a within 5 s"


@pytest.mark.parametrize("code", [10002, 10023, 10028, 10047, 10077])
def test_whatever_there_is_no_space_in_the_same_write_succeeds_later(code: int) -> None:
    assert isinstance(refused("the message", ApiError(code=400, err_code=code, description="full")), BusFull)


@pytest.mark.parametrize(
    "raw", [b"", b"\r\n", b"NATS/1.0", b"NATS/1.0 \xff\xfe\r\n:\r\n: \r\na:\xff\r\nb\r\n\r\n", b"\x00" * 50]
)
def test_any_header_block_is_read_somehow(raw: bytes) -> None:
    status, _, found = parse_headers(raw)
    assert status == 0
    assert parse_headers(header_block(found))[2].keys() <= found.keys()
