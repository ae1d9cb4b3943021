"""DBOS: a durable workflow of one step, with its state in SQLite."""

from __future__ import annotations

import tempfile

from dbos import DBOS, DBOSConfig

from bench.peers.measuring import TEXT, measure_blocking


@DBOS.step()
def echo(text: str) -> str:
    return text


@DBOS.workflow()
def delegate(text: str) -> str:
    return echo(text)


def one() -> None:
    assert DBOS.start_workflow(delegate, TEXT).get_result() == TEXT


def many(count: int) -> None:
    for handle in [DBOS.start_workflow(delegate, TEXT) for _ in range(count)]:
        assert handle.get_result() == TEXT


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        config: DBOSConfig = {"name": "bench", "system_database_url": f"sqlite:///{folder}/dbos.sqlite"}
        DBOS(config={**config, "log_level": "ERROR"})
        DBOS.launch()
        measure_blocking(one, many)
        DBOS.destroy()


if __name__ == "__main__":
    main()
