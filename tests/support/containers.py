"""Docker as it is used: `docker compose` on the checkout's own files, and what a test does to containers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from shanty_cli.demo import cause, first_cause, twice
from shanty_cli.start import ids_from
from shanty_protocol import Entry
from shanty_runtime.bus import Bus, BusSettings, Stored

ROOT = Path(__file__).parents[2]
TEAM = ROOT / "deploy/teams/incident"
TAG = "test"
COMMAND_DEADLINE_S = 600
RUN_DEADLINE_S = 240
HEALTHY_DEADLINE_S = 240
LOOK_EVERY_S = 1.0


def require_docker() -> None:
    """Skip the test, saying why, where no Docker engine can be used."""
    if shutil.which("docker") is None:
        pytest.skip("there is no docker command here; these tests need a Docker engine and its compose plugin")
    for command in (["version", "--format", "{{.Server.Version}}"], ["compose", "version"]):
        done = subprocess.run(["docker", *command], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"`docker {' '.join(command)}` fails: {done.stderr.strip().splitlines()[-1]}")


def docker(*arguments: str, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        ["docker", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=COMMAND_DEADLINE_S,
    )
    assert done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout.strip()


def inspect(container: str) -> dict[str, Any]:
    (found,) = json.loads(docker("inspect", container))
    assert isinstance(found, dict)
    return found


def health(container: str) -> str:
    return str(inspect(container)["State"]["Health"]["Status"])


class Compose:
    """The services of the compose files, under a project name and ports of their own."""

    def __init__(self, project: str, *layers: str, **environment: str) -> None:
        self.project = project
        self.files = [option for file in ("docker-compose.yml", *layers) for option in ("--file", file)]
        self.nats_port, monitor_port = free_ports(2)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SHANTY_", "ANTHROPIC_"))}
        self.environment = {
            **kept,
            "SHANTY_TAG": TAG,
            "NATS_PORT": str(self.nats_port),
            "NATS_MONITOR_PORT": str(monitor_port),
            **environment,
        }

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.nats_port}"

    @property
    def network(self) -> str:
        return f"{self.project}_default"

    def __call__(self, *arguments: str) -> str:
        return docker(
            "compose", "--project-name", self.project, *self.files, *arguments, environment=self.environment
        )

    def up(self, *services: str, **scale: int) -> None:
        """Everything is there and healthy when this returns: all services, or those that are named."""
        scales = [option for service, number in scale.items() for option in ("--scale", f"{service}={number}")]
        self("up", "--detach", "--wait", "--no-build", *scales, *services)

    def down(self) -> None:
        self("--profile", "*", "down", "--volumes", "--timeout", "5")

    def containers(self, service: str) -> list[str]:
        return self("ps", "--quiet", service).split()

    def container(self, service: str) -> str:
        (only,) = self.containers(service)
        return only

    @contextlib.contextmanager
    def cut_off(self, container: str, alias: str) -> Iterator[None]:
        """Its network is taken away, without a word to those it talks with, until the end of the block."""
        docker("network", "disconnect", self.network, container)
        try:
            yield
        finally:
            docker("network", "connect", "--alias", alias, self.network, container)

    @contextlib.asynccontextmanager
    async def bus(self) -> AsyncIterator[Bus]:
        async with Bus(BusSettings(url=self.url, name="test")) as bus:
            yield bus


class Incident:
    """One run of the incident team, started from this machine as a person would."""

    def __init__(self, compose: Compose, folder: Path, key: str) -> None:
        self.compose, self.key = compose, key
        self.run = ids_from(key).run
        self.truth = folder.with_suffix(".json")
        self.folder = folder
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        options = ["--input", str(self.folder), "--nats-url", self.compose.url, "--key", self.key, "-o", "json"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "shanty_cli", "run", str(TEAM), *options],
            env=self.compose.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def report(self) -> dict[str, Any]:
        """What the command says when the run has ended."""
        assert self._process is not None, "the run was not started"
        try:
            out, err = self._process.communicate(timeout=RUN_DEADLINE_S)
        finally:
            self._process.kill()
        assert self._process.returncode == 0, f"{out[-2000:]}\n{err[-4000:]}"
        found = json.loads(out)
        assert isinstance(found, dict)
        return found

    def abandoned(self) -> str:
        """What the command says when it does not wait for the bus any longer."""
        assert self._process is not None, "the run was not started"
        _, err = self._process.communicate(timeout=RUN_DEADLINE_S)
        assert self._process.returncode != 0
        return err

    async def entry_where(self, bus: Bus, holds: Callable[[Stored, Entry], bool]) -> Stored:
        """The first entry of the run that is so, once it is stored."""
        async for stored in bus.feed.follow(self.run):
            if holds(stored, stored.entry):
                return stored
        raise AssertionError("a feed does not end by itself")

    async def audit(self, bus: Bus, report: dict[str, Any]) -> list[Stored]:
        """What has to be true of the run, whatever was done to the containers while it went on."""
        truth = json.loads(self.truth.read_text())
        assert report["status"] == "completed"
        assert first_cause(report["result"]) == cause(truth.get("kind"), truth.get("service"))
        stored = [one async for one in bus.journals.run_entries(self.run)]
        assert list(twice(stored)) == []
        assert no_gaps(stored) == []
        assert [one.entry for one in stored if one.address.to == "dead"] == []
        return stored


def no_gaps(stored: Sequence[Stored]) -> list[str]:
    """Journals that have a gap, or a place that is taken twice."""
    places: dict[str, list[int]] = {}
    for one in stored:
        places.setdefault(f"{one.address.thread} {one.address.agent}", []).append(one.address.n)
    return [journal for journal, taken in places.items() if sorted(taken) != list(range(len(taken)))]


def make_incident(folder: Path, seed: int) -> Path:
    """The files of an incident; the truth about it lies beside them."""
    script = TEAM / "evals/generate.py"
    subprocess.run([sys.executable, str(script), "--seed", str(seed), "--out", str(folder)], check=True)
    (folder / "truth.json").rename(folder.with_suffix(".json"))
    return folder


async def until_health(container: str, status: str) -> None:
    """Wait for what a container's health check says. Each look is a process, so looks are few."""
    deadline = time.monotonic() + HEALTHY_DEADLINE_S
    while (found := await asyncio.to_thread(health, container)) != status:
        assert time.monotonic() < deadline, (
            f"container {container[:12]} is {found}:\n{docker('logs', container)[-3000:]}"
        )
        await asyncio.sleep(LOOK_EVERY_S)


def free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
