"""`permissions:` of a front matter or of team.yaml: which calls are made, asked about first, or never made.

    permissions:
      restart_host: ask
      read_mail: deny
      pay: {auto: {allowIf: {cents: {atMost: 10000}, currency: {oneOf: [EUR, CHF]}}, else: ask}}
      delegate: {payer: ask}

What an agent says of a tool goes before what its team says of it. A tool nobody says anything about is allowed.
`auto` decides by the arguments of the call: where all of `allowIf` holds it is made, and else it is asked about or
denied. `delegate` is about delegations to the specialists it names.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal, cast

import msgspec

from shanty_runtime.agent.permissions import DELEGATION, Comparison, Condition, Permission, Rule, Word
from shanty_runtime.team.fields import Fields, as_shown, both_spellings
from shanty_runtime.team.positions import Located
from shanty_runtime.team.problems import advice, described, nearest
from shanty_runtime.team.toolbox import BUILT_IN, CLAUDE_CODE, CONTROL_TOOLS, FIELD_TOOLS, MEMORY_TOOLS
from shanty_runtime.tools.base import Tool

WORDS = ("allow", "ask", "deny")
OTHERWISE = ("ask", "deny")
AUTO = "auto"
RULE_KEYS = {**both_spellings(("allow_if",)), "else": "else"}
COMPARISONS = both_spellings(("equals", "one_of", "at_most", "at_least", "less_than", "more_than"))
OF_A_SERVER = "__"
"""Stands between the name of an MCP server and that of its tool."""
AS_A_RULE = "write auto: {allowIf: {amount: {atMost: 100}}, else: ask}"


class NamedSpecialist(msgspec.Struct, frozen=True):
    """A specialist that permissions are about, to be checked once all are known."""

    fields: Fields
    key: Located


def read_permissions(
    fields: Fields,
    own: Mapping[str, Tool] | None,
    servers: Collection[str],
    named: list[NamedSpecialist],
) -> dict[str, Permission]:
    """What is said of each tool; what is wrong is reported and left out. `own` is None where nobody knows them.

    Specialists that are named are added to `named`, for `check_named`.
    """
    given = fields.located("permissions")
    if given is None:
        return {}
    if not isinstance(given.value, dict):
        message = f"permissions: expected tools and words, got {described(given.value)}"
        fields.report(given, message, "write permissions: {send_mail: ask}")
        return {}
    known = (*BUILT_IN, *MEMORY_TOOLS, *FIELD_TOOLS, *(own or ()))
    found: dict[str, Permission] = {}
    for key, value in given.entries:
        name = CLAUDE_CODE.get(key.value, key.value)
        if name == "delegate":
            found |= _of_delegations(fields, value, named)
        elif name in CONTROL_TOOLS:
            fields.report(
                key, f"{name} is a control tool", "leave it out: only tools that do something can be asked about"
            )
        elif own is not None and name not in known and name.partition(OF_A_SERVER)[0] not in servers:
            fields.report(key, f"permissions: there is no tool {described(key.value)}", advice(key.value, known))
        elif isinstance(value.value, dict):
            rule = _rule(fields, value, (own or {}).get(name))
            found |= {} if rule is None else {name: rule}
        elif (word := _word(fields, value)) is not None:
            found[name] = word
    return found


def check_named(named: Collection[NamedSpecialist], specialists: Collection[str]) -> None:
    for each in named:
        if each.key.value not in specialists:
            message = f"permissions: there is no specialist {described(each.key.value)}"
            each.fields.report(each.key, message, advice(each.key.value, specialists))


def _of_delegations(fields: Fields, given: Located, named: list[NamedSpecialist]) -> dict[str, Permission]:
    if not isinstance(given.value, dict):
        message = f"permissions: delegate: expected specialists and words, got {described(given.value)}"
        fields.report(given, message, "write delegate: {payer: ask}")
        return {}
    found: dict[str, Permission] = {}
    for key, value in given.entries:
        named.append(NamedSpecialist(fields, key))
        if (word := _word(fields, value)) is not None:
            found[DELEGATION + key.value] = word
    return found


def _word(fields: Fields, given: Located) -> Word | None:
    if given.value in WORDS:
        return cast(Word, given.value)
    message = f"permissions: expected one of {', '.join(WORDS)}, got {described(given.value)}"
    fields.report(given, message, AS_A_RULE if given.value == AUTO else nearest(str(given.value), WORDS))
    return None


# Rules


def _rule(fields: Fields, given: Located, tool: Tool | None) -> Rule | None:
    auto = next((value for key, value in given.entries if key.value == AUTO), None)
    if auto is None or len(given.entries) != 1 or not isinstance(auto.value, dict):
        fields.report(given, f"permissions: expected one of {', '.join(WORDS)}, or a rule", AS_A_RULE)
        return None
    parts: dict[str, Located] = {}
    for key, value in auto.entries:
        if key.value in RULE_KEYS:
            parts[RULE_KEYS[key.value]] = value
        else:
            fields.report(key, f"auto: unknown key {key.value}", _advice(key, RULE_KEYS))
    conditions = _conditions(fields, auto, parts.get("allow_if"), tool)
    otherwise = parts.get("else")
    if otherwise is not None and otherwise.value not in OTHERWISE:
        message = f"else: expected one of {', '.join(OTHERWISE)}, got {described(otherwise.value)}"
        fields.report(otherwise, message, nearest(str(otherwise.value), OTHERWISE) or "leave it out for ask")
        return None
    if conditions is None:
        return None
    return Rule(conditions, "ask" if otherwise is None else cast(Literal["ask", "deny"], otherwise.value))


def _conditions(
    fields: Fields, auto: Located, given: Located | None, tool: Tool | None
) -> tuple[Condition, ...] | None:
    """None where something is wrong: a rule of which a part is left out would allow what nobody meant."""
    if given is None or not isinstance(given.value, dict) or not given.entries:
        fields.report(given or auto, "auto: allowIf has to say of an argument what holds", AS_A_RULE)
        return None
    found: list[Condition] = []
    wrong = False
    for key, value in given.entries:
        wrong = not _is_argument(fields, key, tool) or wrong
        if not isinstance(value.value, dict) or not value.entries:
            message = f"{key.value}: expected a comparison, got {described(value.value)}"
            fields.report(value, message, f"write {key.value}: {{equals: {described(value.value)}}}")
            wrong = True
        for how, wanted in value.entries:
            condition = _condition(fields, key.value, how, wanted)
            if condition is None:
                wrong = True
            else:
                found.append(condition)
    return None if wrong else tuple(found)


def _condition(fields: Fields, argument: str, how: Located, wanted: Located) -> Condition | None:
    comparison = COMPARISONS.get(how.value)
    if comparison is None:
        fields.report(how, f"{argument}: unknown comparison {how.value}", _advice(how, COMPARISONS))
        return None
    value = wanted.value
    if comparison == "one_of":
        right, expected = isinstance(value, list) and bool(value) and all(map(_is_plain, value)), "a list of values"
    elif comparison == "equals":
        right, expected = _is_plain(value), "text, a number, true or false"
    else:
        right, expected = isinstance(value, int | float) and not isinstance(value, bool), "a number"
    if not right:
        fields.report(wanted, f"{how.value}: expected {expected}, got {described(value)}")
        return None
    return Condition(argument, cast(Comparison, comparison), tuple(value) if isinstance(value, list) else value)


def _advice(key: Located, spellings: Mapping[str, str]) -> str:
    """The nearest right word in either spelling, and all of them in the one that people are shown."""
    there_are = f"there are {', '.join(as_shown(spellings).values())}"
    return advice(key.value, spellings, there_are)


def _is_argument(fields: Fields, key: Located, tool: Tool | None) -> bool:
    """Whether a tool has an argument of that name, as far as anybody knows."""
    arguments = {} if tool is None else tool.input_schema.get("properties", {})
    if not arguments or key.value.partition(".")[0] in arguments:
        return True
    assert tool is not None, "what nobody knows has no arguments"
    fields.report(key, f"{tool.name} has no argument {described(key.value)}", advice(key.value, arguments))
    return False


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)
