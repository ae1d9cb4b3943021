"""Documents that outlive runs: each version is a fact written once, and so is a person's release of one.

A document belongs to a scope, a team's name unless said otherwise; the scope and the writer are in the subject. A
version is the whole document. Nothing is changed or taken back: to delete a document or to go back to an older
version is to write a newer one.
"""

from __future__ import annotations

import msgspec

MAX_DOCUMENT_BYTES = 96 * 1024
"""Largest content, in UTF-8. Written as JSON it has at most six times as many bytes and still fits one message."""


class DocumentVersion(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="memory.version"
):
    """The fact that a document got a new version: stored once, at the version's own address."""

    path: str
    version: int
    """Counted from 1, without gaps: what stands beyond a gap does not count yet."""
    content: str
    agent: str
    key: str
    """The effect key of the write: the same write tried again is known by it."""
    at_ms: int
    run: str = ""
    """Empty where a person wrote it, outside any run."""
    thread: str = ""
    base_version: int = 0
    """The version this was made from; 0 where there was none."""
    restored_from: int = 0
    """The older version this one repeats; 0 where it was written anew."""
    quarantined: bool = False
    """The thread that wrote it had read untrusted content: nobody else sees this version until it is released."""
    deleted: bool = False
    """The document is gone as of this version; `content` is empty."""
    by: str = ""
    """The person who wrote it, where it was a person."""


class DocumentRelease(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="memory.release"
):
    """A person let a quarantined version out. It counts for a version that was stored before it."""

    path: str
    version: int
    by: str
    """The person."""
    at_ms: int


MemoryFact = DocumentVersion | DocumentRelease
