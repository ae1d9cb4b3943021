"""Grades in words: what a grader said of a deliverable, for people who watch and for the end of a run."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shanty_cli.text import one_line, plural
from shanty_protocol import Grade, GradingStarted, Outcome

VERDICTS = {"satisfied": "satisfied", "needs_revision": "needs revision", "ungraded": "ungraded"}


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of a run: there is another for each further goal it was given."""

    goal: str
    outcome: Outcome
    at_ms: int


def asked_to_judge(started: GradingStarted) -> str:
    criteria = plural(len(started.criteria), "criterion", "criteria")
    return f"{one_line(started.grader, 60)} judges it by {criteria}, round {started.round} of {started.rounds}"


def told(grade: Grade) -> str:
    """A grade on one line: the verdict, and what is not met."""
    verdict = f"round {grade.round} of {grade.rounds}: {VERDICTS[grade.verdict]}"
    missing = [f"{one_line(each.name, 60)} ({one_line(each.reason, 200)})" for each in grade.findings if not each.met]
    why = f"not met: {'; '.join(missing)}" if missing else one_line(grade.reason, 300)
    return f"{verdict}; {why}" if why else verdict


def lines_of(grades: Sequence[Grade]) -> list[str]:
    """The verdict of each round, and of the last one each criterion."""
    lines = [f"judged, {told(grade)}" for grade in grades]
    last = grades[-1].findings if grades else ()
    return [*lines, *(f"  {'met' if each.met else 'not met'}: {one_line(each.name, 120)}" for each in last)]
