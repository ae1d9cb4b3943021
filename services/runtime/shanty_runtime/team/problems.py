"""Collecting what is wrong: reading goes on after a problem, so that one look shows them all."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from typing import Any

from shanty_runtime.errors import Problem


class Problems:
    """Everything found wrong in one folder so far."""

    def __init__(self) -> None:
        self._found: set[Problem] = set()

    def add(self, path: str, line: int, column: int, message: str, hint: str = "") -> None:
        self._found.add(Problem(path, line, column, message, hint))

    def in_order(self) -> tuple[Problem, ...]:
        """team.yaml first, then by file and place."""
        return tuple(sorted(self._found, key=lambda problem: (problem.path != "team.yaml", problem)))


def nearest(word: str, words: Iterable[str]) -> str:
    """The right word somebody probably meant, as a question; empty where none is near."""
    by_lower_case = {candidate.lower(): candidate for candidate in words}
    close = difflib.get_close_matches(word.lower(), by_lower_case, n=1)
    return f"did you mean {by_lower_case[close[0]]}?" if close else ""


def advice(word: str, words: Iterable[str], otherwise: str = "") -> str:
    """The nearest right word, and all of them."""
    words = list(words)
    listed = otherwise or (f"there are {', '.join(words)}" if words else "there are none")
    return ", ".join(part for part in (nearest(word, words), listed) if part)


def described(value: Any) -> str:
    """A value as the reader of a message wrote it, short."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}…"
