"""What a model is shown: the system prompt, and briefs and follow-ups as text."""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Sequence
from typing import Literal

import msgspec

from shanty_protocol import Brief
from shanty_runtime.agent.budget import told
from shanty_runtime.agent.profile import Contract, Profile
from shanty_runtime.models.base import Message, ModelRequest, ToolCard
from shanty_runtime.tools.skills import Skill

NUDGE = "Your work is not handed in yet. Call submit_result with your result; if you cannot, say so in its status."

_PROMPTS = importlib.resources.files("shanty_runtime.agent") / "prompts"

SKILL_RULES = "You have skills: instructions for certain work. Call load_skill before you begin work one is made for."


def system_prompt(profile: Profile) -> str:
    """The agent's own prompt, and the rules of its place in the team. The same bytes at every turn, until it
    hires."""
    specialists = "\n".join(described(contract) for contract in profile.contracts.values())
    nested = bool(profile.contracts) and profile.role == "specialist"
    leads = bool(profile.contracts) or (profile.hire is not None and profile.role == "lead")
    roles = ("lead", "nested") if nested else ("lead",) if leads else ("specialist",)
    roles = ("grader",) if profile.judges else roles
    rules = "\n".join(role_rules(role) for role in roles).format(
        agent=profile.name,
        team=profile.team,
        place="a specialist" if nested else "the lead",
        specialists=specialists,
    )
    parts = (profile.prompt.strip(), rules, skill_list(profile.skills))
    return "\n\n".join(part for part in parts if part)


def skill_list(skills: Sequence[Skill]) -> str:
    """What a model is told of its skills before it loads one."""
    if not skills:
        return ""
    listed = "\n".join(f"- {skill.name}: {' '.join(skill.description.split())}" for skill in skills)
    return f"{SKILL_RULES}\n{listed}"


@functools.cache
def role_rules(role: str) -> str:
    return (_PROMPTS / f"{role}.md").read_text("utf-8")


def described(contract: Contract) -> str:
    hired = " (hired by you)" if contract.hired is not None else ""
    lines = [f"- {contract.name}{hired}: {' '.join(contract.description.split())}"]
    if contract.input_schema:
        lines.append(f"  takes: {msgspec.json.encode(contract.input_schema).decode()}")
    return "\n".join(lines)


def model_request(
    profile: Profile,
    thread: str,
    messages: Sequence[Message],
    *,
    max_tokens: int | None = None,
    purpose: Literal["turn", "summary"] = "turn",
) -> ModelRequest:
    """What a model is sent. System prompt and tools are the same bytes at every turn, so that they stay cached."""
    own = tuple(
        ToolCard(name=tool.name, description=tool.description, input_schema=tool.input_schema)
        for tool in profile.tools.values()
        if profile.permissions.get(tool.name) != "deny"
    )
    return ModelRequest(
        agent=profile.name,
        thread=thread,
        purpose=purpose,
        system=system_prompt(profile),
        messages=tuple(messages),
        tools=(*own, *profile.verbs),
        effort=profile.effort,
        max_tokens=max_tokens or profile.max_tokens,
    )


def wrap_up_text(reason: str, within_s: float) -> str:
    """What a model reads when its thread is asked to stop."""
    because = f" The reason given: {reason}" if reason else ""
    return (
        f"You are asked to stop within {within_s:.0f} seconds.{because}\n"
        "Begin nothing new. Call submit_result now with what you have found so far, and say what is left undone."
    )


def brief_text(brief: Brief) -> str:
    """A brief as the model reads it, one section a field."""
    sections = {
        "objective": brief.objective,
        "input": "" if brief.input is None else _json(brief.input),
        "expected_output": brief.expected_output,
        "guidance": brief.guidance,
        "boundaries": brief.boundaries,
        "effort": brief.effort,
        "files": "\n".join(brief.files),
        "budget": "" if brief.budget is None else told(brief.budget),
    }
    return "\n".join(f"<{name}>\n{text}\n</{name}>" for name, text in sections.items() if text)


def _json(value: object) -> str:
    """As JSON, in which no text can end the section it stands in."""
    return msgspec.json.encode(value).decode().replace("<", "\\u003c")
