from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from shanty_cli.chaos.gate import Gate


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
    writer.close()


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        async with Gate([server.sockets[0].getsockname()[1]]) as gate:
            yield gate


async def connected(gate: Gate) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", urlsplit(gate.url).port)


async def test_an_open_gate_lets_everything_pass(gate: Gate) -> None:
    reader, writer = await connected(gate)
    writer.write(b"one\n")
    assert await reader.readline() == b"one\n"
    writer.close()


async def test_what_is_sent_through_a_cut_gate_arrives_once_it_is_healed(gate: Gate) -> None:
    reader, writer = await connected(gate)
    gate.cut()
    writer.write(b"late\n")
    answer = asyncio.create_task(reader.readline())
    done, _ = await asyncio.wait([answer], timeout=0.2)
    assert not done
    gate.heal()
    assert await asyncio.wait_for(answer, 10) == b"late\n"
    writer.close()


async def test_who_connects_while_the_gate_is_cut_is_let_in_when_it_is_healed(gate: Gate) -> None:
    gate.cut()
    reader, writer = await connected(gate)
    writer.write(b"hello\n")
    answer = asyncio.create_task(reader.readline())
    done, _ = await asyncio.wait([answer], timeout=0.2)
    assert not done
    gate.heal()
    assert await asyncio.wait_for(answer, 10) == b"hello\n"
    writer.close()


async def test_a_connection_that_its_client_closes_is_closed_on_the_other_side_too(gate: Gate) -> None:
    reader, writer = await connected(gate)
    writer.write(b"one\n")
    await reader.readline()
    writer.close()
    await writer.wait_closed()
    assert await asyncio.wait_for(reader.read(), 10) == b""
