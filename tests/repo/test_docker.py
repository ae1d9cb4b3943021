"""The recipe of the images and the compose files say what the code and the team say."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from ruamel.yaml import YAML

from shanty_protocol.streams import lane_streams, memory_stream
from shanty_runtime.bus.server import server_binary
from shanty_runtime.config import PREFIX, Settings
from shanty_runtime.team import load_team

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy/docker/Dockerfile"
MEMBERS = sorted(path.parent.name for path in ROOT.glob("services/*/pyproject.toml"))
SERVICES = [name for name in MEMBERS if name != "runtime"]
COMPOSE: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")

each_service = pytest.mark.parametrize("service", COMPOSE["services"].values(), ids=COMPOSE["services"])


def environment_of(service: dict[str, Any]) -> dict[str, Any]:
    return dict(service.get("environment", {}))


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def gibibytes(text: str) -> int:
    return int(text.removesuffix("GiB")) * 2**30


def test_the_recipe_needs_nothing_but_the_builder() -> None:
    assert not re.search(r"(?m)^#\s*(syntax|escape)\s*=", DOCKERFILE.read_text())


def test_the_recipe_knows_every_service_and_every_member() -> None:
    text = DOCKERFILE.read_text()
    for name in MEMBERS:
        assert f"COPY services/{name}/pyproject.toml services/{name}/\n" in text
    for name in SERVICES:
        assert re.search(rf"(?m)^FROM \w+ AS {name}$", text), f"there is no stage for {name}"


def test_whatever_the_recipe_installs_is_locked_and_no_address_is_in_it() -> None:
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    commands = [part.strip() for part in re.findall(r"(?:pip (?:install|wheel|download)) .*?(?:&&|$)", text, re.M)]
    assert len(commands) >= 5
    for command in commands:
        assert "--require-hashes" in command or "--no-index" in command, command
    assert "://" not in text


def test_only_what_is_let_in_goes_to_the_builder() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    let_in = [rule for rule in rules if rule.startswith("!")]
    assert rules[0] == "*"
    assert all(re.fullmatch(r"!(LICENSE|requirements\.txt|(protocol|services/\*)/[\w*.]+)", rule) for rule in let_in)


def test_there_is_a_service_for_the_lead_and_for_each_specialist_of_the_team_and_no_other() -> None:
    team = load_team(ROOT / "deploy/teams/incident")
    agents = {
        name: environment_of(each).get("SHANTY_AGENT")
        for name, each in COMPOSE["services"].items()
        if each["image"].startswith(("shanty/lead:", "shanty/specialist:"))
    }
    assert agents == {team.lead.name: None} | {agent.name: agent.name for agent in team.specialists}


def test_an_image_is_built_from_the_service_it_is_called_after() -> None:
    built = {
        each["image"]: each["build"]["args"]["SERVICE"] for each in COMPOSE["services"].values() if "build" in each
    }
    assert built == {f"shanty/{name}:${{SHANTY_TAG:-dev}}": name for name in SERVICES}


@each_service
def test_every_setting_of_a_container_is_one_that_is_read(service: dict[str, Any]) -> None:
    known = {PREFIX + field.encode_name.upper() for field in msgspec.structs.fields(Settings)}
    assert {name for name in environment_of(service) if name.startswith(PREFIX)} <= known


@each_service
def test_a_container_can_change_nothing_but_its_data(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"] and service["pids_limit"]


@each_service
def test_a_container_can_be_scaled_and_is_reached_from_this_machine_only(service: dict[str, Any]) -> None:
    assert "container_name" not in service
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:${"), port
    if service["image"].startswith("shanty/"):
        assert "ports" not in service


@each_service
def test_an_image_from_elsewhere_has_a_version(service: dict[str, Any]) -> None:
    assert service["image"].startswith("shanty/") or re.search(r":v?\d+\.\d+", service["image"])


def test_a_container_has_longer_to_stop_than_a_step_has_to_end() -> None:
    for name, service in COMPOSE["services"].items():
        if "SHANTY_DRAIN_S" in environment_of(service):
            assert seconds(service["stop_grace_period"]) >= environment_of(service)["SHANTY_DRAIN_S"] + 10, name


def test_agents_insist_on_durable_acks_and_the_server_gives_them() -> None:
    agents = [environment_of(each) for each in COMPOSE["services"].values() if "SHANTY_MODEL" in environment_of(each)]
    assert len(agents) == 5
    assert {each["SHANTY_DURABILITY"] for each in agents} == {"required"}
    assert re.search(r"(?m)^  sync_interval: always$", (ROOT / "deploy/nats/nats.conf").read_text())


@pytest.mark.parametrize("file", ["nats.conf", "cluster.conf"])
def test_the_server_understands_its_configuration(file: str) -> None:
    command = [server_binary(), "-t", "-c", str(ROOT / "deploy/nats" / file)]
    done = subprocess.run(command, env={**os.environ, "HOSTNAME": "nats-1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_the_streams_reserve_fits_into_the_servers_store() -> None:
    (limit,) = re.findall(r"max_file_store: (\d+GiB)", (ROOT / "deploy/nats/nats.conf").read_text())
    reserved = sum(stream.max_bytes for stream in (*lane_streams("0"), memory_stream()))
    assert reserved <= gibibytes(limit)
