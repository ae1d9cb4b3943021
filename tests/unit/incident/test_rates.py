from __future__ import annotations

import random

from deploy.teams.incident.analysis.bursts import find_bursts
from deploy.teams.incident.analysis.mining import LogMiner
from deploy.teams.incident.analysis.segments import split_counts, split_values


def noisy(rng: random.Random, levels: list[float], length: int) -> list[float]:
    return [float(sum(rng.random() < level / 20 for _ in range(20))) for level in levels for _ in range(length)]


def test_a_level_change_in_counts_is_found_where_it_is() -> None:
    segments = split_counts(noisy(random.Random(1), [2, 9], 100))

    assert [segment.start for segment in segments] in ([0, 99], [0, 100], [0, 101])


def test_counts_without_a_change_are_one_segment() -> None:
    assert len(split_counts(noisy(random.Random(2), [4], 300))) == 1


def test_a_step_in_values_is_found_and_a_single_spike_is_none() -> None:
    rng = random.Random(3)
    values = [10 + rng.gauss(0, 0.5) for _ in range(200)]
    values[50] = 90.0
    stepped = [value + (8 if index >= 120 else 0) for index, value in enumerate(values)]

    assert len(split_values(values)) == 1
    assert [segment.start for segment in split_values(stepped)] == [0, 120]


def test_a_burst_has_its_onset_end_and_excess() -> None:
    counts = [1.0] * 500
    counts[300:340] = [12.0] * 40

    baseline, (burst,) = find_bursts(counts)

    assert (burst.start, burst.end, baseline) == (300, 340, 1.0)
    assert burst.excess == 440


def test_a_constant_rate_has_no_burst() -> None:
    assert find_bursts(noisy(random.Random(4), [3], 600))[1] == []


def miner_of(lines: list[str]) -> LogMiner:
    miner = LogMiner("logs/a.log", names=("ledger", "search"))
    for number, line in enumerate(lines, 1):
        miner.add(number, line)
    return miner


def steady_then(message: str) -> list[str]:
    """Two hours of ordinary lines with an error each minute; the message joins for the last half hour."""
    lines = []
    for minute in range(120):
        clock = f"2024-05-01T{10 + minute // 60}:{minute % 60:02d}"
        lines += [f"{clock}:{second:02d}Z INFO request {second} handled" for second in range(0, 60, 5)]
        lines.append(f"{clock}:56Z ERROR webhook of tenant {minute} gave 410")
        if minute >= 90:
            lines += [f"{clock}:{second:02d}Z ERROR {message}" for second in (57, 58, 59)]
    return lines


def test_a_new_error_is_reported_with_its_first_line_and_whom_it_names() -> None:
    lines = steady_then("call to ledger failed: connection refused")
    (service,) = miner_of(lines).report().services

    (finding,) = [finding for finding in service.findings if "ledger" in finding.template]
    assert finding.new
    assert finding.at == "2024-05-01T11:30:50Z"
    assert lines[finding.first.line - 1] == "2024-05-01T11:30:57Z ERROR call to ledger failed: connection refused"
    assert finding.mentions == {"ledger": 90}
    assert finding.symptoms == ("connection",)


def test_an_error_that_was_always_there_is_steady_and_no_finding() -> None:
    (service,) = miner_of(steady_then("call to ledger failed")).report().services

    assert [each for each in service.steady if "webhook" in each]
    assert not [finding for finding in service.findings if "webhook" in finding.template]


def test_a_service_that_stops_logging_is_silent() -> None:
    lines = [
        f"2024-05-01T{10 + m // 60}:{m % 60:02d}:{s:02d}Z INFO request {s} ok"
        for m in range(120)
        for s in range(0, 60, 4)
    ]
    lines = [line for line in lines if not "2024-05-01T11:10" <= line[:16] < "2024-05-01T11:30"]

    (silence,) = miner_of(lines).report().services[0].silent

    assert (silence.at, silence.until) == ("2024-05-01T11:10:00Z", "2024-05-01T11:30:00Z")


def test_a_word_that_happens_to_be_a_service_is_not_blame() -> None:
    (service,) = miner_of(steady_then("could not search the index")).report().services

    assert all(not finding.mentions for finding in service.findings)


def test_a_log_of_errors_alone_counts_the_time_before_it_as_calm() -> None:
    lines = [
        f"2024-05-01T12:{m:02d}:{s:02d}Z ERROR upstream ledger refused" for m in range(20) for s in range(0, 60, 6)
    ]
    miner = LogMiner("logs/a-error.log", begin=1714557600.0)  # two hours earlier
    for number, line in enumerate(lines, 1):
        miner.add(number, line)

    (service,) = miner.report().services

    assert service.service == "a"
    assert [rise.at for rise in service.error_rises] == ["2024-05-01T12:00:00Z"]
