"""`outcome:` of team.yaml: what the team's deliverables are judged by, and who judges them.

    outcome:
      criteria:
        - {name: cause, description: The cause is named, with the line of the log that shows it.}
        - {name: next step, description: What to do next is one thing that can be done today.}
      maxRounds: 2
      grader: {model: claude-opus-4-5, effort: high, prompt: grader.md}

`criteria` may be a Markdown file of the folder instead: a heading `## name` for each, and its description below. With
none, only runs that are started with a rubric of their own are judged. The grader is an agent of the team called
`grader`, which nobody delegates to: it reads the workspace, and has no other tools.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import cast

import msgspec

from shanty_protocol import Criterion, Effort
from shanty_runtime.agent.outcomes import (
    DESCRIPTION,
    GRADER,
    INPUT_SCHEMA,
    MAX_ROUNDS,
    OUTPUT_SCHEMA,
    PROMPT,
    Grading,
)
from shanty_runtime.team.budgets import read_budget
from shanty_runtime.team.definition import AgentDefinition
from shanty_runtime.team.fields import Fields, both_spellings
from shanty_runtime.team.folder import Folder
from shanty_runtime.team.positions import Located
from shanty_runtime.tools.files import WORKSPACE_TOOLS

KEY = "outcome"
MOST_ROUNDS = 10
MOST_CRITERIA = 50
MOST_CHARACTERS = 120
"""Of a criterion's name."""

_HEADING = re.compile(r"^##[ \t]+(?P<name>.+?)[ \t#]*$", re.MULTILINE)
_OF_OUTCOME = both_spellings(("criteria", "max_rounds", "grader"))
_OF_GRADER = both_spellings(("model", "effort", "prompt", "budget"))
_OF_CRITERION = both_spellings(("name", "description"))


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    grading: Grading
    grader: AgentDefinition


def rubric_in(text: str) -> tuple[Criterion, ...]:
    """The criteria of a Markdown file: a heading `## name` for each. Raises ValueError with a sentence."""
    headings = list(_HEADING.finditer(text))
    if not headings:
        raise ValueError("there is no criterion: write a heading `## name` for each, and below it what it means")
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    criteria = tuple(
        Criterion(name=heading["name"], description=text[heading.end() : end].strip())
        for heading, end in zip(headings, ends, strict=True)
    )
    if problem := _problem_with([each.name for each in criteria]):
        raise ValueError(problem)
    return criteria


def read_outcome(fields: Fields, folder: Folder, path: str, agents: Sequence[str]) -> Outcome | None:
    """What `outcome` says; None where it is not there. `agents` are the other agents of the team."""
    given = fields.located(KEY)
    if given is None:
        return None
    if GRADER in agents:
        fields.report(given, f"an agent is called {GRADER}, as the one that judges is", "give it another name")
    inner = Fields(folder.problems, path, given, _OF_OUTCOME)
    grading = Grading(
        criteria=_criteria(inner, folder, path),
        max_rounds=inner.whole("max_rounds", MAX_ROUNDS, low=1, high=MOST_ROUNDS),
    )
    at = inner.located("grader")
    if at is None:
        return Outcome(grading=grading, grader=_grader("", "inherit", "medium"))
    of_grader = Fields(folder.problems, path, at, _OF_GRADER)
    effort = of_grader.choice("effort", ("low", "medium", "high"), "medium")
    grader = _grader(_prompt(of_grader, folder), of_grader.text("model", "inherit"), cast(Effort, effort))
    budget = read_budget(of_grader, folder.problems, path)
    return Outcome(grading=msgspec.structs.replace(grading, budget=budget), grader=grader)


def _grader(prompt: str, model: str, effort: Effort) -> AgentDefinition:
    return AgentDefinition(
        name=GRADER,
        description=DESCRIPTION,
        role="specialist",
        prompt=prompt or PROMPT,
        model=model,
        tools=tuple(tool.name for tool in WORKSPACE_TOOLS if tool.effect == "read"),
        effort=effort,
        input_schema=INPUT_SCHEMA,
        output_schema=OUTPUT_SCHEMA,
        judges=True,
    )


def _prompt(fields: Fields, folder: Folder) -> str:
    """The text itself, or that of a Markdown file."""
    prompt = fields.text("prompt")
    return (folder.text(prompt) or "").strip() if prompt.endswith(".md") and "\n" not in prompt else prompt


def _criteria(fields: Fields, folder: Folder, path: str) -> tuple[Criterion, ...]:
    given = fields.located("criteria")
    if given is None:
        return ()
    if isinstance(given.value, str):
        text = folder.text(given.value)
        try:
            return () if text is None else rubric_in(text)
        except ValueError as error:
            folder.problems.add(given.value, 1, 1, f"criteria: {error}", "")
            return ()
    if not isinstance(given.value, list) or not given.items:
        fields.report(given, "criteria: expected a list or a Markdown file", "write `- {name: …, description: …}`")
        return ()
    criteria = [_criterion(item, folder, path) for item in given.items]
    if problem := _problem_with([each.name for each in criteria if each.name]):
        fields.report(given, f"criteria: {problem}", "")
    return tuple(criteria)


def _criterion(given: Located, folder: Folder, path: str) -> Criterion:
    inner = Fields(folder.problems, path, given, _OF_CRITERION)
    inner.require("name", "say in a few words what is judged")
    return Criterion(name=inner.text("name"), description=inner.text("description"))


def _problem_with(names: Sequence[str]) -> str:
    if twice := [name for name in names if names.count(name) > 1]:
        return f"{twice[0]} is there twice, and a finding is known by its name"
    if len(names) > MOST_CRITERIA:
        return f"there are {len(names)}, and a grader judges {MOST_CRITERIA} at most"
    if long := [name for name in names if len(name) > MOST_CHARACTERS]:
        return f"{long[0][:40]}… is longer than {MOST_CHARACTERS} characters; the rest belongs in the description"
    return ""
