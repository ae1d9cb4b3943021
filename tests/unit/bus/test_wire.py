from __future__ import annotations

import pytest
from nats.errors import ProtocolError

from shanty_runtime.bus.wire import MessageParser, Unread, command_line, header_block, parse_headers
from shanty_runtime.errors import BusRefused

Message = tuple[int, str, str, bytes, dict[str, str]]

LINES = {"traceparent": "00-1-2-01", "Nats-Sequence": "7"}
BLOCK = header_block(LINES)
STREAM = (
    b"MSG a.b 1 5\r\nhello\r\n"
    b"PING\r\n"
    b"MSG a.c 22 _INBOX.x.1 4\r\n\r\n\r\n\r\n"
    + f"HMSG a.d 3 {len(BLOCK)} {len(BLOCK) + 2}\r\n".encode()
    + BLOCK
    + b"ok\r\n"
    + b"PONG\r\n+OK\r\n"
    + f"HMSG a.e 3 reply {len(BLOCK)} {len(BLOCK)}\r\n".encode()
    + BLOCK
    + b"\r\nMSG a.f 1 0\r\n\r\n"
)
TOLD: list[Message] = [
    (1, "a.b", "", b"hello", {}),
    (22, "a.c", "_INBOX.x.1", b"\r\n\r\n", {}),
    (3, "a.d", "", b"ok", LINES),
    (3, "a.e", "reply", b"", LINES),
    (1, "a.f", "", b"", {}),
]


class Client:
    """What the parser tells its client."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.said: list[str] = []

    def take(self, number: int, subject: bytes, reply: bytes, data: bytes, block: bytes) -> None:
        message = Unread(subject.decode(), reply.decode(), data, block)
        self.messages.append((number, message.subject, message.reply, message.data, message.headers))

    async def _process_msg(self, number: int, subject: bytes, reply: bytes, data: bytes, block: bytes | None) -> None:
        self.take(number, subject, reply, data, block or b"")

    async def _process_ping(self) -> None:
        self.said.append("PING")

    async def _process_pong(self) -> None:
        self.said.append("PONG")


@pytest.mark.parametrize("size_bytes", [*range(1, 40), len(STREAM)])
async def test_a_message_is_the_same_however_it_is_cut_on_its_way(size_bytes: int) -> None:
    client = Client()
    parser = MessageParser(client, client.take)
    for begin in range(0, len(STREAM), size_bytes):
        await parser.parse(STREAM[begin : begin + size_bytes])
    assert client.messages == TOLD
    assert client.said == ["PING", "PONG"]
    assert not parser.buf


async def test_messages_are_taken_from_the_read_again_after_one_that_nats_py_has_begun() -> None:
    client = Client()
    parser = MessageParser(client, client.take)
    await parser.parse(b"PING\r\nMSG a.b 1 5\r\nhel")
    await parser.parse(b"lo\r\nMSG a.b 1 5\r\nagain\r\nMSG a.b 1 5\r\nbr")
    assert [data for *_, data, _ in client.messages] == [b"hello", b"again"]
    assert bytes(parser.buf) == b"MSG a.b 1 5\r\nbr", "kept as it came, and not half taken apart"


@pytest.mark.parametrize("hostile", [b"MSG a.b x 5\r\nhello\r\n", b"MSG a.b\r\n", b"HMSG a.b 1 2\r\n", b"MOO\r\n"])
async def test_what_is_no_message_ends_the_connection_as_with_nats_py(hostile: bytes) -> None:
    client = Client()
    with pytest.raises(ProtocolError):
        await MessageParser(client, client.take).parse(hostile)
    assert client.messages == []


def test_headers_are_read_as_they_were_written() -> None:
    assert parse_headers(header_block({"a": "b: c", "Kind": "x"})) == (0, "", {"a": "b: c", "Kind": "x"})
    assert parse_headers(b"NATS/1.0 404 No Messages\r\n\r\n") == (404, "No Messages", {})
    assert parse_headers(b"NATS/1.0 100\r\nA: \xff\r\nno colon\r\n\r\n") == (100, "", {"A": "�"})
    assert parse_headers(header_block({"a": "one\r\ntwo: 3"})) == (0, "", {"a": "one  two: 3"})


@pytest.mark.parametrize("subject", ["", " a", "a ", "a b", "a\r\nPUB b 0\r\n", "a\tb"])
def test_what_is_no_subject_is_not_written(subject: str) -> None:
    with pytest.raises(BusRefused, match="not a subject"):
        command_line(subject, "", 0, 0)
    with pytest.raises(BusRefused, match="not a subject"):
        command_line("a", subject or " ", 0, 0)
