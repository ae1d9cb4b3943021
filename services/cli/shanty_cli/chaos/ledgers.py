"""What happens outside the bus, in files that every process appends to: effects, and model calls that were paid for.

A line is there or not, whoever is killed: each is one write to a file that is locked.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

FOLDER_VARIABLE = "SHANTY_CHAOS_FOLDER"


class ModelCall(msgspec.Struct, frozen=True, kw_only=True):
    run: str
    agent: str
    turn: int
    at_ms: int
    """When it began."""


class Ledgers:
    def __init__(self, folder: Path) -> None:
        self._effects = folder / "effects.txt"
        self._model_calls = folder / "model-calls.txt"

    @classmethod
    def here(cls) -> Ledgers:
        """Those of the storm this process is in."""
        return cls(Path(os.environ[FOLDER_VARIABLE]))

    def effect(self, key: str, what: str) -> None:
        with _locked(self._effects) as file:
            file.write(f"{key} {what}\n")

    def effect_once(self, key: str, what: str) -> None:
        with _locked(self._effects) as file:
            file.seek(0)
            if not any(line.startswith(f"{key} ") for line in file):
                file.write(f"{key} {what}\n")

    def has_effect(self, key: str) -> bool:
        return any(found == key for found, _ in self.effects())

    def model_call(self, run: str, agent: str, turn: int) -> None:
        with _locked(self._model_calls) as file:
            file.write(f"{run} {agent} {turn} {time.time_ns() // 1_000_000}\n")

    def effects(self) -> list[tuple[str, str]]:
        """Every effect that happened, as its key and what it was."""
        return [(key, what) for key, _, what in (line.partition(" ") for line in _lines(self._effects))]

    def model_calls(self) -> list[ModelCall]:
        split = (line.split(" ") for line in _lines(self._model_calls))
        return [
            ModelCall(run=run, agent=agent, turn=int(turn), at_ms=int(at_ms)) for run, agent, turn, at_ms in split
        ]


@contextmanager
def _locked(path: Path) -> Iterator[IO[str]]:
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
