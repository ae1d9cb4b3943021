"""A copy of the server's store is all of Shanty: another server on it goes on where the first one was stopped."""

from __future__ import annotations

import shutil
from pathlib import Path

from shanty_protocol import TimerAddress
from shanty_protocol.streams import timer_stream
from shanty_protocol.timers import DUE
from shanty_runtime.bus import Bus, BusSettings, EmbeddedServer, jetstream
from shanty_runtime.bus.jetstream import RawMessage
from support.crew import LEASE_S, Crew, crew, until

QUEUED, LATE = "0-queued", "0-late"


async def test_runs_in_flight_go_on_from_a_copy_of_the_store_on_another_server(tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "order.txt").write_text("seven\n")
    async with crew("trouble", tmp_path, {"lead": 1}) as before:
        await before.put(QUEUED, tmp_path / "input")
        await before.start(QUEUED, "thrower")
        await before.start(LATE, "nobody within 5")

        async def parked() -> bool:
            return all([await timer_of(before.bus, run) for run in (QUEUED, LATE)])

        await until(parked, 60, "the lead waits for both, with timers for their deadlines")
        journals = {run: [one.address for one in await before.entries(run)] for run in (QUEUED, LATE)}
        await before.server.stop()
    shutil.move(tmp_path / "nats" / "jetstream", tmp_path / "backup")

    shutil.copytree(tmp_path / "backup", tmp_path / "elsewhere" / "jetstream")
    async with EmbeddedServer(store_dir=tmp_path / "elsewhere") as server:
        async with Bus(BusSettings(url=server.url, name="test", lease_s=LEASE_S)) as bus:
            after = Crew(before.team, server, bus, tmp_path / "elsewhere", {})
            (order,) = await bus.files.versions(QUEUED)
            assert [part async for part in bus.files.content(QUEUED, order)] == [b"seven\n"]
            try:
                after.add("lead")
                after.add("thrower")
                told = {run: (await after.reply(run, within_s=90)).result for run in (QUEUED, LATE)}
            finally:
                for replica in after.replicas:
                    replica.kill()
            assert told[QUEUED] == {"thrower": ["failed", "ZeroDivisionError: integer division or modulo by zero"]}
            late = told[LATE]
            assert late is not None and late["nobody"][0] == "unreachable"
            for run, addresses in journals.items():
                assert [one.address for one in await after.entries(run)][: len(addresses)] == addresses


async def timer_of(bus: Bus, run: str) -> RawMessage | None:
    timer = TimerAddress("set", "lead", run, "0", DUE)
    return await jetstream.get(bus.connection, timer_stream("0"), timer.subject)
