"""The model of the nats-server answers as a real one does, to the same requests in the same order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import msgspec

from shanty_protocol import EntryAddress
from shanty_protocol.streams import LEASE_BUCKET
from shanty_protocol.subjects import journal_filter
from shanty_runtime.bus import Bus
from shanty_runtime.bus.jetstream import EXPECT_SEQ, EXPECT_SEQ_SUBJECT, TTL
from shanty_runtime.bus.leases import MARKER_REASON
from shanty_runtime.bus.wire import Heard, Incoming
from shanty_runtime.testing import nats_bus, nats_server
from simulation.loop import Process, SimulatedLoop
from simulation.server import ACK_WAIT_S, GET, GET_FROM_LEADER, Server

RUN = "0-run"
LEASE = f"$KV.{LEASE_BUCKET}.alpha.{RUN}.0-1"
READ_LEASE = f"{GET}KV_{LEASE_BUCKET}.{LEASE}"
RUNS_OUT_S = 2.5
"""Longer than a lease of a second, and the server's own check of it."""


class Send(msgspec.Struct, frozen=True):
    subject: str
    data: bytes = b""
    headers: dict[str, str] = {}
    many: bool = False


class Wait(msgspec.Struct, frozen=True):
    seconds: float


def entry(n: int, to: str, data: bytes) -> Send:
    place = EntryAddress(to, RUN, "0", "lead", n)
    return Send(place.subject, data, {EXPECT_SEQ: "0", EXPECT_SEQ_SUBJECT: place.guard})


def lease(expected: int, data: bytes = b'{"holder":"me","token":"1"}') -> Send:
    return Send(LEASE, data, {EXPECT_SEQ: str(expected), TTL: "1s"})


def page(from_seq: int) -> Send:
    request = {"batch": 10, "seq": from_seq, "next_by_subj": journal_filter(RUN, "0", "lead")}
    return Send(f"{GET}SHANTY_0", msgspec.json.encode(request), many=True)


def looked_up(*filters: str, from_seq: int = 1) -> Send:
    request = {"batch": 10, "seq": from_seq, "multi_last": filters}
    return Send(f"{GET}SHANTY_0", msgspec.json.encode(request), many=True)


def last(pattern: str) -> Send:
    return Send(f"{GET_FROM_LEADER}SHANTY_0", msgspec.json.encode({"last_by_subj": pattern}))


PLACES: tuple[Send | Wait, ...] = (
    entry(0, "log", b"first"),
    entry(0, "log", b"first"),
    entry(0, "alpha", b"another"),
    entry(1, "alpha", b"second"),
    entry(3, "log", b"beyond a gap"),
    Send(f"{GET}SHANTY_0.{EntryAddress('log', RUN, '0', 'lead', 0).subject}"),
    Send(f"{GET}SHANTY_0.{EntryAddress('beta', RUN, '0', 'lead', 0).subject}"),
    Send(f"{GET}SHANTY_0.{EntryAddress('log', RUN, '0', 'lead', 1).guard}"),
    Send(f"{GET}SHANTY_0.{EntryAddress('log', RUN, '0', 'lead', 2).guard}"),
    page(1),
    page(3),
    page(9),
    looked_up(journal_filter(RUN, "0", "lead")),
    looked_up(journal_filter(RUN, "0", "lead"), from_seq=2),
    looked_up(journal_filter(RUN, "0", "lead"), from_seq=9),
    looked_up(journal_filter(RUN, "0", "beta")),
    looked_up(*(EntryAddress("log", RUN, "0", "lead", n).guard for n in range(5))),
    looked_up(*(EntryAddress("log", RUN, "0", "lead", n).guard for n in range(5, 9))),
    last(journal_filter(RUN, "0", "lead")),
    last(journal_filter(RUN, "0", "beta")),
)
LEASES: tuple[Send | Wait, ...] = (
    Send(READ_LEASE),
    lease(0),
    lease(0),
    lease(1),
    Send(READ_LEASE),
    Wait(RUNS_OUT_S),
    Send(READ_LEASE),
    lease(0),
    lease(3),
    Send(LEASE, b"", {"KV-Operation": "PURGE", "Nats-Rollup": "sub", EXPECT_SEQ: "4", TTL: "1s"}),
    Send(READ_LEASE),
    Wait(RUNS_OUT_S),
    Send(READ_LEASE),
    lease(0),
)


def test_the_model_takes_places_and_reads_them_as_a_server_does(tmp_path: Path) -> None:
    assert answers_of_the_model(PLACES) == asyncio.run(answers_of_a_server(PLACES, tmp_path))


def test_the_model_takes_leases_and_lets_them_run_out_as_a_server_does(tmp_path: Path) -> None:
    assert answers_of_the_model(LEASES) == asyncio.run(answers_of_a_server(LEASES, tmp_path))


def answers_of_the_model(script: Sequence[Send | Wait]) -> list[object]:
    # Of a loop it has what the model asks for, which is the time.
    loop = SimulatedLoop(random.Random(1))  # type: ignore[abstract]
    server, process = Server(loop, random.Random(1), 0.0), Process("me")
    said: list[object] = []
    for step in script:
        if isinstance(step, Wait):
            loop.call_for(None, loop.now_s + step.seconds, lambda: None)
            loop.run(until_s=loop.now_s + step.seconds, most_steps=1_000)
        elif step.subject.startswith((GET, GET_FROM_LEADER)):
            said.append([meant(answer) for answer in server.ask(step.subject, step.data)])
        else:
            taken = server.take(process, step.subject, step.data, dict(step.headers), None)
            said.append([meant(Incoming("", "", taken, {}))])
    return said


async def answers_of_a_server(script: Sequence[Send | Wait], folder: Path) -> list[object]:
    async with nats_server(folder / "nats") as server, nats_bus(server) as bus:
        said: list[object] = []
        for step in script:
            if isinstance(step, Wait):
                await asyncio.sleep(step.seconds)  # the server's clock is the one that counts
            else:
                said.append(await answers(bus, step))
        return said


async def answers(bus: Bus, step: Send) -> list[object]:
    heard: list[Incoming] = []

    def hear(answer: Incoming) -> bool:
        heard.append(answer)
        return not step.many or answer.status != 0

    await bus.connection.converse(step.subject, step.data, hear, step.headers)
    return [meant(answer) for answer in heard]


def meant(answer: Incoming) -> object:
    """What an answer comes to for whoever asked."""
    if answer.status:
        return answer.status
    if "Nats-Subject" in answer.headers:
        headers = answer.headers
        return headers["Nats-Subject"], headers["Nats-Sequence"], answer.data, headers.get(MARKER_REASON, "")
    found = msgspec.json.decode(answer.data)
    if "error" in found:
        return found["error"]["err_code"]
    if "message" in found:
        return found["message"]["subject"], found["message"]["seq"], found["message"]["data"]
    return found["seq"]


def test_what_is_not_acked_in_time_is_delivered_again_and_counted() -> None:
    loop = SimulatedLoop(random.Random(1))  # type: ignore[abstract]
    server, process = Server(loop, random.Random(1), 0.0), Process("alpha-1")
    consumer = server.consumer("mail-alpha")
    replies: list[str] = []
    server.take(process, "$JS.API.CONSUMER.MSG.NEXT.SHANTY_0.mail-alpha", b'{"batch":5}', {}, _noting(replies))
    server.store_entry(EntryAddress("alpha", RUN, "0", "lead", 0).subject, b"{}", {})
    loop.run(until_s=ACK_WAIT_S * 1.5, most_steps=1_000)
    assert [reply.split(".")[4] for reply in replies] == ["1", "2"]
    server.take(process, replies[0], b"+ACK", {}, None)
    assert consumer.open == 0, "acks are not fenced: that of an older delivery counts"


def _noting(replies: list[str]) -> Heard:
    return lambda message: replies.append(message.reply)
