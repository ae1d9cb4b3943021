"""A team's memory, for people and for programs: which document is meant, and what a version says of itself."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from shanty_cli.exits import UsageError
from shanty_cli.text import at, one_line, size
from shanty_protocol import DocumentVersion, ProtocolError
from shanty_protocol.ids import checked
from shanty_runtime.errors import DocumentMissing
from shanty_runtime.team import load_team
from shanty_runtime.tools.memory import Document, newest


def scope_of(team: str) -> str:
    """The name of a team, given as it is or by its folder."""
    if Path(team).is_dir():
        return load_team(Path(team)).name
    try:
        return checked("team", team)
    except ProtocolError as error:
        raise UsageError(f"{team!r} is neither a folder nor the name of a team") from error


def milliseconds(at: str) -> int:
    """A time as people write it, in milliseconds since 1970. Raises UsageError."""
    try:
        moment = datetime.fromisoformat(at)
    except ValueError as error:
        raise UsageError(f"--at {at!r} is not a time; write it as 2026-11-20T14:00:00Z") from error
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return int(aware.timestamp() * 1000)


def row(document: Document) -> dict[str, Any]:
    """A version for programs. Fields are only ever added."""
    written = document.written
    return {
        "path": document.path,
        "version": document.version,
        "size_bytes": document.size_bytes,
        "author": written.agent,
        "by": written.by,
        "run": written.run,
        "thread": written.thread,
        "stored_at": at(document.stored_at_ms),
        "base_version": written.base_version,
        "restored_from": written.restored_from,
        "state": state(document),
        "released_by": document.released_by,
        "released_at": at(document.released_at_ms),
    }


def state(document: Document) -> str:
    if document.unreadable:
        return "unreadable"
    if document.in_quarantine:
        return "quarantined"
    return "deleted" if document.written.deleted else "released" if document.released_by else "ok"


def table(documents: Iterable[Document]) -> Table:
    """Versions for people."""
    shown = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("path", "version", "size", "written by", "in run", "at", "state"):
        shown.add_column(column, overflow="fold")
    for each in documents:
        written = each.written
        writer = f"{written.agent} {written.by or written.thread}"
        origin = f" (version {written.restored_from} again)" if written.restored_from else ""
        released = f" by {each.released_by}" if each.released_by else ""
        cells = (
            each.path,
            str(each.version),
            size(each.size_bytes),
            writer,
            written.run,
            at(each.stored_at_ms),
            f"{state(each)}{released}{origin}",
        )
        shown.add_row(*(Text(one_line(cell)) for cell in cells))
    return shown


def chosen_version(history: Iterable[Document], path: str, version: int | None) -> Document:
    """The version that was asked for, or the one everybody sees. Raises DocumentMissing."""
    versions = tuple(history)
    chosen = newest(versions) if version is None else next((e for e in versions if e.version == version), None)
    if chosen is None or (version is None and chosen.written.deleted):
        raise DocumentMissing(path, version)
    return chosen


def restored_row(version: DocumentVersion) -> dict[str, Any]:
    fields = ("path", "version", "restored_from", "deleted", "by")
    return {field: getattr(version, field) for field in fields}


def restored_line(version: DocumentVersion) -> str:
    what = "deleted" if version.deleted else f"version {version.restored_from or version.version} again"
    return f"{one_line(version.path)} is at version {version.version}: {what}"
