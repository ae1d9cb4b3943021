"""Metrics, changes and tickets, with columns and keys of all sorts."""

from __future__ import annotations

import json
import random

import pytest

from deploy.teams.incident.analysis.changes import aligned, read_changes
from deploy.teams.incident.analysis.series import changes_of, read_series
from deploy.teams.incident.analysis.tickets import complaints_between, read_tickets, report_of
from deploy.teams.incident.analysis.times import parse_time, written

START = 1714557600  # 2024-05-01T10:00:00Z


def numbered(rows: list[str]) -> list[tuple[int, str]]:
    return list(enumerate(rows, 1))


def table(
    values: list[float], header: str = "timestamp,service,metric,value", metric: str = "memory_mb"
) -> list[str]:
    return [header, *(f"{START + 30 * index},orders,{metric},{value:.2f}" for index, value in enumerate(values))]


def only_change(rows: list[str]) -> tuple[str, str, str]:
    (series,), problems = read_series("metrics/m.csv", numbered(rows))
    assert problems == []
    change = changes_of(series)[0]
    return change.service, change.shape, change.at


def test_a_step_is_found_with_its_moment_and_line() -> None:
    rng = random.Random(1)
    values = [(100 if index < 150 else 180) + rng.gauss(0, 3) for index in range(240)]
    rows = table(values, metric="requests_per_s")
    (series,), _ = read_series("metrics/m.csv", numbered(rows))

    (change, *_) = changes_of(series)

    assert (change.shape, change.family, change.service) == ("step", "traffic", "orders")
    assert abs((parse_time(change.at) or 0) - (START + 30 * 150)) <= 60
    assert rows[change.first.line - 1].startswith(f"{START + 30 * 150},") or change.first.line in (151, 152, 153)


def test_growth_with_restarts_is_a_ramp_with_resets() -> None:
    rng = random.Random(2)
    values = [200 + max(0, index - 60) % 80 * 5 + rng.gauss(0, 4) for index in range(300)]
    (series,), _ = read_series("metrics/m.csv", numbered(table(values)))

    (change,) = changes_of(series)

    assert (change.shape, change.family) == ("ramp", "memory")
    assert change.after > 1.8 * change.before


def test_noise_alone_is_no_change() -> None:
    rng = random.Random(3)
    (series,), _ = read_series("metrics/m.csv", numbered(table([50 + rng.gauss(0, 5) for _ in range(400)])))

    assert changes_of(series) == []


def test_wide_files_give_a_series_for_each_column() -> None:
    rows = [
        "time,orders.cpu,ledger.cpu",
        *(f"2024-05-01T10:{index:02d}:00Z,0.{index % 3},0.5" for index in range(30)),
    ]

    series, _ = read_series("metrics/cpu.csv", numbered(rows))

    assert [(each.service, each.metric) for each in series] == [("orders", "cpu"), ("ledger", "cpu")]


def test_a_file_for_each_service_takes_its_name_from_the_file() -> None:
    rows = ["ts;rss_bytes", *(f"2024-05-01T10:{index:02d}:00Z;{10 + index}e6" for index in range(30))]

    (series,), _ = read_series("metrics/orders.csv", numbered(rows))

    assert (series.service, series.metric, series.points[0].value) == ("orders", "rss_bytes", 1e7)


def test_a_counter_is_read_as_a_rate() -> None:
    total, values = 0.0, []
    for index in range(200):
        total += 10 if index < 120 else 40
        values.append(total)

    assert only_change(table(values, metric="requests_total"))[1] == "step"


@pytest.mark.parametrize(
    "rows", [[], [""], ["a,b,c"], ["a,b", "x,y"], ["\x00\x01", "\xff,\xfe"], ['"unclosed', "1,2,3"]]
)
def test_a_file_that_is_no_table_of_metrics_gives_problems_and_no_error(rows: list[str]) -> None:
    series, problems = read_series("metrics/bad.csv", numbered(rows))

    assert (series, len(problems)) == ([], 1)


def test_rows_that_cannot_be_read_are_counted() -> None:
    rows = [*table([1.0] * 30), "not a time,orders,memory_mb,4", "garbage"]

    (series,), problems = read_series("metrics/m.csv", numbered(rows))

    assert len(series.points) == 30
    assert problems == ["2 rows of metrics/m.csv could not be read"]


@pytest.mark.parametrize(
    "text",
    [
        '[{"service": "orders", "time": "2024-05-01T10:00:00Z", "type": "deploy", "version": "1.2"}]',
        '{"deploys": [\n {"app": "orders",\n  "timestamp": 1714557600,\n  "kind": "Release",\n  "tag": "1.2"}]}',
        '{"service": "orders", "deployed_at": "2024-05-01 10:00:00", "to_version": "1.2"}\n',
    ],
)
def test_a_deploy_is_read_whatever_its_keys(text: str) -> None:
    (change,), problems = read_changes("deploys.json", text)

    assert (change.service, change.type, change.version, change.at) == (
        "orders",
        "deploy",
        "1.2",
        "2024-05-01T10:00:00Z",
    )
    assert problems == []


def test_a_change_points_at_the_line_that_says_most() -> None:
    fields = {"service": "orders", "at": "2024-05-01T10:00:00Z", "type": "config", "description": "pool 20 -> 2"}
    text = json.dumps([fields], indent=2)

    (change,), _ = read_changes("deploys.json", text)

    assert (change.type, change.first.line, change.first.text) == ("config", 6, '    "description": "pool 20 -> 2"')


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "not json", "[{", '[{"service": "a"}]', "null", "[1, 2]", "[" * 3000]
)
def test_a_file_that_is_no_list_of_changes_gives_none_and_no_error(text: str) -> None:
    assert read_changes("deploys.json", text)[0] == []


def test_changes_are_compared_with_an_onset() -> None:
    text = (
        '[{"service": "a", "at": 1714557600, "type": "deploy"}, {"service": "b", "at": 1714559000, "type": "config"},'
        ' {"service": "b", "at": 1714563000, "type": "rollback"}]'
    )
    changes, _ = read_changes("deploys.json", text)

    found = aligned(changes, 1714559060.0, "b")

    assert [(each.change.type, each.before_onset_s) for each in found] == [
        ("config", 60),
        ("deploy", 1460),
        ("rollback", -3940),
    ]
    assert "of another service" in found[1].remark


def ticket_rows() -> list[str]:
    rows = ["opened,client_name,summary"]
    rows += [f"{written(START + 600 * n)},c{n},Question about invoice {n}" for n in range(24)]
    rows += [f"{written(START + 7300 + 40 * n)},d{n % 5},Checkout fails with error {n}" for n in range(15)]
    return rows


def test_a_rise_of_similar_tickets_is_found_and_its_customers_are_counted() -> None:
    tickets, problems = read_tickets("tickets.csv", numbered(ticket_rows()))
    report = report_of("tickets.csv", tickets, problems)

    (risen,) = [group for group in report.groups if group.rose]
    assert (risen.in_rise, risen.customers, risen.complaints) == (15, 5, 1.0)
    assert {"checkout", "fail"} <= set(risen.words)
    assert complaints_between("tickets.csv", tickets, START + 7200, START + 9000)[:2] == (
        15,
        ["d0", "d1", "d2", "d3", "d4"],
    )


def test_tickets_at_a_usual_rate_do_not_rise() -> None:
    tickets, problems = read_tickets("tickets.csv", numbered(ticket_rows()[:25]))

    assert not any(group.rose for group in report_of("tickets.csv", tickets, problems).groups)


@pytest.mark.parametrize("rows", [[], [""], ["a,b"], ["a,b", "\x00,1"], ["subject"], ['"open', "x"]])
def test_a_file_that_is_no_table_of_tickets_gives_a_report_and_no_error(rows: list[str]) -> None:
    tickets, problems = read_tickets("tickets.csv", numbered(rows))

    assert not report_of("tickets.csv", tickets, problems).rose
    assert problems
