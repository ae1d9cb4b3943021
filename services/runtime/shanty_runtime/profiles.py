"""From a team's folder to what the engine plays: prompts, tools, contracts and the model, put together."""

from __future__ import annotations

import time

from shanty_protocol import AgentCard
from shanty_runtime.agent import Contract, Profile
from shanty_runtime.config import Settings
from shanty_runtime.errors import ConfigError
from shanty_runtime.models import Model, RehearsalModel
from shanty_runtime.team import AgentDefinition, Team
from shanty_runtime.thread.verbs import LEAD_VERBS, SPECIALIST_VERBS, verb_cards
from shanty_runtime.tools.base import Tool
from shanty_runtime.tools.files import WORKSPACE_TOOLS
from shanty_runtime.tools.roster import CardSource, roster_tool

STARTED_AT_MS = int(time.time() * 1000)


def profile_of(team: Team, definition: AgentDefinition, settings: Settings, roster: CardSource) -> Profile:
    """What the engine needs to play an agent of a team. Raises ConfigError where its model cannot be had."""
    is_lead = definition.role == "lead"
    limits = team.limits
    verbs = LEAD_VERBS if is_lead else SPECIALIST_VERBS
    return Profile(
        agent=definition.name,
        role=definition.role,
        team=team.name,
        prompt=definition.prompt,
        model=None if definition.handler else open_model(team, definition, settings),
        handler=definition.handler,
        tools=_tools(team, definition, roster),
        verbs=verb_cards(verbs, definition.output_schema),
        contracts={each.name: _contract(each) for each in team.specialists} if is_lead else {},
        input_schema=definition.input_schema,
        output_schema=definition.output_schema,
        max_turns=definition.max_turns or limits.max_turns,
        max_attempts=limits.max_attempts,
        max_threads=limits.max_threads,
        max_active_threads=limits.max_active_threads,
        delegation_deadline_s=limits.delegation_deadline_s,
    )


def open_model(team: Team, definition: AgentDefinition, settings: Settings) -> Model:
    """The model an agent speaks with: the setting's, or its own, or the team's."""
    own = "" if definition.model == "inherit" else definition.model
    name = settings.model or own or team.model
    if name == "rehearsal":
        return RehearsalModel(team.rehearsal_for(definition.name), pace_s=settings.rehearsal_pace_s)
    asked = f"the model {name!r}" if name else "no model"
    raise ConfigError(
        f"agent {definition.name} has {asked}, and this version plays rehearsals only: set SHANTY_MODEL=rehearsal"
    )


def card_of(definition: AgentDefinition, profile: Profile, settings: Settings, *, active: int) -> AgentCard:
    """What this replica puts on the roster."""
    return AgentCard(
        agent=definition.name,
        replica=settings.replica,
        role=definition.role,
        description=definition.description,
        team=profile.team,
        model=profile.model.name if profile.model else "",
        tools=tuple(profile.tools),
        input_schema=definition.input_schema,
        output_schema=definition.output_schema,
        started_at_ms=STARTED_AT_MS,
        threads_active=active,
        threads_max=settings.concurrency,
    )


def _contract(definition: AgentDefinition) -> Contract:
    return Contract(
        name=definition.name,
        description=definition.description,
        input_schema=definition.input_schema,
        output_schema=definition.output_schema,
    )


def _tools(team: Team, definition: AgentDefinition, roster: CardSource) -> dict[str, Tool]:
    known: dict[str, Tool] = {tool.name: tool for tool in WORKSPACE_TOOLS} | team.tools
    tools = {name: known[name] for name in definition.tools}
    if definition.role == "lead":
        descriptions = {each.name: each.description for each in team.specialists}
        tools["list_specialists"] = roster_tool(roster, descriptions)
    return tools
