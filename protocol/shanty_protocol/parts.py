"""What messages are made of: briefs, replies, files, usage. Each field that may be added later has a default."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Status = Literal["ok", "partial", "failed", "refused", "cancelled", "budget_exhausted", "timed_out", "unreachable"]
"""How a delegation ended. Exactly one of these per delegation."""

Effort = Literal["low", "medium", "high"]


class FileRef(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a workspace file, passed instead of its content."""

    path: str
    version: int
    digest: str
    """SHA-256 of the content, in hexadecimal."""
    size_bytes: int


class FileVersion(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="file.version"
):
    """The fact that a file got a new version: stored once, at the version's own address."""

    path: str
    version: int
    digest: str
    size_bytes: int
    agent: str
    thread: str
    key: str
    """The effect key of the write: the same write tried again is known by it."""
    at_ms: int

    @property
    def ref(self) -> FileRef:
        return FileRef(path=self.path, version=self.version, digest=self.digest, size_bytes=self.size_bytes)


class Budget(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a thread may spend, the threads it opens included. None: not limited."""

    tokens: int | None = None
    """Read and written, from a cache or not."""
    cost_microusd: int | None = None
    model_calls: int | None = None
    tool_calls: int | None = None
    threads: int | None = None
    """How many may be opened."""
    wall_s: float | None = None
    """From the delegation on, whatever the thread waits for meanwhile."""


class Spent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a thread has spent since it was opened, the threads it opened included."""

    tokens: int = 0
    cost_microusd: int | None = 0
    """None where a price is not known."""
    model_calls: int = 0
    tool_calls: int = 0
    threads: int = 0


class Brief(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is asked of a thread. The thread sees this and its files, and nothing of its sender's conversation."""

    objective: str
    input: dict[str, Any] | None = None
    """Typed input; matches the specialist's input schema where it has one."""
    expected_output: str = ""
    guidance: str = ""
    boundaries: str = ""
    effort: Effort = "medium"
    files: tuple[str, ...] = ()
    """Workspace paths to start from."""
    label: str = ""
    """A few words for people who watch."""
    deadline_s: float | None = None
    budget: Budget | None = None
    """A grant out of what its sender may spend; what is left of it goes back with the reply."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to a delegation."""

    status: Status
    summary: str = ""
    result: dict[str, Any] | None = None
    """Typed result; matches the output schema where there is one."""
    files: tuple[FileRef, ...] = ()
    code: str = ""
    """Why it is not `ok`: one of the protocol's error codes."""


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens of one model call, or of many added up. Each token is counted in one of these alone."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
        )
