from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shanty_protocol import (
    Brief,
    DelegationSent,
    ModelReplied,
    ProtocolError,
    ThreadOpened,
    ToolCalled,
    ToolReturned,
    UnwritableMessage,
    codec,
    headers,
)

DECODERS: list[Callable[..., object]] = [
    codec.decode_entry,
    codec.decode_timer,
    codec.decode_live,
    codec.decode_card,
    codec.decode_file_version,
    codec.decode_memory,
    codec.decode_effect,
]
GOLDEN = Path(__file__).parents[3] / "protocol" / "golden" / "v1"
GOLDEN_MESSAGES = [path.read_bytes() for path in sorted(GOLDEN.glob("*.json"))]
HEADERS = [headers.VERSION, headers.KIND, headers.TRACEPARENT, headers.CHAIN, "Nats-Sequence"]
HOSTILE_BITS = [
    *(b"NaN", b"-Infinity", b"1e999", b"9" * 400, b"-0", b'"\\ud800"', b'"\xff"', b"\x00"),
    *(b"[" * 20_000, b'{"a":' * 20_000, b'"kind":"thread.opened",', b'"at_ms":1,"at_ms":"x",', b"}}", b"\xf0\x9f"),
]
OPENED = b'{"kind":"thread.opened","at_ms":1}'
CALL = b'{"kind":"tool.called","at_ms":1,"call_id":"c","name":"n","arguments":{"x":%s}}'


def refusal(decode: Callable[[], object]) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        decode()
    return caught.value


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"null", id="null"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'"thread.opened"', id="a string"),
        pytest.param(b"{}", id="no kind"),
        pytest.param(b'{"at_ms":1}', id="no kind, but a field"),
        pytest.param(b'{"kind":null,"at_ms":1}', id="the kind is null"),
        pytest.param(b'{"kind":1,"at_ms":1}', id="the kind is a number"),
        pytest.param(b'{"kind":["thread.opened"],"at_ms":1}', id="the kind is a list"),
        pytest.param(b'{"kind":"thread.opened"}', id="a field is missing"),
        pytest.param(b'{"kind":"thread.opened","at_ms":"1"}', id="a number as text"),
        pytest.param(b'{"kind":"thread.opened","at_ms":1.5}', id="a fraction for an integer"),
        pytest.param(b'{"kind":"thread.opened","at_ms":true}', id="true for an integer"),
        pytest.param(b'{"kind":"thread.opened","at_ms":NaN}', id="NaN"),
        pytest.param(b'{"kind":"thread.opened","at_ms":-Infinity}', id="infinity"),
        pytest.param(b'{"kind":"thread.opened","at_ms":1e999}', id="a number beyond floats"),
        pytest.param(b'{"kind":"thread.opened","at_ms":%s}' % (b"9" * 5000), id="an integer of 5000 digits"),
        pytest.param(CALL % (b"9" * 5000), id="an integer of 5000 digits in free-form data"),
        pytest.param(CALL % b"1e999", id="a number beyond floats in free-form data"),
        pytest.param(CALL % (b"[" * 100_000 + b"]" * 100_000), id="deep lists in free-form data"),
        pytest.param(CALL % (b'{"a":' * 100_000 + b"1" + b"}" * 100_000), id="deep objects in free-form data"),
        pytest.param(CALL % b'"\\ud800"', id="a lone surrogate, escaped"),
        pytest.param(CALL % b'"\xed\xa0\x80"', id="a lone surrogate, raw"),
        pytest.param(CALL % b'"\xff"', id="not UTF-8"),
        pytest.param(CALL % b'"\x00"', id="a raw control character"),
        pytest.param(b'{"kind":"\xff","at_ms":1}', id="a kind that is not UTF-8"),
        pytest.param(b'{"kind":"\\ud800","at_ms":1}', id="a kind that is a lone surrogate"),
        pytest.param(b"[" * 1_000_000, id="a megabyte of ["),
        pytest.param(b"{" * 1_000_000, id="a megabyte of {"),
        pytest.param(b'{"a":' * 200_000, id="a megabyte of objects"),
        pytest.param(b'{"kind":"thread.opened","at_ms":1,"new":' + b"[" * 1_000_000, id="a deep unknown field"),
        pytest.param(b"\xef\xbb\xbf" + OPENED, id="a byte order mark"),
        pytest.param(OPENED + b" x", id="something behind it"),
        pytest.param(OPENED + OPENED, id="twice"),
        pytest.param(OPENED.decode().encode("utf-16"), id="UTF-16"),
        pytest.param(b"\x00" * 1000, id="zeros"),
    ],
)
def test_hostile_bytes_are_invalid_and_nothing_else(data: bytes) -> None:
    for decode in DECODERS:
        error = refusal(partial(decode, data))
        # To another channel even a well-formed kind is unknown.
        assert error.code in ("invalid_message", "unknown_kind")
        assert len(str(error)) < 600
    assert refusal(lambda: codec.decode_entry(data)).code == "invalid_message"


@pytest.mark.parametrize("length", range(len(OPENED)))
def test_a_message_that_is_cut_off_is_invalid(length: int) -> None:
    assert refusal(lambda: codec.decode_entry(OPENED[:length])).code == "invalid_message"


def test_of_a_field_said_twice_the_last_counts() -> None:
    assert codec.decode_entry(b'{"kind":"thread.opened","at_ms":1,"at_ms":2}') == ThreadOpened(at_ms=2)


def test_two_kinds_in_one_message_are_invalid() -> None:
    error = refusal(lambda: codec.decode_entry(b'{"kind":"thread.opened","kind":"thread.failed","at_ms":1}'))
    assert error.code == "invalid_message"


def test_what_is_in_an_unknown_field_does_not_matter() -> None:
    assert codec.decode_entry(
        b'{"new":{"kind":"nope","deep":[[1e5]]},"kind":"thread.opened","at_ms":1}'
    ) == ThreadOpened(at_ms=1)


def test_an_error_says_which_kind_and_which_field() -> None:
    wrong = b'{"kind":"delegation.sent","at_ms":1,"to_thread":"0-1","brief":{"objective":7}}'
    assert refusal(lambda: codec.decode_entry(wrong)).detail == (
        "delegation.sent: Expected `str`, got `int` - at `$.brief.objective`"
    )


def test_a_value_outside_a_fixed_set_is_invalid_and_not_an_unknown_kind() -> None:
    wrong = b'{"kind":"message.sent","at_ms":1,"to_thread":"0","text":"t","purpose":"kind"}'
    assert refusal(lambda: codec.decode_entry(wrong)).code == "invalid_message"


@pytest.mark.parametrize(
    "data",
    [
        b'{"kind":"%s"}' % (b"n" * 500_000),
        b'{"kind":"message.sent","at_ms":1,"to_thread":"0","text":"t","purpose":"%s"}' % (b"n" * 500_000),
        b'{"kind":"model.replied","at_ms":1,"blocks":[],"stop_reason":"","model":"","refused":{"%s":1}}'
        % (b"n" * 500_000),
    ],
)
def test_an_error_quotes_no_more_than_fits_a_log_line(data: bytes) -> None:
    assert len(str(refusal(lambda: codec.decode_entry(data)))) < 600


@pytest.mark.parametrize(
    ("version", "code"),
    [
        ("2", "unsupported_version"),
        ("10", "unsupported_version"),
        ("9" * 100_000, "unsupported_version"),
        ("0", "invalid_message"),
        ("01", "invalid_message"),
        ("0000000002", "invalid_message"),
        ("", "invalid_message"),
        (" 1", "invalid_message"),
        ("1\n", "invalid_message"),
        ("1.0", "invalid_message"),
        ("-1", "invalid_message"),
        ("+1", "invalid_message"),
        ("１", "invalid_message"),
        ("one", "invalid_message"),
    ],
)
def test_a_version_this_side_does_not_speak_is_refused(version: str, code: str) -> None:
    error = refusal(lambda: codec.decode_entry(OPENED, {headers.VERSION: version}))
    assert error.code == code
    assert len(str(error)) < 600


def test_a_message_without_a_version_is_of_version_one() -> None:
    assert codec.decode_entry(OPENED, {}) == codec.decode_entry(OPENED, {headers.VERSION: "1"})


def test_the_version_is_looked_at_before_the_bytes() -> None:
    assert refusal(lambda: codec.decode_entry(b"binary", {headers.VERSION: "2"})).code == "unsupported_version"


def test_the_same_message_gives_the_same_bytes_whatever_the_order_it_was_built_in() -> None:
    one = ToolCalled(at_ms=1, call_id="c", name="n", arguments={"b": 1, "a": {"d": 1, "c": 2}})
    other = ToolCalled(at_ms=1, call_id="c", name="n", arguments={"a": {"c": 2, "d": 1}, "b": 1})
    assert codec.encode(one) == codec.encode(other)


@pytest.mark.parametrize(
    "value",
    ["\ud800", {"\udfff": 1}, object(), {1: 2}, {(1, 2): 3}],
    ids=["a surrogate", "a surrogate as key", "an object", "a number as key", "a pair as key"],
)
def test_what_has_no_json_form_is_refused_when_it_is_written(value: object) -> None:
    message = ToolCalled(at_ms=1, call_id="c", name="n", arguments={"x": value})
    with pytest.raises(UnwritableMessage, match=r"^tool\.called cannot be written: "):
        codec.encode(message)


def test_data_too_deep_to_write_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(UnwritableMessage):
        codec.encode(ToolCalled(at_ms=1, call_id="c", name="n", arguments={"x": deep}))


patiently = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    # Text without surrogates, which have no UTF-8 form.
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=8,
)
words = st.text(st.characters(codec="utf-8"), max_size=20)
entries = st.one_of(
    st.builds(ThreadOpened, at_ms=st.integers(), consumed=st.lists(words).map(tuple)),
    st.builds(
        ToolCalled,
        at_ms=st.integers(),
        call_id=words,
        name=words,
        arguments=st.dictionaries(words, json_values, max_size=3),
    ),
    st.builds(
        ToolReturned,
        at_ms=st.integers(),
        call_id=words,
        name=words,
        content=words,
        status=st.sampled_from(["ok", "error", "unknown"]),
    ),
    st.builds(
        ModelReplied,
        at_ms=st.integers(),
        blocks=st.lists(st.dictionaries(words, json_values, max_size=3), max_size=3).map(tuple),
        stop_reason=words,
        model=words,
        refused=st.dictionaries(words, words, max_size=3),
    ),
    st.builds(
        DelegationSent,
        at_ms=st.integers(),
        to_thread=words,
        after=words,
        brief=st.builds(Brief, objective=words, input=st.none() | st.dictionaries(words, json_values, max_size=3)),
    ),
)


@given(entry=entries)
@patiently
def test_what_is_encoded_decodes_to_the_same(entry: Any) -> None:
    data = codec.encode(entry)
    assert codec.decode_entry(data) == entry
    assert codec.encode(codec.decode_entry(data)) == data


@given(data=st.binary(max_size=200) | json_values.map(msgspec.json.encode))
@patiently
@example(b'{"kind":"thread.opened","at_ms":1,"by":"\xff"}')
@example(b'{"kind":"thread.opened","at_ms":-0}')
def test_any_bytes_decode_or_raise_a_protocol_error(data: bytes) -> None:
    for decode in DECODERS:
        try:
            decode(data)
        except ProtocolError as error:
            assert error.code in ("invalid_message", "unknown_kind")


@given(entry=entries, data=st.data())
@patiently
def test_a_damaged_message_decodes_or_raises_a_protocol_error(entry: Any, data: st.DataObject) -> None:
    damaged = bytearray(codec.encode(entry))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        if not damaged:
            break
    try:
        codec.decode_entry(bytes(damaged))
    except ProtocolError as error:
        assert error.code in ("invalid_message", "unknown_kind")


@given(data=st.data())
@patiently
def test_a_damaged_message_of_any_channel_decodes_or_raises_a_protocol_error(data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from(GOLDEN_MESSAGES)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        end = place + data.draw(st.integers(0, 3))
        damaged[place:end] = data.draw(st.sampled_from(HOSTILE_BITS) | st.binary(min_size=1, max_size=3))
    said = data.draw(st.dictionaries(st.sampled_from(HEADERS), st.text(max_size=12) | st.just("1")))
    for decode in DECODERS:
        try:
            decode(bytes(damaged), said)
        except ProtocolError as error:
            assert error.code in ("invalid_message", "unknown_kind", "unsupported_version")


def test_the_digest_of_arguments_is_that_of_the_bytes_they_have_in_an_entry() -> None:
    arguments = {"b": 1.0, "a": {"d": "é", "c": None}}
    assert codec.digest_of(arguments) == hashlib.sha256('{"a":{"c":null,"d":"é"},"b":1.0}'.encode()).hexdigest()
    assert codec.digest_of(arguments) == codec.digest_of({"a": {"c": None, "d": "é"}, "b": 1.0})
    assert codec.digest_of(arguments) != codec.digest_of({**arguments, "b": 1})
