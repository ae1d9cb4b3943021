"""`hire:` of team.yaml: whom the lead may make up for a run.

    hire: {atMost: 5, tools: [read_file, weigh], models: [haiku]}

A team with this field has one agent more, `specialist`, which plays all that are hired. It has no file.
"""

from __future__ import annotations

from collections.abc import Mapping

from shanty_protocol.ids import HOST
from shanty_runtime.agent.profile import HirePolicy
from shanty_runtime.team.definition import AgentDefinition
from shanty_runtime.team.fields import Fields, both_spellings
from shanty_runtime.team.problems import Problems, advice, described
from shanty_runtime.team.toolbox import BUILT_IN, CLAUDE_CODE
from shanty_runtime.tools.base import Tool

MOST_HIRED = 100


def read_hire(fields: Fields, problems: Problems, path: str, own: Mapping[str, Tool] | None) -> HirePolicy | None:
    """What the team allows; None where it allows nobody to be hired. `own` is None where nobody knows its tools."""
    given = fields.located("hire")
    if given is None:
        return None
    inner = Fields(problems, path, given, both_spellings(HirePolicy.__struct_fields__))
    usual = HirePolicy()
    return HirePolicy(
        at_most=inner.whole("at_most", usual.at_most, low=1, high=MOST_HIRED),
        tools=_tools(inner, own),
        models=tuple(dict.fromkeys(str(model.value) for model in inner.listed("models") or ())),
    )


def _tools(fields: Fields, own: Mapping[str, Tool] | None) -> tuple[str, ...]:
    everything = (*BUILT_IN, *(own or ()))
    named = set()
    for word in fields.listed("tools") or ():
        name = CLAUDE_CODE.get(word.value, word.value)
        if name in everything:
            named.add(name)
        elif own is not None:
            hint = advice(word.value, everything, f"they can have {', '.join(everything)}")
            fields.report(word, f"hire: {described(word.value)} is no tool of the workspace or of tools.py", hint)
    return tuple(name for name in everything if name in named)


def host_of(policy: HirePolicy, team_model: str) -> AgentDefinition:
    """The agent that plays the hired ones: with the team's model, or the first they may have where it names none."""
    return AgentDefinition(
        name=HOST,
        description="Works for the specialists that the lead hires.",
        role="specialist",
        model="inherit" if team_model or not policy.models else policy.models[0],
        tools=policy.tools,
    )
