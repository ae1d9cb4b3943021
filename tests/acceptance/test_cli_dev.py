"""`shanty dev`, and the commands that find it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from support.commands import HELLO, Shanty, descendants, line_with, runs, until


class Dev(NamedTuple):
    shanty: Shanty
    pid: int
    told: dict[str, Any]
    """What it said when it was ready."""


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    shanty = Shanty(tmp_path_factory.mktemp("dev"))
    with shanty.started("dev", HELLO, "--scale", "greeter=2", "-o", "json") as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        yield Dev(shanty, process.pid, told)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 0, err


def test_dev_tells_what_is_up_and_where(dev: Dev) -> None:
    assert [each["replica"] for each in dev.told["services"]] == ["lead-1", "greeter-1", "greeter-2", "counter-1"]
    assert all(runs(each["pid"]) for each in dev.told["services"])


def test_a_run_in_the_same_directory_uses_the_services_that_are_up(dev: Dev) -> None:
    done = dev.shanty("run", HELLO, "-o", "json")
    replicas = {replica for thread in done.json["threads"] for replica in thread["replicas"]}

    assert (done.code, done.json["status"]) == (0, "completed")
    assert replicas <= {"lead-1", "greeter-1", "greeter-2", "counter-1"}


def test_a_run_from_elsewhere_uses_them_by_their_address(dev: Dev, tmp_path: Path) -> None:
    elsewhere = Shanty(tmp_path)
    by_option = elsewhere("run", HELLO, "--nats-url", dev.told["nats_url"], "-o", "json")
    by_environment = elsewhere("run", HELLO, "-o", "json", SHANTY_NATS_URL=dev.told["nats_url"])

    assert (by_option.code, by_environment.code) == (0, 0)
    assert not (tmp_path / ".shanty").exists()


def test_a_run_started_twice_with_one_key_is_one_run(dev: Dev) -> None:
    first = dev.shanty("run", HELLO, "--key", "nightly", "-o", "json")
    again = dev.shanty("run", HELLO, "--key", "nightly", "-o", "json")
    listed = [line["run"] for line in dev.shanty("runs", "ls", "-o", "json").json]

    assert (first.code, again.code) == (0, 0)
    assert first.json == again.json
    assert listed.count(first.json["run"]) == 1
    assert "was started before" in again.err


def test_a_detached_run_says_its_id_and_goes_on_alone(dev: Dev) -> None:
    detached = dev.shanty("run", HELLO, "--detach")
    tailed = dev.shanty("runs", "tail", detached.out.strip(), "-o", "json")

    assert detached.code == 0
    assert (tailed.code, tailed.json["status"]) == (0, "completed")


def test_the_roster_shows_agents_with_their_replicas(dev: Dev) -> None:
    lines = {line["agent"]: line for line in dev.shanty("specialists", "-o", "json").json}

    assert sorted(lines) == ["counter", "greeter", "lead"]
    assert {"greeter-2"} <= set(lines["greeter"]["replicas"])
    assert (lines["greeter"]["models"], lines["counter"]["models"]) == (["rehearsal"], ["python"])


def test_the_doctor_finds_nothing_wrong(dev: Dev) -> None:
    done = dev.shanty("doctor", "--team", HELLO, "-o", "json")
    states = {check["name"]: check["state"] for check in done.json}

    assert done.code == 0, done.out
    assert states == dict.fromkeys(
        [
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
        ],
        "ok",
    )


def test_the_doctor_names_what_is_missing_for_another_team(dev: Dev, tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    (tmp_path / "team.yaml").write_text("apiVersion: shanty/v1\nname: other\nlead: boss\nspecialists: []\n")
    (tmp_path / "agents/boss.md").write_text("---\ndescription: leads\n---\nLead.\n")
    done = dev.shanty("doctor", "--team", str(tmp_path))

    assert done.code == 1
    assert "mail-boss" in done.out and f"shanty init-bus --team {tmp_path}" in done.out


def test_a_team_of_which_nobody_is_up_is_said_so(dev: Dev, tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    (tmp_path / "team.yaml").write_text("apiVersion: shanty/v1\nname: other\ngoal: g\nlead: boss\nspecialists: []\n")
    (tmp_path / "agents/boss.md").write_text("---\ndescription: leads\n---\nLead.\n")
    done = dev.shanty("run", str(tmp_path))

    assert (done.code, "(boss)" in done.err, "--detach" in done.err) == (1, True, True), done.err


def test_the_layout_is_made_once(dev: Dev) -> None:
    first = dev.shanty("init-bus", "--agents", "carol,dave", "-o", "json")
    again = dev.shanty("init-bus", "--agents", "carol,dave", "-o", "json")
    made = {change["name"] for change in first.json if change["action"] == "created"}

    assert (first.code, again.code) == (0, 0)
    assert made == {
        "SHANTY_0/mail-carol",
        "SHANTY_0/mail-dave",
        "SHANTY_TIMERS_0/timers-carol",
        "SHANTY_TIMERS_0/timers-dave",
    }
    assert again.json == []


def test_a_second_dev_in_the_same_directory_is_refused(dev: Dev) -> None:
    done = dev.shanty("dev", HELLO)

    assert (done.code, str(dev.pid) in done.err) == (2, True)


def test_a_service_that_dies_is_started_again_under_a_name_of_its_own(dev: Dev) -> None:
    victim = next(each for each in dev.told["services"] if each["replica"] == "counter-1")
    os.kill(victim["pid"], signal.SIGKILL)

    def is_back() -> bool:
        lines = dev.shanty("specialists", "-o", "json").json
        return any("counter-1-2" in line["replicas"] for line in lines)

    until(is_back, "the return of the counter")
    assert dev.shanty("run", HELLO, "-o", "json").json["threads"][2]["replicas"] == ["counter-1-2"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_dev_ends_no_process_is_left(how: signal.Signals, tmp_path: Path) -> None:
    shanty = Shanty(tmp_path)
    with shanty.started("dev", HELLO) as process:
        assert process.stderr is not None
        line_with(process.stderr, "is up on")
        crew = descendants(process.pid)
        process.send_signal(how)
        _, err = process.communicate(timeout=30)
    until(lambda: not any(map(runs, crew)), "the end of every process")

    assert len(crew) == 4
    assert process.returncode == (-9 if how is signal.SIGKILL else 0)
    assert (tmp_path / ".shanty/dev.json").exists() == (how is signal.SIGKILL)
    assert "Traceback" not in err


def test_a_bus_that_is_not_there_is_an_error_with_its_address(tmp_path: Path) -> None:
    done = Shanty(tmp_path)("doctor", "--nats-url", "nats://127.0.0.1:9")

    assert done.code == 1
    assert "nats://127.0.0.1:9" in done.out and "Traceback" not in done.err
