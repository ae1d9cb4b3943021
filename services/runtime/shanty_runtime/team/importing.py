"""The Python files of a team's folder, imported as a package of their own.

The folder becomes a package under a name that is used once, so that its files import each other relatively
(`from .analysis.templates import TemplateMiner`), two teams never meet, and a folder that has changed can be loaded
again. Nothing is put on `sys.path`, nothing is written into the folder, and no file outside it is imported by name.
An `__init__.py` of the folder itself, which type checkers like to have, is not run.
"""

from __future__ import annotations

import importlib
import itertools
import sys
import traceback
from collections.abc import Sequence
from importlib.machinery import FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

import msgspec

PREFIX = "shanty_team_"

_numbers = itertools.count(1)


class ImportProblem(Exception):
    """A file could not be imported. The place is the last one inside the folder."""

    def __init__(self, file: Path, line: int, column: int, message: str, hint: str) -> None:
        self.file, self.line, self.column, self.message, self.hint = file, line, column, message, hint
        super().__init__(f"{file}:{line}:{column}: {message}")


class FreshSource(SourceFileLoader):
    """Compiles what the file says now: a cached compilation may be of an older file of the same second and size."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class TeamFinder:
    """Finds the modules of the packages that were made here, and no others."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if path is None or not name.startswith(PREFIX):
            return None
        for folder in path:
            spec = FileFinder(folder, (FreshSource, [".py"])).find_spec(name, target)
            if spec is not None:
                return spec
        return None


class TeamPackage(msgspec.Struct, frozen=True):
    """One loading of a folder."""

    folder: Path
    name: str

    @classmethod
    def of(cls, folder: Path) -> TeamPackage:
        if TeamFinder not in sys.meta_path:
            sys.meta_path.insert(0, TeamFinder)
        package = cls(folder, f"{PREFIX}{next(_numbers)}")
        module = ModuleType(package.name, f"The team in {folder}.")
        module.__path__ = [str(folder)]
        sys.modules[package.name] = module
        return package

    def load(self, path: str) -> ModuleType:
        """Import a file by its place in the folder, such as `agents/price.py`. Raises ImportProblem."""
        module = ".".join([self.name, *Path(path).with_suffix("").parts])
        try:
            return importlib.import_module(module)
        # A file of the folder may raise anything while it is run, and even leave.
        except (Exception, SystemExit) as error:
            raise self._explained(path, error) from error

    def forget(self) -> None:
        """Undo the loading, where the folder turned out to be wrong."""
        for name in [name for name in sys.modules if name == self.name or name.startswith(f"{self.name}.")]:
            del sys.modules[name]

    def made(self, value: object) -> bool:
        """Whether a function or class was written in this folder."""
        module = str(getattr(value, "__module__", ""))
        return module.startswith(f"{self.name}.")

    def _explained(self, path: str, error: BaseException) -> ImportProblem:
        file, line, column = self._place(path, error)
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        message = f"cannot be imported: {type(error).__name__}: {reason.replace(self.name, self.folder.name)}"
        return ImportProblem(file, line, column, message, self._hint(file, error))

    def _place(self, path: str, error: BaseException) -> tuple[Path, int, int]:
        if isinstance(error, SyntaxError) and error.filename:
            return Path(error.filename), error.lineno or 1, max(error.offset or 1, 1)
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if Path(frame.filename).is_relative_to(self.folder):
                return Path(frame.filename), frame.lineno or 1, (frame.colno or 0) + 1
        return self.folder / path, 1, 1

    def _hint(self, file: Path, error: BaseException) -> str:
        if isinstance(error, ModuleNotFoundError) and error.name:
            first = error.name.split(".")[0]
            if (self.folder / first).is_dir() or (self.folder / f"{first}.py").is_file():
                dots = "." * len(file.relative_to(self.folder).parts) if file.is_relative_to(self.folder) else "."
                return f"inside a team's folder import relatively: from {dots}{error.name} import …"
            if not error.name.startswith(self.name):
                return f"install the package that holds {first}, or put the module into the folder"
        return "mend the file; it is run when the team is loaded"
