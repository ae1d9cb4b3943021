"""The images: what is in them, and how a service in one starts, stops, dies and says how it is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from shanty_protocol import ThreadReplied, ThreadTakenOver, ToolCalled
from shanty_runtime.bus import Bus, BusSettings, EmbeddedServer, create_layout
from shanty_runtime.team import load_team
from support.audit import audit
from support.containers import ROOT, TAG, docker, inspect, until_health
from support.crew import LEASE_S, TEAMS, Crew

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]

SECOND_NS = 1_000_000_000
SITE_PACKAGES = PurePosixPath("/usr/local/lib/python3.13/site-packages")
SERVICES = ["lead", "specialist", "toolgateway", "cli"]
AGENTS = ["lead", "clerk", "counter"]
SEEDS = range(5)
PACE_S = "2"
"""How long a rehearsed turn takes, where something has to be done to a container before the next one."""

each_image = pytest.mark.parametrize("service", SERVICES)


def image_of(service: str) -> str:
    return f"shanty/{service}:{TAG}"


def files_in(image: str) -> set[PurePosixPath]:
    walk = "import os; [print(os.path.join(where, name)) for where, _, names in os.walk('/') for name in names]"
    listing = docker("run", "--rm", "--user=0", "--entrypoint=python", image, "-c", walk)
    return {
        path
        for line in listing.splitlines()
        if (path := PurePosixPath(line)).parts[1] not in ("proc", "sys", "dev") and path.suffix != ".pyc"
    }


def source_files(package: str) -> set[PurePosixPath]:
    (folder,) = ROOT.glob(f"*/{package}") if package == "shanty_protocol" else ROOT.glob(f"services/*/{package}")
    return {
        SITE_PACKAGES / package / path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


@each_image
def test_an_image_holds_its_service_and_locked_packages_and_nothing_else(images: None, service: str) -> None:
    added = files_in(image_of(service)) - files_in("python:3.13-slim")
    ours = {path for path in added if path.parts[6:7] and path.parts[6].startswith("shanty_")}
    packages = ["shanty_protocol", "shanty_runtime", f"shanty_{service}"]
    expected = set().union(*(source_files(package) for package in packages))
    assert {path for path in ours if not path.parts[6].endswith(".dist-info")} == expected
    elsewhere = [path for path in added if not path.is_relative_to(SITE_PACKAGES)]
    assert {str(path.parent) for path in elsewhere} <= {"/usr/local/bin", "/usr/local/share/doc/shanty", "/", "/etc"}
    assert {path.name for path in elsewhere if path.parent.name in ("", "etc")} <= {".dockerenv", "mtab"}
    commands = {path.name for path in elsewhere if path.parent.name == "bin"}
    assert ("shanty-probe" in commands) == (service != "cli")
    assert ("nats-server" in commands) == ("shanty" in commands) == (service == "cli")
    assert not commands & {"hatchling", "gcc", "cc"}


@each_image
def test_an_image_says_what_it_is_and_is_nobodys_root(images: None, service: str) -> None:
    config = inspect(image_of(service))["Config"]
    prefix = "org.opencontainers.image."
    labels = {name.removeprefix(prefix): said for name, said in config["Labels"].items() if name.startswith(prefix)}
    assert config["User"] == "65532:65532"
    assert labels["title"] == f"shanty-{service}"
    assert labels["licenses"] == "Apache-2.0"
    assert labels.keys() == {"title", "description", "licenses", "version", "revision"}
    assert config["Entrypoint"] == (["shanty"] if service == "cli" else ["python", "-m", f"shanty_{service}"])
    assert [each for each in config["Env"] if "KEY" in each.partition("=")[0] or each.startswith("PIP_INDEX")] == [
        each for each in inspect("python:3.13-slim")["Config"]["Env"] if "KEY" in each.partition("=")[0]
    ]


@each_image
def test_a_package_starts_from_bytecode_because_nothing_can_be_written_later(images: None, service: str) -> None:
    stale = "import shanty_runtime.service as s, os; print(os.path.exists(s.__cached__))"
    options = ["--rm", "--read-only", "--network=none", "--cap-drop=ALL", "--entrypoint=python"]
    assert docker("run", *options, image_of(service), "-c", stale) == "True"


def test_services_share_every_layer_but_their_own_code(images: None) -> None:
    services = ("lead", "specialist", "toolgateway")
    layers = list(zip(*(inspect(image_of(name))["RootFS"]["Layers"] for name in services), strict=True))
    shared = [layer for layer in layers if len(set(layer)) == 1]
    assert len(layers) - len(shared) <= 3


class Containers(Crew):
    """The ledger team, every replica a container, and the bus as well."""

    def __init__(self, network: Network, nats: DockerContainer, bus: Bus, folder: Path) -> None:
        super().__init__(
            load_team(TEAMS / "ledger"), EmbeddedServer(), bus, folder, {}
        )  # that server is never started
        self.network, self.nats = network, nats
        self.containers: list[DockerContainer] = []

    def start_replica(self, agent: str, *, image: str = "", **environment: str) -> str:
        """The id of a container that plays an agent. An image of its own has the team in it."""
        container = DockerContainer(image or image_of("lead" if agent == "lead" else "specialist"))
        container.with_network(self.network).with_envs(
            SHANTY_NATS_URL="nats://nats:4222",
            SHANTY_AGENT=agent,
            SHANTY_MODEL="rehearsal",
            SHANTY_LEASE_S=str(LEASE_S),
            SHANTY_TOOL_GATEWAY="off",  # its one irreversible tool can be looked up
            LEDGER_FILE="/ledger/ledger.txt",
            MODEL_CALLS_FILE="/ledger/model-calls.txt",
            **environment,
        )
        if not image:
            container.with_volume_mapping(TEAMS / "ledger", "/team", "ro")
        container.with_volume_mapping(self.folder, "/ledger", "rw")
        container.with_tmpfs_mount("/tmp").with_kwargs(
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            healthcheck={"interval": 3 * SECOND_NS, "retries": 1},
        )
        self.containers.append(container)
        container.start()
        return str(container.get_wrapped_container().id)

    def stop(self) -> None:
        while self.containers:
            self.containers.pop().stop()

    async def all_healthy(self) -> None:
        await asyncio.gather(*(until_health(each.get_wrapped_container().id, "healthy") for each in self.containers))

    async def run_to_the_end(self, run: str) -> None:
        await self.start(run, objective=run)
        outcome = await self.reply(run, within_s=120)
        await audit(self, run, outcome, self.folder / "ledger.txt", self.folder / "model-calls.txt")


@pytest.fixture
def network(images: None) -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture
async def ledger(network: Network, tmp_path: Path) -> AsyncIterator[Containers]:
    folder = tmp_path / "ledger"
    folder.mkdir()
    folder.chmod(0o777)  # the containers' user is nobody here
    nats = DockerContainer("nats:2.15-alpine").with_network(network).with_network_aliases("nats")
    nats.with_command("--config /etc/nats/nats.conf").with_exposed_ports(4222)
    nats.with_volume_mapping(ROOT / "deploy/nats", "/etc/nats", "ro")
    with nats:
        url = f"nats://{nats.get_container_host_ip()}:{nats.get_exposed_port(4222)}"
        async with Bus(BusSettings(url=url, name="test", lease_s=LEASE_S)) as bus:
            await create_layout(bus, agents=AGENTS, ack_wait_s=LEASE_S)
            running = Containers(network, nats, bus, folder)
            try:
                yield running
            finally:
                running.stop()


async def test_containers_killed_at_any_instant_lose_and_repeat_nothing(ledger: Containers) -> None:
    containers = {agent: [ledger.start_replica(agent), ledger.start_replica(agent)] for agent in AGENTS}
    await ledger.all_healthy()
    for seed in SEEDS:
        chance = random.Random(seed)
        running = asyncio.create_task(ledger.run_to_the_end(f"0-seed-{seed}"))
        victims = [chance.choice(containers[agent]) for agent in AGENTS]
        await asyncio.gather(*(kill_and_start(each, chance.uniform(0, 1.5)) for each in victims))
        await running


async def kill_and_start(container: str, after_s: float) -> None:
    await asyncio.sleep(after_s)  # any instant will do
    await asyncio.to_thread(docker, "kill", "--signal=KILL", container)
    await asyncio.to_thread(docker, "start", container)


async def test_the_one_at_work_is_killed_and_the_other_takes_over(ledger: Containers) -> None:
    for agent in ("lead", "counter", "clerk", "clerk"):
        ledger.start_replica(agent, SHANTY_REHEARSAL_PACE_S=PACE_S)
    await ledger.all_healthy()
    running = asyncio.create_task(ledger.run_to_the_end("0-taken-over"))
    killed = await booking(ledger, "0-taken-over")
    docker("kill", "--signal=KILL", killed)
    await running
    takers = [one for one in await ledger.entries("0-taken-over") if isinstance(one.entry, ThreadTakenOver)]
    assert takers and all(not one.entry.by.startswith(killed) for one in takers if one.address.agent == "clerk")


async def booking(ledger: Containers, run: str) -> str:
    """The container that has just said it is about to book an amount."""
    async for stored in ledger.bus.feed.follow(run):
        if stored.address.agent == "clerk" and isinstance(stored.entry, ToolCalled):
            return stored.entry.by.rpartition("-")[0]
    raise AssertionError("a feed does not end by itself")


async def test_a_service_that_is_the_first_process_stops_when_it_is_told_to(ledger: Containers) -> None:
    for agent in ("lead", "counter"):
        ledger.start_replica(agent)
    ledger.start_replica("clerk", SHANTY_REHEARSAL_PACE_S=PACE_S, SHANTY_DRAIN_S="20")
    await ledger.all_healthy()
    running = asyncio.create_task(ledger.run_to_the_end("0-stopped"))
    stopped = await booking(ledger, "0-stopped")
    await asyncio.to_thread(docker, "stop", "--time=30", stopped)
    state = inspect(stopped)["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
    stored = await ledger.entries("0-stopped")
    assert not [one for one in stored if one.address.agent == "clerk" and isinstance(one.entry, ThreadReplied)]
    docker("start", stopped)
    await running


async def test_a_container_is_unhealthy_while_the_bus_is_away_and_is_left_alone(ledger: Containers) -> None:
    container = ledger.start_replica("counter")
    await until_health(container, "healthy")
    nats = ledger.nats.get_wrapped_container().id
    docker("stop", nats)
    await until_health(container, "unhealthy")
    probe = ["python", "-I", "-S", "/usr/local/bin/shanty-probe"]
    assert docker("exec", container, *probe, "live").startswith("HTTP/1.1 200")
    assert '"connected":false' in last_health_check(container)["Output"]
    docker("start", nats)
    await until_health(container, "healthy")
    assert inspect(container)["RestartCount"] == 0


def last_health_check(container: str) -> dict[str, Any]:
    check = inspect(container)["State"]["Health"]["Log"][-1]
    assert isinstance(check, dict)
    return check


async def test_a_team_may_be_part_of_an_image(ledger: Containers, tmp_path: Path) -> None:
    recipe, image = tmp_path / "Dockerfile", "shanty-test/counter"
    recipe.write_text(f"FROM {image_of('specialist')}\nCOPY . /team\n")
    docker("build", "--quiet", "--file", str(recipe), "--tag", image, str(TEAMS / "ledger"))
    try:
        await until_health(ledger.start_replica("counter", image=image), "healthy")
    finally:
        ledger.stop()
        docker("image", "rm", image)
