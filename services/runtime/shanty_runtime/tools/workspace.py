"""The run's shared files: versioned, with their authors, and never edited over somebody else's head.

`FileStore` is what stores them (the bus does). `Workspace` is what tools and handlers use: one run's files, seen
and written in one agent's name.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing
from typing import Protocol

from shanty_protocol import FileVersion
from shanty_protocol.subjects import MAX_PATH_BYTES
from shanty_runtime.errors import EditConflict, FileMissing, WorkspaceError

MAX_READ_BYTES = 8 * 2**20
"""Most that `read` takes into memory; larger files are read by `lines` or `content`."""
MAX_LINE_BYTES = 2**20
"""A longer line is handed over in parts of about this size, all under its number, so that memory stays bounded."""


class FileStore(Protocol):
    """Versions and contents of files, kept for good."""

    async def latest(self, run: str, path: str) -> FileVersion | None:
        """The newest version of a file."""

    async def versions(self, run: str, path: str | None = None) -> tuple[FileVersion, ...]:
        """Every version of one file, or of all files of a run, in the order they were stored."""

    def content(self, run: str, version: FileVersion) -> AsyncIterator[bytes]:
        """The bytes of a version, part by part. Raises WorkspaceError where they do not match its digest."""

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
        """Store a content and make it version `base_version + 1`.

        Durable once this returns. The same write tried again (same key) returns the version it made the first time.
        Raises EditConflict, and makes no version, where somebody else has made that version already; FileMissing
        where `base_version` was never made.
        """


class Workspace:
    """One run's files, in one agent's name. `key` marks its writes, so that a retried one is known."""

    def __init__(self, store: FileStore, run: str, *, agent: str, thread: str, key: str) -> None:
        self.store = store
        self.run = run
        self.agent = agent
        self.thread = thread
        self.key = key
        self._writes = 0

    async def files(self, prefix: str = "") -> tuple[FileVersion, ...]:
        """The newest version of every file whose path begins with `prefix`, by path."""
        newest: dict[str, FileVersion] = {}
        for version in await self.store.versions(self.run):
            if version.path.startswith(prefix):
                known = newest.get(version.path)
                newest[version.path] = version if known is None or known.version < version.version else known
        return tuple(newest[path] for path in sorted(newest))

    async def stat(self, path: str, version: int | None = None) -> FileVersion:
        """What is known of a file. Raises FileMissing."""
        path = checked_path(path)
        if version is None:
            found = await self.store.latest(self.run, path)
        else:
            history = await self.store.versions(self.run, path)
            found = next((each for each in history if each.version == version), None)
        if found is None:
            raise FileMissing(path, version)
        return found

    async def history(self, path: str) -> tuple[FileVersion, ...]:
        """Every version of a file, oldest first. Raises FileMissing."""
        path = checked_path(path)
        versions = await self.store.versions(self.run, path)
        if not versions:
            raise FileMissing(path)
        return tuple(sorted(versions, key=lambda version: version.version))

    async def read(self, path: str, version: int | None = None) -> bytes:
        """The whole content. Raises WorkspaceError for more than MAX_READ_BYTES: use `lines` or `content`."""
        found = await self.stat(path, version)
        if found.size_bytes > MAX_READ_BYTES:
            raise WorkspaceError(
                f"{found.path} has {found.size_bytes} bytes, more than the {MAX_READ_BYTES} that are read at once; "
                "read a part of it"
            )
        return b"".join([part async for part in self.store.content(self.run, found)])

    async def content(self, path: str, version: int | None = None) -> AsyncGenerator[bytes, None]:
        """The content, part by part, in bounded memory."""
        parts = self.store.content(self.run, await self.stat(path, version))
        try:
            async for part in parts:
                yield part
        finally:
            # A store that reads ahead stops now, and not when the garbage collector comes by.
            if isinstance(parts, AsyncGenerator):
                await parts.aclose()

    async def lines(self, path: str, version: int | None = None) -> AsyncGenerator[tuple[int, str], None]:
        """Numbered lines, from 1, without their ends, in bounded memory. Bytes that are not UTF-8 are replaced."""
        number, rest = 1, b""
        async with aclosing(self.content(path, version)) as parts:
            async for part in parts:
                *whole, rest = (rest + part).split(b"\n")
                for line in whole:
                    yield number, line.decode(errors="replace").removesuffix("\r")
                    number += 1
                if len(rest) > MAX_LINE_BYTES:
                    yield number, rest.decode(errors="replace")
                    rest = b""
        if rest:
            yield number, rest.decode(errors="replace").removesuffix("\r")

    async def write(self, path: str, content: bytes | str, *, base_version: int = 0) -> FileVersion:
        """Make a new version of a file.

        `base_version` is the version the change was made from; 0 makes a new file. Raises EditConflict where the
        file has moved on, and changes nothing then. A second write under the same key is known by its order.
        """
        path = checked_path(path)
        self._writes += 1
        key = self.key if self._writes == 1 else f"{self.key}.{self._writes}"
        data = content.encode() if isinstance(content, str) else content
        return await self.store.commit(
            self.run, path, one_part(data), base_version=base_version, agent=self.agent, thread=self.thread, key=key
        )


async def one_part(data: bytes) -> AsyncIterator[bytes]:
    yield data


def checked_path(path: str) -> str:
    """A path inside the workspace, or WorkspaceError. No path reaches a file system: these rules keep it so."""
    parts = path.split("/")
    reason = (
        "is empty"
        if not path
        else "is absolute"
        if path.startswith("/")
        else "leads upwards by a '..' part"
        if ".." in parts
        else "has an empty or '.' part"
        if "" in parts or "." in parts
        else "has a character that is not allowed"
        if "\\" in path or any(ord(letter) < 32 or ord(letter) == 127 for letter in path)
        else "is not valid Unicode"
        if any(0xD800 <= ord(letter) <= 0xDFFF for letter in path)
        else f"is longer than {MAX_PATH_BYTES} bytes"
        if len(path.encode(errors="replace")) > MAX_PATH_BYTES
        else ""
    )
    if reason:
        raise WorkspaceError(f"the path {path[:80]!r} {reason}; give one such as reports/memo.md")
    return path


__all__ = ["EditConflict", "FileStore", "Workspace", "checked_path", "one_part"]
