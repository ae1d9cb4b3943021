"""A run as a file: what the bus has stored of it, line by line, to be audited, looked at and replayed without a bus.

    {"line":"head","version":1,"run":"0-7f3a","contents":true}
    {"line":"entry","subject":"shanty.0…","seq":17,"headers":{"Shanty-Kind":"…"},"data":"{…}"}
    {"line":"file","subject":"shanty.file.0…","seq":4,"headers":{…},"data":"{…}"}
    {"line":"part","digest":"9f86…","index":0,"base64":"…"}
    {"line":"end","entries":231,"files":12,"parts":3,"sha256":"…"}

One JSON object a line, gzipped. Entries come in the order of their stream; then each version of a file, followed by
the parts of its content where the file has contents and that content has not come before. `data` is the message as
it was stored; one that is not UTF-8 is in `base64` in its stead. `sha256` is that of all lines before the last one,
so that an archive which was cut short or changed is known for one. Fields may be added; another meaning is another
version. Neither writer nor reader holds more than a line.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

import msgspec

from shanty_protocol import ProtocolError, chain
from shanty_protocol.ids import checked_run
from shanty_protocol.streams import MAX_MESSAGE_BYTES
from shanty_runtime.bus import Bus
from shanty_runtime.bus.files import as_version
from shanty_runtime.bus.jetstream import RawMessage
from shanty_runtime.bus.journals import Stored, as_stored
from shanty_runtime.errors import ArchiveError

VERSION = 1
MAX_LINE_BYTES = 8 * MAX_MESSAGE_BYTES
"""The longest message, every character of it escaped, and its headers."""
SUFFIX = ".jsonl.gz"
_GZIPPED = b"\x1f\x8b"


class Head(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="head"):
    version: int = VERSION
    run: str
    contents: bool = False
    """Whether the contents of files are in it, and not only their digests."""


class _StoredLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    subject: str
    seq: int
    headers: dict[str, str]
    data: str = ""
    base64: str = ""

    @property
    def message(self) -> RawMessage:
        return RawMessage(self.subject, self.seq, _bytes_of(self.data, self.base64), self.headers)


class EntryLine(_StoredLine, frozen=True, kw_only=True, omit_defaults=True, tag_field="line", tag="entry"):
    """A message of the run's journals, as it is stored."""


class FileLine(_StoredLine, frozen=True, kw_only=True, omit_defaults=True, tag_field="line", tag="file"):
    """A version of a file of the run's workspace, as it is stored."""


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="line", tag="part"):
    """A part of a content."""

    digest: str
    index: int
    base64: str = ""

    @property
    def content(self) -> bytes:
        return _bytes_of("", self.base64)


class End(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="end"):
    entries: int
    files: int
    parts: int
    sha256: str


Line = Head | EntryLine | FileLine | Part | End
_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)
_encoder = msgspec.json.Encoder(order="deterministic")


class ArchiveWriter:
    """Writes beside the file and puts it in its place once it is whole; a file that is there is not overwritten."""

    def __init__(self, file: Path, run: str, *, contents: bool = False) -> None:
        self.file = file
        self._run, self._contents = run, contents
        self._beside = file.with_name(f".{file.name}.{os.getpid()}")
        self._counts = {"entry": 0, "file": 0, "part": 0}
        self._digest = hashlib.sha256()
        self.written: End
        """What it ends with, once it is whole."""
        self._raw: IO[bytes]
        self._gzip: gzip.GzipFile

    def __enter__(self) -> ArchiveWriter:
        if self.file.exists():
            raise ArchiveError(str(self.file), 0, "there is such a file already")
        try:
            self._raw = os.fdopen(os.open(self._beside, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb")
        except OSError as error:
            raise ArchiveError(str(self.file), 0, f"it cannot be written: {error.strerror}") from error
        # Neither time nor name: the same run gives the same file.
        self._gzip = gzip.GzipFile(filename="", mode="wb", fileobj=self._raw, mtime=0)
        self._write(Head(run=self._run, contents=self._contents))
        return self

    def entry(self, message: RawMessage) -> None:
        self._write(EntryLine(**_fields_of(message)), "entry")

    def version(self, message: RawMessage) -> None:
        self._write(FileLine(**_fields_of(message)), "file")

    def part(self, digest: str, index: int, content: bytes) -> None:
        self._write(Part(digest=digest, index=index, base64=base64.b64encode(content).decode()), "part")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                counts = self._counts
                end = End(
                    entries=counts["entry"],
                    files=counts["file"],
                    parts=counts["part"],
                    sha256=self._digest.hexdigest(),
                )
                self._write(end)
                self.written = end
                self._gzip.close()
                self._raw.flush()
                os.fsync(self._raw.fileno())
                os.link(self._beside, self.file)
        except FileExistsError:
            raise ArchiveError(str(self.file), 0, "there is such a file already") from None
        except OSError as failure:
            raise ArchiveError(str(self.file), 0, f"it cannot be written: {failure.strerror}") from failure
        finally:
            self._raw.close()
            self._beside.unlink(missing_ok=True)

    def _write(self, line: Line, counted: Literal["", "entry", "file", "part"] = "") -> None:
        data = _encoder.encode(line) + b"\n"
        self._digest.update(data)
        if counted:
            self._counts[counted] += 1
        try:
            self._gzip.write(data)
        except OSError as error:
            raise ArchiveError(str(self.file), 0, f"it cannot be written: {error.strerror}") from error


def read_archive(file: Path) -> Iterator[Head | EntryLine | FileLine | Part]:
    """The lines of an archive, the head first. Raises ArchiveError where it is none, or not as it was written; what
    came before that is what its writer wrote, as far as anybody can tell."""
    number, digest = 0, hashlib.sha256()
    counts = {"entry": 0, "file": 0, "part": 0}
    try:
        with gzip.open(file) as lines:
            while data := lines.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(data) > MAX_LINE_BYTES:
                    raise ArchiveError(str(file), number, f"a line of more than {MAX_LINE_BYTES} bytes")
                line = _line(file, number, data)
                if isinstance(line, End):
                    _check_end(file, number, line, End(**_counted(counts), sha256=digest.hexdigest()))
                    if lines.read(1):
                        raise ArchiveError(str(file), number + 1, "something follows its end")
                    return
                digest.update(data)
                match line:
                    case EntryLine():
                        counts["entry"] += 1
                    case FileLine():
                        counts["file"] += 1
                    case Part():
                        counts["part"] += 1
                yield line
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, gzip.BadGzipFile) and not is_archive(file):
            told = "it is no archive of a run: `shanty runs archive` writes one"
            raise ArchiveError(str(file), 0, told) from error
        raise ArchiveError(str(file), 0, f"it cannot be read: {error}") from error
    raise ArchiveError(str(file), number, "it has no end: it was cut short")


def is_archive(file: Path) -> bool:
    """Whether it is gzipped, as archives are. False as well where it cannot be read."""
    try:
        with file.open("rb") as content:
            return content.read(len(_GZIPPED)) == _GZIPPED
    except OSError:
        return False


def entries_to_go_by(file: Path) -> list[Stored]:
    """All entries of an archive, for somebody who acts on what they say. Raises ArchiveError that names the first one
    that is not as it was written, or that this version cannot read."""
    found: list[Stored] = []
    for number, line in enumerate(read_archive(file), 1):
        if not isinstance(line, EntryLine):
            continue
        message = line.message
        flaw = chain.flaw_of(message.subject, message.headers, message.data)
        if flaw not in (None, "unchained"):
            told = f"{message.subject} is not what was written; `shanty verify {file}` says more"
            raise ArchiveError(str(file), number, told)
        try:
            stored = as_stored(message)
            _ = stored.entry
        except ProtocolError as error:
            raise ArchiveError(str(file), number, f"{message.subject} cannot be read: {error}") from error
        found.append(stored)
    return found


async def write_archive(bus: Bus, run: str, file: Path, *, contents: bool = False) -> End:
    """Write all that is stored of a run. Raises ArchiveError, and leaves no file then."""
    with ArchiveWriter(file, run, contents=contents) as writer:
        async for message in bus.journals.run_messages(run):
            writer.entry(message)
        seen: set[str] = set()
        async for message in bus.files.run_messages(run):
            writer.version(message)
            version = as_version(message)
            if not contents or version is None or version.digest in seen:
                continue
            seen.add(version.digest)
            index = 0
            async for part in bus.files.content(run, version):
                writer.part(version.digest, index, part)
                index += 1
    return writer.written


def _line(file: Path, number: int, data: bytes) -> Line:
    try:
        line = _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ArchiveError(str(file), number, f"this is no line of an archive: {error}") from error
    if isinstance(line, EntryLine | FileLine | Part):
        try:
            _bytes_of("", line.base64)
        except ValueError as error:
            raise ArchiveError(str(file), number, f"what is in base64 is not: {error}") from error
    if isinstance(line, Head) is not (number == 1):
        raise ArchiveError(str(file), number, "an archive begins with its head, and has one")
    if isinstance(line, Head):
        if line.version != VERSION:
            raise ArchiveError(str(file), number, f"version {line.version} of the format; this reads {VERSION}")
        try:
            checked_run(line.run)
        except ProtocolError as error:
            raise ArchiveError(str(file), number, error.detail) from error
    return line


def _check_end(file: Path, number: int, said: End, found: End) -> None:
    if said != found:
        raise ArchiveError(str(file), number, "its lines are not those that were written: it has been changed")


def _counted(counts: dict[str, int]) -> dict[str, int]:
    return {"entries": counts["entry"], "files": counts["file"], "parts": counts["part"]}


def _fields_of(message: RawMessage) -> dict[str, Any]:
    fields = {"subject": message.subject, "seq": message.seq, "headers": message.headers}
    try:
        return {**fields, "data": message.data.decode()}
    except UnicodeDecodeError:
        return {**fields, "base64": base64.b64encode(message.data).decode()}


def _bytes_of(text: str, encoded: str) -> bytes:
    return base64.b64decode(encoded, validate=True) if encoded else text.encode()
