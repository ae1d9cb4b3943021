"""What NATS itself takes, with nats-py and nothing of Shanty: core request and reply, and a durable round trip.

A durable round trip is publish, pull, publish, pull: the request and the reply are both stored in a stream and
acked by it, and both are pulled by a durable consumer and acked. It is tuned as far as nats-py goes: pulls stand
waiting at the server, PubAcks are matched as they come, nothing is parsed that is not needed.

Requester and responder are two processes: `python -m bench.raw URL` is the responder.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable

import msgspec
import nats
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import api

STREAM = "RAW"
REQUESTS, REPLIES = "raw.request", "raw.reply"
CORE = "core.request"
PAYLOAD = b"x" * 1024
BATCH = 512
"""As many as are pulled with one request; the next one is sent when half of them have come."""
MAX_WAITING_BYTES = 64 * 2**20


class _Ack(msgspec.Struct):
    seq: int = 0
    error: dict[str, object] | None = None


_acks = msgspec.json.Decoder(_Ack)


class Publisher:
    """Stores messages and awaits their PubAcks, any number at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = client.new_inbox()
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._count = 0

    async def start(self) -> None:
        await self._client.subscribe(f"{self._inbox}.*", cb=self._take, pending_bytes_limit=-1)

    async def _take(self, message: Msg) -> None:
        answered = self._waiting.pop(message.subject)
        ack = _acks.decode(message.data)
        if ack.error is None:
            answered.set_result(None)
        else:
            answered.set_exception(RuntimeError(str(ack.error)))

    async def store(self, subject: str, data: bytes) -> None:
        self._count += 1
        reply = f"{self._inbox}.{self._count}"
        answered = self._waiting[reply] = asyncio.get_running_loop().create_future()
        await self._client.publish(subject, data, reply=reply)
        await answered


class StandingPull:
    """Hands every message of a consumer to a function; the server always has a request for more."""

    def __init__(self, client: Client, consumer: str, heard: Callable[[Msg], Awaitable[None]]) -> None:
        self._client, self._heard = client, heard
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{consumer}"
        self._inbox = client.new_inbox()
        self._asked = 0

    async def start(self) -> None:
        await self._client.subscribe(self._inbox, cb=self._take, pending_bytes_limit=-1)
        await self._ask()

    async def _ask(self) -> None:
        self._asked += BATCH
        await self._client.publish(self._subject, b'{"batch":%d,"expires":3600000000000}' % BATCH, reply=self._inbox)

    async def _take(self, message: Msg) -> None:
        self._asked -= 1
        if self._asked == BATCH // 2:
            await self._ask()
        await self._heard(message)


class RawRequester:
    """Sends requests of both kinds."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._waiting: dict[str, asyncio.Future[None]] = {}

    async def start(self) -> None:
        self._client = await _connect(self._url)
        stream = self._client.jetstream()
        await stream.add_stream(api.StreamConfig(name=STREAM, subjects=["raw.>"]))
        for consumer, subjects in (("responder", REQUESTS), ("requester", REPLIES)):
            await stream.add_consumer(
                STREAM,
                api.ConsumerConfig(
                    durable_name=consumer,
                    filter_subject=f"{subjects}.>",
                    ack_policy=api.AckPolicy.EXPLICIT,
                    max_ack_pending=5_000,
                ),
            )
        self._publisher = Publisher(self._client)
        await self._publisher.start()
        await StandingPull(self._client, "requester", self._take).start()

    async def stop(self) -> None:
        await self._client.close()

    async def _take(self, message: Msg) -> None:
        await self._client.publish(message.reply, b"+ACK")
        self._waiting.pop(message.subject).set_result(None)

    async def core(self, conversation: str, number: int) -> None:
        await self._client.request(f"{CORE}.{conversation}.{number}", PAYLOAD, timeout=30)

    async def durable(self, conversation: str, number: int) -> None:
        """A round trip of two messages that are stored, pulled and acked."""
        name = f"{conversation}.{number}"
        answered = self._waiting[f"{REPLIES}.{name}"] = asyncio.get_running_loop().create_future()
        await self._publisher.store(f"{REQUESTS}.{name}", PAYLOAD)
        await answered


async def _connect(url: str) -> Client:
    return await nats.connect(url, pending_size=MAX_WAITING_BYTES)


async def respond(url: str) -> None:
    """Answer requests of both kinds until killed. A line on stdout says that it has begun."""
    client = await _connect(url)
    publisher = Publisher(client)
    await publisher.start()
    working: set[asyncio.Task[None]] = set()

    async def answer_core(message: Msg) -> None:
        await client.publish(message.reply, message.data)

    async def answer(message: Msg) -> None:
        await publisher.store(REPLIES + message.subject.removeprefix(REQUESTS), message.data)
        await client.publish(message.reply, b"+ACK")

    async def begin(message: Msg) -> None:
        task = asyncio.create_task(answer(message))
        working.add(task)
        task.add_done_callback(working.discard)

    await client.subscribe(f"{CORE}.>", cb=answer_core)
    await StandingPull(client, "responder", begin).start()
    await client.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()


def start_responder(url: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "bench.raw", url], stdout=subprocess.PIPE)


if __name__ == "__main__":
    uvloop.run(respond(sys.argv[1]))
