"""Which tools an agent may call: names of ours, names of Claude Code's, and what is left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shanty_runtime.team.fields import Fields
from shanty_runtime.team.positions import Located
from shanty_runtime.team.problems import advice, described
from shanty_runtime.tools.base import Tool
from shanty_runtime.tools.files import WORKSPACE_TOOLS
from shanty_runtime.tools.memory import READ_TOOLS, TOOLS_OF, Access

BUILT_IN = {tool.name: tool for tool in WORKSPACE_TOOLS}

MEMORY_TOOLS = TOOLS_OF["write"]
"""Built in too, for agents whose front matter gives them access to the memory."""

FIELD_TOOLS = {
    "fetch_url": "egress: [example.com]",
    "load_skill": "skills: [name]",
    "read_skill_file": "skills: [name]",
}
"""Built in as well; an agent has them because of another field of its front matter, which is named here."""

CONTROL_TOOLS = (
    "delegate",
    "hire_specialist",
    "wait_for_replies",
    "send_to_specialist",
    "list_specialists",
    "ask_lead",
    "ask_human",
    "answer_specialist",
    "submit_result",
    "report_progress",
)
"""Every agent has those of its role. They are not listed in a front matter and cannot be replaced."""

CLAUDE_CODE = {
    "Read": "read_file",
    "Grep": "search_files",
    "Glob": "list_files",
    "LS": "list_files",
    "Write": "write_file",
    "Edit": "edit_file",
}
"""Claude Code's tools that a built-in one stands for."""

CLAUDE_CODE_ONLY = frozenset(
    "Agent AskUserQuestion Bash BashOutput ExitPlanMode KillShell MultiEdit NotebookEdit NotebookRead Skill "
    "SlashCommand Task TodoWrite WebFetch WebSearch".split()
)
"""Tools of Claude Code that nothing here stands for."""


def resolve_tools(fields: Fields, own: Mapping[str, Tool] | None, memory: Access) -> tuple[str, ...]:
    """The tools of an agent, in the order of the built-in ones and tools.py; all of them where none are named.

    Access to the memory brings its tools along, whether `tools` names them or not.
    `own` is None where tools.py cannot be imported: nobody knows then which names are wrong.
    """
    if own is None:
        return ()
    granted = TOOLS_OF[memory]
    everything = (*BUILT_IN, *granted, *own)
    allowed = _names(fields, "tools", everything)
    forbidden = _names(fields, "disallowed_tools", everything) or set()
    offered = everything if allowed is None else (*allowed, *granted)
    return tuple(name for name in everything if name in offered and name not in forbidden)


def _names(fields: Fields, key: str, everything: tuple[str, ...]) -> set[str] | None:
    given = fields.located(key)
    if given is None:
        return None
    words = comma_separated(given) if isinstance(given.value, str) else fields.listed(key) or ()
    return {name for word in words if (name := _known(fields, key, word, everything)) is not None}


def _known(fields: Fields, key: str, word: Located, everything: tuple[str, ...]) -> str | None:
    name: str = CLAUDE_CODE.get(word.value, word.value)
    if name in everything:
        return name
    there_are = f"the tools are {', '.join(everything)}"
    if word.value in CONTROL_TOOLS:
        fields.report(
            word, f"{word.value} is a control tool", "leave it out: every agent has the control tools of its role"
        )
    elif word.value in FIELD_TOOLS:
        hint = f"leave it out; it comes with `{FIELD_TOOLS[word.value]}`"
        fields.report(word, f"{word.value} is not given by name", hint)
    elif word.value in MEMORY_TOOLS:
        if key == "tools":
            access = "read" if word.value in READ_TOOLS else "write"
            fields.report(word, f"{word.value} needs access to the memory", f"add `memory: {access}`")
    elif word.value not in CLAUDE_CODE_ONLY:
        fields.report(word, f"there is no tool {described(word.value)}", advice(word.value, everything, there_are))
    elif key == "tools":
        fields.report(
            word, f"there is no tool {described(word.value)}: Claude Code has it, Shanty does not", there_are
        )
    # Forbidding a tool that nobody has here changes nothing, so a file of Claude Code may do it.
    return None


def comma_separated(given: Located) -> Iterable[Located]:
    """The words of `Read, Grep`, each at its own column."""
    column = given.column
    for part in given.value.split(","):
        word = part.strip()
        if word:
            begins = column + len(part) - len(part.lstrip())
            yield Located(value=word, line=given.line, column=begins)
        column += len(part) + 1
