"""Every exception of the runtime, in one tree.

    ShantyError
    ├── ConfigError                 a setting is missing or wrong
    ├── TeamError                   a team folder is wrong; carries every problem with file, line and column
    ├── BusError
    │   ├── BusUnavailable          nobody answered in time: try again, the outcome is unknown
    │   ├── BusRefused              the server said no, and will say no again
    │   │   └── PermissionDenied    this account may not do that
    │   ├── BusFull                 a stream or the disk is full: back-pressure, try again later
    │   ├── PayloadTooLarge         refused here, because the server would only hang up
    │   └── LayoutDrift             a stream or consumer on the server is not what this version needs
    ├── Fenced                      another worker has the thread now: stop, change nothing
    ├── JournalExpired              the beginning of a thread's journal is no longer stored
    ├── WorkspaceError              a path or an edit the workspace does not allow
    │   ├── FileMissing
    │   └── EditConflict            somebody else wrote a newer version first
    ├── ArchiveError                a file is no archive of a run, or not all of one
    ├── DocumentError               what the memory does not allow, or does not have
    │   ├── DocumentMissing
    │   └── DocumentConflict        somebody else wrote a newer version first
    ├── ToolError                   a tool says what went wrong, in words for the model
    │   └── OutcomeUnknown          the call was made, and nobody can tell what became of it
    └── ModelError                  a model call failed; `kind` says why

A message says what, where and how to mend it, and is built from the fields.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class ShantyError(Exception):
    """The root: catch it to catch everything the runtime raises on purpose."""


class ConfigError(ShantyError):
    """A setting is missing or wrong."""


class Problem(msgspec.Struct, frozen=True, order=True):
    """One thing that is wrong in a team's folder, and how to mend it."""

    path: str
    """Relative to the team's folder."""
    line: int
    """Counted from 1, as `column` is."""
    column: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        advice = f"; {self.hint}" if self.hint else ""
        return f"{self.path}:{self.line}:{self.column}: {self.message}{advice}"


class TeamError(ShantyError):
    """A team's folder is wrong. Carries every problem that was found, not only the first."""

    def __init__(self, folder: str, problems: tuple[Problem, ...]) -> None:
        self.folder, self.problems = folder, problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([f"the team in {folder} has {count}:", *map(str, problems)]))


class BusError(ShantyError):
    """Something about the bus."""


class BusUnavailable(BusError):
    """Nobody answered in time. The outcome of a write is unknown until its address is read back."""


class BusRefused(BusError):
    """The server refused, and would refuse again. `code` is the JetStream error code, 0 where there is none."""

    def __init__(self, what: str, code: int = 0, description: str = "") -> None:
        self.what, self.code, self.description = what, code, description
        detail = f": {description} ({code})" if code else f": {description}" if description else ""
        super().__init__(f"{what} was refused{detail}")


class PermissionDenied(BusRefused):
    """This account's permissions do not allow the subject."""


class BusFull(BusError):
    """A stream or the disk is full. Back-pressure: the same write succeeds once there is space."""

    def __init__(self, what: str, code: int, description: str) -> None:
        self.what, self.code, self.description = what, code, description
        limit = "with `shanty init-bus --max-bytes`" if code == 10077 else "in the server's configuration"
        super().__init__(
            f"{what} was refused because there is no space: {description} ({code}); take old runs off the bus, or raise the limit "
            f"{limit}"
        )


class PayloadTooLarge(BusError):
    """Caught before the write, because the server would only hang up."""

    def __init__(self, what: str, size_bytes: int, limit_bytes: int) -> None:
        self.what, self.size_bytes, self.limit_bytes = what, size_bytes, limit_bytes
        super().__init__(f"{what} has {size_bytes} bytes, the bus takes {limit_bytes}; pass it as a workspace file")


class LayoutDrift(BusError):
    """A stream, bucket or consumer on the server differs from what this version needs."""

    def __init__(self, name: str, differences: tuple[str, ...]) -> None:
        self.name, self.differences = name, differences
        super().__init__(f"{name} is not as this version needs it: {'; '.join(differences)}; run `shanty init-bus`")


class Fenced(ShantyError):
    """Another worker has this thread. Stop at once and leave the mail for it."""


class JournalExpired(ShantyError):
    """What a thread has done before was dropped for its age, so nobody can ever go on with it."""

    def __init__(self, journal: str, missing: str) -> None:
        self.journal, self.missing = journal, missing
        super().__init__(
            f"the journal of {journal} is not whole any more: {missing} is no longer stored. Entries are kept as "
            "long as the stream's max_age says"
        )


class WorkspaceError(ShantyError):
    """A path or an edit the workspace does not allow."""


class FileMissing(WorkspaceError):
    def __init__(self, path: str, version: int | None = None) -> None:
        self.path, self.version = path, version
        which = path if version is None else f"{path} at version {version}"
        super().__init__(f"{which} is not in the workspace; list_files shows what is")


class EditConflict(WorkspaceError):
    def __init__(self, path: str, expected: int, found: int, author: str) -> None:
        self.path, self.expected, self.found, self.author = path, expected, found, author
        super().__init__(
            f"{path} is at version {found}, written by {author}, not {expected}: read it again and repeat the edit"
        )


class ArchiveError(ShantyError):
    """A file is no archive of a run, or not all of one."""

    def __init__(self, file: str, line: int, reason: str) -> None:
        self.file, self.line, self.reason = file, line, reason
        super().__init__(f"{file}, line {line}: {reason}" if line else f"{file}: {reason}")


class DocumentError(ShantyError):
    """What the memory does not allow, or does not have, in words for the model."""


class DocumentMissing(DocumentError):
    def __init__(self, path: str, version: int | None = None) -> None:
        self.path, self.version = path, version
        which = path if version is None else f"{path} at version {version}"
        super().__init__(f"{which} is not in the memory; list_memory shows what is")


class DocumentConflict(DocumentError):
    def __init__(self, path: str, expected: int, found: int, author: str) -> None:
        self.path, self.expected, self.found, self.author = path, expected, found, author
        super().__init__(
            f"{path} is at version {found}, written by {author}, not {expected}: read it again and repeat the change"
        )


class ToolError(ShantyError):
    """Raise this in a tool: its sentence becomes the error result the model reads."""


class OutcomeUnknown(ToolError):
    """The call may have had its effect, and its answer was not heard: neither a success nor a failure."""


ModelFailure = Literal[
    "rate_limited", "overloaded", "transient", "spend_limit", "configuration", "too_large", "invalid"
]
"""Why a model call gave no reply.

    rate_limited   wait `retry_after_s`; not counted as an attempt
    overloaded     the provider is busy: back off
    transient      a connection or stream broke, or the provider failed: back off, a few times
    spend_limit    a spending cap was reached: never retried by itself
    configuration  key, model name or account are wrong: every call will fail until somebody mends it
    too_large      the request is larger than the model takes: it has to be made smaller first
    invalid        the request is wrong in some other way, or the reply cannot be read: not retried
"""


class ModelError(ShantyError):
    """A model call failed; `kind` says why, and with that whether to try again."""

    def __init__(self, message: str, *, kind: ModelFailure = "invalid", retry_after_s: float | None = None) -> None:
        self.kind: ModelFailure = kind
        self.retry_after_s = retry_after_s
        super().__init__(message)
