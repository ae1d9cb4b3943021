"""The bus is sick: it is full, it does not answer, its watchers do not read. Work waits, says why, and goes on."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shanty_protocol import EntryAddress, MailRejected, MessageSent
from shanty_runtime.bus import Bus
from shanty_runtime.bus.jetstream import manage, publish
from shanty_runtime.bus.removal import remove_run
from shanty_runtime.errors import BusFull
from shanty_runtime.team import load_team
from shanty_runtime.testing import EmbeddedCluster, nats_bus
from support.audit import audit
from support.commands import Shanty
from support.crew import LEASE_S, TEAMS, Crew, Replica, crew, until
from support.health import get
from support.scrape import http_port, log_lines, scrape, total

RUNS = [f"0-r{number}" for number in range(4)]
OLD_RUN = "0-old"
WAITS_S = 3.0
"""How long the bus stays full: several leases."""
MOST_LINES = 25
"""What a service may say meanwhile, with four runs in hand."""


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Crew]:
    environment = {
        "LEDGER_FILE": str(tmp_path / "ledger.txt"),
        "MODEL_CALLS_FILE": str(tmp_path / "model-calls.txt"),
        "SHANTY_REHEARSAL_PACE_S": "0.05",
    }
    async with crew("ledger", tmp_path, {"lead": 1, "clerk": 1, "counter": 1}, environment) as running:
        yield running


async def fill_stream(running: Crew) -> None:
    """Not one more byte fits."""
    for n in range(4):
        await publish(running.bus.connection, f"shanty.0.log.{OLD_RUN}.0.lead.{n}", os.urandom(100_000), {})
    told = await manage(running.bus.connection, "STREAM.INFO.SHANTY_0")
    await limit(running.bus, told["config"], told["state"]["bytes"] + 1)


async def limit(bus: Bus, config: dict[str, Any], max_bytes: int) -> None:
    await manage(bus.connection, "STREAM.UPDATE.SHANTY_0", {**config, "max_bytes": max_bytes})


async def raise_the_limit(running: Crew) -> None:
    told = await manage(running.bus.connection, "STREAM.INFO.SHANTY_0")
    await limit(running.bus, told["config"], 2**30)


async def take_an_old_run_away(running: Crew) -> None:
    await remove_run(running.bus, OLD_RUN)


async def fill_server(running: Crew) -> None:
    """A stream of somebody else has all the space the server may use."""
    stream = {"name": "OTHER", "subjects": ["other.>"], "storage": "file", "discard": "new"}
    await manage(running.bus.connection, "STREAM.CREATE.OTHER", stream)
    await publish(running.bus.connection, "other.first", os.urandom(500_000), {})
    running.server.max_file = "800000"
    await running.server.restart()

    async def connected() -> bool:
        return running.bus.connected

    await until(connected, 30, "the test is connected again")
    with pytest.raises(BusFull):
        for n in range(1_000):
            await publish(running.bus.connection, f"other.{n}", os.urandom(10_000), {}, timeout_s=20)
    for n in range(1_000, 2_000):
        try:
            await publish(running.bus.connection, f"other.{n}", b"", {})
        except BusFull:
            return


async def take_the_stream_away(running: Crew) -> None:
    await manage(running.bus.connection, "STREAM.DELETE.OTHER")


async def waiting(replica: Replica) -> bool:
    return total(await scrape(replica), "shanty_bus_waiting", shanty_cause="full") > 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("fill", "make_room"),
    [
        pytest.param(fill_stream, raise_the_limit, id="until the limit is raised"),
        pytest.param(fill_stream, take_an_old_run_away, id="until an old run is taken away", marks=pytest.mark.slow),
        pytest.param(fill_server, take_the_stream_away, id="the server", marks=pytest.mark.slow),
    ],
)
async def test_work_waits_while_the_bus_is_full_and_goes_on_by_itself(
    ledger: Crew, tmp_path: Path, fill: Any, make_room: Any
) -> None:
    for run in RUNS:
        await ledger.start(run, objective=run)
    booked = tmp_path / "ledger.txt"

    async def work_goes_on() -> bool:
        return booked.exists()

    await until(work_goes_on, 60, "a first effect")
    await fill(ledger)

    async def somebody_waits() -> bool:
        return any([await waiting(replica) for replica in ledger.replicas])

    await until(somebody_waits, 60, "a service says that it waits")
    said_before = {replica.name: len(log_lines(replica)) for replica in ledger.replicas}
    await asyncio.sleep(WAITS_S)
    for replica in ledger.replicas:
        assert replica.process.poll() is None, "it would have to be started again"
        assert get(await http_port(replica), "/healthz/ready")[0] == 200
        assert len(log_lines(replica)) - said_before[replica.name] <= MOST_LINES
        told = [line for line in log_lines(replica) if "work waits for the bus" in line["message"]]
        assert len(told) <= 1
        assert all("there is no space" in line["message"] for line in told)
    if fill is fill_stream:
        await the_tools_say_why(ledger, tmp_path)
    await make_room(ledger)
    for run in RUNS:
        outcome = await ledger.reply(run, within_s=120)
        await audit(ledger, run, outcome, booked, tmp_path / "model-calls.txt")
    for replica in ledger.replicas:
        assert not await waiting(replica)


async def the_tools_say_why(running: Crew, folder: Path) -> None:
    async def on_a_card() -> bool:
        return any("there is no space" in card.waits_for for card in await running.bus.roster.cards())

    await until(on_a_card, 30, "the card of a service says why it waits")
    shanty = Shanty(folder)
    where = ("--nats-url", running.server.url, "-o", "json")
    lines = (await asyncio.to_thread(shanty, "specialists", *where)).json
    assert any("maximum bytes exceeded" in line["waits_for"] for line in lines)
    done = await asyncio.to_thread(shanty, "doctor", *where, SHANTY_NATS_MONITOR_URL=running.server.monitor_url)
    checks = {check["name"]: check for check in done.json}
    assert done.code == 1
    assert checks["space"]["state"] == "bad"
    assert re.search(r"SHANTY_0 is (9\d|1\d\d)% full", checks["space"]["found"]), checks["space"]
    assert "shanty init-bus --max-bytes" in checks["space"]["mend"]
    assert checks["waiting work"]["state"] == "bad"
    assert checks["server health"]["state"] == "ok"


# Hostile mail

STRANGER = "stranger"
FLOOD = 2_000
LARGE = 20
MOST_MORE_BYTES = 60 * 2**20
"""How much a service may grow over a flood whose large messages alone have 16 MB."""


def hostile(n: int, chance: random.Random) -> tuple[str, bytes, dict[str, str]]:
    """The thread it is for, the bytes and the headers of something that no agent can take in."""
    reply = b'{"kind":"thread.replied","at_ms":1,"to_thread":"0","outcome":{"status":"ok"}'
    step = b'{"kind":"thread.opened","at_ms":1}'
    forms = [
        chance.randbytes(chance.randrange(200)),
        b"[" * 50_000,
        b'{"a":' * 20_000,
        reply + b',"cost_microusd":NaN}',
        reply + b',"fence":1' + b"0" * 5_000 + b"}",
        reply + b',"by":"\\ud800"}',
        reply + b',"by":"\xff\xfe"}',
        reply + b',"kind":"thread.opened","kind":7}',
        reply + b',"answers":"shanty.0.clerk.0-r0.0.lead.1"}',
        b'{"kind":"delegation.sent","at_ms":1,"to_thread":"0-1","brief":{"objective":"mine now"}}',
        b'{"kind":"approval.decided","at_ms":1,"to_thread":"0","request":"shanty.>","decision":"allow"}',
        b'{"kind":"budget.granted","at_ms":1,"to_thread":"0","budget":{"cost_microusd":1000000000}}',
        b'{"kind":"mail.retried","at_ms":1,"letter":"x","mail":"shanty.0.clerk.0-r0.0.lead.1"}',
        b'{"kind":"from.another.world"}',
        step,
        b"",
    ]
    data = b" " * 800_000 + step if n < LARGE else forms[n % len(forms)]
    said: list[dict[str, str]] = [{}, {}, {"Shanty-Version": "9" * 300}, {"Shanty-Kind": "x" * 3_000}]
    return chance.choice(["0-1", "9", "no-thread"]), data, chance.choice([*said, {"traceparent": "00-"}])


def resident_bytes(replica: Replica) -> int:
    return int(Path(f"/proc/{replica.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.timeout(300)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc, which is not here")
async def test_a_flood_of_hostile_mail_ends_in_the_dead_letters_and_the_next_good_run_is_done(
    ledger: Crew, tmp_path: Path
) -> None:
    chance, bus = random.Random(6), ledger.bus
    clerk = next(each for each in ledger.replicas if each.agent == "clerk")
    await ledger.start("0-before", objective="0-before")
    await ledger.reply("0-before")
    before_bytes = resident_bytes(clerk)
    free = asyncio.Semaphore(32)

    async def send(n: int) -> None:
        thread, data, headers = hostile(n, chance)
        async with free:
            place = f"shanty.0.clerk.0-h{n % 7}.{thread}.{STRANGER}.{n}"
            await publish(bus.connection, place, data, headers, timeout_s=60)

    await asyncio.gather(*(send(n) for n in range(FLOOD)))
    await ledger.start("0-after", objective="0-after")
    outcome = await ledger.reply("0-after", within_s=150)
    await audit(ledger, "0-after", outcome, tmp_path / "ledger.txt", tmp_path / "model-calls.txt")

    async def all_put_away() -> bool:
        return len(await letters(bus)) >= FLOOD

    await until(all_put_away, 90, "every one of them is a dead letter")
    found = await letters(bus)
    assert {each.mail.split(".")[5] for each in found} == {STRANGER}
    assert len({each.mail for each in found}) == len(found) == FLOOD
    codes = {"invalid_message", "unknown_kind", "unsupported_version", "wrong_recipient"}
    assert {each.code for each in found} >= codes
    assert all(each.reason for each in found)
    assert clerk.process.poll() is None
    assert resident_bytes(clerk) - before_bytes < MOST_MORE_BYTES


async def letters(bus: Bus) -> list[MailRejected]:
    found = [stored.entry async for stored in bus.journals.mail_entries("0", "dead")]
    return [entry for entry in found if isinstance(entry, MailRejected)]


# A watcher that does not read


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_watcher_that_stalls_disturbs_nobody_and_misses_nothing_once_it_reads_again(
    ledger: Crew, tmp_path: Path
) -> None:
    # So little that the server hangs up on the watcher within this test and not within a minute.
    ledger.server.extra += '\nmax_pending: 1MB\nwrite_deadline: "1s"\n'
    await ledger.server.restart()
    await ledger.start("0-r", objective="0-r")
    shown = tmp_path / "shown.txt"
    with shown.open("wb") as file:
        command = [sys.executable, "-m", "shanty_cli", "runs", "tail", "0-watched", "--nats-url", ledger.server.url]
        await say(ledger.bus, 0)
        watcher = await asyncio.to_thread(subprocess.Popen, command, stdout=file, stderr=file, cwd=tmp_path)
        try:
            await until(lambda: has(shown, "word 0 "), 60, "the watcher shows the first word")
            watcher.send_signal(signal.SIGSTOP)
            for n in range(1, WORDS):
                await say(ledger.bus, n)
            await until(lambda: hung_up(ledger), 60, "the server hangs up on the watcher")
            outcome = await ledger.reply("0-r")
            watcher.send_signal(signal.SIGCONT)
            await until(lambda: has(shown, f"word {WORDS - 1} "), 90, "the watcher has caught up")
        finally:
            watcher.kill()
            watcher.wait()
    words = re.findall(r"word (\d+) ", shown.read_text())
    assert words == [str(n) for n in range(WORDS)], "each once, and in order"
    await audit(ledger, "0-r", outcome, tmp_path / "ledger.txt", tmp_path / "model-calls.txt")
    for replica in ledger.replicas:
        lost = [line for line in log_lines(replica) if "connection to NATS lost" in line["message"]]
        assert len(lost) == 1, "when the server was restarted, and not again"


WORDS = 60
"""Of 300 kB each: more than the sockets and the server hold for somebody who does not read."""


async def say(bus: Bus, n: int) -> None:
    """An entry in a run that nobody works on."""
    entry = MessageSent(at_ms=n, to_thread="0-1", purpose="progress", text=f"word {n} " + "x" * 300_000)
    await bus.journals.append(EntryAddress("log", "0-watched", "0-1", "clerk", n), entry)


async def has(file: Path, text: str) -> bool:
    return text in await asyncio.to_thread(file.read_text)


async def hung_up(running: Crew) -> bool:
    def look() -> int:
        with urllib.request.urlopen(f"{running.server.monitor_url}/varz", timeout=5) as answer:
            return int(json.load(answer)["slow_consumers"])

    return await asyncio.to_thread(look) > 0


# Three servers


LEADER_GONE_S = 10.0
"""From when the leader of a stream is killed to when the next entry is stored."""


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_services_start_while_one_of_three_servers_is_down_and_go_on_when_the_leader_dies(
    tmp_path: Path,
) -> None:
    team = load_team(TEAMS / "ledger")
    names = [agent.name for agent in team.agents]
    async with (
        EmbeddedCluster(tmp_path / "cluster") as cluster,
        nats_bus(cluster, agents=names, num_replicas=3, ack_wait_s=LEASE_S) as bus,
    ):
        environment = {
            "LEDGER_FILE": str(tmp_path / "ledger.txt"),
            "MODEL_CALLS_FILE": str(tmp_path / "model-calls.txt"),
            "SHANTY_REHEARSAL_PACE_S": "0.3",
            "SHANTY_DURABILITY": "required",
            "SHANTY_NATS_MONITOR_URL": ",".join(server.monitor_url for server in cluster.servers),
        }
        running = Crew(team, cluster, bus, tmp_path, environment)
        leader = await cluster.leader_of(bus, "SHANTY_0")
        down = next(server for server in cluster.servers if server is not leader)
        await down.kill9()
        try:
            for name in names:
                running.add(name)
            await running.ready()
            await run_to_the_end(running, "0-one-down")
            await down.start()
            leader = await cluster.leader_of(bus, "SHANTY_0")
            await running.start("0-leader", objective="0-leader")
            async for stored in bus.feed.follow("0-leader"):
                if stored.address.agent == "clerk":
                    break
            killed_s = time.monotonic()
            await leader.kill9()
            async for _ in bus.feed.follow("0-leader", from_seq=stored.seq + 3):
                break  # what was on its way when it was killed is not counted as progress
            assert time.monotonic() - killed_s < LEADER_GONE_S
            outcome = await running.reply("0-leader")
            await audit(running, "0-leader", outcome, tmp_path / "ledger.txt", tmp_path / "model-calls.txt")
        finally:
            for replica in running.replicas:
                replica.kill()


async def run_to_the_end(running: Crew, run: str) -> None:
    await running.start(run, objective=run)
    outcome = await running.reply(run, within_s=120)
    await audit(running, run, outcome, running.folder / "ledger.txt", running.folder / "model-calls.txt")
