"""Workspace files on the bus: contents in parts under their digest, versions as facts that are written once.

A version is stored only after all parts of its content, so what is named can be read. A content that is there
already is not stored again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import tempfile
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from typing import IO

import msgspec

from shanty_protocol import ChunkAddress, FileAddress, FileVersion, ProtocolError, subjects
from shanty_protocol.codec import decode_file_version, encode, message_headers
from shanty_protocol.ids import lane_of
from shanty_protocol.streams import CHUNK_BYTES, file_stream
from shanty_runtime.bus import jetstream
from shanty_runtime.bus.connection import Connection
from shanty_runtime.bus.jetstream import EXPECT_SEQ, RawMessage, Taken
from shanty_runtime.errors import EditConflict, FileMissing, WorkspaceError
from shanty_runtime.telemetry import metrics

logger = logging.getLogger("shanty.bus")

CHUNKS_IN_FLIGHT = 8
SPOOL_BYTES = 4 * CHUNK_BYTES
"""Most of a content that is kept in memory before its digest is known; the rest goes to a temporary file."""


class Files:
    """A FileStore. Every call waits out an outage of the bus; cancel it to give up."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def latest(self, run: str, path: str) -> FileVersion | None:
        """The newest version of a file, from the server that cannot lag."""
        found = await self._last(run, subjects.versions_filter(run, path))
        if found is None or (version := as_version(found)) is not None:
            return None if found is None else version
        return max(await self.versions(run, path), key=lambda version: version.version, default=None)

    async def versions(self, run: str, path: str | None = None) -> tuple[FileVersion, ...]:
        """Every version of one file, or of all files of a run, in the order they were stored."""
        filter_subject = subjects.versions_filter(run, path)
        newest = await self._last(run, filter_subject)
        if newest is None:
            return ()
        return await self._connection.persist(
            f"reading {filter_subject}", lambda: self._versions(run, filter_subject, newest.seq)
        )

    async def run_messages(self, run: str) -> AsyncIterator[RawMessage]:
        """Every version of every file of a run as it is stored, readable or not: for archives."""
        stream, filter_subject = file_stream(lane_of(run)), subjects.versions_filter(run)
        async for message in jetstream.read_on(self._connection, stream, filter_subject):
            yield msgspec.structs.replace(message, headers=jetstream.authored(message.headers))

    async def content(self, run: str, version: FileVersion) -> AsyncGenerator[bytes, None]:
        """The bytes of a version, part by part. Raises WorkspaceError where they do not match its digest."""
        digest, size_bytes = hashlib.sha256(), 0
        count = -(-version.size_bytes // CHUNK_BYTES)
        coming: deque[asyncio.Task[bytes]] = deque()
        try:
            for index in range(count):
                while len(coming) < CHUNKS_IN_FLIGHT and (ahead := index + len(coming)) < count:
                    coming.append(asyncio.create_task(self._read_chunk(run, version, ahead)))
                part = await coming.popleft()
                digest.update(part)
                size_bytes += len(part)
                yield part
        finally:
            await _cancel(coming)
        if size_bytes != version.size_bytes or digest.hexdigest() != version.digest:
            raise WorkspaceError(f"the stored content of {version.path} at version {version.version} is damaged")

    async def commit(
        self,
        run: str,
        path: str,
        content: AsyncIterable[bytes],
        *,
        base_version: int,
        agent: str,
        thread: str,
        key: str,
    ) -> FileVersion:
        """Store a content and make it version `base_version + 1`. Durable once this returns.

        The same write tried again (same key) returns the version it made the first time. Raises EditConflict, and
        makes no version, where somebody else has made that version already.
        """
        known = await self.versions(run, path)
        for version in known:
            if version.key == key:
                return version
        newest = max(known, key=lambda version: version.version, default=None)
        if newest is not None and newest.version > base_version:
            raise EditConflict(path, base_version, newest.version, newest.agent)
        if base_version > (newest.version if newest else 0):
            raise FileMissing(path, base_version)
        with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
            digest, size_bytes = await _spool(content, spool)
            await self._store_chunks(run, agent, digest, spool)
        version = FileVersion(
            path=path,
            version=base_version + 1,
            digest=digest,
            size_bytes=size_bytes,
            agent=agent,
            thread=thread,
            key=key,
            at_ms=int(time.time() * 1000),
        )
        return await self._store_version(run, version)

    async def _store_version(self, run: str, version: FileVersion) -> FileVersion:
        place = FileAddress(run, version.agent, version.path, version.version)
        found = await jetstream.write_once(
            self._connection,
            file_stream(lane_of(run)),
            place.subject,
            place.guard,
            encode(version),
            message_headers(version),
        )
        standing = as_version(found)
        if standing is not None and standing.key == version.key:
            metrics.message_stored(place)
            return standing
        newest = await self.latest(run, version.path)
        if newest is None or newest.version < version.version:  # what has the place is not a version
            raise WorkspaceError(f"version {version.version} of {version.path} is taken by something unreadable")
        raise EditConflict(version.path, version.version - 1, newest.version, newest.agent)

    async def _store_chunks(self, run: str, agent: str, digest: str, spool: IO[bytes]) -> None:
        spool.seek(0)
        under_way: deque[asyncio.Task[None]] = deque()
        try:
            index = 0
            while part := spool.read(CHUNK_BYTES):
                if len(under_way) == CHUNKS_IN_FLIGHT:
                    await under_way.popleft()
                address = ChunkAddress(run, agent, digest, index)
                under_way.append(asyncio.create_task(self._store_chunk(address, part)))
                index += 1
            while under_way:
                await under_way.popleft()
        finally:
            await _cancel(under_way)

    async def _store_chunk(self, address: ChunkAddress, part: bytes) -> None:
        subject = address.subject

        async def attempt() -> None:
            try:
                await jetstream.publish(self._connection, subject, part, {EXPECT_SEQ: "0"})
                metrics.message_stored(address)
            except Taken:
                pass  # the digest is part of the subject, so what is there is the same

        await self._connection.persist(f"writing {subject}", attempt)

    async def _read_chunk(self, run: str, version: FileVersion, index: int) -> bytes:
        subject = ChunkAddress(run, version.agent, version.digest, index).subject
        stream = file_stream(lane_of(run))
        found = await self._connection.persist(
            f"reading {subject}", lambda: jetstream.get(self._connection, stream, subject)
        )
        if found is None:  # a replica may lag, the leader does not
            found = await self._last(run, subject)
        if found is None:
            raise WorkspaceError(f"part {index} of {version.path} at version {version.version} is missing")
        return found.data

    async def _versions(self, run: str, filter_subject: str, newest_seq: int) -> tuple[FileVersion, ...]:
        stream = file_stream(lane_of(run))
        found = [message async for message in jetstream.read_on(self._connection, stream, filter_subject)]
        if not found or found[-1].seq < newest_seq:
            raise jetstream.lagging(filter_subject)
        return tuple(version for message in found if (version := as_version(message)) is not None)

    async def _last(self, run: str, filter_subject: str) -> RawMessage | None:
        stream = file_stream(lane_of(run))
        return await self._connection.persist(
            f"reading {filter_subject}",
            lambda: jetstream.get_last_from_leader(self._connection, stream, filter_subject),
        )


def as_version(message: RawMessage) -> FileVersion | None:
    """A stored version. None for what contradicts its subject: the server vouches for the author in that alone."""
    try:
        address = subjects.parse(message.subject)
        version = decode_file_version(message.data, message.headers)
    except ProtocolError as error:
        logger.warning("%s is not a version of a file: %s", message.subject, error)
        return None
    if not isinstance(address, FileAddress) or (address.agent, address.path, address.version) != (
        version.agent,
        version.path,
        version.version,
    ):
        logger.warning("%s says it is another file or writer than its subject", message.subject)
        return None
    return version


async def _spool(content: AsyncIterable[bytes], spool: IO[bytes]) -> tuple[str, int]:
    """Take a content in; its digest and size. Only then it is known under which subjects it goes."""
    digest, size_bytes = hashlib.sha256(), 0
    async for part in content:
        digest.update(part)
        size_bytes += len(part)
        spool.write(part)
    return digest.hexdigest(), size_bytes


async def _cancel(tasks: deque[asyncio.Task[bytes]] | deque[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
