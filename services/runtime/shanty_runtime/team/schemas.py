"""JSON Schemas of an agent's input and output: inline, or a file in `schemas/`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema_rs

from shanty_runtime.team.folder import Folder
from shanty_runtime.team.positions import Located, NotYaml, parse
from shanty_runtime.team.problems import advice, described

FOLDER = "schemas"


def read_schema(folder: Folder, path: str, key: str, given: Located) -> dict[str, Any] | None:
    """The schema that a key of the file at `path` gives, checked; None and problems where it is wrong."""
    if isinstance(given.value, dict):
        return _checked(folder, path, given.value, given)
    if not isinstance(given.value, str):
        message = f"{key}: expected a JSON Schema or the path of one, got {described(given.value)}"
        folder.problems.add(path, given.line, given.column, message, f"write the schema out, or {FOLDER}/{key}.json")
        return None
    return _from_file(folder, path, given)


def _from_file(folder: Folder, path: str, given: Located) -> dict[str, Any] | None:
    there_are = [f"{FOLDER}/{name}" for name in folder.names(FOLDER) if name.endswith(".json")]
    # Membership in the listing is the check: no path of a front matter reaches the file system otherwise.
    if given.value not in there_are:
        message = f"schema file {described(given.value)} is missing"
        folder.problems.add(path, given.line, given.column, message, advice(given.value, there_are))
        return None
    schema = folder.json(given.value)
    if schema is None:
        return None
    if not isinstance(schema, dict):
        folder.problems.add(given.value, 1, 1, f"expected a JSON Schema, got {described(schema)}", "write an object")
        return None
    return _checked(folder, given.value, schema, _placed(folder, given.value, schema))


def _placed(folder: Folder, path: str, schema: dict[str, Any]) -> Located:
    """A decoded JSON file with its places, where it can also be read as YAML: nearly all JSON can."""
    try:
        return parse(folder.text(path) or "").root or _at_the_head(schema)
    except NotYaml:
        return _at_the_head(schema)


def _at_the_head(value: Any) -> Located:
    """A value that could not be placed: all of it counts as written at the head of its file."""
    items = tuple(map(_at_the_head, value)) if isinstance(value, list) else ()
    pairs = value.items() if isinstance(value, dict) else ()
    entries = tuple((_at_the_head(key), _at_the_head(inner)) for key, inner in pairs)
    return Located(value=value, line=1, column=1, items=items, entries=entries)


def _checked(folder: Folder, path: str, schema: dict[str, Any], where: Located) -> dict[str, Any] | None:
    found = list(_problems_of(schema, where))
    for place, message, hint in found:
        folder.problems.add(path, place.line, place.column, message, hint)
    return None if found else schema


def _problems_of(schema: dict[str, Any], where: Located) -> Iterator[tuple[Located, str, str]]:
    if schema.get("type", "object") != "object":
        kind = described(schema["type"])
        yield (
            where.at(["type"]),
            f"invalid JSON Schema: type must be object, got {kind}",
            "wrap it as a property of an object",
        )
        return
    for place in _foreign_references(where):
        message = f"invalid JSON Schema: {described(place.value)} is outside of this schema"
        yield place, message, "copy what it refers to into $defs and refer to #/$defs/name"
        return
    try:
        jsonschema_rs.meta.validate(schema)
        jsonschema_rs.validator_for(schema)
    except jsonschema_rs.ValidationError as error:
        place = where.at(list(error.instance_path))
        # The library's sentence for a wrong `type` lists alternatives of its own meta schema.
        wrong_type = error.instance_path[-1:] == ["type"]
        reason = f"{described(place.value)} is not a type" if wrong_type else error.message
        hint = advice(str(place.value), _TYPES) if wrong_type else "see json-schema.org for what each keyword takes"
        yield place, f"invalid JSON Schema: {reason}", hint
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        yield where, f"invalid JSON Schema: {error}", "see json-schema.org for what each keyword takes"


_INSIDE = {
    "$ref": ("#",),
    "$dynamicRef": ("#",),
    "$schema": ("https://json-schema.org/", "http://json-schema.org/"),
}
"""How a reference begins that needs no connection; the validator knows the published meta schemas by heart."""

_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")


def _foreign_references(where: Located) -> Iterator[Located]:
    """References to other documents: following them would open a connection."""
    for key, value in where.entries:
        inside = _INSIDE.get(key.value)
        if inside and isinstance(value.value, str) and not value.value.startswith(inside):
            yield value
        yield from _foreign_references(value)
    for item in where.items:
        yield from _foreign_references(item)
