"""Whoever installs Shanty starts its parts in any order."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from shanty_runtime.bus import Bus, BusSettings, EmbeddedServer, create_layout
from shanty_runtime.config import read_settings
from shanty_runtime.service import wait_for_layout
from support.containers import free_ports
from support.crew import TEAMS, until

AGENTS = ("lead", "greeter", "counter")


@contextmanager
def service(url: str, log: Path, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    own = {
        "SHANTY_NATS_URL": url,
        "SHANTY_TEAM": str(TEAMS / "hello"),
        "SHANTY_AGENT": "counter",
        "SHANTY_HTTP_PORT": "0",
        **settings,
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SHANTY_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "shanty_specialist"], env={**kept, **own}, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def test_a_service_that_is_there_first_waits_for_the_bus_and_for_what_is_on_it(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    log = tmp_path / "log"
    with service(f"nats://127.0.0.1:{port}", log, SHANTY_START_WAIT_S="120") as process:
        async with EmbeddedServer(store_dir=tmp_path / "nats", port=port) as server:

            async def waits() -> bool:
                assert process.poll() is None, log.read_text()
                return "run `shanty init-bus`" in log.read_text()

            await until(waits, 90, "the service says what it waits for")
            async with Bus(BusSettings(url=server.url, name="test")) as bus:
                await create_layout(bus, agents=AGENTS)

                async def is_up() -> bool:
                    assert process.poll() is None, log.read_text()
                    return [card.agent for card in await bus.roster.cards()] == ["counter"]

                await until(is_up, 30, "the service takes mail")
    assert log.read_text().count("run `shanty init-bus`") == 1


async def test_without_time_to_wait_a_missing_layout_ends_the_service_with_what_to_do(tmp_path: Path) -> None:
    async with EmbeddedServer(store_dir=tmp_path / "nats") as server:
        with service(server.url, tmp_path / "log") as process:
            assert await asyncio.to_thread(process.wait, 90) == 1
    assert "run `shanty init-bus`" in (tmp_path / "log").read_text()


async def test_a_bus_that_goes_away_while_a_service_starts_is_waited_for_however_long_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    minutes = itertools.count()
    async with EmbeddedServer(store_dir=tmp_path / "nats") as server:
        async with Bus(BusSettings(url=server.url, name="test")) as bus:
            await create_layout(bus, agents=AGENTS)
            await server.kill9()
            monkeypatch.setattr(
                "shanty_runtime.service.time", SimpleNamespace(monotonic=lambda: 60.0 * next(minutes))
            )
            waiting = asyncio.create_task(wait_for_layout(bus, read_settings({}), "counter", ["counter"]))

            async def says_so() -> bool:
                return bus.waits_for.startswith("looking at the layout") or not bus.connected

            await until(says_so, 30, "it is known that the bus is away")
            await server.start()
            await asyncio.wait_for(waiting, 30)
