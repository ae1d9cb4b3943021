"""Celery with Redis as broker and result store, acks after the work (`acks_late`). Redis appends to a file."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import sysconfig
import tempfile

from celery import Celery

from bench.peers.measuring import TEXT, measure_blocking, process

WAIT_S = 60

app = Celery(
    "bench",
    broker=os.environ.get("BENCH_REDIS", ""),
    backend=os.environ.get("BENCH_REDIS", ""),
)
app.conf.update(task_acks_late=True, broker_connection_retry_on_startup=True, worker_prefetch_multiplier=64)


@app.task(name="echo")
def echo(text: str) -> str:
    return text


def one() -> None:
    assert echo.delay(TEXT).get(timeout=WAIT_S) == TEXT


def many(count: int) -> None:
    for result in [echo.delay(TEXT) for _ in range(count)]:
        assert result.get(timeout=WAIT_S) == TEXT


def main() -> None:
    beside = f"{sysconfig.get_path('scripts')}/redis-server"
    redis = beside if os.path.exists(beside) else shutil.which("redis-server")
    if redis is None:
        sys.exit("there is no redis-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    os.environ["BENCH_REDIS"] = f"redis://127.0.0.1:{port}/0"
    app.conf.update(broker_url=os.environ["BENCH_REDIS"], result_backend=os.environ["BENCH_REDIS"])
    worker = (sys.executable, "-m", "celery", "-A", "bench.peers.celery_redis", "worker", "-c", "2", "-l", "error")
    with (
        tempfile.TemporaryDirectory() as folder,
        process(redis, "--port", port, "--dir", folder, "--appendonly", "yes", "--save", ""),
        process(*worker),
    ):
        measure_blocking(one, many)


if __name__ == "__main__":
    main()
