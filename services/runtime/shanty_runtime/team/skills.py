"""The skills of a team: `skills/<name>/SKILL.md`, checked as the Agent Skills format says."""

from __future__ import annotations

import re

from shanty_runtime.team.fields import Fields
from shanty_runtime.team.folder import Folder
from shanty_runtime.team.problems import advice, described
from shanty_runtime.tools.skills import SKILL_FILE, Skill

FOLDER = "skills"
MAX_NAME_CHARACTERS = 64
MAX_DESCRIPTION_CHARACTERS = 1024
MAX_COMPATIBILITY_CHARACTERS = 500

KEYS = ("name", "description", "license", "compatibility", "metadata", "allowed-tools")
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


class Skills:
    """Reads each skill once, however many agents have it."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._read: dict[str, Skill | None] = {}

    def check_all(self) -> None:
        """Report what is wrong in any skill of the folder, whether an agent has it or not."""
        for name in self._names():
            self._skill(name)

    def of(self, fields: Fields) -> tuple[Skill, ...]:
        """Those that an agent's front matter names; problems where they are missing."""
        found: dict[str, Skill] = {}
        for named_at in fields.listed("skills") or ():
            if named_at.value not in self._names():
                message = f"skill {described(named_at.value)} has no file {FOLDER}/{named_at.value}/{SKILL_FILE}"
                fields.report(named_at, message, advice(str(named_at.value), self._names()))
            elif named_at.value in found:
                fields.report(named_at, f"skill {named_at.value} is listed twice", "keep one")
            elif (skill := self._skill(named_at.value)) is not None:
                found[skill.name] = skill
        return tuple(found.values())

    def _names(self) -> list[str]:
        return [name for name in self._folder.names(FOLDER) if self._folder.has(f"{FOLDER}/{name}/{SKILL_FILE}")]

    def _skill(self, name: str) -> Skill | None:
        if name not in self._read:
            self._read[name] = self._checked(name)
        return self._read[name]

    def _checked(self, name: str) -> Skill | None:
        path = f"{FOLDER}/{name}/{SKILL_FILE}"
        read = self._folder.agent_file(path)
        if read is None:
            return None
        settings, file = read
        fields = Fields(self._folder.problems, path, settings, {key: key for key in KEYS})
        fields.require("name", f"add `name: {name}`")
        fields.require("description", "say what the skill is for and when to use it: models choose by it")
        self._check_name(fields, name)
        for key, limit in (
            ("description", MAX_DESCRIPTION_CHARACTERS),
            ("compatibility", MAX_COMPATIBILITY_CHARACTERS),
        ):
            self._check_length(fields, key, limit)
        fields.text("license")
        _check_metadata(fields)
        if not file.prompt:
            hint = "write the skill's instructions after the front matter"
            self._folder.problems.add(path, file.prompt_line, 1, "the instructions are empty", hint)
        return Skill(
            name=name,
            description=fields.text("description"),
            instructions=file.prompt,
            folder=self._folder.root / FOLDER / name,
        )

    def _check_name(self, fields: Fields, folder_name: str) -> None:
        given = fields.located("name")
        if given is None:
            return
        if given.value != folder_name:
            message = f"name: expected {folder_name}, as the folder is called, got {described(given.value)}"
            fields.report(given, message, "rename the folder or the skill")
        elif not _NAME.fullmatch(folder_name) or len(folder_name) > MAX_NAME_CHARACTERS:
            hint = f"use at most {MAX_NAME_CHARACTERS} lower-case letters, digits and single dashes between them"
            fields.report(given, f"{described(given.value)} is not a name for a skill", hint)

    def _check_length(self, fields: Fields, key: str, limit: int) -> None:
        given = fields.located(key)
        if given is not None and len(fields.text(key)) > limit:
            fields.report(given, f"{key}: more than {limit} characters", "move the rest into the instructions")


def _check_metadata(fields: Fields) -> None:
    given = fields.located("metadata")
    if given is None:
        return
    if not isinstance(given.value, dict):
        fields.report(
            given, f"metadata: expected a mapping, got {described(given.value)}", "write `key: value` lines"
        )
    for key, value in given.entries:
        if not isinstance(value.value, str):
            fields.report(
                value, f"metadata.{key.value}: expected text, got {described(value.value)}", "put it in quotes"
            )
