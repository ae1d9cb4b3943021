"""Goals with fields in them: `Find the cause of {labels.alertname}`, filled in from a payload.

A field is a path of keys and places in lists, as in `alerts.0.labels.severity`. There is nothing else: no
expressions, no filters, nothing that is carried out. `{{` and `}}` stand for braces.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

MAX_SHOWN_CHARACTERS = 300
"""What a field may add to a goal; the whole payload is shown elsewhere."""

_PIECES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_PATH = re.compile(r"[A-Za-z0-9_@-]+(?:\.[A-Za-z0-9_@-]+)*")


class NotATemplate(ValueError):
    """Text that cannot be read as a template, and the character where that shows."""

    def __init__(self, offset: int, message: str) -> None:
        self.offset, self.message = offset, message
        super().__init__(message)


class Missing(ValueError):
    """A payload does not have a field."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"there is no {path} in it")


class Field(msgspec.Struct, frozen=True):
    path: str

    def of(self, payload: Any) -> Any:
        """What stands there. Raises Missing."""
        found = payload
        for key in self.path.split("."):
            match found:
                case dict() if key in found:
                    found = found[key]
                case list() if key.isdecimal() and int(key) < len(found):
                    found = found[int(key)]
                case _:
                    raise Missing(self.path)
        return found


class Template(msgspec.Struct, frozen=True):
    parts: tuple[str | Field, ...]

    @property
    def fields(self) -> tuple[Field, ...]:
        return tuple(part for part in self.parts if isinstance(part, Field))

    def text(self, payload: Any, *, quoted: bool) -> str:
        """The text with its fields filled in. `quoted`: each as JSON, so that a reader sees where it begins and ends.

        Raises Missing.
        """
        show = shown if quoted else plain
        return "".join(part if isinstance(part, str) else show(part.of(payload)) for part in self.parts)

    def value(self, payload: Any) -> Any:
        """What a field stands for, where that is all there is to the template; else its text. Raises Missing."""
        if len(self.parts) == 1 and isinstance(self.parts[0], Field):
            return self.parts[0].of(payload)
        return self.text(payload, quoted=False)


def parse_field(text: str) -> Field:
    """Raises NotATemplate."""
    if not _PATH.fullmatch(text):
        raise NotATemplate(0, f"{text!r} is not a field such as labels.severity or alerts.0.name")
    return Field(text)


def parse(text: str) -> Template:
    """Raises NotATemplate."""
    parts: list[str | Field] = []
    end = 0
    for found in _PIECES.finditer(text):
        _add(parts, text[end : found.start()])
        end = found.end()
        if found[0] in ("{{", "}}"):
            _add(parts, found[0][0])
        elif found[1] is None:
            raise NotATemplate(found.start(), f"a {found[0]} without its other half; write {found[0] * 2} for one")
        elif not _PATH.fullmatch(found[1].strip()):
            raise NotATemplate(found.start(), f"{found[0]} is not a field such as {{labels.severity}}")
        else:
            parts.append(Field(found[1].strip()))
    _add(parts, text[end:])
    return Template(tuple(parts))


def _add(parts: list[str | Field], text: str) -> None:
    if not text:
        return
    if parts and isinstance(parts[-1], str):
        parts[-1] += text
    else:
        parts.append(text)


def shown(value: Any, most_characters: int = MAX_SHOWN_CHARACTERS) -> str:
    """A value from outside as JSON on one line, cut where it is long, in which nothing looks like a tag of ours."""
    if isinstance(value, str) and len(value) > most_characters:
        value = f"{value[:most_characters]}…"
    text = msgspec.json.encode(value).decode()
    if len(text) > 2 * most_characters:
        text = f"{text[: 2 * most_characters]}… (cut)"
    return defused(text)


def defused(text: str) -> str:
    """JSON in which no tag can begin; to a reader of JSON it is the same."""
    return (
        text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").replace("\u0085", " ")
    )


def plain(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
