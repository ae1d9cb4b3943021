"""Reading the keys of a mapping: each with its type and range, each wrong one reported where it stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from shanty_protocol import ProtocolError
from shanty_protocol.ids import HOST, checked
from shanty_protocol.zones import NOT_AGENTS
from shanty_runtime.team.positions import Located
from shanty_runtime.team.problems import Problems, described, nearest

Default = TypeVar("Default", bound=int | None)

RESERVED_NAMES = NOT_AGENTS | {HOST}
"""Addresses and users of the bus that are not agents of a team, and the agent that every team has which hires."""


class Fields:
    """The keys of one mapping in one file.

    `spellings` maps every accepted spelling to our name for it; of several, people are shown the last. Getters give
    their default where a key is missing or wrong; a wrong one is also a problem.
    """

    def __init__(self, problems: Problems, path: str, where: Located, spellings: Mapping[str, str]) -> None:
        self._problems = problems
        self._path = path
        self._where = where
        self._shown = as_shown(spellings)
        self._values: dict[str, tuple[str, Located]] = {}
        if not isinstance(where.value, dict):
            self.report(where, f"expected keys and values, got {described(where.value)}", "write `key: value` lines")
        for key, value in where.entries:
            self._take(key, value, spellings)

    def _take(self, key: Located, value: Located, spellings: Mapping[str, str]) -> None:
        if key.value not in spellings:
            listed = f"the keys are {', '.join(self._shown.values())}"
            near = nearest(key.value, spellings)
            self.report(key, f"unknown key {key.value}", ", ".join(part for part in (near, listed) if part))
            return
        name = spellings[key.value]
        if name in self._values:
            other = self._values[name][0]
            self.report(
                key, f"{key.value} and {other} are the same setting", f"keep one of them, such as {self._shown[name]}"
            )
            return
        self._values[name] = (key.value, value)

    def report(self, where: Located, message: str, hint: str = "") -> None:
        self._problems.add(self._path, where.line, where.column, message, hint)

    def require(self, name: str, hint: str) -> None:
        if name not in self._values and isinstance(self._where.value, dict):
            self.report(self._where, f"{self._shown[name]} is missing", hint)

    def located(self, name: str) -> Located | None:
        return self._values[name][1] if name in self._values else None

    def given(self) -> Iterable[tuple[str, str]]:
        """Our name and the written one of every known key that is there."""
        return [(name, written) for name, (written, _) in self._values.items()]

    def written(self, name: str) -> str:
        """A key as the file spells it; where it is not there, as people are shown it."""
        return self._values[name][0] if name in self._values else self._shown[name]

    def _wrong(self, name: str, expected: str, hint: str = "") -> None:
        written, value = self._values[name]
        self.report(value, f"{written}: expected {expected}, got {described(value.value)}", hint)

    def text(self, name: str, default: str = "") -> str:
        found = self.located(name)
        if found is None:
            return default
        if not isinstance(found.value, str):
            self._wrong(name, "text", "put it in quotes" if isinstance(found.value, int | float) else "")
            return default
        if not found.value.strip():
            self._wrong(name, "some text", "write some, or leave the key out")
            return default
        return found.value.strip()

    def choice(self, name: str, words: tuple[str, ...], default: str) -> str:
        found = self.located(name)
        if found is None:
            return default
        if found.value not in words:
            hint = nearest(str(found.value), words) or f"leave it out for {default}"
            self._wrong(name, f"one of {', '.join(words)}", hint)
            return default
        return str(found.value)

    def flag(self, name: str) -> bool:
        found = self.located(name)
        if found is None:
            return False
        if not isinstance(found.value, bool):
            self._wrong(name, "true or false", "write it without quotes")
            return False
        return found.value

    def whole(self, name: str, default: Default, *, low: int, high: int) -> int | Default:
        found = self.located(name)
        if found is None:
            return default
        if not isinstance(found.value, int) or isinstance(found.value, bool):
            self._wrong(name, "an integer", f"write a number from {low} to {high} without quotes")
            return default
        if not low <= found.value <= high:
            self._wrong(name, f"an integer from {low} to {high}", f"leave it out for {default}" if default else "")
            return default
        return found.value

    def seconds(self, name: str, default: float, *, high: float) -> float:
        found = self.located(name)
        if found is None:
            return default
        if not isinstance(found.value, int | float) or isinstance(found.value, bool):
            self._wrong(name, "a number of seconds", "write it without quotes and units, as 1800")
            return default
        if not 0 < found.value <= high:
            self._wrong(name, f"more than 0 and at most {high:.0f} seconds", f"leave it out for {default:.0f}")
            return default
        return float(found.value)

    def amount(self, name: str, unit: str, *, high: float) -> float | None:
        found = self.located(name)
        if found is None:
            return None
        if not isinstance(found.value, int | float) or isinstance(found.value, bool):
            self._wrong(name, f"a number of {unit}", "write it without quotes and units")
            return None
        if not 0 < found.value <= high:
            self._wrong(name, f"more than 0 and at most {high:.0f} {unit}")
            return None
        return float(found.value)

    def listed(self, name: str) -> tuple[Located, ...] | None:
        """The texts of a list; those that are not text are reported and left out. None where the key is missing."""
        found = self.located(name)
        if found is None:
            return None
        if not isinstance(found.value, list):
            self._wrong(name, "a list", "write it as [first, second]")
            return None
        for item in found.items:
            if not isinstance(item.value, str):
                self.report(
                    item, f"{self._values[name][0]}: expected text, got {described(item.value)}", "put it in quotes"
                )
        return tuple(item for item in found.items if isinstance(item.value, str))

    def identifier(self, where: Located) -> str | None:
        """A name that can be part of a subject, or None and a problem."""
        name = str(where.value)
        try:
            return checked("name", name)
        except ProtocolError:
            nearest_id = "-".join(part for part in _as_id(name).split("-") if part)
            hint = "use lower-case letters, digits and dashes" + (f", as in {nearest_id}" if nearest_id else "")
            self.report(where, f"{described(name)} is not a name of the form [a-z0-9-]+", hint)
            return None

    def agent_name(self, where: Located) -> str | None:
        name = self.identifier(where)
        if name in RESERVED_NAMES:
            reserved = ", ".join(sorted(RESERVED_NAMES))
            self.report(where, f"{name} is reserved", f"choose a name other than {reserved}, such as {name}-agent")
            return None
        return name


def _as_id(text: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in text.lower())[:120]


def both_spellings(names: Iterable[str]) -> dict[str, str]:
    """Each of our names, and the same in camel case: that is how the README and Claude Code's files write them."""
    spellings: dict[str, str] = {}
    for name in names:
        first, *others = name.split("_")
        spellings[name] = name
        spellings["".join([first, *(word.capitalize() for word in others)])] = name
    return spellings


def as_shown(spellings: Mapping[str, str]) -> dict[str, str]:
    """Each of our names, and the spelling of it that people are shown."""
    return {name: written for written, name in spellings.items()}
