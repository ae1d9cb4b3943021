"""What a search finds, and in which order; what is shown of a document's versions."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shanty_protocol import DocumentAddress, DocumentRelease, DocumentVersion, ReleaseAddress
from shanty_protocol.memory import MAX_DOCUMENT_BYTES
from shanty_runtime.tools.memory import Reader, newest, newest_at
from shanty_runtime.tools.memory_index import MAX_SNIPPET_CHARACTERS, MemoryIndex, StoredFact

WRITER = Reader(run="0-one", thread="0-1")


@pytest.fixture
def index() -> Iterator[MemoryIndex]:
    made = MemoryIndex()
    yield made
    made.close()


def version(
    path: str, number: int, content: str, *, at_ms: int = 0, quarantined: bool = False, deleted: bool = False
) -> StoredFact:
    written = DocumentVersion(
        path=path,
        version=number,
        content=content,
        agent="logs",
        key=f"{path}.{number}",
        at_ms=at_ms,
        run=WRITER.run,
        thread=WRITER.thread,
        quarantined=quarantined,
        deleted=deleted,
    )
    return StoredFact(DocumentAddress("team", "logs", path, number), written, at_ms)


def release(path: str, number: int, *, at_ms: int = 0) -> StoredFact:
    fact = DocumentRelease(path=path, version=number, by="ann", at_ms=at_ms)
    return StoredFact(ReleaseAddress("team", path, number), fact, at_ms)


def found(index: MemoryIndex, query: str) -> list[tuple[str, int]]:
    return [(each.document.path, each.document.version) for each in index.search(query, 10)]


def test_the_document_that_says_most_of_it_comes_first(index: MemoryIndex) -> None:
    index.add(
        [
            version("a.md", 1, "The pool of the database is small."),
            version("b.md", 1, "The pool of connections of orders was exhausted after the deployment."),
            version("c.md", 1, "Nothing to do with it, but the pool is mentioned."),
            version("d.md", 1, "Quite another thing."),
        ]
    )
    assert found(index, "orders connections exhausted pool") == [("b.md", 1), ("a.md", 1), ("c.md", 1)]
    assert found(index, "nobody wrote this") == []


def test_a_word_in_the_path_counts_more_than_one_in_the_content(index: MemoryIndex) -> None:
    index.add(
        [version("notes.md", 1, "on payments and more"), version("runbooks/payments.md", 1, "restart it twice")]
    )
    assert found(index, "payments") == [("runbooks/payments.md", 1), ("notes.md", 1)]


@pytest.mark.parametrize("query", ["deploy", "DEPLOYS", "deployed", "café", "cafe", "conn_pool", "pool conn"])
def test_words_are_found_in_other_forms_of_themselves(index: MemoryIndex, query: str) -> None:
    index.add([version("a.md", 1, "Deploying Café: the conn_pool was cold."), version("b.md", 1, "Something else")])
    assert found(index, query) == [("a.md", 1)]


def test_a_snippet_shows_where_the_words_stand_and_stays_short(index: MemoryIndex) -> None:
    far = "filler " * 5_000
    index.add([version("a.md", 1, f"{far}the needle is here {far}"), version("b.md", 1, "needle " + "x" * 50_000)])
    snippets = {each.document.path: each.snippet for each in index.search("needle", 10)}
    assert "the needle is here" in snippets["a.md"]
    assert all(len(snippet) <= MAX_SNIPPET_CHARACTERS for snippet in snippets.values())


HOSTILE = [
    'AND OR NOT NEAR("a" "b", 5)',
    "path:needle content : needle {path content}: needle",
    '"unbalanced needle',
    '""" needle',
    "needle* ^needle -needle +needle",
    "(((needle",
    "needle; DROP TABLE pages; --",
    "needle\0needle",
    "\ud800 needle",
    "needle " * 100_000,
    " ".join(f"word{number}" for number in range(10_000)) + " needle",
]


@pytest.mark.parametrize("query", HOSTILE[:-1], ids=range(len(HOSTILE) - 1))
def test_what_means_something_to_the_search_engine_is_a_word_like_any_other(index: MemoryIndex, query: str) -> None:
    index.add([version("a.md", 1, "a needle"), version("b.md", 1, "hay")])
    assert found(index, query)[0] == ("a.md", 1)


@pytest.mark.parametrize("query", ["", " ", "*", '"', "'", "^", "()", "_", "- - -", "\ud800", "😀", HOSTILE[-1]])
def test_a_query_without_a_word_of_any_document_finds_nothing(index: MemoryIndex, query: str) -> None:
    index.add([version("a.md", 1, "a needle")])
    assert index.search(query, 10) == ()


@given(query=st.text(max_size=60) | st.text('"*^:-+(){}ANDORNT aeb', max_size=40))
@settings(deadline=None)
def test_any_text_is_a_query(query: str) -> None:
    index = MemoryIndex()
    try:
        index.add([version("a.md", 1, "a needle and NOT hay")])
        assert {each.document.path for each in index.search(query, 10)} <= {"a.md"}
    finally:
        index.close()


def test_a_document_with_a_zero_byte_is_found_by_what_follows_it(index: MemoryIndex) -> None:
    index.add([version("a.md", 1, "head\0needle")])
    assert found(index, "needle") == [("a.md", 1)]


def test_only_the_newest_version_is_found(index: MemoryIndex) -> None:
    index.add([version("a.md", 1, "the old word")])
    assert found(index, "old") == [("a.md", 1)]
    index.add([version("a.md", 2, "the new word")])
    assert (found(index, "old"), found(index, "new")) == ([], [("a.md", 2)])
    index.add([version("a.md", 3, "", deleted=True)])
    assert (found(index, "new"), index.documents()) == ([], ())
    index.add([version("a.md", 4, "back again")])
    assert found(index, "again") == [("a.md", 4)]


def test_what_is_in_quarantine_is_found_by_nobody_until_it_is_released(index: MemoryIndex) -> None:
    index.add([version("a.md", 1, "honest words"), version("a.md", 2, "poisoned words", quarantined=True)])
    assert (found(index, "poisoned"), found(index, "honest")) == ([], [("a.md", 1)])
    assert newest(index.history("a.md"), WRITER) == index.history("a.md")[1]
    for other in (Reader(run=WRITER.run, thread="0-2"), Reader(run="0-two", thread=WRITER.thread)):
        assert newest(index.history("a.md"), other) == index.history("a.md")[0]

    index.add([release("a.md", 2)])

    assert (found(index, "poisoned"), found(index, "honest")) == ([("a.md", 2)], [])
    assert index.history("a.md")[1].released_by == "ann"


def test_a_release_does_not_count_for_a_version_that_is_stored_after_it(index: MemoryIndex) -> None:
    index.add([version("a.md", 1, "one"), release("a.md", 2), version("a.md", 2, "two", quarantined=True)])
    assert found(index, "two") == []


def test_a_version_that_is_released_late_does_not_take_the_place_of_a_newer_one(index: MemoryIndex) -> None:
    index.add([version("a.md", 1, "one", quarantined=True), version("a.md", 2, "two"), release("a.md", 1)])
    assert (found(index, "one"), found(index, "two")) == ([], [("a.md", 2)])


def test_a_version_far_ahead_of_its_place_does_not_count_until_the_gap_is_filled(index: MemoryIndex) -> None:
    index.add([version("a.md", 1, "one"), version("a.md", 3, "three")])
    assert [each.version for each in index.history("a.md")] == [1]
    assert found(index, "three") == []
    index.add([version("a.md", 2, "two")])
    assert found(index, "three") == [("a.md", 3)]


def test_what_cannot_be_read_keeps_its_place_and_is_shown_to_nobody(index: MemoryIndex) -> None:
    broken = StoredFact(DocumentAddress("team", "logs", "a.md", 2), None, 5, "not readable")
    index.add([version("a.md", 1, "one"), broken, release("a.md", 2), version("a.md", 3, "three", quarantined=True)])
    assert [each.version for each in index.history("a.md")] == [1, 2, 3]
    assert index.history("a.md")[1].unreadable == "not readable"
    assert found(index, "one") == [("a.md", 1)]
    assert not index.history("a.md")[1].visible_to(Reader(run="", thread=""))


def test_the_past_is_what_everybody_saw_then(index: MemoryIndex) -> None:
    index.add(
        [
            version("a.md", 1, "one", at_ms=10),
            version("a.md", 2, "two", at_ms=20, quarantined=True),
            release("a.md", 2, at_ms=40),
            version("a.md", 3, "three", at_ms=50, quarantined=True),
        ]
    )
    history = index.history("a.md")
    seen = {at_ms: newest_at(history, at_ms) for at_ms in (9, 10, 39, 40, 60)}
    assert {at_ms: each and each.version for at_ms, each in seen.items()} == {9: None, 10: 1, 39: 1, 40: 2, 60: 2}


def test_contents_that_were_replaced_are_not_kept(index: MemoryIndex) -> None:
    index.add([version("a.md", number, "x" * MAX_DOCUMENT_BYTES) for number in range(1, 50)])
    assert sum(len(each.written.content) for each in index.history("a.md")) == 0
    assert {each.size_bytes for each in index.history("a.md")} == {MAX_DOCUMENT_BYTES}


def test_five_thousand_documents_are_searched_while_somebody_waits(index: MemoryIndex) -> None:
    chance = random.Random(7)
    words = [f"word{number}" for number in range(20_000)]
    facts = [
        version(f"notes/{number}.md", 1, " ".join([*chance.choices(words, k=200), "common"]))
        for number in range(5_000)
    ]
    facts[4_321] = version("notes/4321.md", 1, "the needle and common things")

    began_s = time.perf_counter()
    index.add(facts)
    built_s = time.perf_counter() - began_s
    began_s = time.perf_counter()
    assert found(index, "common needle")[0] == ("notes/4321.md", 1)
    searched_s = time.perf_counter() - began_s

    # Some ten times what it takes on two idle cores.
    assert built_s < 15
    assert searched_s < 0.3
