"""What the engine knows of the agent it plays: fixed for the life of a process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from shanty_protocol import Budget, Effort, HiredSpecialist, Usage
from shanty_protocol.ids import HOST
from shanty_runtime.agent.handler import Handler
from shanty_runtime.agent.outcomes import Grading
from shanty_runtime.agent.permissions import Permission
from shanty_runtime.models.base import Model, ToolCard
from shanty_runtime.tools.base import Tool
from shanty_runtime.tools.skills import Skill

Price = Callable[[str, Usage, int], int | None]
"""Millionths of a US dollar for one call of a model at a time (milliseconds since 1970); None where not known."""


def no_price(model: str, usage: Usage, at_ms: int) -> int | None:
    """What a call costs when nobody knows."""
    return None


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """What a lead knows of a specialist without asking it."""

    name: str
    description: str
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None
    budget: Budget | None = None
    """What a delegation to it is granted that names nothing else."""
    hedge_after_s: float | None = None
    """After which time without a reply a second thread is given the same brief; none: never."""
    hired: HiredSpecialist | None = None
    """Who it is, where a lead has made it up for its run."""

    @property
    def agent(self) -> str:
        """Whom its mail is addressed to."""
        return self.name if self.hired is None else HOST


class HirePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Whom the lead of a team may make up for a run."""

    at_most: int = 5
    """In a run."""
    tools: tuple[str, ...] = ()
    """What they may be given; those of the workspace and of tools.py can be."""
    models: tuple[str, ...] = ()
    """What they may be played by, besides the model that they have if nobody names one."""


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One agent: a model with a prompt and tools, or a handler in Python."""

    agent: str
    role: Literal["lead", "specialist"]
    team: str = ""
    description: str = ""
    """What it is for, in the words its lead reads."""
    version: str = ""
    """Another one for each change of its prompt, model, tools or contract."""
    prompt: str = ""
    model: Model | None = None
    handler: Handler | None = None
    tools: dict[str, Tool] = {}
    fences: bool = False
    """The tool gateway makes the calls of those tools that are fenced."""
    skills: tuple[Skill, ...] = ()
    """Its system prompt names them; tools load them."""
    verbs: tuple[ToolCard, ...] = ()
    """The tools the engine itself carries out: delegate, submit_result and so on."""
    contracts: dict[str, Contract] = {}
    """The specialists this agent may delegate to."""
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None
    effort: Effort | None = None
    """How hard the model tries; none leaves it to the model."""
    max_tokens: int = 16_000
    """Room for one reply."""
    compact_at_tokens: int = 150_000
    """A request larger than this is made smaller first."""
    price: Price = no_price
    max_turns: int = 40
    """Model turns between two replies."""
    max_attempts: int = 5
    """Workers that may die on a thread, one after the other, before it is given up."""
    max_depth: int = 3
    """Levels of threads below the lead's."""
    max_threads: int = 1_000
    max_active_threads: int = 32
    delegation_deadline_s: float = 1_800.0
    decision_deadline_s: float = 86_400.0
    """How long an approval or an answer is waited for."""
    permissions: dict[str, Permission] = {}
    """Of tools that something is said of, and of delegations: `delegate:` and the name of the specialist. A model is
    not offered a tool that is denied."""
    budget: Budget | None = None
    """What a run of it may spend, where whoever starts the run says nothing else."""
    grading: Grading | None = None
    """Of a lead: who judges what it hands in, and by what."""
    judges: bool = False
    """It is the one that judges."""
    hire: HirePolicy | None = None
    """Of a lead: whom it may hire. Of the host: whom it may play."""
    models: dict[str, Model] = {}
    """Of the host: the models that a hired specialist may have, by name."""
    hired: HiredSpecialist | None = None
    """Of a thread of the host: whom it plays there."""

    @property
    def hosts(self) -> bool:
        """Whether it plays those that leads have hired."""
        return self.agent == HOST and self.hire is not None

    @property
    def name(self) -> str:
        """What it is called by those it works with. Its mail is addressed to `agent`."""
        return self.agent if self.hired is None else self.hired.name
