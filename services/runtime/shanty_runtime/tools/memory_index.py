"""A full-text index of one scope's documents, in the memory of one process.

It is built from the stored facts in the order they were stored, and what is stored later is added to it: the facts
are the truth, and losing an index costs nothing but the time to read them again. SQLite's FTS5 does the searching.
In its table stands what everybody sees; of all other versions only their writers and times are kept, and the
contents that may still come out of quarantine.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from shanty_protocol import DocumentAddress, DocumentRelease, DocumentVersion, MemoryFact, ReleaseAddress
from shanty_runtime.errors import ConfigError
from shanty_runtime.tools.memory import Document, Found, newest

MAX_QUERY_WORDS = 32
SNIPPET_WORDS = 32
MAX_SNIPPET_CHARACTERS = 600
PATH_WEIGHT = 4.0
"""How much more a word in a document's path counts than one in its content."""

_WORD = re.compile(r"\w+")


class StoredFact(NamedTuple):
    """A fact as it was found. `fact` is None where it cannot be read, for the reason in `unreadable`."""

    address: DocumentAddress | ReleaseAddress
    fact: MemoryFact | None
    stored_at_ms: int
    unreadable: str = ""


_TABLE = """\
CREATE VIRTUAL TABLE pages USING fts5(path, content, tokenize = 'porter unicode61 remove_diacritics 2')
"""


class MemoryIndex:
    """Documents by path, and a table of the words everybody sees. `close` may be called twice."""

    def __init__(self) -> None:
        self._versions: dict[str, dict[int, Document]] = {}
        self._shown: dict[str, Document] = {}
        self._rows: dict[str, int] = {}
        self._table = sqlite3.connect(":memory:")
        try:
            self._table.execute(_TABLE)
        except sqlite3.OperationalError as error:
            self._table.close()
            raise ConfigError(f"this Python's SQLite cannot search text: {error}; use one with FTS5") from error

    def add(self, facts: Iterable[StoredFact]) -> None:
        """Take in what was stored next, in the order it was stored."""
        changed: set[str] = set()
        for fact in facts:
            _take(self._versions.setdefault(fact.address.path, {}), fact)
            changed.add(fact.address.path)
        with self._table:  # one transaction: FTS5 puts its index in order at the end of each
            for path in changed:
                self._refresh(path)

    def history(self, path: str) -> tuple[Document, ...]:
        """Every version of a document, oldest first."""
        return in_order(self._versions.get(path, {}))

    @property
    def count(self) -> int:
        """Of all documents, also of those nobody sees."""
        return len(self._versions)

    @property
    def paths(self) -> tuple[str, ...]:
        """Of all documents, also of those nobody sees."""
        return tuple(sorted(self._versions))

    def documents(self, prefix: str = "") -> tuple[Document, ...]:
        """What everybody sees, by path."""
        paths = sorted(path for path in self._rows if path.startswith(prefix))
        return tuple(self._shown[path] for path in paths)

    def search(self, query: str, max_results: int) -> tuple[Found, ...]:
        """Documents with some of the words, the best first: those with rarer words, and with more of them."""
        asked = match_expression(query)
        if not asked:
            return ()
        rows = self._table.execute(
            "SELECT path, snippet(pages, 1, '', '', '…', ?), bm25(pages, ?, 1.0) AS badness FROM pages "
            "WHERE pages MATCH ? ORDER BY badness, path LIMIT ?",
            (SNIPPET_WORDS, PATH_WEIGHT, asked, max_results),
        )
        return tuple(
            Found(document=self._shown[path], snippet=snippet[:MAX_SNIPPET_CHARACTERS]) for path, snippet, _ in rows
        )

    def close(self) -> None:
        self._table.close()

    def _refresh(self, path: str) -> None:
        """Show what everybody sees of a document now, and keep no more contents than that may need later."""
        versions = self._versions[path]
        shown, before = newest(self.history(path)), self._shown.get(path)
        if shown is None:
            return
        if before is None or before.version != shown.version:
            self._write_row(shown)
        for number in range(before.version if before else min(versions), shown.version + 1):
            versions[number] = without_content(versions[number])
        self._shown[path] = versions[shown.version]

    def _write_row(self, document: Document) -> None:
        path, content = document.path, document.written.content
        if path in self._rows:
            self._table.execute("DELETE FROM pages WHERE rowid = ?", (self._rows.pop(path),))
        if not document.written.deleted:
            # SQLite takes a NUL for the end of a text.
            row = self._table.execute(
                "INSERT INTO pages(path, content) VALUES (?, ?)", (path, content.replace("\0", "\ufffd"))
            )
            assert row.lastrowid is not None
            self._rows[path] = row.lastrowid


def in_order(versions: Mapping[int, Document]) -> tuple[Document, ...]:
    """Oldest first, up to the first gap: what was written far ahead of its place does not count yet."""
    numbers = sorted(versions)
    if numbers and numbers[-1] - numbers[0] >= len(numbers):
        gap = next(place for place, number in enumerate(numbers) if number != numbers[0] + place)
        numbers = numbers[:gap]
    return tuple(versions[number] for number in numbers)


def without_content(document: Document) -> Document:
    return msgspec.structs.replace(document, written=msgspec.structs.replace(document.written, content=""))


def match_expression(query: str) -> str:
    """Any text as a question to FTS5: each of its words in quotes, so that none is taken for an operator."""
    words = dict.fromkeys(word.lower() for word in _WORD.findall(query))
    return " OR ".join(f'"{word}"' for word in list(words)[:MAX_QUERY_WORDS])


def _take(versions: dict[int, Document], stored: StoredFact) -> None:
    match stored.fact:
        case DocumentVersion() as written:
            versions[written.version] = Document(
                written=written, size_bytes=len(written.content.encode()), stored_at_ms=stored.stored_at_ms
            )
        case DocumentRelease() as release if (document := versions.get(release.version)) is not None:
            if not document.released_by:
                versions[release.version] = msgspec.structs.replace(
                    document, released_by=release.by, released_at_ms=stored.stored_at_ms
                )
        case None if isinstance(stored.address, DocumentAddress):
            # It has the place for good, so it is counted, and nobody is shown it.
            address = stored.address
            nothing = DocumentVersion(
                path=address.path,
                version=address.version,
                content="",
                agent=address.agent,
                key="",
                at_ms=stored.stored_at_ms,
            )
            versions[address.version] = Document(
                written=nothing, size_bytes=0, stored_at_ms=stored.stored_at_ms, unreadable=stored.unreadable
            )
        case _:
            pass  # a release of what is not there, or that cannot be read
