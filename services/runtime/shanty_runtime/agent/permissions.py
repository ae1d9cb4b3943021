"""What becomes of a tool call: a word for every call, or a rule that looks at its arguments.

A rule is a list of conditions that all have to hold. Nothing in it is run: an argument that is not there, or is of
another type than what it is compared with, makes its condition not hold, and then `otherwise` says what happens.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

Word = Literal["allow", "ask", "deny"]
"""A call is made, a person decides on it first, or it is never made."""

Comparison = Literal["equals", "one_of", "at_most", "at_least", "less_than", "more_than"]

AMOUNTS = {
    "at_most": operator.le,
    "at_least": operator.ge,
    "less_than": operator.lt,
    "more_than": operator.gt,
}
DELEGATION = "delegate:"
"""Stands before the name of a specialist where a permission is about delegations to it."""


DELEGATES = frozenset({"delegate", "delegate_each"})


def permitted_as(name: str, arguments: Mapping[str, Any]) -> str:
    """The name that permissions know a call by, and what people allow for every later one."""
    return f"{DELEGATION}{arguments.get('specialist', '')}" if name in DELEGATES else name


class Condition(msgspec.Struct, frozen=True):
    """One argument is compared with one value."""

    argument: str
    """Its name; of a field further in, the names on the way with dots between them."""
    comparison: Comparison
    value: Any

    @property
    def text(self) -> str:
        said = self.comparison.replace("_", " ")
        verb = "" if self.comparison == "equals" else "is "
        return f"{self.argument} {verb}{said} {in_words(self.value)}"

    def holds(self, arguments: Mapping[str, Any]) -> bool:
        given = value_at(arguments, self.argument)
        if self.comparison == "equals":
            return _same(given, self.value)
        if self.comparison == "one_of":
            return any(_same(given, each) for each in self.value)
        return _is_number(given) and bool(AMOUNTS[self.comparison](given, self.value))


class Rule(msgspec.Struct, frozen=True):
    allow_if: tuple[Condition, ...]
    otherwise: Literal["ask", "deny"] = "ask"

    @property
    def text(self) -> str:
        return " and ".join(each.text for each in self.allow_if)


Permission = Word | Rule


class Ruling(msgspec.Struct, frozen=True):
    """What a permission says of one call."""

    word: Word
    rule: str = ""
    """The rule that says so, in words."""
    because: str = ""
    """The argument whose condition does not hold, and what it is."""


def ruling_on(permission: Permission | None, arguments: Mapping[str, Any]) -> Ruling:
    """A tool that nobody says anything about is allowed."""
    if not isinstance(permission, Rule):
        return Ruling(permission or "allow")
    for condition in permission.allow_if:
        if not condition.holds(arguments):
            given = in_words(value_at(arguments, condition.argument))
            return Ruling(permission.otherwise, permission.text, f"{condition.argument} is {given}")
    return Ruling("allow", permission.text)


def value_at(arguments: Any, path: str) -> Any:
    found = arguments
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def in_words(value: Any) -> str:
    if value is None:
        return "not given"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(in_words, value))
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else f"{text[:60]}…"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _same(given: Any, wanted: Any) -> bool:
    """`1` is not `true`: who may do a thing must not depend on what Python takes for equal."""
    if _is_number(given) and _is_number(wanted):
        return bool(given == wanted)
    return type(given) is type(wanted) and bool(given == wanted)
