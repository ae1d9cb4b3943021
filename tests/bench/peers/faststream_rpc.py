"""FastStream's RPC over core NATS: nothing of it is stored."""

from __future__ import annotations

import asyncio
import os
import sys

from faststream import FastStream
from faststream.nats import NatsBroker

from bench.peers.measuring import TEXT, measure, process, until_it_answers

broker = NatsBroker(os.environ["BENCH_NATS"], logger=None)
app = FastStream(broker, logger=None)


@broker.subscriber("faststream.echo")
async def echo(text: str) -> str:
    return text


async def delegate(conversation: str, number: int) -> None:
    answer = await asking.request(TEXT, "faststream.echo", timeout=30)
    assert answer.body.decode() == TEXT


asking = NatsBroker(os.environ["BENCH_NATS"], logger=None)


async def main() -> None:
    async with asking:
        with process(sys.executable, "-m", "bench.peers.faststream_rpc", "respond"):
            await until_it_answers(delegate)
            await measure(delegate)


if __name__ == "__main__":
    asyncio.run(app.run() if "respond" in sys.argv else main())
