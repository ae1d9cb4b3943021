"""From a team's folder to what the engine plays: prompts, tools, contracts and the model, put together."""

from __future__ import annotations

import hashlib
import inspect
import os
import time
from pathlib import Path

import msgspec

from shanty_protocol import AgentCard, Usage
from shanty_protocol.ids import HOST
from shanty_runtime.agent import Contract, Profile
from shanty_runtime.agent.profile import Price
from shanty_runtime.archive import entries_to_go_by, is_archive
from shanty_runtime.config import Settings
from shanty_runtime.errors import ArchiveError, ConfigError
from shanty_runtime.models import Model, RehearsalModel
from shanty_runtime.models.anthropic import ClaudeModel, require_credentials
from shanty_runtime.models.base import ToolCard
from shanty_runtime.models.capabilities import claude_aliases, claude_name
from shanty_runtime.models.prices import prices_in_force
from shanty_runtime.models.replay import RecordingModel, ReplayModel
from shanty_runtime.team import AgentDefinition, Team
from shanty_runtime.thread.hiring import hire_card
from shanty_runtime.thread.verbs import LEAD_VERBS, SPECIALIST_VERBS, verb_cards
from shanty_runtime.tools.base import Tool
from shanty_runtime.tools.fetch import fetch_tool
from shanty_runtime.tools.files import WORKSPACE_TOOLS
from shanty_runtime.tools.memory import MemoryStore, memory_tools
from shanty_runtime.tools.roster import CardSource, roster_tool
from shanty_runtime.tools.skills import skill_tools
from shanty_runtime.worker.replies import recorded_replies

STARTED_AT_MS = int(time.time() * 1000)
REPLAY = "replay:"


def profile_of(
    team: Team, definition: AgentDefinition, settings: Settings, roster: CardSource, memory: MemoryStore
) -> Profile:
    """What the engine needs to play an agent of a team. Raises ConfigError where its model cannot be had."""
    limits = team.limits
    profile = Profile(
        agent=definition.name,
        role=definition.role,
        team=team.name,
        description=definition.description,
        version=version_of(team, definition),
        prompt=definition.prompt,
        handler=definition.handler,
        tools=_tools(team, definition, settings, roster, memory),
        skills=definition.skills,
        verbs=(*verb_cards(_verbs(definition), definition.output_schema), *_hiring(team, definition)),
        contracts={each.name: _contract(each) for each in team.roster_of(definition)},
        input_schema=definition.input_schema,
        output_schema=definition.output_schema,
        effort=definition.effort,
        price=price_by(settings),
        max_turns=definition.max_turns or limits.max_turns,
        max_attempts=limits.max_attempts,
        max_depth=limits.max_depth,
        max_threads=limits.max_threads,
        max_active_threads=limits.max_active_threads,
        delegation_deadline_s=limits.delegation_deadline_s,
        budget=team.budget if definition.role == "lead" else None,
        decision_deadline_s=limits.decision_deadline_s,
        fences=settings.tool_gateway == "on",
        permissions=team.permissions | definition.permissions,
        grading=team.grading if definition.role == "lead" else None,
        judges=definition.judges,
        hire=team.hire if definition.role == "lead" or definition.name == HOST else None,
    )
    if definition.handler:
        return profile
    return msgspec.structs.replace(
        profile,
        model=open_model(team, definition, settings, profile),
        models=_models_of_hired(team, definition, settings, profile),
    )


def version_of(team: Team, definition: AgentDefinition) -> str:
    """A digest of what an agent is made of: traces of two versions of a prompt can be told apart by it."""
    made_of = (
        definition.prompt,
        definition.model,
        team.model,
        definition.tools,
        definition.effort,
        definition.input_schema,
        definition.output_schema,
        [skill.name for skill in definition.skills],
        sorted((team.permissions | definition.permissions).items()),
        definition.ask_human,
        definition.specialists,
        team.hire if definition.role == "lead" else None,
        team.grading if definition.role == "lead" else None,
        inspect.getsource(definition.handler.function) if definition.handler else "",
    )
    return hashlib.sha256(msgspec.json.encode(made_of)).hexdigest()[:12]


def price_by(settings: Settings) -> Price:
    """Prices by the list in force. What is rehearsed or replayed costs nothing, and that is known."""
    prices = prices_in_force(settings.prices)

    def price(model: str, usage: Usage, at_ms: int) -> int | None:
        if settings.model == "rehearsal" or settings.model.startswith(REPLAY):
            return 0
        return prices.cost_micro_usd(model, usage, at_ms)

    return price


def open_model(team: Team, definition: AgentDefinition, settings: Settings, plays: Profile | None = None) -> Model:
    """The model an agent speaks with: the setting's, or its own, or the team's. SHANTY_RECORD has it written down.

    `plays` is the agent, all but for its model: without it the model of an archived run has nothing to say, and it is
    only found out whether the archive can be read.
    """
    own = "" if definition.model == "inherit" else definition.model
    model = _named_model(settings.model or own or team.model, team, definition, settings, plays)
    return RecordingModel(model, Path(settings.record)) if settings.record else model


def _named_model(
    name: str, team: Team, definition: AgentDefinition, settings: Settings, plays: Profile | None
) -> Model:
    if name == "rehearsal":
        return RehearsalModel(team.rehearsal_for(definition.name), pace_s=settings.rehearsal_pace_s)
    if name.startswith(REPLAY):
        return _replayed(Path(name.removeprefix(REPLAY)), plays)
    if (claude := claude_name(name)) is not None:
        require_credentials(os.environ)
        return ClaudeModel(claude)
    asked = f"the model {name!r}, which this version does not know" if name else "no model"
    raise ConfigError(
        f"agent {definition.name} has {asked}: name a Claude model, by its id or as {', '.join(claude_aliases())}, "
        f"or set SHANTY_MODEL=rehearsal to play the team without paying"
    )


def _replayed(file: Path, plays: Profile | None) -> Model:
    """By a recording, or by an archive of a run."""
    if not is_archive(file):
        return ReplayModel(file)
    try:
        run = entries_to_go_by(file)
    except ArchiveError as error:
        raise ConfigError(f"nothing can be replayed from {error}") from error
    try:
        return ReplayModel(file, () if plays is None else recorded_replies(plays, run))
    except ConfigError as error:
        raise ConfigError(f"{file} cannot be replayed: {error}") from error


def _models_of_hired(team: Team, definition: AgentDefinition, settings: Settings, plays: Profile) -> dict[str, Model]:
    """Opened when the host starts: one that cannot be had is a mistake of the team, not of whoever is hired."""
    if definition.name != HOST or team.hire is None:
        return {}
    return {
        name: open_model(team, msgspec.structs.replace(definition, model=name), settings, plays)
        for name in team.hire.models
    }


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
        specialists=definition.specialists,
        input_schema=definition.input_schema,
        output_schema=definition.output_schema,
        started_at_ms=STARTED_AT_MS,
        threads_active=active,
        threads_max=settings.concurrency,
    )


def _verbs(definition: AgentDefinition) -> tuple[str, ...]:
    if definition.role == "lead":
        return LEAD_VERBS
    if definition.judges:
        return ("submit_result",)
    # One that leads specialists of its own has somebody below it and somebody above it.
    below = tuple(verb for verb in LEAD_VERBS if verb != "ask_human") if definition.specialists else ()
    people = ("ask_human",) if definition.ask_human else ()
    return tuple(dict.fromkeys((*below, *SPECIALIST_VERBS, *people)))


def _hiring(team: Team, definition: AgentDefinition) -> tuple[ToolCard, ...]:
    """Only the lead of a team hires; whom it hires leads nobody."""
    return (hire_card(team.hire),) if team.hire is not None and definition.role == "lead" else ()


def _contract(definition: AgentDefinition) -> Contract:
    return Contract(
        name=definition.name,
        description=definition.description,
        input_schema=definition.input_schema,
        output_schema=definition.output_schema,
        budget=definition.budget,
        hedge_after_s=definition.hedge_after_s,
    )


def _tools(
    team: Team, definition: AgentDefinition, settings: Settings, roster: CardSource, memory: MemoryStore
) -> dict[str, Tool]:
    built_in: dict[str, Tool] = {tool.name: tool for tool in WORKSPACE_TOOLS}
    known = built_in | memory_tools(memory, team.name, definition.memory) | team.tools
    tools = {name: known[name] for name in definition.tools}
    if definition.egress:
        tools["fetch_url"] = fetch_tool(definition.egress, settings.egress_private)
    if definition.skills:
        tools |= {tool.name: tool for tool in skill_tools(definition.skills)}
    if definition.role == "lead" or definition.specialists:
        descriptions = {each.name: each.description for each in team.roster_of(definition)}
        tools["list_specialists"] = roster_tool(roster, descriptions)
    return tools
