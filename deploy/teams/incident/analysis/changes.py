"""What people changed: deploys, configuration, flags, rollbacks, and how each lies to the onset of trouble."""

from __future__ import annotations

from typing import Any

import msgspec

from .lexicon import change_type
from .mining import MAX_TEXT, Place
from .tables import TIME_NAME, Item, read_items
from .times import parse_time, written

SERVICE_KEYS = (
    "service",
    "app",
    "application",
    "component",
    "service_name",
    "target",
    "system",
    "project",
    "repo",
    "name",
    "what",
)
TYPE_KEYS = ("type", "kind", "change_type", "category", "action", "event", "operation")
TIME_KEYS = (
    "at",
    "time",
    "timestamp",
    "ts",
    "deployed_at",
    "applied_at",
    "started_at",
    "start",
    "when",
    "date",
    "finished_at",
)
TEXT_KEYS = (
    "description",
    "summary",
    "message",
    "title",
    "notes",
    "note",
    "change",
    "details",
    "comment",
    "reason",
    "diff",
)
VERSION_KEYS = ("version", "to_version", "new_version", "tag", "release", "to", "image", "revision", "commit", "sha")
AUTHOR_KEYS = ("by", "author", "user", "deployer", "owner", "who", "actor", "initiator")


class ChangeEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    at: str
    service: str
    type: str
    """deploy, config, rollback, infrastructure or other."""
    version: str = ""
    description: str = ""
    by: str = ""
    first: Place


class Aligned(msgspec.Struct, frozen=True, kw_only=True):
    """A change and how long before the onset it was; negative where it came after."""

    change: ChangeEvent
    before_onset_s: float
    remark: str


def read_changes(path: str, text: str, year: int = 1970) -> tuple[list[ChangeEvent], list[str]]:
    """The changes of a file in order of time, and what could not be read of it."""
    found, problems = [], []
    items = read_items(text)
    if not items and text.strip():
        problems.append(f"{path} holds no list of objects that can be read as JSON")
    for each in items:
        change = change_of(path, each, year)
        if change is None:
            problems.append(f"{path}:{each.line} has no time that can be read")
        else:
            found.append(change)
    return sorted(found, key=lambda change: change.at), problems[:10]


def change_of(path: str, item: Item, year: int) -> ChangeEvent | None:
    fields = {**nested(item.fields), **item.fields}
    at = moment_of(fields, year)
    if at is None:
        return None
    description, version = text_of(fields, TEXT_KEYS), text_of(fields, VERSION_KEYS)
    stated = change_type(text_of(fields, TYPE_KEYS))
    said = change_type(description)
    kind = stated if stated != "other" else said if said != "other" else "deploy" if version else "other"
    if kind == "deploy" and said == "rollback":
        kind = "rollback"
    return ChangeEvent(
        at=written(at),
        service=text_of(fields, SERVICE_KEYS),
        type=kind,
        version=version[:60],
        description=description[:MAX_TEXT],
        by=text_of(fields, AUTHOR_KEYS)[:60],
        first=Place(file=path, line=item.line, text=item.text[:MAX_TEXT]),
    )


def nested(fields: dict[str, Any]) -> dict[str, Any]:
    """What inner objects say, one level down."""
    inner: dict[str, Any] = {}
    for value in fields.values():
        if isinstance(value, dict):
            inner.update({key: each for key, each in value.items() if not isinstance(each, (dict, list))})
    return inner


def moment_of(fields: dict[str, Any], year: int) -> float | None:
    named = [key for key in fields if TIME_NAME.match(key)]
    for key in [*(key for key in TIME_KEYS if key in fields), *named]:
        at = parse_time(fields[key], year)
        if at is not None:
            return at
    return None


def text_of(fields: dict[str, Any], keys: tuple[str, ...]) -> str:
    for key in keys:
        value = fields.get(key)
        if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
            return ", ".join(value)
        if isinstance(value, str) and value.strip():
            return value.strip()
        if isinstance(value, (int, float)) and key in VERSION_KEYS:
            return str(value)
    return ""


def aligned(changes: list[ChangeEvent], onset_s: float, service: str = "") -> list[Aligned]:
    """Every change with its distance to the onset, the nearest before it first."""
    found = []
    for change in changes:
        gap = onset_s - (parse_time(change.at) or 0.0)
        own = bool(service) and service in change.service
        found.append(Aligned(change=change, before_onset_s=round(gap, 1), remark=remark(gap, own, change, service)))
    return sorted(found, key=lambda each: (each.before_onset_s < -60, abs(each.before_onset_s)))


def remark(gap_s: float, own: bool, change: ChangeEvent, service: str) -> str:
    whose = f"of {service}" if own else "of another service"
    if gap_s < -60:
        return (
            f"{change.type} {whose}, {-gap_s / 60:.0f} min after the onset: it cannot be the "
            "cause, it may be a remedy"
        )
    return f"{change.type} {whose}, {max(gap_s, 0) / 60:.1f} min before the onset"
