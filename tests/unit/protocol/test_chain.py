"""The chain of a journal, as other languages have to make it: golden values, and that no byte may change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from shanty_protocol import chain
from shanty_protocol.headers import CHAIN

GOLDEN = Path(__file__).parents[3] / "protocol" / "golden" / "chain" / "v1.json"


class Example(msgspec.Struct, frozen=True):
    """An entry as it is stored, and what it is chained to."""

    subject: str
    headers: dict[str, str]
    body: str
    own: str


EXAMPLES = msgspec.json.decode(GOLDEN.read_bytes(), type=list[Example])
SEALED = next(each for each in EXAMPLES if "traceparent" in each.headers)


def test_the_golden_digests_are_what_the_code_makes_and_each_names_the_one_before_it() -> None:
    before = chain.NOTHING_BEFORE
    for example in EXAMPLES:
        made = chain.digest_of_entry(before, example.subject, example.headers, example.body.encode())
        assert made == example.own == chain.own_of(before, example.subject, example.headers, example.body.encode())
        flaw = chain.flaw_of(example.subject, example.headers, example.body.encode())
        assert flaw == (None if CHAIN in example.headers else "unchained")
        link = chain.link_of(example.headers)
        assert link is None or link.before == before
        before = example.own
    assert [CHAIN in each.headers for each in EXAMPLES] == [True, False, True, True]


@given(st.data())
def test_any_changed_byte_of_an_entry_is_a_flaw_of_it(data: st.DataObject) -> None:
    part = data.draw(st.sampled_from(["subject", "body", *SEALED.headers]))
    changed: dict[str, Any] = {"subject": SEALED.subject, "body": SEALED.body, **SEALED.headers}
    changed[part] = one_other_byte(changed[part], data)
    subject, body = changed.pop("subject"), changed.pop("body")
    assert chain.flaw_of(subject, changed, body.encode()) not in (None, "unchained")


@given(st.data())
def test_a_header_that_is_renamed_is_a_flaw(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(SEALED.headers)))
    headers = {key: value for key, value in SEALED.headers.items() if key != name}
    headers[one_other_byte(name, data)] = SEALED.headers[name]
    flaw = chain.flaw_of(SEALED.subject, headers, SEALED.body.encode())
    assert flaw == "misnamed" if name == CHAIN else flaw in ("altered", "trace_altered")


@given(st.data())
def test_a_chain_header_that_was_drawn_into_the_line_before_it_is_a_flaw(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(SEALED.headers.keys() - {CHAIN, "traceparent"})))
    headers = {key: value for key, value in SEALED.headers.items() if key != CHAIN}
    headers[name] = f"{headers[name]}\v\n{CHAIN}: {SEALED.headers[CHAIN]}"
    assert chain.flaw_of(SEALED.subject, headers, SEALED.body.encode()) == "misnamed"


def test_a_trace_is_not_taken_for_a_chain_header() -> None:
    unchained = next(each for each in EXAMPLES if CHAIN not in each.headers)
    headers = {**unchained.headers, "tracestate": f"vendor={'ab' * 16}-{'cd' * 16}"}
    assert chain.flaw_of(unchained.subject, headers, unchained.body.encode()) == "unchained"


def test_a_trace_that_is_taken_away_or_added_is_a_flaw() -> None:
    bare = {name: value for name, value in SEALED.headers.items() if name != "traceparent"}
    assert chain.flaw_of(SEALED.subject, bare, SEALED.body.encode()) == "trace_altered"
    unsealed = next(each for each in EXAMPLES if CHAIN in each.headers and "traceparent" not in each.headers)
    added = {**unsealed.headers, "traceparent": SEALED.headers["traceparent"]}
    assert chain.flaw_of(unsealed.subject, added, unsealed.body.encode()) == "trace_altered"


def test_the_trace_is_no_part_of_what_the_next_entry_names() -> None:
    link = chain.link_of(SEALED.headers)
    assert link is not None
    elsewhere = {**SEALED.headers, "traceparent": f"00-{'12' * 16}-{'34' * 8}-00"}
    made = chain.digest_of_entry(link.before, SEALED.subject, elsewhere, SEALED.body.encode())
    assert made == SEALED.own


def one_other_byte(text: str, data: st.DataObject) -> str:
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(min_codepoint=0x20, max_codepoint=0x7E).filter(lambda each: each != text[at]))
    return text[:at] + other + text[at + 1 :]
