"""taskiq over JetStream, with results in its object store."""

from __future__ import annotations

import asyncio
import os
import sys

from taskiq_nats import NATSObjectStoreResultBackend, PullBasedJetStreamBroker

from bench.peers.measuring import TEXT, measure, process, until_it_answers

URL = os.environ["BENCH_NATS"]

broker = PullBasedJetStreamBroker(servers=[URL], queue="taskiq", stream_name="taskiq").with_result_backend(
    NATSObjectStoreResultBackend(servers=[URL])
)


@broker.task(task_name="echo")
async def echo(text: str) -> str:
    return text


async def delegate(conversation: str, number: int) -> None:
    task = await echo.kiq(TEXT)
    result = await task.wait_result(check_interval=0.001, timeout=60)
    assert result.return_value == TEXT


async def main() -> None:
    await broker.startup()
    with process(sys.executable, "-m", "taskiq", "worker", "--workers", "1", "bench.peers.taskiq_nats_js:broker"):
        await until_it_answers(delegate)
        # Each result that is read leaves a consumer behind for a while, and a stream has a thousand at most.
        await measure(delegate, each=1)
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
