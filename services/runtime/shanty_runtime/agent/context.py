"""What a model is shown: the system prompt, and briefs and follow-ups as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from shanty_protocol import Brief
from shanty_runtime.agent.profile import Contract, Profile
from shanty_runtime.models.base import Message, ModelRequest, ToolCard

NUDGE = "Your work is not handed in yet. Call submit_result with your result; if you cannot, say so in its status."

SPECIALIST_RULES = """\
You are the specialist `{agent}` of the team `{team}`. The brief below is all you know of the task: your lead's
conversation is not visible to you, and yours is not visible to it. Files are in the run's shared workspace.
Hand your work in with submit_result; large material goes to a file, and the summary names it."""

LEAD_RULES = """\
You are the lead `{agent}` of the team `{team}`. Break the goal into delegations, make those that do not depend on
each other in one turn, wait for the replies, follow up where something is missing, and hand in the deliverable with
submit_result. A specialist sees nothing but the brief you write. Your specialists:

{specialists}"""


def system_prompt(profile: Profile) -> str:
    """The agent's own prompt, and the rules of its role. The same bytes at every turn."""
    rules = (LEAD_RULES if profile.contracts else SPECIALIST_RULES).format(
        agent=profile.agent,
        team=profile.team,
        specialists="\n".join(described(contract) for contract in profile.contracts.values()),
    )
    return f"{profile.prompt.strip()}\n\n{rules}".strip()


def described(contract: Contract) -> str:
    lines = [f"- {contract.name}: {' '.join(contract.description.split())}"]
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
    )
    return ModelRequest(
        agent=profile.agent,
        thread=thread,
        purpose=purpose,
        system=system_prompt(profile),
        messages=tuple(messages),
        tools=(*own, *profile.verbs),
        effort=profile.effort,
        max_tokens=max_tokens or profile.max_tokens,
    )


def brief_text(brief: Brief) -> str:
    """A brief as the model reads it, one section a field."""
    sections = {
        "objective": brief.objective,
        "input": "" if brief.input is None else msgspec.json.encode(brief.input).decode(),
        "expected_output": brief.expected_output,
        "guidance": brief.guidance,
        "boundaries": brief.boundaries,
        "effort": brief.effort,
        "files": "\n".join(brief.files),
    }
    return "\n".join(f"<{name}>\n{text}\n</{name}>" for name, text in sections.items() if text)
