"""What `shanty doctor` says of a bus that is sick, and how to mend it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shanty_cli.dev_bus import Found
from shanty_cli.doctor import examine
from shanty_cli.sickness import Check, copies, streams_of
from shanty_protocol import EntryAddress, MessageSent
from shanty_runtime.bus import Bus, BusSettings, EmbeddedServer
from shanty_runtime.bus.jetstream import manage, publish
from shanty_runtime.errors import BusFull, BusUnavailable
from shanty_runtime.testing import EmbeddedCluster, nats_bus, until

RUN = "0-run"


async def checks(server: EmbeddedServer) -> dict[str, Check]:
    found = Found(nats_url=server.url, monitor_url=server.monitor_url, ours=False)
    return {check.name: check async for check in examine(found, None, ("0",))}


async def write(bus: Bus, n: int, text: str = "") -> None:
    entry = MessageSent(at_ms=1, to_thread="0-1", purpose="progress", text=text)
    assert (await bus.journals.append(EntryAddress("log", RUN, "0", "lead", n), entry)).ours


async def test_a_well_bus_has_space_and_says_it_is_well(bus: Bus, server: EmbeddedServer) -> None:
    found = await checks(server)
    assert (found["server health"].state, found["space"].state) == ("ok", "ok")
    assert not {"copies", "slow consumers", "waiting work"} & found.keys()


async def test_a_stream_that_is_nearly_full_is_named_before_it_is(bus: Bus, server: EmbeddedServer) -> None:
    await write(bus, 0, "x" * 500_000)
    told = await manage(bus.connection, "STREAM.INFO.SHANTY_0")
    await manage(bus.connection, "STREAM.UPDATE.SHANTY_0", {**told["config"], "max_bytes": 600_000})
    found = (await checks(server))["space"]
    assert found.state == "bad"
    assert found.found.startswith("SHANTY_0 is 83% full")
    assert "shanty runs archive" in found.mend and "shanty init-bus --max-bytes" in found.mend


async def test_an_account_that_has_used_what_it_may_store_makes_writes_wait(tmp_path: Path) -> None:
    account = "accounts { A { users: [{user: a, password: a}], jetstream: {max_file: 10M, max_mem: 10M} } }"
    async with (
        EmbeddedServer(store_dir=tmp_path, extra=account) as server,
        Bus(BusSettings(url=server.url, user="a", password="a")) as bus,
    ):
        stream = {"name": "X", "subjects": ["x.>"], "storage": "file", "discard": "new"}
        await manage(bus.connection, "STREAM.CREATE.X", stream)
        with pytest.raises(BusFull, match=r"10002.*in the server's configuration"):
            for n in range(30):
                await publish(bus.connection, f"x.{n}", os.urandom(500_000), {})
        found = Found(nats_url=server.url.replace("//", "//a:a@"), monitor_url=server.monitor_url, ours=False)
        space = {check.name: check async for check in examine(found, None, ("0",))}["space"]
        assert space.state == "bad" and "what this account may store" in space.found
        assert "max_file of the account" in space.mend


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_stream_that_lacks_a_copy_is_named_with_the_server_it_was_on(cluster: EmbeddedCluster) -> None:
    async with nats_bus(cluster, num_replicas=3) as bus:
        found = copies(await streams_of(bus, ("0",)))
        assert found is not None
        leader = await cluster.leader_of(bus, "SHANTY_0")
        gone = next(server for server in cluster.servers if server is not leader)
        await gone.kill9()
        async with asyncio.timeout(60):
            while f"SHANTY_0 lacks its copy on {gone.name}" not in found.found:
                found = copies(await streams_of(bus, ("0",))) or found
        assert found.state == "bad" and "start the servers that are missing" in found.mend


# A disk that is full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MB. It takes root, and a system that has tmpfs."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small disk is mounted by root, on Linux")
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def enlarge(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_full_disk_is_named_and_after_a_restart_what_waited_is_written(small_disk: Path) -> None:
    async with EmbeddedServer(store_dir=small_disk) as server:
        async with nats_bus(server) as bus:
            with pytest.raises(BusUnavailable, match="no answer"):
                for n in range(300):
                    filling = EntryAddress("log", RUN, "0", "lead", n).subject
                    await publish(bus.connection, filling, os.urandom(200_000), {}, timeout_s=3)
            entry = MessageSent(at_ms=1, to_thread="0-1", purpose="progress", text="waits")
            place = EntryAddress("log", "0-next", "0", "lead", 0)
            waiting = asyncio.create_task(bus.journals.append(place, entry))
            try:
                health = (await checks(server))["server health"]
                assert health.state == "bad"
                assert health.found.startswith("the server's disk is full") and "SHANTY_0" in health.found
                assert "restart nats-server" in health.mend
                await until(lambda: bus.waits_for, 60)
                assert not waiting.done()
                await asyncio.to_thread(enlarge, small_disk)
                assert (await checks(server))["server health"].state == "bad", "room alone does not mend it"
                await server.restart()
                assert (await waiting).ours
                assert bus.waits_for == ""
            finally:
                waiting.cancel()
            assert (await checks(server))["server health"].state == "ok"
