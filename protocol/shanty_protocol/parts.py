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


class Criterion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing a deliverable is judged by."""

    name: str
    description: str = ""


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a grader says of one criterion."""

    name: str
    met: bool
    reason: str = ""


Verdict = Literal["satisfied", "needs_revision", "ungraded"]
"""`ungraded`: nobody could judge it."""


class Grade(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a deliverable that was put to a grader."""

    verdict: Verdict
    round: int
    """How many deliverables of that goal were judged, this one among them."""
    rounds: int
    """How many may be."""
    findings: tuple[Finding, ...] = ()
    """One for each criterion, in their order; none where it was not judged."""
    reason: str = ""
    """Why it was not judged."""


class Occurrence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What made a trigger start a run."""

    trigger: str
    key: str
    """The same key starts no second run: the time of a schedule, or what its sender calls a message."""
    due_at_ms: int | None = None
    """Of a schedule: the time it was for."""
    subject: str = ""
    """Of a message: what it was sent to."""
    seq: int | None = None
    """Of a message: its place in the stream of the team's triggers."""
    untrusted: bool = False
    """The brief has words in it that somebody outside has chosen."""


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
    rubric: tuple[Criterion, ...] = ()
    """Of a run: what its deliverable is judged by, in place of what its team says."""


class HiredSpecialist(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A specialist that a lead has made up for a run: whoever hosts it plays it by this alone."""

    name: str
    role: str
    """What it is for, in a sentence."""
    instructions: str
    """Its prompt."""
    tools: tuple[str, ...] = ()
    model: str = ""
    """Empty: the one its host has."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to a delegation."""

    status: Status
    summary: str = ""
    result: dict[str, Any] | None = None
    """Typed result; matches the output schema where there is one."""
    files: tuple[FileRef, ...] = ()
    code: str = ""
    """Why it is not `ok`: one of the protocol's error codes."""
    grade: Grade | None = None
    """Where it was put to a grader, what the last one said."""


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
