"""YAML as plain values that know where they are written.

The text is only composed into nodes, never constructed: there are no tags, no classes and no types but text, numbers,
true and false, null, lists and mappings with text keys. An alias counts as all that it stands for.
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

MAX_FILE_BYTES = 2**20
MAX_VALUES = 20_000
MAX_DEPTH = 100

_TAG = "tag:yaml.org,2002:"
_NUMBERS_AND_NAMES = {f"{_TAG}int", f"{_TAG}float", f"{_TAG}bool", f"{_TAG}null"}
_TEXT = {f"{_TAG}str", f"{_TAG}timestamp"}
_ADVICE = {
    "mapping values are not allowed here": "put text that contains `: ` in quotes, or begin it with `|`",
    "expected a single document in the stream": "keep one document in the file: remove the line `---`",
}


class Located(msgspec.Struct, frozen=True, kw_only=True):
    """A value and its place. Lines and columns are counted from 1."""

    value: Any
    line: int
    column: int
    items: tuple[Located, ...] = ()
    """Of a list."""
    entries: tuple[tuple[Located, Located], ...] = ()
    """Of a mapping: keys and values, in the order they are written."""

    def at(self, path: list[str | int]) -> Located:
        """The value some steps further in, or the nearest one around it."""
        found = self
        for step in path:
            inner = (
                next((value for key, value in found.entries if key.value == step), None)
                if isinstance(step, str)
                else found.items[step]
                if step < len(found.items)
                else None
            )
            if inner is None:
                return found
            found = inner
        return found


class Document(msgspec.Struct, frozen=True, kw_only=True):
    root: Located | None
    """None for an empty document."""
    repeated: tuple[tuple[Located, Located], ...] = ()
    """Keys that were given before in the same mapping, each with the one that counts: the first."""


class NotYaml(Exception):
    """The text cannot be read; says where and why."""

    def __init__(self, line: int, column: int, message: str, hint: str = "") -> None:
        self.line, self.column, self.message, self.hint = line, column, message, hint
        super().__init__(f"{line}:{column}: {message}")


def parse(text: str) -> Document:
    """Raises NotYaml at the first thing that cannot be read."""
    yaml = YAML(typ="safe", pure=True)
    reading = _Reading(yaml)
    try:
        node = yaml.compose(text)
        root = None if node is None else reading.value_of(node, 0)
        return Document(root=root, repeated=tuple(reading.repeated))
    except MarkedYAMLError as error:
        raise _explained(error) from error
    except ReaderError as error:
        line, column = line_and_column(text, error.position)
        code = f"U+{ord(text[error.position]):04X}"
        raise NotYaml(line, column, f"not YAML: character {code} is not allowed", "remove it") from error
    except YAMLError as error:
        raise NotYaml(1, 1, f"not YAML: {error}", "write plain keys and values") from error
    except RecursionError as error:
        raise NotYaml(1, 1, "nested too deeply", f"use at most {MAX_DEPTH} levels") from error


class _Reading:
    """One pass over a document's nodes."""

    def __init__(self, yaml: YAML) -> None:
        self._yaml = yaml
        self._values = 0
        self.repeated: list[tuple[Located, Located]] = []

    def value_of(self, node: Node, depth: int) -> Located:
        self._values += 1
        if self._values > MAX_VALUES:
            _refuse(node, f"more than {MAX_VALUES} values, aliases counted as what they stand for", "make it smaller")
        if depth > MAX_DEPTH:
            _refuse(node, "nested too deeply, or an alias contains itself", f"use at most {MAX_DEPTH} levels")
        match node:
            case ScalarNode():
                return _located(node, self._scalar(node))
            case SequenceNode() if node.tag == f"{_TAG}seq":
                items = tuple(self.value_of(item, depth + 1) for item in node.value)
                return _located(node, [item.value for item in items], items=items)
            case MappingNode() if node.tag == f"{_TAG}map":
                entries = self._without_repeated([self._entry(key, value, depth) for key, value in node.value])
                return _located(node, {key.value: value.value for key, value in entries}, entries=entries)
            case _:
                _refuse(node, f"tag {_tag_name(node)} is not allowed", "write plain values without tags")

    def _entry(self, key: Node, value: Node, depth: int) -> tuple[Located, Located]:
        if not isinstance(key, ScalarNode):
            _refuse(key, "a key is not plain text", "write keys as words")
        if key.tag == f"{_TAG}merge":
            _refuse(key, "merge keys (<<) are not supported", "write the keys out")
        # A key such as 200 or true is the text it is written as: JSON, where schemas live, knows no other keys.
        named, given = _located(key, _text(key)), self.value_of(value, depth + 1)
        # What is left blank has no place of its own; the parser gives it that of whatever comes next.
        blank = isinstance(value, ScalarNode) and value.value == "" and value.style is None
        return named, msgspec.structs.replace(given, line=named.line, column=named.column) if blank else given

    def _without_repeated(self, entries: list[tuple[Located, Located]]) -> tuple[tuple[Located, Located], ...]:
        first: dict[str, Located] = {}
        kept = []
        for key, value in entries:
            if key.value in first:
                self.repeated.append((key, first[key.value]))
            else:
                first[key.value] = key
                kept.append((key, value))
        return tuple(kept)

    def _scalar(self, node: ScalarNode) -> Any:
        if node.tag in _TEXT:
            return _text(node)
        if node.tag not in _NUMBERS_AND_NAMES:
            _refuse(node, f"tag {_tag_name(node)} is not allowed", "write plain values without tags")
        try:
            value = self._yaml.constructor.construct_object(node)
        except ValueError:
            _refuse(node, f"{node.value!r} is not {_tag_name(node)}", "write plain values without tags")
        if isinstance(value, float) and not math.isfinite(value):
            _refuse(node, f"{node.value} is not a number JSON can hold", "write a finite number")
        return value


def _located(
    node: Node,
    value: Any,
    *,
    items: tuple[Located, ...] = (),
    entries: tuple[tuple[Located, Located], ...] = (),
) -> Located:
    mark = node.start_mark
    return Located(value=value, line=mark.line + 1, column=mark.column + 1, items=items, entries=entries)


def _text(node: ScalarNode) -> str:
    if any("\ud800" <= letter <= "\udfff" for letter in node.value):
        _refuse(node, "text with an escape for half a character", "write the character itself")
    return str(node.value)


def _refuse(node: Node, message: str, hint: str) -> NoReturn:
    raise NotYaml(node.start_mark.line + 1, node.start_mark.column + 1, message, hint)


def _tag_name(node: Node) -> str:
    tag = str(node.tag)
    return f"!!{tag.removeprefix(_TAG)}" if tag.startswith(_TAG) else tag


def _explained(error: MarkedYAMLError) -> NotYaml:
    mark = error.problem_mark or error.context_mark
    line, column = (1, 1) if mark is None else (mark.line + 1, mark.column + 1)
    said = " ".join(part for part in (error.context, error.problem) if part)
    hint = next(
        (hint for words, hint in _ADVICE.items() if words in said), "see that quotes, brackets and indents match"
    )
    return NotYaml(line, column, f"not YAML: {said}", hint)


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """The place of a character, both counted from 1."""
    before = text[:offset]
    return before.count("\n") + 1, offset - before.rfind("\n")
