"""Many finished runs in a stream, as a team leaves them, stored as fast as the server takes them.

A run is written down once; every other one is its copy under an id of its own, with a chain of its own. So all that
reads runs reads these as well, and `shanty verify` finds them sound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from shanty_protocol import (
    Brief,
    DelegationSent,
    Entry,
    EntryAddress,
    ModelReplied,
    Outcome,
    ReplyReceived,
    ThreadOpened,
    ThreadReplied,
    Usage,
    chain,
)
from shanty_protocol.headers import CHAIN
from shanty_protocol.ids import LOG
from shanty_runtime.bus import Written, written
from shanty_runtime.bus.connection import header_block
from shanty_runtime.bus.jetstream import EXPECT_SEQ, EXPECT_SEQ_SUBJECT

IN_FLIGHT = 4_000
"""The server refuses what is published faster than it can store."""
AT_ONCE = 500
PLACEHOLDER = "0-20260101-000000"

Runs = Sequence[str]


def run_ids(count: int) -> list[str]:
    return [f"0-20260101-{number:06x}" for number in range(1, count + 1)]


def finished_run(run: str, at_ms: int = 1_767_225_600_000) -> list[Written]:
    """A lead was asked, has asked a specialist, and has answered: eight entries in three journals, as stored."""
    order = EntryAddress("lead", run, "request-1", "cli", 0)
    opened, spoke, asked, heard, ended, replied = (
        EntryAddress(to, run, "0", "lead", n) for n, to in enumerate((LOG, LOG, "counter", LOG, LOG, "cli"))
    )
    answer = EntryAddress("lead", run, "0-1", "counter", 0)
    one, both = Usage(input_tokens=812, output_tokens=64), Usage(input_tokens=1_624, output_tokens=128)
    goal = "Greet everybody on the list, and count the letters of their names"
    part = Brief(objective="Count the letters of the names on the list", input={"text": "AdaGrace"})
    counted = Outcome(status="ok", result={"letters": 8})
    submitted = {"summary": "two people were greeted, with eight letters", "result": {"greeted": 2, "letters": 8}}
    greeted = msgspec.convert({"status": "ok", **submitted}, Outcome)

    def said(after_ms: int, call_id: str, name: str, arguments: dict[str, Any]) -> ModelReplied:
        return ModelReplied(
            at_ms=at_ms + after_ms,
            by="lead-1",
            fence=1,
            blocks=({"type": "tool_use", "id": call_id, "name": name, "input": arguments},),
            stop_reason="tool_use",
            model="rehearsal",
            usage=one,
            cost_microusd=0,
        )

    delegated = {"specialist": "counter", "objective": part.objective, "input": part.input}
    stored: tuple[tuple[EntryAddress, Entry], ...] = (
        (order, DelegationSent(at_ms=at_ms, by="cli", to_thread="0", brief=Brief(objective=goal))),
        (opened, ThreadOpened(at_ms=at_ms + 2, by="lead-1", fence=1, consumed=(order.subject,))),
        (spoke, said(900, "call-1", "delegate", delegated)),
        (
            asked,
            DelegationSent(at_ms=at_ms + 900, by="lead-1", fence=1, to_thread="0-1", brief=part, call_id="call-1"),
        ),
        (
            answer,
            ThreadReplied(
                at_ms=at_ms + 905,
                by="counter-1",
                fence=1,
                to_thread="0",
                consumed=(asked.subject,),
                outcome=counted,
                answers=asked.subject,
                cost_microusd=0,
            ),
        ),
        (heard, ReplyReceived(at_ms=at_ms + 910, by="lead-1", fence=1, consumed=(answer.subject,))),
        (ended, said(1_800, "call-2", "submit_result", submitted)),
        (
            replied,
            ThreadReplied(
                at_ms=at_ms + 1_800,
                by="lead-1",
                fence=1,
                to_thread="request-1",
                outcome=greeted,
                answers=order.subject,
                usage=both,
                cost_microusd=0,
            ),
        ),
    )
    before: dict[tuple[str, str], str] = {}
    found: list[Written] = []
    for place, entry in stored:
        journal = (place.agent, place.thread)
        found.append(written(place, entry, before.get(journal, "")))
        before[journal] = found[-1].own
    return found


def copied(entries: Iterable[Written], run: str) -> Iterator[bytes]:
    """A run written under another id, as commands of the NATS protocol."""
    known, meant = PLACEHOLDER.encode(), run.encode()
    owns: dict[tuple[str, str], str] = {}
    for entry in entries:
        address = entry.address
        journal = (address.agent, address.thread)
        subject = entry.subject.replace(PLACEHOLDER, run)
        data = entry.data.replace(known, meant)
        before = owns.get(journal, chain.NOTHING_BEFORE)
        own = owns[journal] = chain.digest_of_entry(before, subject, entry.headers, data)
        headers = header_block(
            {
                **entry.headers,
                CHAIN: chain.Link(before, own).header,
                EXPECT_SEQ: "0",
                EXPECT_SEQ_SUBJECT: address.guard.replace(PLACEHOLDER, run),
            }
        )
        yield f"HPUB {subject} _INBOX.filling {len(headers)} {len(headers) + len(data)}\r\n".encode() + headers + data


async def fill(nats_url: str, runs: Runs) -> int:
    """Store a finished run under each of these ids. Returns how many entries that were."""
    address = urlsplit(nats_url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(b'CONNECT {"verbose":false,"pedantic":false,"headers":true}\r\nSUB _INBOX.filling 1\r\n')
    acks = _Acks(reader)
    reading = asyncio.create_task(acks.read(writer))
    template, sent = finished_run(PLACEHOLDER), 0
    try:
        for number, run in enumerate(runs, 1):
            commands = list(copied(template, run))
            writer.write(b"\r\n".join([*commands, b""]))
            sent += len(commands)
            if number % AT_ONCE == 0:
                await writer.drain()
                await acks.reached(sent - IN_FLIGHT, reading)
        await acks.reached(sent, reading)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        writer.close()
        await writer.wait_closed()
    return sent


class _Acks:
    """Counts what was stored. Raises as soon as something was refused."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._count = 0
        self._more = asyncio.Event()

    async def read(self, writer: asyncio.StreamWriter) -> None:
        async for line in self._reader:
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
            elif line.startswith(b"-ERR") or b'"error"' in line:
                raise AssertionError(f"the server refused it: {line!r}")
            elif line.startswith(b'{"stream"'):
                self._count += 1
                self._more.set()
        raise AssertionError("the server hung up")

    async def reached(self, count: int, reading: asyncio.Task[None]) -> None:
        while self._count < count:
            self._more.clear()
            hearing = asyncio.create_task(self._more.wait())
            await asyncio.wait((hearing, reading), return_when=asyncio.FIRST_COMPLETED)
            hearing.cancel()
            if reading.done():
                reading.result()
