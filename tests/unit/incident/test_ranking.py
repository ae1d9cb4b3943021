"""Who is named as the cause, on evidence made by hand."""

from __future__ import annotations

from deploy.teams.incident.analysis.changes import ChangeEvent
from deploy.teams.incident.analysis.mining import Finding, LogReport, Place, Rise, ServiceReport
from deploy.teams.incident.analysis.ranking import Evidence, Verdict, rank
from deploy.teams.incident.analysis.series import Change

BEGIN, ONSET, END, LAST = (f"2024-05-01T{clock}Z" for clock in ("10:00:00", "12:00:00", "12:40:00", "13:30:00"))


def log(service: str, message: str, count: int, mentions: dict[str, int], *hints: str, at: str = ONSET) -> LogReport:
    """A service whose errors rose with one new message."""
    first = Place(file=f"logs/{service}.log", line=900, text=f"{at} ERROR {message}")
    rise = Rise(at=at, until=END, count=count, per_min_before=0.1, per_min=count / 40, first=first)
    finding = Finding(
        service=service,
        template=message,
        level="error",
        at=at,
        until=END,
        count=count,
        per_min_before=0,
        per_min=count / 40,
        new=True,
        symptoms=hints,
        mentions=mentions,
        first=first,
    )
    found = ServiceReport(
        service=service, lines=5000, errors=count, warnings=0, error_rises=(rise,), findings=(finding,)
    )
    return LogReport(file=first.file, lines=5000, format="text", at=BEGIN, until=LAST, services=(found,))


def calm(service: str, *rises: Rise) -> LogReport:
    found = ServiceReport(service=service, lines=5000, errors=3, warnings=0, error_rises=rises)
    return LogReport(file=f"logs/{service}.log", lines=5000, format="text", at=BEGIN, until=LAST, services=(found,))


def change(service: str, sort: str, at: str) -> ChangeEvent:
    return ChangeEvent(at=at, service=service, type=sort, first=Place(file="deploys.json", line=3, text="a change"))


def series(service: str, metric: str, family: str, shape: str, at: str, before: float, after: float) -> Change:
    return Change(
        service=service,
        metric=metric,
        family=family,
        shape=shape,
        at=at,
        until=END,
        before=before,
        after=after,
        score=30,
        first=Place(file="metrics/m.csv", line=7, text="a row"),
    )


def first(verdict: Verdict) -> tuple[str, str]:
    return verdict.causes[0].kind, verdict.causes[0].service


VICTIMS = (
    log("web", "orders returned status", 900, {"orders": 900}, at="2024-05-01T12:00:20Z"),
    log("orders", "call to ledger failed", 500, {"ledger": 500}, "connection", at="2024-05-01T12:00:10Z"),
)


def test_the_service_that_blames_nobody_is_named_and_not_the_loudest() -> None:
    own = log("ledger", "NullPointerException in Totals", 80, {}, "fault")
    deploys = (change("ledger", "deploy", "2024-05-01T11:59:00Z"), change("web", "deploy", "2024-05-01T11:52:00Z"))

    verdict = rank(Evidence(logs=(*VICTIMS, own), changes=deploys))

    assert first(verdict) == ("bad_deploy", "ledger")
    assert any("deploy of web" in each for each in verdict.dismissed)


def test_a_change_of_configuration_is_told_from_a_deploy() -> None:
    own = log("ledger", "connection pool exhausted, max=2", 80, {}, "overload")

    verdict = rank(Evidence(logs=(*VICTIMS, own), changes=(change("ledger", "config", "2024-05-01T11:59:00Z"),)))

    assert first(verdict) == ("config_change", "ledger")


def test_a_change_after_the_onset_is_not_the_cause() -> None:
    billing = log("billing", "ledger timed out", 300, {"ledger": 300}, "timeout")

    verdict = rank(Evidence(logs=(*VICTIMS, billing), changes=(change("orders", "deploy", "2024-05-01T12:06:00Z"),)))

    assert first(verdict) == ("dependency_outage", "ledger")


def test_a_deploy_of_a_victim_does_not_win_against_what_all_victims_name() -> None:
    billing = log("billing", "ledger timed out", 300, {"ledger": 300}, "timeout")

    verdict = rank(Evidence(logs=(*VICTIMS, billing), changes=(change("orders", "deploy", "2024-05-01T11:50:00Z"),)))

    assert first(verdict) == ("dependency_outage", "ledger")


def test_the_owner_of_the_expired_certificate_is_named_and_not_who_logs_it() -> None:
    logs = (log("orders", "x509: certificate has expired: https://ledger/", 500, {"ledger": 500}, "certificate"),)

    verdict = rank(Evidence(logs=logs, changes=(change("orders", "deploy", "2024-05-01T11:57:00Z"),)))

    assert first(verdict) == ("expired_certificate", "ledger")


def test_growing_memory_and_its_crash_win_against_an_older_deploy() -> None:
    own = log("ledger", "OutOfMemoryError: Java heap space", 30, {}, "memory")
    growth = series("ledger", "heap_mb", "memory", "ramp", "2024-05-01T10:40:00Z", 400, 1600)

    verdict = rank(
        Evidence(
            logs=(*VICTIMS, own), metrics=(growth,), changes=(change("ledger", "deploy", "2024-05-01T11:30:00Z"),)
        )
    )

    assert first(verdict) == ("memory_leak", "ledger")


def test_traffic_that_rises_before_the_errors_is_a_surge_and_after_them_it_is_not() -> None:
    own = log("ledger", "queue full, rejecting request", 300, {}, "overload")

    def verdict_with(at: str) -> Verdict:
        surge = series("ledger", "requests_per_s", "traffic", "step", at, 100, 400)
        return rank(Evidence(logs=(*VICTIMS, own), metrics=(surge,)))

    before, after = verdict_with("2024-05-01T11:59:30Z"), verdict_with("2024-05-01T12:04:30Z")

    assert first(before) == ("traffic_surge", "ledger")
    assert before.causes[0].score > after.causes[0].score + 3


def test_nothing_is_named_where_nothing_got_worse() -> None:
    blip = Rise(at=ONSET, until="2024-05-01T12:00:30Z", count=12, per_min_before=0.1, per_min=24)

    verdict = rank(
        Evidence(
            logs=(calm("web"), calm("orders", blip)), changes=(change("orders", "deploy", "2024-05-01T11:59:00Z"),)
        )
    )

    assert (verdict.causes, verdict.onset) == ((), None)
    assert any("orders" in each for each in verdict.dismissed)


def test_errors_that_come_back_every_hour_are_a_habit() -> None:
    rises = tuple(
        Rise(
            at=f"2024-05-01T{hour}:05:00Z", until=f"2024-05-01T{hour}:09:00Z", count=200, per_min_before=0, per_min=50
        )
        for hour in (10, 11, 12)
    )

    assert rank(Evidence(logs=(calm("orders", *rises),))).causes == ()


def test_an_answer_that_denies_lowers_an_explanation() -> None:
    own = log("ledger", "NullPointerException in Totals", 80, {}, "fault")
    evidence = Evidence(logs=(*VICTIMS, own), changes=(change("ledger", "deploy", "2024-05-01T11:59:00Z"),))
    asked = {"kind": "bad_deploy", "service": "ledger", "why": "no such line"}

    plain = rank(evidence).causes[0]
    confirmed = rank(
        Evidence(logs=evidence.logs, changes=evidence.changes, answers=({**asked, "answer": "confirmed"},))
    )
    denied = rank(Evidence(logs=evidence.logs, changes=evidence.changes, answers=({**asked, "answer": "denied"},)))

    assert confirmed.causes[0].score > plain.score > max(c.score for c in denied.causes if c.kind == "bad_deploy")
