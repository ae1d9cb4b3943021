from __future__ import annotations

import pytest

from deploy.teams.incident.analysis.times import LineClock, parse_time, written

NOON = "2024-03-05T12:00:07Z"


@pytest.mark.parametrize(
    "line",
    [
        "2024-03-05T12:00:07Z started",
        "2024-03-05T12:00:07.123456Z started",
        "2024-03-05T14:00:07+02:00 started",
        "2024-03-05T13:00:07,500+0100 started",
        "2024-03-05 12:00:07,123 INFO started",
        "2024-03-05 12:00:07.123 UTC [42] LOG:  started",
        "[2024-03-05T12:00:07.000+0000][info][gc] GC(3) Pause Young",
        "2024/03/05 12:00:07 [error] 7#7: *1 open() failed",
        "Mar  5 12:00:07 host sshd[123]: started",
        "<34>Mar  5 12:00:07 host su: started",
        '10.0.0.1 - bob [05/Mar/2024:12:00:07 +0000] "GET / HTTP/1.1" 200 5',
        '10.0.0.1 - - [05/Mar/2024:04:00:07 -0800] "GET / HTTP/1.1" 200 5',
        "[Tue Mar 05 12:00:07.123456 2024] [core:error] [pid 3] started",
        "I0305 12:00:07.000000 17 server.go:12] started",
        "240305 12:00:07 [Note] started",
        "05 Mar 2024 12:00:07,001 INFO started",
        "1709640007 started",
        "1709640007.25 started",
        "1709640007123 started",
        "ts=2024-03-05T12:00:07Z level=info msg=started",
        "INFO 2024-03-05 12:00:07 started",
        "api_1  | 2024-03-05T12:00:07Z started",
    ],
)
def test_a_line_gives_its_moment_whatever_the_notation(line: str) -> None:
    found = LineClock(2024).read(line)

    assert found is not None
    assert written(found[0]) == NOON


def test_the_text_begins_behind_the_moment() -> None:
    line = "2024-03-05T12:00:07.5Z ready"

    found = LineClock().read(line)

    assert found is not None
    assert line[found[1] :] == " ready"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "\tat com.acme.Main.run(Main.java:12)",
        "2024-13-45T99:99:99Z",
        "12:00:07",
        "99999",
        "\x00\x01\xff",
        "{" * 5000,
    ],
)
def test_a_line_without_a_moment_gives_none(line: str) -> None:
    assert LineClock(2024).read(line) is None


def test_one_clock_reads_a_file_of_mixed_notations() -> None:
    clock = LineClock(2024)
    lines = ["2024-03-05T12:00:07Z a", "Mar  5 12:00:07 b", "not dated", "2024-03-05T12:00:07Z c"]

    moments = [found and written(found[0]) for found in map(clock.read, lines)]

    assert moments == [NOON, NOON, None, NOON]


@pytest.mark.parametrize(
    "value", ["2024-03-05T12:00:07Z", "1709640007", 1709640007, 1709640007.4, 1709640007000, "2024-03-05 12:00:07"]
)
def test_a_cell_gives_its_moment(value: object) -> None:
    moment = parse_time(value)

    assert moment is not None
    assert written(moment) == NOON


@pytest.mark.parametrize("value", [None, "", True, "soon", "12", 3.5, [], {}])
def test_what_is_no_moment_is_none(value: object) -> None:
    assert parse_time(value) is None
