"""Bytes to messages and back: one decoder a channel, built once.

Version rules, in five sentences. A new field has a default; a default never changes, because it is what absent
bytes mean; a field never changes its type, and a fixed set of values never grows. A kind's name is never reused.
Unknown fields are ignored. An unknown kind raises `unknown_kind`, and the receiver sets the message aside. A message
of a newer major version raises `unsupported_version`.

Whatever the bytes are, decoding gives a message or raises ProtocolError, and nothing else.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping
from typing import Any, Generic, TypeVar, get_args

import msgspec

from shanty_protocol import headers
from shanty_protocol.cards import Card
from shanty_protocol.effects import EffectMessage
from shanty_protocol.entries import Entry
from shanty_protocol.errors import ProtocolError, UnwritableMessage
from shanty_protocol.live import LiveEvent
from shanty_protocol.memory import MemoryFact
from shanty_protocol.parts import FileVersion
from shanty_protocol.timers import Timer

PROTOCOL_VERSION = 1
_OUR_VERSION = str(PROTOCOL_VERSION)
_VERSION_UNSAID = "1"
"""What a message without the header is, whatever version this is."""

T = TypeVar("T")

Message = Entry | Timer | LiveEvent | Card | FileVersion | MemoryFact | EffectMessage

CHANNELS: dict[str, Any] = {
    "entries": Entry,
    "timers": Timer,
    "live": LiveEvent,
    "cards": Card,
    "files": FileVersion,
    "memory": MemoryFact,
    "tools": EffectMessage,
}
"""What can be received where: the union of the messages of each channel."""

_VERSION = re.compile(r"[1-9][0-9]*")


def kinds_of(channel: Any) -> dict[str, type[msgspec.Struct]]:
    """The messages of a channel by their kinds."""
    messages: tuple[type[msgspec.Struct], ...] = get_args(channel) or (channel,)
    return {_kind(message): message for message in messages}


@functools.cache
def _kind(message: type[msgspec.Struct]) -> str:
    tag = message.__struct_config__.tag
    assert isinstance(tag, str), f"{message.__name__} has no tag"
    return tag


class _Tagged(msgspec.Struct):
    kind: str


_tagged = msgspec.json.Decoder(_Tagged)


class _Channel(Generic[T]):
    def __init__(self, channel: Any) -> None:
        self.decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(channel)
        self.kinds = frozenset(kinds_of(channel))

    def decode(self, data: bytes, received: Mapping[str, str] | None) -> T:
        _check_version(received or {})
        try:
            if len(self.kinds) == 1:
                # msgspec lets a lone Struct come without its kind; in a union of two it has to have one.
                _tagged.decode(data)
            return self.decoder.decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise self.explained(data, error) from error

    def explained(self, data: bytes, error: Exception) -> ProtocolError:
        try:
            kind = _tagged.decode(data).kind
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return ProtocolError("invalid_message", str(error))
        if kind not in self.kinds:
            return ProtocolError("unknown_kind", kind)
        return ProtocolError("invalid_message", f"{kind}: {error}")


_encoder = msgspec.json.Encoder(order="deterministic")
_entries: _Channel[Entry] = _Channel(Entry)
_timers: _Channel[Timer] = _Channel(Timer)
_live_events: _Channel[LiveEvent] = _Channel(LiveEvent)
_cards: _Channel[Card] = _Channel(Card)
_file_versions: _Channel[FileVersion] = _Channel(FileVersion)
_memory_facts: _Channel[MemoryFact] = _Channel(MemoryFact)
_effect_messages: _Channel[EffectMessage] = _Channel(EffectMessage)


def encode(message: Message) -> bytes:
    """The message's bytes: the same message always gives the same bytes.

    Raises UnwritableMessage for what has no JSON form, such as a lone surrogate in the arguments a model chose.
    """
    try:
        return _encoder.encode(message)
    except (msgspec.EncodeError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UnwritableMessage(kind_of(message), str(error)) from error


def digest_of(arguments: Mapping[str, Any]) -> str:
    """What the arguments of a tool call are known by: SHA-256 of the bytes they have in an entry."""
    return hashlib.sha256(_encoder.encode(arguments)).hexdigest()


def kind_of(message: Message) -> str:
    return _kind(type(message))


def message_headers(message: Message) -> dict[str, str]:
    return {headers.KIND: kind_of(message), headers.VERSION: _OUR_VERSION}


def decode_entry(data: bytes, received: Mapping[str, str] | None = None) -> Entry:
    return _entries.decode(data, received)


def decode_timer(data: bytes, received: Mapping[str, str] | None = None) -> Timer:
    return _timers.decode(data, received)


def decode_live(data: bytes, received: Mapping[str, str] | None = None) -> LiveEvent:
    return _live_events.decode(data, received)


def decode_card(data: bytes, received: Mapping[str, str] | None = None) -> Card:
    return _cards.decode(data, received)


def decode_file_version(data: bytes, received: Mapping[str, str] | None = None) -> FileVersion:
    return _file_versions.decode(data, received)


def decode_memory(data: bytes, received: Mapping[str, str] | None = None) -> MemoryFact:
    return _memory_facts.decode(data, received)


def decode_effect(data: bytes, received: Mapping[str, str] | None = None) -> EffectMessage:
    return _effect_messages.decode(data, received)


def _check_version(received: Mapping[str, str]) -> None:
    version = received.get(headers.VERSION, _VERSION_UNSAID)
    if version == _OUR_VERSION:
        return
    if not _VERSION.fullmatch(version):
        raise ProtocolError("invalid_message", f"header {headers.VERSION} is {version!r}, not a number from 1")
    # Compared by length first: a number of a thousand digits is not worth converting.
    if len(version) > 9 or int(version) > PROTOCOL_VERSION:
        raise ProtocolError("unsupported_version", f"version {version[:20]}, this side speaks {PROTOCOL_VERSION}")
