"""The team as docker compose runs it, and what happens to a run when its containers and networks fail."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from shanty_protocol import Entry, ThreadReplied, ThreadTakenOver, ToolReturned
from shanty_protocol.streams import DAY_S
from shanty_runtime.bus import Bus, Stored
from shanty_runtime.bus.jetstream import manage
from shanty_runtime.team import load_team
from shanty_runtime.testing.claude import ClaudeServer, play
from support.containers import ROOT, TEAM, Compose, Incident, docker, inspect, make_incident, until_health

pytestmark = [
    pytest.mark.docker,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    # Docker takes connections for a server that is not up yet, and hangs up; nats-py 2.16 drops that socket unclosed.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <function StreamWriter.__del__"),
]

PACE_S = "1.5"
"""How long a rehearsed turn takes: long enough to do something to whoever takes it."""

CHECKS = [
    "nats-server here",
    "nats",
    "server version",
    "server health",
    "jetstream",
    "durable acks",
    "space",
    "age",
    "layout",
    "roster",
    "clocks",
]
"""What `shanty doctor` looks at."""


@pytest.fixture(scope="module")
def team(images: None) -> Iterator[Compose]:
    compose = Compose("shanty-test", SHANTY_REHEARSAL_PACE_S=PACE_S)
    try:
        yield compose
    finally:
        compose.down()


@pytest.fixture(scope="module")
def incident_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_incident(tmp_path_factory.mktemp("incident") / "seven", seed=7)


@pytest.fixture
async def bus(team: Compose) -> AsyncIterator[Bus]:
    team.up(logs=1)
    async with team.bus() as bus:
        yield bus


@pytest.fixture
def incident(team: Compose, incident_files: Path, request: pytest.FixtureRequest) -> Incident:
    return Incident(team, incident_files, request.node.name)


def in_the_middle(stored: Stored, entry: Entry) -> bool:
    """The logs' first tool has returned, and there is more to do."""
    return stored.address.agent == "logs" and isinstance(entry, ToolReturned)


def container_of(replica: str) -> str:
    """A replica is called after its host, which is the beginning of its container's id."""
    return replica.rpartition("-")[0]


async def test_one_command_brings_up_a_team_that_analyses_an_incident_from_this_machine(
    team: Compose, incident: Incident, bus: Bus
) -> None:
    incident.start()
    report = await asyncio.to_thread(incident.report)
    await incident.audit(bus, report)
    checks = json.loads(team("run", "--rm", "cli", "doctor", "--team", "/team", "-o", "json"))
    assert {check["name"]: check["state"] for check in checks} == dict.fromkeys(CHECKS, "ok")


async def test_the_command_line_has_a_container_that_brings_the_files(
    team: Compose, incident_files: Path, bus: Bus
) -> None:
    mount = f"{incident_files}:/input:ro"
    out = team("run", "--rm", "--volume", mount, "cli", "run", "/team", "--input", "/input", "-o", "json")
    assert json.loads(out)["status"] == "completed"


async def test_of_three_replicas_the_one_at_work_is_killed_and_another_goes_on(
    team: Compose, incident: Incident, bus: Bus
) -> None:
    team.up(logs=3)
    assert len(team.containers("logs")) == 3
    incident.start()
    killed = (await incident.entry_where(bus, in_the_middle)).entry.by
    docker("kill", "--signal", "KILL", container_of(killed))
    report = await asyncio.to_thread(incident.report)
    stored = await incident.audit(bus, report)
    takers = {
        one.entry.by for one in stored if isinstance(one.entry, ThreadTakenOver) and one.address.agent == "logs"
    }
    assert takers and killed not in takers


async def test_a_process_that_crashes_in_its_container_is_started_again_and_goes_on(
    team: Compose, incident: Incident, bus: Bus
) -> None:
    incident.start()
    await incident.entry_where(bus, in_the_middle)
    container = team.container("logs")
    # Everything the container's user may signal: the service, and not the init above it. `docker kill` would count as
    # a wish of the operator, and nothing would start it again.
    docker("exec", container, "sh", "-c", "kill -9 -1")
    report = await asyncio.to_thread(incident.report)
    await incident.audit(bus, report)
    assert inspect(container)["RestartCount"] == 1
    await until_health(container, "healthy")


async def test_the_bus_is_killed_and_started_again_and_the_run_goes_on(
    team: Compose, incident: Incident, bus: Bus
) -> None:
    incident.start()
    await incident.entry_where(bus, in_the_middle)
    nats = team.container("nats")
    docker("kill", "--signal", "KILL", nats)
    docker("start", nats)
    report = await asyncio.to_thread(incident.report)
    await incident.audit(bus, report)


async def test_a_specialist_cut_off_from_the_network_is_replaced_and_changes_nothing_when_it_is_back(
    team: Compose, incident: Incident, bus: Bus
) -> None:
    team.up(logs=2)
    incident.start()
    cut = (await incident.entry_where(bus, in_the_middle)).entry.by
    with team.cut_off(container_of(cut), "logs"):
        report = await asyncio.to_thread(incident.report)
    await until_health(container_of(cut), "healthy")
    stored = await incident.audit(bus, report)
    assert any(isinstance(one.entry, ThreadTakenOver) and one.entry.by != cut for one in stored)


async def test_the_bus_cut_off_from_the_network_is_found_again_by_everybody(
    team: Compose, incident: Incident, bus: Bus
) -> None:
    incident.start()
    await incident.entry_where(bus, in_the_middle)
    agents = [team.container(name) for name in ("lead", "logs", "metrics", "deploys", "tickets")]
    with team.cut_off(team.container("nats"), "nats"):
        # Not ready is what a container says once its client has missed the pings.
        await asyncio.gather(*(until_health(container, "unhealthy") for container in agents))
        assert "the run goes on once it is back" in await asyncio.to_thread(incident.abandoned)
    await asyncio.gather(*(until_health(container, "healthy") for container in agents))
    incident.start()  # the same key is the same run
    report = await asyncio.to_thread(incident.report)
    await incident.audit(bus, report)


async def test_a_container_that_is_stopped_in_the_middle_hands_its_work_back_and_ends_well(
    team: Compose, incident: Incident, bus: Bus
) -> None:
    team.up(logs=2)
    incident.start()
    stopped = (await incident.entry_where(bus, in_the_middle)).entry.by
    docker("stop", container_of(stopped))  # waits for its end, and kills it after the grace period
    assert inspect(container_of(stopped))["State"]["ExitCode"] == 0
    report = await asyncio.to_thread(incident.report)
    stored = await incident.audit(bus, report)
    last_by = [one.entry.by for one in stored if one.address.agent == "logs" and isinstance(one.entry, ThreadReplied)]
    assert stopped not in last_by


async def test_bringing_it_up_again_changes_nothing_on_the_bus(team: Compose, bus: Bus) -> None:
    team("run", "--rm", "init-bus")
    assert "unchanged: everything for " in team("run", "--rm", "init-bus")


async def test_how_long_and_how_much_the_bus_keeps_is_chosen_where_it_is_brought_up(team: Compose, bus: Bus) -> None:
    chosen = Compose(team.project, SHANTY_KEEP_DAYS="30", SHANTY_MAX_BYTES="1G")
    chosen("run", "--rm", "--no-deps", "init-bus")
    team("run", "--rm", "--no-deps", "init-bus")  # whoever says nothing changes nothing
    lane = (await manage(bus.connection, "STREAM.INFO.SHANTY_0"))["config"]
    assert (lane["max_age"], lane["max_bytes"]) == (30 * DAY_S * 1_000_000_000, 2**30)


@pytest.mark.parametrize("layers", [(), ("deploy/docker/cluster.yml",)], ids=["one server", "three"])
def test_where_nothing_is_set_compose_has_nothing_to_warn_of(images: None, layers: tuple[str, ...]) -> None:
    compose = Compose("shanty-test", *layers)
    command = ["docker", "compose", *compose.files, "--profile", "*", "config", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, env=compose.environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_key_reaches_the_agents_and_nobody_else_and_a_model_that_is_paid_for_is_asked_for_by_name(
    images: None,
) -> None:
    services = services_of(Compose("shanty-test", ANTHROPIC_API_KEY="a-key"))
    with_key = {name for name, each in services.items() if (each.get("environment") or {}).get("ANTHROPIC_API_KEY")}
    assert with_key == {"lead", "logs", "metrics", "deploys", "tickets"}
    assert {services[name]["environment"]["SHANTY_MODEL"] for name in with_key} == {"rehearsal"}


def services_of(compose: Compose) -> dict[str, Any]:
    found = json.loads(compose("--profile", "*", "config", "--format", "json"))["services"]
    assert isinstance(found, dict)
    return found


async def test_the_same_command_with_a_key_and_a_model_plays_the_team_with_claude(
    images: None, incident_files: Path
) -> None:
    async with ClaudeServer(play(load_team(TEAM))) as claude, reachable_from_containers(claude.url) as url:
        compose = Compose(
            "shanty-test-claude", ANTHROPIC_API_KEY="a-key", ANTHROPIC_BASE_URL=url, SHANTY_MODEL="sonnet"
        )
        try:
            await asyncio.to_thread(compose.up)
            incident = Incident(compose, incident_files, "claude")
            incident.start()
            report = await asyncio.to_thread(incident.report)
            async with compose.bus() as bus:
                await incident.audit(bus, report)
        finally:
            await asyncio.to_thread(compose.down)
    claude.assert_valid()
    assert {body["model"] for body in claude.bodies} == {"claude-sonnet-5-5"}


@asynccontextmanager
async def reachable_from_containers(url: str) -> AsyncIterator[str]:
    """What listens on this machine's loopback, at an address that containers can reach."""
    port = urlsplit(url).port

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pour(reader, inner_writer), pour(inner_reader, writer))

    (network,) = json.loads(docker("network", "inspect", "bridge"))
    gateway = network["IPAM"]["Config"][0]["Gateway"]
    async with await asyncio.start_server(relay, gateway, 0) as server:
        yield f"http://{gateway}:{server.sockets[0].getsockname()[1]}"


async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while part := await reader.read(2**16):
            writer.write(part)
            await writer.drain()
    except ConnectionError:
        pass  # one side has gone: the other is told by closing
    finally:
        writer.close()


async def test_a_bus_of_three_servers_loses_one_in_the_middle_of_a_run(images: None, incident_files: Path) -> None:
    compose = Compose("shanty-test-three", "deploy/docker/cluster.yml", SHANTY_REHEARSAL_PACE_S=PACE_S)
    try:
        compose.up()
        incident = Incident(compose, incident_files, "three")
        async with compose.bus() as bus:
            incident.start()
            await incident.entry_where(bus, in_the_middle)
            docker("kill", "--signal", "KILL", compose.container("nats-2"))
            report = await asyncio.to_thread(incident.report)
            await incident.audit(bus, report)
            lane = await manage(bus.connection, "STREAM.INFO.SHANTY_0")
        assert lane["config"]["num_replicas"] == 3
    finally:
        compose.down()
