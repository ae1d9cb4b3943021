"""Reading a team's folder from its `team.yaml` inwards."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from pathlib import Path

import msgspec

from shanty_runtime.errors import TeamError
from shanty_runtime.team.agents import MAX_TURNS, Agents
from shanty_runtime.team.budgets import read_budget
from shanty_runtime.team.definition import AgentDefinition, Limits, Team
from shanty_runtime.team.fields import Fields, both_spellings
from shanty_runtime.team.folder import Folder
from shanty_runtime.team.hiring import host_of, read_hire
from shanty_runtime.team.importing import TeamPackage
from shanty_runtime.team.modules import Modules
from shanty_runtime.team.outcomes import read_outcome
from shanty_runtime.team.permissions import check_named, read_permissions
from shanty_runtime.team.positions import Located
from shanty_runtime.team.problems import Problems, described, nearest
from shanty_runtime.team.rosters import Named, check_tree, read_roster
from shanty_runtime.team.skills import Skills
from shanty_runtime.team.triggers import read_triggers

TEAM_FILE = "team.yaml"
API_VERSION = "shanty/v1"
KEYS = (
    "apiVersion",
    "name",
    "description",
    "goal",
    "model",
    "lead",
    "specialists",
    "limits",
    "permissions",
    "budget",
    "outcome",
    "hire",
    "triggers",
)
DEFAULT_LEAD = "lead"
MONTH_S = 30 * 24 * 3600.0


def load_team(folder: Path) -> Team:
    """Read and check a team's folder, and run its Python files. Raises TeamError with every problem found."""
    problems = Problems()
    package = TeamPackage.of(folder.resolve())
    team = _read(Folder(folder, problems), package)
    found = problems.in_order()
    if found or team is None:
        package.forget()
        raise TeamError(str(folder), found)
    return team


def _read(folder: Folder, package: TeamPackage) -> Team | None:
    written = _team_file(folder)
    if written is None:
        return None
    fields = Fields(folder.problems, TEAM_FILE, written, {key: key for key in KEYS})
    _check_version(fields)
    modules = Modules(folder, package)
    tools = modules.tools()
    skills = Skills(folder)
    limits = _limits(fields, folder.problems)
    named_lead = _lead(fields, written)
    agents = Agents(folder, modules, tools, skills, lead="" if named_lead is None else named_lead.name)
    lead, specialists = _agents(fields, named_lead, agents)
    if named_lead is not None:
        check_tree(folder.problems, named_lead.name, agents.rosters, limits.max_depth)
    hire = read_hire(fields, folder.problems, TEAM_FILE, tools)
    if hire is not None:
        specialists = (*specialists, host_of(hire, fields.text("model")))
    skills.check_all()
    names = [agent.name for agent in (lead, *specialists) if agent is not None]
    outcome = read_outcome(fields, folder, TEAM_FILE, names)
    if outcome is not None:
        specialists, names = (*specialists, outcome.grader), [*names, outcome.grader.name]
    permissions = read_permissions(fields, tools, _servers((lead, *specialists)), agents.named_in_permissions)
    check_named(agents.named_in_permissions, {each.name for roster in agents.rosters.values() for each in roster})
    rehearsals = modules.rehearsals(names)
    name = _team_name(fields)
    triggers = read_triggers(fields, folder.problems, TEAM_FILE, lead, fields.text("goal"))
    if lead is None:
        return None
    return Team(
        name=name,
        description=fields.text("description"),
        goal=fields.text("goal"),
        folder=folder.root,
        lead=lead,
        specialists=specialists,
        tools=tools or {},
        rehearsals=rehearsals,
        limits=limits,
        budget=read_budget(fields, folder.problems, TEAM_FILE),
        grading=None if outcome is None else outcome.grading,
        permissions=permissions,
        model=fields.text("model"),
        hire=hire,
        triggers=triggers,
    )


def _team_file(folder: Folder) -> Located | None:
    if not folder.root.is_dir():
        folder.problems.add(
            TEAM_FILE, 1, 1, f"there is no folder {folder.root}", "give the folder that holds team.yaml"
        )
        return None
    if not folder.has(TEAM_FILE):
        near = nearest(TEAM_FILE, folder.names("."))
        hint = "give the folder that holds team.yaml" + (f", {near}" if near else "")
        folder.problems.add(TEAM_FILE, 1, 1, "the file is missing", hint)
        return None
    return folder.yaml(TEAM_FILE)


def _check_version(fields: Fields) -> None:
    fields.require("apiVersion", f"add `apiVersion: {API_VERSION}`")
    given = fields.located("apiVersion")
    if given is not None and given.value != API_VERSION:
        message = f"apiVersion: expected {API_VERSION}, got {described(given.value)}"
        fields.report(given, message, f"write `apiVersion: {API_VERSION}`")


def _team_name(fields: Fields) -> str:
    fields.require("name", "add `name:`, of lower-case letters, digits and dashes")
    given = fields.located("name")
    if given is None or not fields.text("name"):
        return ""
    return fields.identifier(given) or ""


def _lead(fields: Fields, written: Located) -> Named | None:
    at = fields.located("lead") or Located(value=DEFAULT_LEAD, line=written.line, column=written.column)
    name = fields.agent_name(at) if fields.text("lead", DEFAULT_LEAD) else None
    return None if name is None else Named(name=name, path=TEAM_FILE, at=at)


def _agents(
    fields: Fields, lead: Named | None, agents: Agents
) -> tuple[AgentDefinition | None, tuple[AgentDefinition, ...]]:
    """The lead, and everybody below it level by level, as far as they could be read."""
    lead_name = "" if lead is None else lead.name
    roster = read_roster(fields, TEAM_FILE, lead_name, lead_name)
    read_lead = None
    if lead is not None:
        read_lead = agents.read(lead, "lead")
        agents.rosters[lead.name] = roster
    if read_lead is not None:
        read_lead = msgspec.structs.replace(read_lead, specialists=tuple(each.name for each in roster))
    specialists: dict[str, AgentDefinition | None] = {}
    to_read = deque(roster)
    while to_read:
        named = to_read.popleft()
        if named.name not in specialists:
            specialists[named.name] = agents.read(named, "specialist")
            to_read.extend(agents.rosters.get(named.name, ()))
    return read_lead, tuple(each for each in specialists.values() if each is not None)


def _servers(agents: Iterable[AgentDefinition | None]) -> list[str]:
    return [server.name for agent in agents if agent is not None for server in agent.mcp_servers]


def _limits(fields: Fields, problems: Problems) -> Limits:
    given = fields.located("limits")
    if given is None:
        return Limits()
    inner = Fields(problems, TEAM_FILE, given, both_spellings(Limits.__struct_fields__))
    usual = Limits()
    return Limits(
        max_turns=inner.whole("max_turns", usual.max_turns, low=1, high=MAX_TURNS),
        max_threads=inner.whole("max_threads", usual.max_threads, low=1, high=100_000),
        max_active_threads=inner.whole("max_active_threads", usual.max_active_threads, low=1, high=10_000),
        max_depth=inner.whole("max_depth", usual.max_depth, low=1, high=10),
        max_attempts=inner.whole("max_attempts", usual.max_attempts, low=1, high=1_000),
        delegation_deadline_s=inner.seconds("delegation_deadline_s", usual.delegation_deadline_s, high=MONTH_S),
        decision_deadline_s=inner.seconds("decision_deadline_s", usual.decision_deadline_s, high=MONTH_S),
    )
