"""Reading a team's folder from its `team.yaml` inwards."""

from __future__ import annotations

from pathlib import Path

from shanty_runtime.errors import TeamError
from shanty_runtime.team.agents import MAX_TURNS, Agents
from shanty_runtime.team.definition import AgentDefinition, Limits, Team
from shanty_runtime.team.fields import Fields, both_spellings
from shanty_runtime.team.folder import Folder
from shanty_runtime.team.importing import TeamPackage
from shanty_runtime.team.modules import Modules
from shanty_runtime.team.positions import Located
from shanty_runtime.team.problems import Problems, described, nearest
from shanty_runtime.team.skills import Skills

TEAM_FILE = "team.yaml"
API_VERSION = "shanty/v1"
KEYS = ("apiVersion", "name", "description", "goal", "model", "lead", "specialists", "limits")
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
    lead, specialists = _agents(fields, written, Agents(folder, modules, tools, skills))
    skills.check_all()
    names = [agent.name for agent in (lead, *specialists) if agent is not None]
    rehearsals = modules.rehearsals(names)
    name = _team_name(fields)
    limits = _limits(fields, folder.problems)
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
        model=fields.text("model"),
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


def _agents(
    fields: Fields, written: Located, agents: Agents
) -> tuple[AgentDefinition | None, tuple[AgentDefinition, ...]]:
    """The lead and the specialists, as far as they could be read."""
    lead_at = fields.located("lead") or Located(value=DEFAULT_LEAD, line=written.line, column=written.column)
    lead_name = fields.agent_name(lead_at) if fields.text("lead", DEFAULT_LEAD) else None
    lead = None if lead_name is None else agents.read(lead_name, "lead", lead_at)
    seen: dict[str, Located] = {}
    specialists = []
    for named_at in fields.listed("specialists") or ():
        name = fields.agent_name(named_at)
        if name is None:
            continue
        if name == lead_name:
            fields.report(
                named_at, f"{name} is the lead, and cannot be a specialist too", "remove it from specialists"
            )
        elif name in seen:
            fields.report(named_at, f"{name} is listed twice", f"the first is in line {seen[name].line}; keep one")
        else:
            seen[name] = named_at
            specialist = agents.read(name, "specialist", named_at)
            specialists += [] if specialist is None else [specialist]
    return lead, tuple(specialists)


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
    )
