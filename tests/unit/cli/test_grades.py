"""What people are shown of deliverables that are judged, and of a run that was given a further goal."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from shanty_cli.lint import what_is_in
from shanty_cli.report import ending, report
from shanty_protocol import (
    Criterion,
    DeliverableGraded,
    Finding,
    Grade,
    GradingStarted,
    MessageSent,
    Outcome,
)
from shanty_protocol.ids import OPERATORS
from shanty_runtime.team import load_team
from support.crew import TEAMS
from support.script import REQUEST, RUN, Script

CRITERIA = (Criterion(name="cause"), Criterion(name="proof"))
SENT_BACK = Grade(
    verdict="needs_revision",
    round=1,
    rounds=2,
    findings=(Finding(name="cause", met=True, reason="named"), Finding(name="proof", met=False, reason="no line")),
)
SATISFIED = Grade(
    verdict="satisfied",
    round=2,
    rounds=2,
    findings=(Finding(name="cause", met=True, reason="named"), Finding(name="proof", met=True, reason="line 7")),
)


@pytest.fixture
def script() -> Script:
    return Script()


def judge(script: Script, number: int, grade: Grade, thread: str = "0", agent: str = "lead") -> None:
    started = GradingStarted(at_ms=script.now_ms, grader="grader", criteria=CRITERIA, round=number, rounds=2)
    script.write(thread, agent, started)
    script.write(thread, agent, DeliverableGraded(at_ms=script.now_ms, grade=grade, thread=f"0-{number}"))


def words(script: Script) -> list[str]:
    console = Console(file=io.StringIO(), width=120)
    with console.capture() as captured:
        console.print(ending(script.view))
    return captured.get().splitlines()


def test_each_round_is_told_with_what_is_not_met(script: Script) -> None:
    script.start()
    judge(script, 1, SENT_BACK)
    judge(script, 2, SATISFIED)
    assert [text for _, kind, text in script.told if kind == "judged"] == [
        "grader judges it by 2 criteria, round 1 of 2",
        "round 1 of 2: needs revision; not met: proof (no line)",
        "grader judges it by 2 criteria, round 2 of 2",
        "round 2 of 2: satisfied",
    ]


def test_the_end_of_a_run_says_how_it_was_judged(script: Script) -> None:
    script.start()
    judge(script, 1, SENT_BACK)
    script.end(Outcome(status="partial", code="not_satisfied", summary="the disk", grade=SENT_BACK))
    assert words(script)[2:6] == [
        "reason: not_satisfied",
        "judged, round 1 of 2: needs revision; not met: proof (no line)",
        "  met: cause",
        "  not met: proof",
    ]
    shown = report(script.view)
    assert [grade["verdict"] for grade in shown["grades"]] == ["needs_revision"]
    assert shown["replies"][0]["grade"]["findings"][1] == {"name": "proof", "met": False, "reason": "no line"}
    assert json.loads(json.dumps(shown)) == shown


def test_lint_says_that_there_is_a_grader_and_does_not_count_it_among_the_specialists() -> None:
    said = what_is_in(load_team(TEAMS / "judged"))
    assert "1 specialist: clerk; a grader that judges by 2 criteria, 2 times at most" in said


def test_why_nobody_could_judge_is_said(script: Script) -> None:
    script.start()
    judge(script, 1, Grade(verdict="ungraded", round=1, rounds=2, reason="unreachable: no reply"))
    assert script.told[-1] == ("0", "judged", "round 1 of 2: ungraded; unreachable: no reply")


def test_what_another_thread_says_of_grades_is_not_shown(script: Script) -> None:
    script.start()
    script.delegate("0-1", "logs")
    judge(script, 1, SATISFIED, thread="0-1", agent="logs")
    assert not script.view.grades and all(kind != "judged" for _, kind, _ in script.told)


def test_a_run_that_was_given_a_further_goal_runs_again_and_shows_both_answers(script: Script) -> None:
    script.start("why did it fail?")
    judge(script, 1, SENT_BACK)
    script.end(Outcome(status="ok", summary="the disk"))
    asked = MessageSent(at_ms=script.now_ms, to_thread="0", purpose="follow_up", text="and who noticed?")
    script.write("say-1", OPERATORS, asked, "lead")
    assert report(script.view)["status"] == "running" and not script.view.grades
    script.reply("0", "lead", Outcome(status="ok", summary="the harbour master"), to=(OPERATORS, "say-1"))
    assert report(script.view)["status"] == "completed"
    shown = report(script.view)
    assert [(each["goal"], each["summary"]) for each in shown["replies"]] == [
        ("why did it fail?", "the disk"),
        ("and who noticed?", "the harbour master"),
    ]
    assert shown["summary"] == "the harbour master"
    assert words(script)[0] == "before, to 'why did it fail?': ok: the disk"
    assert script.view.run == RUN and script.view.asker != ("cli", REQUEST)
