"""NATS's protocol as bytes: what is written for a message, and what is read of one.

nats-py's parser takes every message out of a growing buffer with two regular expressions. Messages are nearly all of
what comes, and most come whole, so they are taken straight from what was read; anything else is left to nats-py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

from shanty_runtime.errors import BusRefused

MAX_CONTROL_LINE_BYTES = 4_096

_LINE_END = re.compile(r"[\r\n]")


class Incoming:
    """A message as it came: `status` is 0 unless the server says something about a request."""

    __slots__ = ("_block", "_parsed", "data", "reply", "subject")

    def __init__(
        self, subject: str, reply: str, data: bytes, headers: dict[str, str], status: int = 0, description: str = ""
    ) -> None:
        self.subject = subject
        self.reply = reply
        self.data = data
        self._block = b""
        self._parsed: tuple[int, str, dict[str, str]] | None = status, description, headers

    @property
    def status(self) -> int:
        return (self._parsed or self._parse())[0]

    @property
    def description(self) -> str:
        return (self._parsed or self._parse())[1]

    @property
    def headers(self) -> dict[str, str]:
        return (self._parsed or self._parse())[2]

    def times(self, name: str) -> int:
        """How often a header is there: of several with one name `headers` has the last."""
        return self._block.count(f"\r\n{name}:".encode())

    def _parse(self) -> tuple[int, str, dict[str, str]]:
        # Once, and only for whoever asks: much of what is heard is not for anybody here.
        self._parsed = parse_headers(self._block)
        return self._parsed

    def __repr__(self) -> str:
        return f"<Incoming {self.subject} status={self.status} size_bytes={len(self.data)}>"


class Unread(Incoming):
    """A message whose headers nobody has read yet."""

    __slots__ = ()

    def __init__(self, subject: str, reply: str, data: bytes, block: bytes) -> None:
        self.subject = subject
        self.reply = reply
        self.data = data
        self._block = block
        self._parsed = None if block else (0, "", {})


Heard = Callable[[Incoming], None]
"""Called with each message that is heard."""

Take = Callable[[int, bytes, bytes, bytes, bytes], None]
"""What is called with a message: the number of its subscription, subject, reply subject, data, headers."""


class MessageParser(Parser):
    """nats-py's parser, which sees of messages only those that something else came before in the same read."""

    def __init__(self, client: Any, take: Take) -> None:
        super().__init__(client)
        self._take = take

    async def parse(self, data: bytes = b"") -> None:
        if self.state != AWAITING_CONTROL_LINE:
            data = await self._finish(data)
        elif self.buf:
            data = bytes(self.buf) + data
            self.buf.clear()
        at, size = 0, len(data)
        while at < size:
            line_end = data.find(b"\r\n", at)
            kind = data[at : at + 4]
            headed = kind == b"HMSG"
            if not (headed or kind == b"MSG ") or line_end < 0 or line_end - at > MAX_CONTROL_LINE_BYTES:
                break
            words = data[at:line_end].split()
            count = len(words) - headed
            if count != 5 and count != 4:
                break
            try:
                number, message_bytes = int(words[2]), int(words[-1])
                header_bytes = int(words[-2]) if headed else 0
            except ValueError:
                break  # nats-py says what is wrong with it
            begin = line_end + 2
            end = begin + message_bytes
            if end + 2 > size:
                self.buf.extend(data[at:])
                return
            body = begin + header_bytes
            reply = words[3] if count == 5 else b""
            self._take(number, words[1], reply, data[body:end], data[begin:body])
            at = end + 2
        if at < size:
            # Kept before it is looked at: whoever hangs up because of it clears it as well.
            self.buf.extend(data[at:])
            await super().parse()

    async def _finish(self, data: bytes) -> bytes:
        """Have the message that nats-py has begun with taken by it. What comes after that."""
        self.buf.extend(data)
        end = self.needed + 2
        if len(self.buf) < end:
            return b""
        rest = bytes(self.buf[end:])
        del self.buf[end:]
        await super().parse()
        return rest


def parse_headers(raw: bytes) -> tuple[int, str, dict[str, str]]:
    """Status, its description, and the headers: `NATS/1.0 404 No Messages`, then lines of `Name: value`."""
    first, *lines = raw.decode("utf-8", "replace").split("\r\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name] = value.strip()
    status = first[9:12]
    if status.isascii() and status.isdigit():
        return int(status), first[13:], headers
    return 0, "", headers


def header_block(headers: Mapping[str, str]) -> bytes:
    """Headers as they go over the wire. A value that would end its line early has spaces there instead."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") + lines.count("\r") != 2 * len(headers):
        lines = "".join(f"{_LINE_END.sub(' ', name)}: {_LINE_END.sub(' ', headers[name])}\r\n" for name in headers)
    return f"NATS/1.0\r\n{lines}\r\n".encode()


def command_line(subject: str, reply: str, header_bytes: int, size_bytes: int) -> bytes:
    if subject.split() != [subject] or (reply and reply.split() != [reply]):
        raise BusRefused(f"publishing on {subject!r}", 0, "this is not a subject")
    if header_bytes:
        return f"HPUB {subject} {reply} {header_bytes} {size_bytes}\r\n".encode()
    return f"PUB {subject} {reply} {size_bytes}\r\n".encode()
