"""Bytes to messages and back: one decoder a channel, built once.

Version rules, in four sentences. A new field has a default, and a field never changes its type. A kind's name is
never reused. Unknown fields are ignored; an unknown kind raises `unknown_kind`, and the receiver sets the message
aside. A message of a newer major version raises `unsupported_version`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from shanty_protocol import headers
from shanty_protocol.cards import Card
from shanty_protocol.entries import Entry
from shanty_protocol.errors import ProtocolError
from shanty_protocol.live import LiveEvent
from shanty_protocol.parts import FileVersion
from shanty_protocol.timers import Timer

PROTOCOL_VERSION = 1

T = TypeVar("T")

Message = Entry | Timer | LiveEvent | Card | FileVersion

_encoder = msgspec.json.Encoder(order="deterministic")
_entries: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Entry)
_timers: msgspec.json.Decoder[Timer] = msgspec.json.Decoder(Timer)
_live_events: msgspec.json.Decoder[LiveEvent] = msgspec.json.Decoder(LiveEvent)
_cards: msgspec.json.Decoder[Card] = msgspec.json.Decoder(Card)
_file_versions: msgspec.json.Decoder[FileVersion] = msgspec.json.Decoder(FileVersion)


class _Tagged(msgspec.Struct):
    kind: str


_tagged = msgspec.json.Decoder(_Tagged)


def encode(message: Message) -> bytes:
    """The message's bytes: the same message always gives the same bytes."""
    return _encoder.encode(message)


def kind_of(message: Message) -> str:
    tag = type(message).__struct_config__.tag
    return tag if isinstance(tag, str) else "file.version"


def message_headers(message: Message) -> dict[str, str]:
    return {headers.KIND: kind_of(message), headers.VERSION: str(PROTOCOL_VERSION)}


def decode_entry(data: bytes, received: Mapping[str, str] | None = None) -> Entry:
    return _decode(_entries, data, received)


def decode_timer(data: bytes, received: Mapping[str, str] | None = None) -> Timer:
    return _decode(_timers, data, received)


def decode_live(data: bytes, received: Mapping[str, str] | None = None) -> LiveEvent:
    return _decode(_live_events, data, received)


def decode_card(data: bytes, received: Mapping[str, str] | None = None) -> Card:
    return _decode(_cards, data, received)


def decode_file_version(data: bytes, received: Mapping[str, str] | None = None) -> FileVersion:
    return _decode(_file_versions, data, received)


def _decode(decoder: msgspec.json.Decoder[T], data: bytes, received: Mapping[str, str] | None) -> T:
    _check_version(received or {})
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _explained(data, error) from error


def _check_version(received: Mapping[str, str]) -> None:
    version = received.get(headers.VERSION, "1")
    if not version.isascii() or not version.isdigit():
        raise ProtocolError("invalid_message", f"header {headers.VERSION} is {version[:40]!r}, not a number")
    if int(version[:9]) > PROTOCOL_VERSION:
        raise ProtocolError("unsupported_version", f"version {version[:9]}, this side speaks {PROTOCOL_VERSION}")


def _explained(data: bytes, error: Exception) -> ProtocolError:
    try:
        kind = _tagged.decode(data).kind
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ProtocolError("invalid_message", str(error))
    if "Invalid value" in str(error) and str(error).endswith("`$.kind`"):
        return ProtocolError("unknown_kind", kind[:80])
    return ProtocolError("invalid_message", f"{kind[:80]}: {error}")
