"""Documents that outlive runs, on the bus: each version a fact written once, a process's index of them on top.

Every read first brings the index up to the newest fact of the scope, as the server that cannot lag tells it. So what
one process has written is found by the next search of any other.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from datetime import datetime

import msgspec

from shanty_protocol import DocumentAddress, DocumentRelease, DocumentVersion, ProtocolError, ReleaseAddress, subjects
from shanty_protocol.codec import decode_memory, encode, message_headers
from shanty_protocol.ids import OPERATORS
from shanty_protocol.streams import MEMORY_STREAM
from shanty_runtime.bus import jetstream
from shanty_runtime.bus.connection import Connection
from shanty_runtime.bus.jetstream import RawMessage
from shanty_runtime.errors import DocumentConflict, DocumentError, DocumentMissing
from shanty_runtime.tools.memory import (
    ANYBODY,
    Document,
    Found,
    Reader,
    base_of,
    checked_content,
    newest,
    newest_at,
)
from shanty_runtime.tools.memory_index import MemoryIndex, StoredFact
from shanty_runtime.tools.workspace import checked_path

logger = logging.getLogger("shanty.bus")

MAX_DOCUMENTS = 5_000
"""Documents of one scope, deleted ones included: what every process that reads it has to index."""
PAGE_FACTS = 100
"""How many are taken into an index before other work has its turn."""
TIME_STAMP = "Nats-Time-Stamp"


class Documents:
    """A MemoryStore. Every call waits out an outage of the bus; cancel it to give up."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._scopes: dict[str, _Scope] = {}

    def stop(self) -> None:
        """Forget the indexes. They are built again when they are needed."""
        while self._scopes:
            self._scopes.popitem()[1].index.close()

    async def history(self, scope: str, path: str) -> tuple[Document, ...]:
        """Every version of a document, oldest first, without contents."""
        return (await self._index(scope)).history(path)

    async def content(self, scope: str, document: Document) -> str:
        """The text of a version."""
        subject = DocumentAddress(scope, document.written.agent, document.path, document.version).subject
        found = await self._connection.persist(
            f"reading {subject}", lambda: jetstream.get(self._connection, MEMORY_STREAM, subject)
        )
        if found is None:  # a replica may lag, the leader does not
            found = await self._last(subject)
        if found is None:
            raise DocumentMissing(document.path, document.version)
        stored = as_fact(found)
        return stored.fact.content if stored and isinstance(stored.fact, DocumentVersion) else ""

    async def documents(self, scope: str, prefix: str = "") -> tuple[Document, ...]:
        """The newest version of every document everybody sees, by path. No contents."""
        return (await self._index(scope)).documents(prefix)

    async def quarantined(self, scope: str, prefix: str = "") -> tuple[Document, ...]:
        """Every version that waits for a person, by path. No contents."""
        index = await self._index(scope)
        return tuple(
            each
            for path in index.paths
            if path.startswith(prefix)
            for each in index.history(path)
            if each.in_quarantine and not each.unreadable
        )

    async def search(self, scope: str, query: str, max_results: int) -> tuple[Found, ...]:
        """Documents everybody sees that have some of the words, the best first."""
        return (await self._index(scope)).search(query, max_results)

    async def commit(
        self,
        scope: str,
        path: str,
        content: str,
        *,
        base_version: int,
        agent: str,
        run: str,
        thread: str,
        key: str,
        quarantined: bool = False,
    ) -> DocumentVersion:
        """Make a new version of a document. Durable once this returns.

        The same write tried again (same key) returns the version it made the first time. Raises DocumentConflict, and
        makes no version, where this writer sees another version than `base_version`.
        """
        draft = DocumentVersion(
            path=checked_path(path),
            version=0,
            content=checked_content(path, content),
            agent=agent,
            run=run,
            thread=thread,
            key=key,
            at_ms=_now_ms(),
            base_version=base_version,
            quarantined=quarantined,
        )
        return await self._write(scope, draft)

    async def release(self, scope: str, path: str, version: int, *, by: str) -> Document:
        """Let a version out of quarantine, for a person. Doing it again changes nothing."""
        document = await self._version(scope, path, version)
        if document.unreadable:
            raise DocumentError(f"{path} at version {version} cannot be released: it is {document.unreadable}")
        if document.in_quarantine:
            address = ReleaseAddress(scope, path, version)
            release = DocumentRelease(path=path, version=version, by=by, at_ms=_now_ms())
            await jetstream.write_once(
                self._connection,
                MEMORY_STREAM,
                address.subject,
                address.subject,
                encode(release),
                message_headers(release),
            )
        return await self._version(scope, path, version)

    async def restore(
        self, scope: str, path: str, *, by: str, at_version: int | None = None, at_ms: int | None = None
    ) -> DocumentVersion:
        """Write a new version that is the same as an older one; nothing where everybody sees that already."""
        if (at_version is None) == (at_ms is None):
            raise DocumentError("a document is restored to a version or to a time: give one of them")
        if at_version is not None:
            wanted: Document | None = await self._version(scope, path, at_version)
            assert wanted is not None
            if not wanted.visible_to(ANYBODY):
                raise DocumentError(f"{path} at version {at_version} cannot be restored before it is released")
        else:
            wanted = newest_at(await self.history(scope, path), at_ms or 0)
        written, _ = await self._restore(scope, path, wanted, by)
        return written

    async def restore_all(self, scope: str, at_ms: int, *, by: str) -> tuple[DocumentVersion, ...]:
        """Restore every document to what everybody saw at a time: the versions that had to be written."""
        restored = []
        for path in (await self._index(scope)).paths:
            history = await self.history(scope, path)
            if newest(history) is not None:
                restored.append(await self._restore(scope, path, newest_at(history, at_ms), by))
        return tuple(written for written, is_new in restored if is_new)

    async def _restore(self, scope: str, path: str, wanted: Document | None, by: str) -> tuple[DocumentVersion, bool]:
        """What everybody sees of a document afterwards, and whether that had to be written."""
        seen = newest(await self.history(scope, path))
        if seen is None:
            raise DocumentMissing(path)
        gone = wanted is None or wanted.written.deleted
        content = "" if wanted is None or gone else await self.content(scope, wanted)
        if gone == seen.written.deleted and (gone or content == await self.content(scope, seen)):
            return seen.written, False
        draft = DocumentVersion(
            path=path,
            version=0,
            content=content,
            agent=OPERATORS,
            key=f"restore.{secrets.token_hex(8)}",
            at_ms=_now_ms(),
            base_version=base_of(seen),
            restored_from=0 if wanted is None else wanted.version,
            deleted=gone,
            by=by,
        )
        return await self._write(scope, draft), True

    async def _write(self, scope: str, draft: DocumentVersion) -> DocumentVersion:
        """Store a draft as the next version, whichever that is, while its writer sees what it was made from."""
        writer = Reader(run=draft.run, thread=draft.thread)
        while True:
            index = await self._index(scope)
            history = index.history(draft.path)
            for known in history:
                if known.written.key == draft.key:
                    return msgspec.structs.replace(known.written, content=await self.content(scope, known))
            _check_base(newest(history, writer), draft)
            if not history and index.count >= MAX_DOCUMENTS:
                raise DocumentError(f"the memory of {scope} has {MAX_DOCUMENTS} documents: rewrite one that is there")
            # Others may have written versions that this writer does not see: they keep their places.
            following = history[-1].version + 1 if history else 1
            version = msgspec.structs.replace(draft, version=following)
            place = DocumentAddress(scope, version.agent, version.path, version.version)
            standing = await jetstream.write_once(
                self._connection, MEMORY_STREAM, place.subject, place.guard, encode(version), message_headers(version)
            )
            if standing.data == encode(version):
                return version
            # Somebody was faster. Whether that is a conflict depends on whether this writer sees what they wrote.

    async def _version(self, scope: str, path: str, version: int) -> Document:
        for document in await self.history(scope, path):
            if document.version == version:
                return document
        raise DocumentMissing(path, version)

    async def _index(self, scope: str) -> MemoryIndex:
        """The index of a scope with everything that was stored before this call."""
        if scope not in self._scopes:
            self._scopes[scope] = _Scope()
        known = self._scopes[scope]
        filter_subject = subjects.memory_filter(scope)
        async with known.reading:
            await self._connection.persist(f"reading {filter_subject}", lambda: self._catch_up(known, filter_subject))
        return known.index

    async def _catch_up(self, known: _Scope, filter_subject: str) -> None:
        last = await self._last(filter_subject)
        more = last is not None and last.seq >= known.next_seq
        while more:
            page, more = await jetstream.get_batch(
                self._connection,
                MEMORY_STREAM,
                filter_subject,
                from_seq=known.next_seq,
                max_messages=PAGE_FACTS,
            )
            known.add(page)
        if last is not None and known.next_seq <= last.seq:
            raise jetstream.lagging(filter_subject)

    async def _last(self, filter_subject: str) -> RawMessage | None:
        return await self._connection.persist(
            f"reading {filter_subject}",
            lambda: jetstream.get_last_from_leader(self._connection, MEMORY_STREAM, filter_subject),
        )


class _Scope:
    """What this process knows of a scope."""

    def __init__(self) -> None:
        self.index = MemoryIndex()
        self.next_seq = 1
        self.reading = asyncio.Lock()

    def add(self, page: list[RawMessage]) -> None:
        self.index.add(fact for message in page if (fact := as_fact(message)) is not None)
        if page:
            self.next_seq = page[-1].seq + 1


def as_fact(message: RawMessage) -> StoredFact | None:
    """A stored fact; None for what stands at no address of a document.

    What contradicts its own subject is not believed: the server vouches for the author in the subject alone.
    """
    try:
        address = subjects.parse(message.subject)
    except ProtocolError as error:
        logger.warning("passed over in the memory: %s", error)
        return None
    assert isinstance(address, DocumentAddress | ReleaseAddress), "nothing else has a subject of this stream"
    stored_at_ms = _milliseconds(message.headers.get(TIME_STAMP, ""))
    try:
        fact = decode_memory(message.data, message.headers)
    except ProtocolError as error:
        logger.warning("%s cannot be read: %s", message.subject, error)
        return StoredFact(address, None, stored_at_ms, "not readable")
    match address, fact:
        case DocumentAddress(agent=agent), DocumentVersion() if fact.agent == agent:
            right = (fact.path, fact.version) == (address.path, address.version)
        case ReleaseAddress(), DocumentRelease():
            right = (fact.path, fact.version) == (address.path, address.version)
        case _:
            right = False
    if not right:
        logger.warning("%s says it is another document or writer than its subject", message.subject)
        return StoredFact(address, None, stored_at_ms, "not what its subject says")
    return StoredFact(address, fact, stored_at_ms)


def _check_base(seen: Document | None, draft: DocumentVersion) -> None:
    if base_of(seen) == draft.base_version:
        return
    if seen is None or seen.written.deleted:
        raise DocumentMissing(draft.path, draft.base_version)
    raise DocumentConflict(draft.path, draft.base_version, seen.version, seen.written.agent)


def _milliseconds(time_stamp: str) -> int:
    return int(datetime.fromisoformat(time_stamp).timestamp() * 1000) if time_stamp else 0


def _now_ms() -> int:
    return int(time.time() * 1000)
