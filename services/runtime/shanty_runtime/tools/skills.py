"""Skills: instructions an agent reads when it needs them.

    skills/<name>/SKILL.md      front matter with `name` and `description`, then the instructions
    skills/<name>/…             files the instructions refer to

A model is told the name and description of each of its skills, loads the instructions with `load_skill` and reads
the files beneath with `read_skill_file`. Nothing outside the skill's own folder can be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from shanty_runtime.errors import ToolError, WorkspaceError
from shanty_runtime.tools.base import Tool, ToolContext, tool
from shanty_runtime.tools.workspace import checked_path

SKILL_FILE = "SKILL.md"
SKILL_TOOLS = ("load_skill", "read_skill_file")
MAX_FILE_BYTES = 2**20
MAX_FILES_LISTED = 200


class Skill(msgspec.Struct, frozen=True, kw_only=True):
    """A skill as it was when the team was loaded; files beneath it are read when they are asked for."""

    name: str
    description: str
    instructions: str
    folder: Path


class LoadSkill(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    """As in the list of your skills."""


class ReadSkillFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    path: str
    """Inside the skill's folder, such as references/format.md."""


def skill_tools(skills: Iterable[Skill]) -> tuple[Tool, ...]:
    """`load_skill` and `read_skill_file` for an agent with these skills."""
    by_name = {skill.name: skill for skill in skills}

    def named(name: str) -> Skill:
        if name not in by_name:
            raise ToolError(f"there is no skill {name!r}; there are {', '.join(by_name)}")
        return by_name[name]

    @tool(effect="read")
    async def load_skill(args: LoadSkill, context: ToolContext) -> str:
        """Read the instructions of one of your skills. Do so before you begin work the skill is made for."""
        skill = named(args.name)
        files = list(files_of(skill))
        if not files:
            return skill.instructions
        listed = "\n".join(f"- {path}" for path in files[:MAX_FILES_LISTED])
        more = f"\n({len(files) - MAX_FILES_LISTED} more)" if len(files) > MAX_FILES_LISTED else ""
        return f"{skill.instructions}\n\nFiles of this skill, for read_skill_file:\n{listed}{more}"

    @tool(effect="read")
    async def read_skill_file(args: ReadSkillFile, context: ToolContext) -> str:
        """Read a text file that the instructions of a skill refer to."""
        return read_file(named(args.name), args.path)

    return (load_skill, read_skill_file)


def files_of(skill: Skill) -> Iterator[str]:
    """The files beneath a skill, without its SKILL.md, by path."""
    for file in sorted(skill.folder.rglob("*")):
        path = file.relative_to(skill.folder)
        hidden = any(part.startswith(".") for part in path.parts)
        if path.name != SKILL_FILE and not hidden and _inside(skill, path.as_posix()) is not None:
            yield path.as_posix()


def read_file(skill: Skill, path: str) -> str:
    """Raises ToolError where there is no such text file inside the skill's folder."""
    try:
        file = _inside(skill, checked_path(path))
    except WorkspaceError as error:
        raise ToolError(str(error)) from error
    if file is None:
        there_are = ", ".join(list(files_of(skill))[:MAX_FILES_LISTED]) or "none"
        raise ToolError(f"skill {skill.name} has no file {path!r}; there are {there_are}")
    with file.open("rb") as opened:
        data = opened.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ToolError(f"{path} of skill {skill.name} has more than {MAX_FILE_BYTES} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ToolError(f"{path} of skill {skill.name} is not a text file") from error


def _inside(skill: Skill, path: str) -> Path | None:
    """The file, if it is one and no link leads out of the skill's folder."""
    root = skill.folder.resolve()
    file = (root / path).resolve()
    return file if file.is_relative_to(root) and file.is_file() else None
