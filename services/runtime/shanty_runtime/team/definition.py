"""What a team is once it has been read and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from shanty_protocol import Budget, Effort
from shanty_runtime.agent.handler import Handler
from shanty_runtime.agent.outcomes import Grading
from shanty_runtime.agent.permissions import Permission
from shanty_runtime.agent.profile import HirePolicy
from shanty_runtime.errors import ConfigError
from shanty_runtime.models.rehearsal import Rehearsal
from shanty_runtime.tools.base import Tool
from shanty_runtime.tools.egress import EgressRule
from shanty_runtime.tools.mcp_server import McpServer
from shanty_runtime.tools.memory import Access
from shanty_runtime.tools.skills import Skill
from shanty_runtime.triggers.definition import Trigger, subjects_of

Role = Literal["lead", "specialist"]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What is enforced in code, whatever a model says."""

    max_turns: int = 40
    """Model calls of one thread; an agent's own `max_turns` goes before it."""
    max_threads: int = 1000
    """Threads that one thread may open, over the whole life of a run."""
    max_active_threads: int = 32
    """Threads that one thread has at work at the same time."""
    max_depth: int = 3
    """Levels below the lead: its own specialists are at 1, and theirs at 2."""
    max_attempts: int = 5
    """How often a thread is taken up again after its worker died."""
    delegation_deadline_s: float = 1800.0
    """How long a delegation may take that names no deadline of its own."""
    decision_deadline_s: float = 86_400.0
    """How long an approval or an answer is waited for; then the call is denied, or the question given up."""


class AgentDefinition(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    description: str
    """What the lead reads to decide whom to ask."""
    role: Role
    prompt: str = ""
    model: str = "inherit"
    """`inherit` takes the team's. Empty for an agent that is Python code."""
    tools: tuple[str, ...] = ()
    """Every tool it may call besides the control tools: built-in ones first, then those of tools.py."""
    effort: Effort = "medium"
    max_turns: int | None = None
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None
    handler: Handler | None = None
    memory: Access = "none"
    """What it may do with the documents that outlive runs."""
    mcp_servers: tuple[McpServer, ...] = ()
    skills: tuple[Skill, ...] = ()
    egress: tuple[EgressRule, ...] = ()
    """Where `fetch_url` may go; the tool is not there without a rule."""
    specialists: tuple[str, ...] = ()
    """Whom it may delegate to: one that names some is a lead itself, whatever its role in the team."""
    permissions: dict[str, Permission] = {}
    """What it says of tools itself; it goes before what the team says."""
    ask_human: bool = False
    """Whether a specialist may ask people. A lead always may."""
    budget: Budget | None = None
    """What a delegation to it is granted where its lead names nothing else."""
    judges: bool = False
    """It judges what the lead hands in. Nobody delegates to it."""
    hedge_after_s: float | None = None
    """After which time without a reply a second thread gets the brief of a delegation to it; none: never."""
    not_honoured: tuple[str, ...] = ()
    """Fields of Claude Code's front matter that are understood and have no effect here."""


class Team(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    description: str = ""
    goal: str = ""
    """What a run is given when nobody says otherwise."""
    folder: Path
    lead: AgentDefinition
    specialists: tuple[AgentDefinition, ...] = ()
    """Every agent but the lead: those it leads itself, then those that they lead, then the host of hired ones."""
    tools: dict[str, Tool] = {}
    """Those of tools.py; the built-in ones are `shanty_runtime.tools.files.WORKSPACE_TOOLS`."""
    rehearsals: dict[str, Rehearsal] = {}
    limits: Limits = Limits()
    budget: Budget | None = None
    """What a run may spend where whoever starts it says nothing else."""
    permissions: dict[str, Permission] = {}
    """What is said of tools for every agent that says nothing else."""
    grading: Grading | None = None
    """What its deliverables are judged by; the agent that judges is among `specialists`."""
    model: str = ""
    """For agents that inherit; empty where the team names none."""
    triggers: tuple[Trigger, ...] = ()
    """What starts runs by itself."""
    hire: HirePolicy | None = None
    """Whom the lead may make up for a run; none where it may not."""

    @property
    def agents(self) -> tuple[AgentDefinition, ...]:
        return (self.lead, *self.specialists)

    @property
    def mapped(self) -> dict[str, tuple[str, ...]]:
        """Subjects whose messages start runs, by this team's name; empty where there are none."""
        subjects = subjects_of(self.triggers)
        return {self.name: subjects} if subjects else {}

    def agent(self, name: str) -> AgentDefinition:
        """The agent of that name. Raises ConfigError."""
        for agent in self.agents:
            if agent.name == name:
                return agent
        there_are = ", ".join(agent.name for agent in self.agents)
        raise ConfigError(f"team {self.name} has no agent {name!r}; there are {there_are}")

    def roster_of(self, leader: AgentDefinition) -> tuple[AgentDefinition, ...]:
        """The specialists that an agent leads."""
        return tuple(self.agent(name) for name in leader.specialists)

    def leads_of(self, name: str) -> tuple[str, ...]:
        """Who may delegate to an agent."""
        return tuple(agent.name for agent in self.agents if name in agent.specialists)

    def fenced_of(self, agent: AgentDefinition) -> tuple[str, ...]:
        """The tools of an agent, from tools.py, whose calls the tool gateway makes."""
        return tuple(name for name in agent.tools if name in self.tools and self.tools[name].fenced)

    @property
    def fenced(self) -> tuple[str, ...]:
        """The agents that the tool gateway makes calls for. Where there is none, the team needs no such gateway."""
        return tuple(
            agent.name
            for agent in self.agents
            if self.fenced_of(agent) or any(server.fenced for server in agent.mcp_servers)
        )

    def rehearsal_for(self, name: str) -> Rehearsal:
        """The function that plays an agent. Raises ConfigError where there is none."""
        agent = self.agent(name)
        if name not in self.rehearsals:
            raise ConfigError(
                f"team {self.name} cannot be rehearsed: {self.folder / 'rehearsal.py'} has no function for {name}; "
                f"add `def {rehearsal_name(agent.name)}(turn: Turn) -> Move`"
            )
        return self.rehearsals[name]


def rehearsal_name(agent: str) -> str:
    """The name of an agent's function in rehearsal.py."""
    return agent.replace("-", "_")
