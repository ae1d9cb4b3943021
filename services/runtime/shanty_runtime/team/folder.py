"""The text files of a team's folder: found inside it only, of bounded size, each wrong one reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shanty_runtime.team.front_matter import AgentFile, read_agent_file
from shanty_runtime.team.positions import MAX_FILE_BYTES, Document, Located, NotYaml, line_and_column, parse
from shanty_runtime.team.problems import Problems


class Folder:
    """A team's folder, and what was found wrong in it. Reading gives None where there is a problem."""

    def __init__(self, root: Path, problems: Problems) -> None:
        self.root = root.resolve()
        self.problems = problems

    def has(self, path: str) -> bool:
        return self._inside(path) is not None

    def names(self, folder: str) -> tuple[str, ...]:
        """File names in a sub-folder, in order."""
        inner = self.root / folder
        return tuple(sorted(entry.name for entry in inner.iterdir())) if inner.is_dir() else ()

    def yaml(self, path: str) -> Located | None:
        """A whole YAML file."""
        text = self.text(path)
        if text is None:
            return None
        try:
            document = parse(text)
        except NotYaml as error:
            self._report(path, error)
            return None
        return self._root_of(path, document)

    def agent_file(self, path: str) -> tuple[Located, AgentFile] | None:
        """An agent's settings, and the file they were read from."""
        text = self.text(path)
        if text is None:
            return None
        try:
            read = read_agent_file(text)
        except NotYaml as error:
            self._report(path, error)
            return None
        return self._root_of(path, read.settings), read

    def json(self, path: str) -> Any:
        """A decoded JSON file; None where it cannot be read."""
        text = self.text(path)
        if text is None:
            return None
        try:
            return json.loads(text, object_pairs_hook=_once_each, parse_constant=_no_such_number)
        except json.JSONDecodeError as error:
            self.problems.add(
                path, error.lineno, error.colno, f"not JSON: {error.msg}", "see that quotes and commas match"
            )
        except (ValueError, RecursionError) as error:
            self.problems.add(path, 1, 1, f"not JSON: {error}", "write it as strict JSON")
        return None

    def text(self, path: str) -> str | None:
        file = self._inside(path)
        if file is None:
            self.problems.add(path, 1, 1, "the file is missing", "add it inside the team's folder")
            return None
        try:
            with file.open("rb") as opened:
                data = opened.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            self.problems.add(path, 1, 1, f"cannot be read: {error.strerror}", "see to its permissions")
            return None
        if len(data) > MAX_FILE_BYTES:
            self.problems.add(
                path, 1, 1, f"has more than {MAX_FILE_BYTES} bytes", "move text that is not settings elsewhere"
            )
            return None
        try:
            return data.decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            before = error.object[: error.start].decode()
            line, column = line_and_column(before, len(before))
            self.problems.add(path, line, column, "not UTF-8", "save the file as UTF-8")
            return None

    def _inside(self, path: str) -> Path | None:
        """The file, if it is one and no link leads out of the folder."""
        file = (self.root / path).resolve()
        return file if file.is_relative_to(self.root) and file.is_file() else None

    def _root_of(self, path: str, document: Document) -> Located:
        for key, first in document.repeated:
            message = f"{key.value} is given twice"
            self.problems.add(path, key.line, key.column, message, f"the first is in line {first.line}; keep one")
        return document.root or Located(value={}, line=1, column=1)

    def _report(self, path: str, error: NotYaml) -> None:
        self.problems.add(path, error.line, error.column, error.message, error.hint)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    decoded = dict(pairs)
    if len(decoded) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)} is given twice")
    return decoded


def _no_such_number(word: str) -> Any:
    raise ValueError(f"{word} is not a number of JSON")
