"""`outcome:` of a team: what its deliverables are judged by, and who judges them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shanty_protocol import Budget, Criterion
from shanty_runtime.agent import Profile
from shanty_runtime.agent.context import system_prompt
from shanty_runtime.config import read_settings
from shanty_runtime.errors import TeamError
from shanty_runtime.profiles import profile_of
from shanty_runtime.team import load_team
from shanty_runtime.team.outcomes import rubric_in

Write = Callable[[Mapping[str, str | bytes | None]], Path]

TEAM = "apiVersion: shanty/v1\nname: harbour\nspecialists: [stowage, price-check]\n"
CRITERIA = "outcome: {criteria: [{name: cause, description: It is named.}, {name: proof}]}\n"


def profile(folder: Path, agent: str) -> Profile:
    team, nothing = load_team(folder), Any
    rehearsed = msgspec.structs.replace(read_settings(), model="rehearsal")
    played = msgspec.structs.replace(team, rehearsals={name: lambda turn: "done" for name in ("lead", "grader")})
    return profile_of(played, team.agent(agent), rehearsed, nothing, nothing)  # type: ignore[arg-type]  # not called


def test_a_team_with_an_outcome_has_a_grader_that_nobody_delegates_to_and_that_reads_only(write_team: Write) -> None:
    folder = write_team({"team.yaml": TEAM + CRITERIA})
    team = load_team(folder)
    assert [agent.name for agent in team.specialists] == ["stowage", "price-check", "grader"]
    assert team.lead.specialists == ("stowage", "price-check")
    lead, grader = profile(folder, "lead"), profile(folder, "grader")
    assert lead.grading is not None and lead.grading.max_rounds == 2
    assert lead.grading.criteria == (Criterion(name="cause", description="It is named."), Criterion(name="proof"))
    assert "grader" not in lead.contracts
    assert list(grader.tools) == ["list_files", "read_file", "search_files", "file_history"]
    assert [card.name for card in grader.verbs] == ["submit_result"]
    assert "the grader of the team `harbour`" in system_prompt(grader)
    assert grader.grading is None


def test_criteria_and_prompt_may_be_markdown_files(write_team: Write) -> None:
    settings = (
        "outcome:\n  criteria: rubric.md\n  maxRounds: 3\n"
        "  grader: {model: claude-opus-4-5, effort: high, prompt: strict.md, budget: {tokens: 5000}}\n"
    )
    rubric = "# What counts\n\n## Cause\n\nIt is named.\n\n## Proof ##\nA line\nof the log.\n"
    team = load_team(
        write_team({"team.yaml": TEAM + settings, "rubric.md": rubric, "strict.md": "You are very strict.\n"})
    )
    assert team.grading is not None
    assert team.grading.criteria == (
        Criterion(name="Cause", description="It is named."),
        Criterion(name="Proof", description="A line\nof the log."),
    )
    assert (team.grading.max_rounds, team.grading.budget) == (3, Budget(tokens=5_000))
    grader = team.agent("grader")
    assert (grader.model, grader.effort, grader.prompt) == ("claude-opus-4-5", "high", "You are very strict.")


def test_a_team_may_have_a_grader_and_leave_the_criteria_to_whoever_starts_a_run(write_team: Write) -> None:
    team = load_team(write_team({"team.yaml": TEAM + "outcome: {maxRounds: 1}\n"}))
    assert team.grading is not None and team.grading.criteria == ()
    assert load_team(write_team({"team.yaml": TEAM})).grading is None


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"team.yaml": f"{TEAM}outcome: {{rubric: x}}\n"}, "team.yaml:4:11: unknown key rubric"),
        ({"team.yaml": f"{TEAM}outcome: {{criteria: []}}\n"}, "criteria: expected a list or a Markdown file"),
        ({"team.yaml": f"{TEAM}outcome: {{criteria: [{{description: x}}]}}\n"}, "name is missing"),
        ({"team.yaml": f"{TEAM}outcome: {{criteria: [{{name: a}}, {{name: a}}]}}\n"}, "a is there twice"),
        ({"team.yaml": f"{TEAM}outcome: {{criteria: rubric.md}}\n"}, "rubric.md:1:1: the file is missing"),
        (
            {"team.yaml": f"{TEAM}outcome: {{criteria: rubric.md}}\n", "rubric.md": "- cause\n"},
            "rubric.md:1:1: criteria: there is no criterion: write a heading",
        ),
        ({"team.yaml": f"{TEAM}outcome: {{maxRounds: 0}}\n"}, "maxRounds: expected an integer from 1 to 10"),
        ({"team.yaml": f"{TEAM}outcome: {{grader: {{tools: []}}}}\n"}, "unknown key tools"),
        (
            {
                "team.yaml": TEAM.replace("[stowage", "[grader, stowage") + CRITERIA,
                "agents/grader.md": "---\ndescription: Judges.\n---\nJudge.\n",
            },
            "an agent is called grader",
        ),
    ],
)
def test_a_wrong_outcome_is_reported_where_it_is_written(
    write_team: Write, files: dict[str, str | bytes | None], says: str
) -> None:
    with pytest.raises(TeamError) as refused:
        load_team(write_team(files))
    (problem,) = map(str, refused.value.problems)
    assert says in problem


def test_a_rubric_has_a_name_for_each_criterion_and_none_twice() -> None:
    with pytest.raises(ValueError, match="Cause is there twice"):
        rubric_in("## Cause\n## Cause\n")
    with pytest.raises(ValueError, match="longer than 120 characters"):
        rubric_in(f"## {'x' * 121}\n")
