"""An archive is a run as it was stored, or it says that it is none."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import msgspec
import pytest

from shanty_protocol import Brief, DelegationSent, EntryAddress, FileAddress, FileVersion, codec
from shanty_runtime.archive import ArchiveWriter, EntryLine, FileLine, Head, Part
from shanty_runtime.bus.jetstream import RawMessage
from shanty_runtime.bus.journals import written
from shanty_runtime.errors import ArchiveError
from shanty_runtime.verify import audit_of_archive, read_archive

RUN = "0-r"
GOLDEN = Path(__file__).parents[3] / "protocol" / "golden" / "archive" / "v1.jsonl"


def order() -> RawMessage:
    entry = DelegationSent(at_ms=1_795_000_000_000, to_thread="0", brief=Brief(objective="Why did orders fail?"))
    made = written(EntryAddress("lead", RUN, "request-1", "cli", 0), entry)
    return RawMessage(made.subject, 17, made.data, made.headers)


def version(content: bytes, number: int = 1, path: str = "notes.md") -> tuple[RawMessage, FileVersion]:
    digest = hashlib.sha256(content).hexdigest()
    fact = FileVersion(
        path=path,
        version=number,
        digest=digest,
        size_bytes=len(content),
        agent="cli",
        thread="request-1",
        key=f"{RUN}.input",
        at_ms=1_795_000_000_000,
    )
    subject = FileAddress(RUN, "cli", path, number).subject
    return RawMessage(subject, number, codec.encode(fact), codec.message_headers(fact)), fact


def write(file: Path, *, content: bytes = b"hello") -> None:
    message, fact = version(content)
    with ArchiveWriter(file, RUN, contents=True) as writer:
        writer.entry(order())
        writer.entry(RawMessage("shanty.0.log.0-r.0.mallory.0", 18, b"\xff\x00", {}))
        writer.version(message)
        writer.part(fact.digest, 0, content)


def lines_of(file: Path) -> list[bytes]:
    return gzip.decompress(file.read_bytes()).splitlines(keepends=True)


def rewritten(file: Path, lines: list[bytes]) -> Path:
    file.write_bytes(gzip.compress(b"".join(lines)))
    return file


def test_what_is_written_is_read_byte_for_byte(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl.gz")
    head, entry, garbage, file, part = read_archive(tmp_path / "a.jsonl.gz")
    assert head == Head(run=RUN, contents=True)
    assert isinstance(entry, EntryLine) and entry.message == order()
    assert isinstance(garbage, EntryLine) and garbage.message.data == b"\xff\x00"
    assert isinstance(file, FileLine) and file.message == version(b"hello")[0]
    assert isinstance(part, Part) and part.content == b"hello"


def test_the_golden_archive_is_read_and_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.jsonl.gz")
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert b"".join(lines_of(tmp_path / "a.jsonl.gz")) == GOLDEN.read_bytes()


def test_fields_that_are_not_known_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl.gz")
    lines = lines_of(tmp_path / "a.jsonl.gz")
    lines[1] = msgspec.json.encode({**msgspec.json.decode(lines[1]), "colour": "blue"}) + b"\n"
    with pytest.raises(ArchiveError, match="line 6: its lines are not those that were written"):
        assert len(list(read_archive(rewritten(tmp_path / "a.jsonl.gz", lines)))) == 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: lines[:-1], "it has no end"),
        (lambda lines: lines[:2] + lines[3:], "not those that were written"),
        (lambda lines: [*lines[:-2], lines[-1]], "not those that were written"),
        (lambda lines: lines[1:], "line 1: an archive begins with its head"),
        (lambda lines: [lines[0], *lines], "line 2: an archive begins with its head"),
        (lambda lines: [*lines, lines[1]], "something follows its end"),
        (lambda lines: [lines[0], b'{"line":"entry"}\n', *lines[1:]], "line 2: this is no line of an archive"),
        (lambda lines: [lines[0], b"[" * 100_000 + b"\n", *lines[1:]], "line 2: this is no line of an archive"),
        (lambda lines: [lines[0].replace(b'"version":1', b'"version":2'), *lines[1:]], "version 2 of the format"),
        (lambda lines: [lines[0].replace(b"0-r", b"no run"), *lines[1:]], "run is not of the form"),
        (lambda lines: [lines[0], b'{"line":"part","digest":"a","index":0,"base64":"?"}\n'], "base64"),
        (lambda lines: [b"{" + b" " * 8_000_000], "a line of more than"),
        (lambda lines: [], "it has no end"),
    ],
)
def test_a_file_that_is_cut_or_changed_says_so(change: object, said: str, tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl.gz")
    assert callable(change)
    file = rewritten(tmp_path / "a.jsonl.gz", change(lines_of(tmp_path / "a.jsonl.gz")))
    with pytest.raises(ArchiveError, match=said):
        list(read_archive(file))


WHOLE = gzip.compress(b"x" * 1_000)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"", "it has no end", id="empty"),
        pytest.param(b"not gzip", "it is no archive of a run", id="not gzip"),
        pytest.param(WHOLE[:-12], "it cannot be read", id="cut off"),
        pytest.param(WHOLE[:-8] + bytes(8), "it cannot be read", id="changed"),
    ],
)
def test_a_file_that_is_no_archive_says_so(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(content)
    with pytest.raises(ArchiveError, match=said):
        list(read_archive(tmp_path / "a.jsonl.gz"))


def test_a_file_that_is_there_is_left_alone_and_a_broken_off_archive_leaves_none(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl.gz"
    file.write_bytes(b"mine")
    with pytest.raises(ArchiveError, match="there is such a file already"):
        write(file)
    assert file.read_bytes() == b"mine"
    with pytest.raises(KeyError), ArchiveWriter(tmp_path / "b.jsonl.gz", RUN):
        raise KeyError
    with pytest.raises(ArchiveError, match="cannot be written"):
        write(tmp_path / "nowhere" / "c.jsonl.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl.gz"]


def test_a_content_that_is_not_what_its_digest_says_is_named(tmp_path: Path) -> None:
    message, fact = version(b"hello")
    with ArchiveWriter(tmp_path / "a.jsonl.gz", RUN, contents=True) as writer:
        writer.entry(order())
        writer.version(message)
        writer.part(fact.digest, 0, b"hallo")
    audit, problem = audit_of_archive(tmp_path / "a.jsonl.gz")
    assert problem is None
    assert [(each.subject, each.rule) for each in audit.findings] == [(message.subject, "file")]
