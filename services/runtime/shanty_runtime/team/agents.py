"""One agent from its file: Markdown for one with a model, Python for one that is code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from shanty_protocol import Effort
from shanty_runtime.team.budgets import read_budget
from shanty_runtime.team.definition import AgentDefinition, Role
from shanty_runtime.team.fields import Fields, both_spellings
from shanty_runtime.team.folder import Folder
from shanty_runtime.team.hedging import read_hedge
from shanty_runtime.team.mcp_servers import only_refers, read_mcp_servers
from shanty_runtime.team.modules import Modules
from shanty_runtime.team.permissions import NamedSpecialist, read_permissions
from shanty_runtime.team.problems import advice, described
from shanty_runtime.team.rosters import Named, read_roster
from shanty_runtime.team.schemas import read_schema
from shanty_runtime.team.skills import Skills
from shanty_runtime.team.toolbox import BUILT_IN, resolve_tools
from shanty_runtime.tools.base import Tool
from shanty_runtime.tools.egress import EgressRule, parse_rule
from shanty_runtime.tools.memory import Access

FOLDER = "agents"
MAX_TURNS = 10_000

NOT_HONOURED = ("permission_mode", "hooks", "background", "isolation", "color")
"""Fields of Claude Code's agents that are accepted, so that its files load unchanged, and do nothing here."""

HONOURED = (
    "name",
    "description",
    "model",
    "tools",
    "disallowed_tools",
    "effort",
    "max_turns",
    "input",
    "output",
    "memory",
    "mcp_servers",
    "skills",
    "egress",
    "specialists",
    "budget",
    "permissions",
    "ask_human",
    "hedge",
)
SPELLINGS = both_spellings((*HONOURED, *NOT_HONOURED))
EFFORTS = ("low", "medium", "high")
ACCESSES = ("none", "read", "write")
CLAUDE_CODE_MEMORY = ("user", "project", "local")
"""Where Claude Code keeps an agent's notes. Nothing here stands for that, so it gives no access to the memory."""


class Agents:
    """Reads the agents of one team."""

    def __init__(
        self,
        folder: Folder,
        modules: Modules,
        own_tools: Mapping[str, Tool] | None,
        skills: Skills,
        lead: str,
    ) -> None:
        self.rosters: dict[str, tuple[Named, ...]] = {}
        """The specialists of every agent that names some in its front matter."""
        self.named_in_permissions: list[NamedSpecialist] = []
        self._folder = folder
        self._lead = lead
        self._skills = skills
        self._modules = modules
        self._own_tools = own_tools

    def read(self, named: Named, role: Role) -> AgentDefinition | None:
        """The agent that is named there; None and problems where it is wrong."""
        name = named.name
        files = [path for path in _files_of(name) if self._folder.has(path)]
        if not files:
            self._missing(named)
            return None
        for extra in files[1:]:
            message = f"agent {name} also has the file {files[0]}"
            self._folder.problems.add(extra, 1, 1, message, "keep one: .md for a model, .py for code")
        if files[0].endswith(".md"):
            return self._with_model(files[0], name, role)
        return self._with_code(files[0], name, role)

    def _missing(self, named: Named) -> None:
        there_are = [file.rpartition(".")[0] for file in self._folder.names(FOLDER) if file.endswith((".md", ".py"))]
        name = named.name
        message = f"agent {name} has no file {FOLDER}/{name}.md or {FOLDER}/{name}.py"
        self._folder.problems.add(named.path, named.at.line, named.at.column, message, advice(name, there_are))

    def _with_model(self, path: str, name: str, role: Role) -> AgentDefinition | None:
        read = self._folder.agent_file(path)
        if read is None:
            return None
        settings, file = read
        fields = Fields(self._folder.problems, path, settings, SPELLINGS)
        fields.require("description", "say in a sentence what the agent is for: the lead reads it")
        self._check_name(fields, name)
        if not file.prompt:
            hint = "write the agent's instructions after the front matter"
            self._folder.problems.add(path, file.prompt_line, 1, "the prompt is empty", hint)
        memory = _memory(fields)
        servers = read_mcp_servers(fields, self._folder.problems, path)
        tools, specialists = resolve_tools(fields, self._own_tools, memory), self._roster(fields, path, name, role)
        return AgentDefinition(
            name=name,
            description=fields.text("description"),
            role=role,
            prompt=file.prompt,
            model=fields.text("model", "inherit"),
            tools=tools,
            effort=cast(Effort, fields.choice("effort", EFFORTS, "medium")),
            max_turns=fields.whole("max_turns", None, low=1, high=MAX_TURNS),
            input_schema=self._schema(fields, path, "input"),
            output_schema=self._schema(fields, path, "output"),
            memory=memory,
            mcp_servers=servers,
            skills=self._skills.of(fields),
            egress=_egress(fields),
            specialists=specialists,
            permissions=read_permissions(
                fields, self._own_tools, [server.name for server in servers], self.named_in_permissions
            ),
            ask_human=fields.flag("ask_human"),
            budget=read_budget(fields, self._folder.problems, path),
            hedge_after_s=read_hedge(
                fields,
                self._folder.problems,
                path,
                tools=tools,
                own=self._own_tools,
                servers=servers,
                leads=bool(specialists) or role == "lead",
            ),
            not_honoured=tuple(written for key, written in fields.given() if _has_no_effect(fields, key)),
        )

    def _with_code(self, path: str, name: str, role: Role) -> AgentDefinition | None:
        found = self._modules.handler(path)
        if found is None:
            return None
        description, handler = found
        return AgentDefinition(
            name=name,
            description=description,
            role=role,
            model="",
            tools=(*BUILT_IN, *(self._own_tools or ())),
            input_schema=handler.input_schema,
            output_schema=handler.output_schema,
            handler=handler,
        )

    def _roster(self, fields: Fields, path: str, name: str, role: Role) -> tuple[str, ...]:
        given = fields.located("specialists")
        if given is not None and role == "lead":
            fields.report(given, "the lead's specialists are not named here", "name them in team.yaml")
            return ()
        roster = read_roster(fields, path, name, self._lead)
        if roster:
            self.rosters[name] = roster
        return tuple(each.name for each in roster)

    def _check_name(self, fields: Fields, name: str) -> None:
        given = fields.located("name")
        if given is not None and given.value != name:
            message = f"name: expected {name}, as the file is called, got {described(given.value)}"
            fields.report(given, message, "rename the file or the agent, or leave the key out")

    def _schema(self, fields: Fields, path: str, key: str) -> dict[str, object] | None:
        given = fields.located(key)
        return None if given is None else read_schema(self._folder, path, key, given)


def _memory(fields: Fields) -> Access:
    if _has_no_effect(fields, "memory"):
        return "none"
    return cast(Access, fields.choice("memory", ACCESSES, "none"))


def _egress(fields: Fields) -> tuple[EgressRule, ...]:
    rules = []
    for given in fields.listed("egress") or ():
        try:
            rules.append(parse_rule(given.value))
        except ValueError as error:
            hint = "write a host such as example.com, *.example.com or example.com:8443"
            fields.report(given, f"egress: {described(given.value)} {error}", hint)
    return tuple(rules)


def _has_no_effect(fields: Fields, key: str) -> bool:
    given = fields.located(key)
    if key == "mcp_servers":
        return only_refers(given)
    return key in NOT_HONOURED or (key == "memory" and given is not None and given.value in CLAUDE_CODE_MEMORY)


def _files_of(name: str) -> tuple[str, ...]:
    """Where an agent may be written; Python files may be called as modules are, with `_` for `-`."""
    stems = dict.fromkeys([name, name.replace("-", "_")])
    return (f"{FOLDER}/{name}.md", *(f"{FOLDER}/{stem}.py" for stem in stems))
