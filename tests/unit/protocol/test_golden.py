"""The bytes of version 1. A file under protocol/golden/v1 never changes: journals hold such bytes for months."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from shanty_protocol import Brief, FileRef, Outcome, ProtocolError, Usage, codec, headers
from shanty_protocol.schema import schemas
from support.golden_messages import facts, mail, other_channels

GOLDEN = Path(__file__).parents[3] / "protocol" / "golden" / "v1"

EXAMPLES: tuple[codec.Message, ...] = (*mail.EXAMPLES, *facts.EXAMPLES, *other_channels.EXAMPLES)

DECODERS = {
    "entries": codec.decode_entry,
    "timers": codec.decode_timer,
    "live": codec.decode_live,
    "cards": codec.decode_card,
    "files": codec.decode_file_version,
    "memory": codec.decode_memory,
    "tools": codec.decode_effect,
}
CHANNEL_OF = {kind: name for name, channel in codec.CHANNELS.items() for kind in codec.kinds_of(channel)}


def file_name(example: codec.Message) -> str:
    """What a later version added to a kind is in files of their own: `model.replied.2.json`."""
    kind = codec.kind_of(example)
    number = [each for each in EXAMPLES if codec.kind_of(each) == kind].index(example) + 1
    return f"{kind}.json" if number == 1 else f"{kind}.{number}.json"


each_example = pytest.mark.parametrize("example", EXAMPLES, ids=file_name)


def decode(data: bytes, kind: str, received: dict[str, str] | None = None) -> codec.Message:
    return DECODERS[CHANNEL_OF[kind]](data, received)


def golden(example: codec.Message) -> bytes:
    path = GOLDEN / file_name(example)
    assert path.exists(), f"{path.name} is missing; a new kind gets its golden file: {codec.encode(example)!r}"
    return path.read_bytes()


@each_example
def test_golden_bytes_decode_to_the_same_message_and_encode_to_the_same_bytes(example: codec.Message) -> None:
    data = golden(example)
    assert decode(data, codec.kind_of(example), codec.message_headers(example)) == example
    assert codec.encode(example) == data


def test_every_kind_has_a_golden_file_and_every_golden_file_a_kind() -> None:
    kinds = set(CHANNEL_OF)
    assert {codec.kind_of(example) for example in EXAMPLES} == kinds
    assert {path.name for path in GOLDEN.iterdir()} == {file_name(example) for example in EXAMPLES}


def test_a_kind_belongs_to_one_channel() -> None:
    assert sum(len(codec.kinds_of(channel)) for channel in codec.CHANNELS.values()) == len(CHANNEL_OF)
    assert set(DECODERS) == set(codec.CHANNELS)


@pytest.mark.parametrize("kind", CHANNEL_OF)
def test_the_golden_files_set_every_field(kind: str) -> None:
    """So that a renamed field or a changed default shows in them; some fields keep what they are born with."""
    examples = [example for example in EXAMPLES if codec.kind_of(example) == kind]
    told = {field for example in examples for field in msgspec.json.decode(golden(example))} - {"kind"}
    untold = set(type(examples[0]).__struct_fields__) - told
    assert untold <= {"consumed", "protocol_version", "fence", "deleted"}


@each_example
def test_the_headers_say_the_kind_the_body_says(example: codec.Message) -> None:
    said = codec.message_headers(example)
    assert said == {headers.KIND: msgspec.json.decode(golden(example))["kind"], headers.VERSION: "1"}


@each_example
def test_fields_of_a_newer_sender_are_ignored_at_every_depth(example: codec.Message) -> None:
    known = msgspec.json.decode(golden(example))
    newer = msgspec.json.encode(with_future_fields(known, type(example)))
    assert b"field_of_the_future" in newer
    assert decode(newer, codec.kind_of(example)) == example


def with_future_fields(value: Any, struct: Any) -> Any:
    """The same object with a field more, and so in the Structs it is made of; free-form objects stay as they are."""
    extended: dict[str, Any] = {"field_of_the_future": {"deep": [1, None, "x"]}, **value}
    for field in msgspec.structs.fields(struct):
        part = next((part for part in PARTS if str(part.__name__) in str(field.type)), None)
        if field.encode_name in value and part is not None:
            inner = value[field.encode_name]
            several = isinstance(inner, list)
            changed = [with_future_fields(each, part) for each in (inner if several else [inner])]
            extended[field.encode_name] = changed if several else changed[0]
    return extended


PARTS = (Brief, Outcome, Usage, FileRef)


@each_example
def test_a_kind_of_the_future_is_unknown_kind(example: codec.Message) -> None:
    kind = codec.kind_of(example)
    newer = {**msgspec.json.decode(golden(example)), "kind": "kind.of_the_future"}
    with pytest.raises(ProtocolError) as caught:
        decode(msgspec.json.encode(newer), kind)
    assert (caught.value.code, caught.value.detail) == ("unknown_kind", "kind.of_the_future")


@each_example
def test_a_message_of_another_channel_is_unknown_kind(example: codec.Message) -> None:
    for name, decoder in DECODERS.items():
        if name != CHANNEL_OF[codec.kind_of(example)]:
            with pytest.raises(ProtocolError) as caught:
                decoder(golden(example))
            assert caught.value.code == "unknown_kind"


@each_example
def test_a_message_of_a_newer_major_version_is_unsupported(example: codec.Message) -> None:
    newer = {**codec.message_headers(example), headers.VERSION: str(codec.PROTOCOL_VERSION + 1)}
    with pytest.raises(ProtocolError) as caught:
        decode(golden(example), codec.kind_of(example), newer)
    assert caught.value.code == "unsupported_version"


@each_example
def test_a_required_field_less_is_invalid(example: codec.Message) -> None:
    known = msgspec.json.decode(golden(example))
    for field in msgspec.structs.fields(type(example)):
        if field.required:
            less = {name: value for name, value in known.items() if name != field.encode_name}
            with pytest.raises(ProtocolError) as caught:
                decode(msgspec.json.encode(less), codec.kind_of(example))
            assert caught.value.code == "invalid_message"
            assert f"`{field.encode_name}`" in caught.value.detail


@each_example
def test_golden_bytes_validate_against_their_schema_and_no_other(example: codec.Message) -> None:
    value = msgspec.json.decode(golden(example))
    fitting = {name for name, validator in VALIDATORS.items() if validator.is_valid(value)}
    assert fitting == {f"{CHANNEL_OF[codec.kind_of(example)]}.json"}


@each_example
def test_the_schema_wants_what_the_decoder_wants(example: codec.Message) -> None:
    """Take a field away, or make it a wrong type: both say no, or both say yes."""
    kind = codec.kind_of(example)
    validator = VALIDATORS[f"{CHANNEL_OF[kind]}.json"]
    known = msgspec.json.decode(golden(example))
    changed = [{**known, name: wrong} for name in known for wrong in (None, True, 1, "x", [], [1], {}, {"a": 1})]
    changed += [{other: value for other, value in known.items() if other != name} for name in known]
    for value in changed:
        assert validator.is_valid(value) is decodes(msgspec.json.encode(value), kind), value


def decodes(data: bytes, kind: str) -> bool:
    try:
        decode(data, kind)
    except ProtocolError:
        return False
    return True


VALIDATORS = {name: jsonschema_rs.Draft202012Validator(msgspec.json.decode(text)) for name, text in schemas().items()}
