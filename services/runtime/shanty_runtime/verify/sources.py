"""Where a run is audited from: the bus, or an archive of it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from shanty_protocol import FileVersion
from shanty_runtime.archive import EntryLine, FileLine, Head, Part, read_archive
from shanty_runtime.bus import Bus
from shanty_runtime.bus.jetstream import RawMessage
from shanty_runtime.errors import ArchiveError, WorkspaceError
from shanty_runtime.verify.auditor import Auditor
from shanty_runtime.verify.findings import Audit


async def audit_of_run(bus: Bus, run: str, *, contents: bool = False) -> Audit:
    """An audit of what the bus has of a run; with `contents` every version of every file is read and hashed."""
    auditor = Auditor(run)
    async for message in bus.journals.run_messages(run):
        auditor.take(message)
    async for message in bus.files.run_messages(run):
        version = auditor.take_file(message)
        if not contents or version is None:
            continue
        try:
            async for _ in bus.files.content(run, version):
                pass
        except WorkspaceError as error:
            auditor.damaged(message, version, str(error))
    return auditor.end()


def audit_of_archive(file: Path) -> tuple[Audit, ArchiveError | None]:
    """An audit of an archive, the contents that are in it included, and what is wrong with the file as such.

    Raises ArchiveError where it has not even a head.
    """
    auditor: Auditor | None = None
    contents: _Contents | None = None
    problem: ArchiveError | None = None
    try:
        for line in read_archive(file):
            match line:
                case Head():
                    auditor = Auditor(line.run)
                    contents = _Contents(auditor)
                case EntryLine() if auditor is not None:
                    auditor.take(line.message)
                case FileLine() if auditor is not None and contents is not None:
                    contents.end_one()
                    contents.expect(line.message, auditor.take_file(line.message))
                case Part() if contents is not None:
                    contents.take(line)
    except ArchiveError as error:
        problem = error
    if auditor is None or contents is None:
        raise problem or ArchiveError(str(file), 0, "it is empty")
    contents.end_one()
    return auditor.end(), problem


class _Contents:
    """The content that is being read, whose parts follow the version that names it first."""

    def __init__(self, auditor: Auditor) -> None:
        self._auditor = auditor
        self._of: tuple[RawMessage, FileVersion] | None = None
        self._digest: Any = None
        self._next_index = 0

    def expect(self, message: RawMessage, version: FileVersion | None) -> None:
        self._of = None if version is None else (message, version)
        self._digest, self._next_index = None, 0

    def take(self, part: Part) -> None:
        if self._of is None:
            return
        if self._digest is None:
            self._digest = hashlib.sha256()
        if part.digest != self._of[1].digest or part.index != self._next_index:
            self._digest.update(b"a part that is not in its place")
        self._digest.update(part.content)
        self._next_index += 1

    def end_one(self) -> None:
        if self._of is not None and self._digest is not None and self._digest.hexdigest() != self._of[1].digest:
            self._auditor.damaged(*self._of, "its content is not what its digest says")
        self._of = None
