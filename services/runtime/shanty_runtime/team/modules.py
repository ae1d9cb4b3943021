"""What a team's Python files hold: tools, rehearsals, handlers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from shanty_runtime.agent.handler import Handler, handler_from
from shanty_runtime.models.rehearsal import Rehearsal
from shanty_runtime.team.definition import rehearsal_name
from shanty_runtime.team.folder import Folder
from shanty_runtime.team.importing import ImportProblem, TeamPackage
from shanty_runtime.team.toolbox import BUILT_IN, CONTROL_TOOLS, FIELD_TOOLS, MEMORY_TOOLS
from shanty_runtime.tools.base import Tool

TOOLS = "tools.py"
REHEARSAL = "rehearsal.py"


class Modules:
    """The Python half of a team's folder."""

    def __init__(self, folder: Folder, package: TeamPackage) -> None:
        self._folder = folder
        self._package = package

    def tools(self) -> dict[str, Tool] | None:
        """The tools of tools.py, in the order they are written; None where it cannot be imported."""
        if not self._folder.has(TOOLS):
            return {}
        module = self._load(TOOLS)
        if module is None:
            return None
        found: dict[str, Tool] = {}
        for tool in [value for value in vars(module).values() if isinstance(value, Tool)]:
            if self._may_be_called(tool, found):
                found[tool.name] = tool
        return found

    def rehearsals(self, agents: Iterable[str]) -> dict[str, Rehearsal]:
        """The function of each agent that has one."""
        module = self._load(REHEARSAL) if self._folder.has(REHEARSAL) else None
        found: dict[str, Rehearsal] = {}
        for agent in agents:
            function: Any = getattr(module, rehearsal_name(agent), None)
            if self._package.made(function) and self._plays_turns(function):
                found[agent] = function
        return found

    def handler(self, path: str) -> tuple[str, Handler] | None:
        """The description and handler of a code-backed agent."""
        module = self._load(path)
        if module is None:
            return None
        description = inspect.cleandoc(module.__doc__ or "").strip()
        if not description:
            hint = "begin the file with a docstring that says what the agent is for: the lead reads it"
            self._folder.problems.add(path, 1, 1, "no docstring", hint)
        function = getattr(module, "handle", None)
        if function is None:
            hint = "add `async def handle(input: SomeStruct, context: Context) -> SomeStruct | None`"
            self._folder.problems.add(path, 1, 1, "no function handle", hint)
            return None
        try:
            handler = handler_from(function)
            # Built here once, so that a type JSON cannot express is a problem of the file and not of a run.
            _ = handler.input_schema, handler.output_schema
        # NameError: an annotation that names a type the module does not have.
        except (TypeError, NameError) as error:
            hint = "write `async def handle(input: SomeStruct, context: Context) -> SomeStruct | None`"
            self._report_at(function, path, f"handle cannot be used: {error}", hint)
            return None
        return description, handler

    def _load(self, path: str) -> ModuleType | None:
        try:
            return self._package.load(path)
        except ImportProblem as problem:
            where = self._inside(problem.file) or path
            self._folder.problems.add(where, problem.line, problem.column, problem.message, problem.hint)
            return None

    def _may_be_called(self, tool: Tool, found: dict[str, Tool]) -> bool:
        if tool is BUILT_IN.get(tool.name) or tool is found.get(tool.name):
            return False
        built_in = (*BUILT_IN, *MEMORY_TOOLS, *FIELD_TOOLS)
        if tool.name in built_in or tool.name in CONTROL_TOOLS:
            kind = "built-in tool" if tool.name in built_in else "control tool"
            message = f"tool {tool.name} has the name of a {kind}"
            self._report_at(tool.function, TOOLS, message, f"rename it, to team_{tool.name} for instance")
            return False
        if tool.name in found:
            self._report_at(tool.function, TOOLS, f"there are two tools {tool.name}", "rename one of them")
            return False
        return True

    def _plays_turns(self, function: Callable[..., object]) -> bool:
        name = getattr(function, "__name__", "")
        hint = f"write `def {name}(turn: Turn) -> Move`"
        if inspect.iscoroutinefunction(function):
            self._report_at(function, REHEARSAL, f"the rehearsal {name} must not be async", hint)
            return False
        if len(inspect.signature(function).parameters) != 1:
            self._report_at(function, REHEARSAL, f"the rehearsal {name} must take one argument", hint)
            return False
        return True

    def _report_at(self, function: object, path: str, message: str, hint: str) -> None:
        """At the first line of a function, where that is in the folder; at the head of the file otherwise."""
        code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
        where = self._inside(Path(code.co_filename)) if code else None
        line = code.co_firstlineno if code and where else 1
        self._folder.problems.add(where or path, line, 1, message, hint)

    def _inside(self, file: Path) -> str | None:
        root = self._folder.root
        return file.relative_to(root).as_posix() if file.is_relative_to(root) else None
