"""`shanty run` with nothing there but a directory, and what can be looked at afterwards."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.commands import HELLO, Shanty, descendants, interrupt, line_with, runs, until

GREETINGS = b"Ahoy, Ada!\nAhoy, Grace!\n"


@pytest.fixture(scope="module")
def shanty(tmp_path_factory: pytest.TempPathFactory) -> Shanty:
    """One directory for all tests here, as somebody has who works in it."""
    return Shanty(tmp_path_factory.mktemp("here"))


@pytest.fixture(scope="module")
def finished(shanty: Shanty) -> dict[str, Any]:
    """The report of a run that has ended."""
    folder = shanty.directory / "input"
    (folder / "lists").mkdir(parents=True)
    (folder / "lists/people.txt").write_bytes(b"Ada\r\nGrace\n\x00\xff")
    (folder / ".secret").write_text("not for the workspace")
    done = shanty("run", HELLO, "--input", str(folder), "-o", "json")
    assert done.code == 0, done.err
    report: dict[str, Any] = done.json
    return report


def test_a_run_needs_nothing_that_is_up_and_ends_with_one_report(finished: dict[str, Any]) -> None:
    assert re.fullmatch(r"0-\d{8}-[a-z0-9]{6}", finished["run"])
    assert (finished["status"], finished["result"]) == ("completed", {"greeted": 2, "letters": 8})
    assert finished["files"] == [
        {"path": "greetings.txt", "version": 1, "digest": hashlib.sha256(GREETINGS).hexdigest(), "size_bytes": 24}
    ]
    opened = {"hired": "", "hedges": ""}
    assert finished["threads"] == [
        {
            "thread": "0",
            "agent": "lead",
            "status": "ok",
            "turns": 2,
            "tool_calls": 4,
            "replicas": ["lead-1"],
            **opened,
        },
        {
            "thread": "0-1",
            "agent": "greeter",
            "status": "ok",
            "turns": 4,
            "tool_calls": 5,
            "replicas": ["greeter-1"],
            **opened,
        },
        {
            "thread": "0-2",
            "agent": "counter",
            "status": "ok",
            "turns": 0,
            "tool_calls": 0,
            "replicas": ["counter-1"],
            **opened,
        },
    ]
    assert finished["usage"]["output_tokens"] > 0
    assert finished["started_at"] < finished["finished_at"]


def test_a_run_can_be_looked_at_when_everything_has_ended(shanty: Shanty, finished: dict[str, Any]) -> None:
    assert shanty("runs", "show", finished["run"], "-o", "json").json == finished


def test_a_run_that_is_over_can_be_watched_as_it_went(shanty: Shanty, finished: dict[str, Any]) -> None:
    done = shanty("runs", "tail", finished["run"], "-o", "json")

    assert (done.code, done.json) == (0, finished)
    assert "50 %: 2 greetings are ready" in done.err


def test_runs_are_listed(shanty: Shanty, finished: dict[str, Any]) -> None:
    listed = {line["run"]: line for line in shanty("runs", "ls", "-o", "json").json}

    assert listed[finished["run"]]["status"] == "completed"
    assert listed[finished["run"]]["goal"] == "Greet everybody on the list"


def test_the_journal_has_every_entry_with_its_place(shanty: Shanty, finished: dict[str, Any]) -> None:
    whole = shanty("runs", "journal", finished["run"], "-o", "json").json
    thread = shanty("runs", "journal", finished["run"], "--thread", "0-2", "-o", "json").json
    told = shanty("runs", "journal", finished["run"]).out.splitlines()

    assert [entry["seq"] for entry in whole] == sorted(entry["seq"] for entry in whole)
    assert whole[0]["entry"]["kind"] == "delegation.sent" and whole[-1]["entry"]["kind"] == "thread.replied"
    assert [entry["subject"] for entry in thread] == [f"shanty.0.lead.{finished['run']}.0-2.counter.0"]
    assert len(told) == len(whole)


def test_a_thread_that_is_not_there_is_answered_with_those_that_are(shanty: Shanty, finished: dict[str, Any]) -> None:
    done = shanty("runs", "journal", finished["run"], "--thread", "0-9")

    assert done.code == 2
    assert "0, 0-1, 0-2" in done.err


def test_the_input_and_what_was_made_are_in_the_workspace(shanty: Shanty, finished: dict[str, Any]) -> None:
    versions = shanty("files", "ls", finished["run"], "-o", "json").json

    assert [(each["path"], each["agent"]) for each in versions] == [
        ("greetings.txt", "greeter"),
        ("lists/people.txt", "cli"),
    ]


def test_files_come_out_byte_for_byte(shanty: Shanty, finished: dict[str, Any]) -> None:
    got = subprocess.run(
        [sys.executable, "-m", "shanty_cli", "files", "get", finished["run"], "lists/people.txt"],
        cwd=shanty.directory,
        capture_output=True,
        check=True,
    )
    saved = shanty("files", "get", finished["run"], "greetings.txt", "--version", "1", "--to", "saved.txt")

    assert got.stdout == b"Ada\r\nGrace\n\x00\xff"
    assert (saved.code, (shanty.directory / "saved.txt").read_bytes()) == (0, GREETINGS)


def test_a_file_or_version_that_is_not_there_is_an_error_and_leaves_nothing(
    shanty: Shanty, finished: dict[str, Any]
) -> None:
    missing = shanty("files", "get", finished["run"], "nope.txt")
    version = shanty("files", "get", finished["run"], "greetings.txt", "--version", "9", "--to", "nothing.txt")

    assert (missing.code, missing.out) == (2, "")
    assert version.code == 2 and "version 9" in version.err
    assert not list(shanty.directory.glob("*nothing*"))


def test_an_unknown_run_is_answered_with_the_nearest(shanty: Shanty, finished: dict[str, Any]) -> None:
    done = shanty("runs", "show", finished["run"][:-1])

    assert done.code == 2
    assert finished["run"] in done.err
    assert "Traceback" not in done.err


def test_nobody_is_up_when_nothing_runs(shanty: Shanty, finished: dict[str, Any]) -> None:
    done = shanty("specialists", "-o", "json")

    assert (done.code, done.json) == (0, [])


def test_a_run_that_failed_ends_with_3_and_a_report(tmp_path: Path) -> None:
    done = Shanty(tmp_path)("run", HELLO, "--goal", "fail", "-o", "json")

    assert (done.code, done.json["status"], done.json["summary"]) == (3, "failed", "I was told to fail")


def test_several_runs_at_once_in_one_directory_all_end_well(tmp_path: Path) -> None:
    shanty = Shanty(tmp_path)
    with (
        shanty.started("run", HELLO, "-o", "json") as first,
        shanty.started("run", HELLO, "-o", "json") as second,
    ):
        results = [process.communicate(timeout=60) for process in (first, second)]

    assert [first.returncode, second.returncode] == [0, 0]
    assert sum("keeps its records only while it lasts" in err for _, err in results) == 1


def test_a_run_that_was_interrupted_leaves_nobody_behind_and_goes_on_when_the_team_is_served(tmp_path: Path) -> None:
    shanty = Shanty(tmp_path)
    with shanty.started("run", HELLO, "--pace", "1.5", "-o", "json") as process:
        assert process.stderr is not None
        line_with(process.stderr, "opened")
        crew = descendants(process.pid)
        interrupt(process)
        out, err = process.communicate(timeout=30)
    until(lambda: not any(map(runs, crew)), "the end of every process")
    report = json.loads(out)
    with shanty.started("dev", HELLO) as dev:
        assert dev.stderr is not None
        line_with(dev.stderr, "is up on")
        tailed = shanty("runs", "tail", report["run"], "-o", "json")

    assert (process.returncode, report["status"]) == (130, "running")
    assert len(crew) == 4
    assert "shanty dev" in err and "Traceback" not in err
    assert (tailed.code, tailed.json["result"]) == (0, {"greeted": 2, "letters": 8})


def test_a_run_without_a_result_in_time_is_left_alone(tmp_path: Path) -> None:
    done = Shanty(tmp_path)("run", HELLO, "--pace", "30", "--timeout", "1", "-o", "json")

    assert (done.code, done.json["status"]) == (1, "running")
    assert "no result after 1 s" in done.err


def test_a_team_without_a_goal_has_to_be_told_one(tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    (tmp_path / "team.yaml").write_text("apiVersion: shanty/v1\nname: aimless\nspecialists: []\n")
    (tmp_path / "agents/lead.md").write_text("---\ndescription: leads\n---\nLead.\n")
    done = Shanty(tmp_path)("run", str(tmp_path))

    assert (done.code, "--goal" in done.err) == (2, True), done.err


def test_a_model_that_cannot_be_had_is_said_before_anything_is_started(tmp_path: Path) -> None:
    done = Shanty(tmp_path)("run", HELLO, "--model", "nobody:nothing")

    assert (done.code, "nobody:nothing" in done.err) == (2, True), done.err
    assert not (tmp_path / ".shanty").exists()


def test_a_file_that_nothing_can_be_replayed_from_is_said_before_anything_is_started(tmp_path: Path) -> None:
    (tmp_path / "half.gz").write_bytes(gzip.compress(b'{"line":"head","version":2,"run":"0-r"}\n'))
    done = Shanty(tmp_path)("run", HELLO, "--model", "replay:half.gz")

    assert (done.code, "half.gz, line 1: version 2 of the format; this reads 1" in done.err) == (2, True), done.err
    assert not (tmp_path / ".shanty").exists()


def test_a_run_is_played_again_from_its_recording_and_from_its_archive(tmp_path: Path) -> None:
    shanty = Shanty(tmp_path)
    recorded = shanty("run", HELLO, "--model", "rehearsal", "--record", "hello.jsonl", "-o", "json")
    assert shanty("runs", "archive", recorded.json["run"], "--to", "hello.gz").code == 0
    shutil.rmtree(tmp_path / ".shanty")
    for source in ("hello.jsonl", "hello.gz"):
        replayed = shanty("run", HELLO, "--model", f"replay:{source}", "-o", "json")
        assert (recorded.code, replayed.code) == (0, 0), recorded.err + replayed.err
        assert recorded.json["run"] != replayed.json["run"]
        assert all(recorded.json[part] == replayed.json[part] for part in ("result", "threads", "files"))
    agents = {json.loads(line)["agent"] for line in (tmp_path / "hello.jsonl").read_text().splitlines()}
    assert agents == {"lead", "greeter"}


def test_a_recording_that_cannot_be_written_is_said_before_anything_is_started(tmp_path: Path) -> None:
    done = Shanty(tmp_path)("run", HELLO, "--model", "rehearsal", "--record", "nowhere/hello.jsonl")

    assert (done.code, "nowhere/hello.jsonl cannot be written" in done.err) == (2, True), done.err
    assert not (tmp_path / ".shanty").exists()


def test_recording_services_of_somebody_else_is_refused_with_what_to_do(tmp_path: Path) -> None:
    done = Shanty(tmp_path)("run", HELLO, "--record", "hello.jsonl", "--nats-url", "nats://127.0.0.1:9")

    assert (done.code, f"SHANTY_RECORD={tmp_path / 'hello.jsonl'}" in done.err) == (2, True), done.err
    assert not (tmp_path / "hello.jsonl").exists()


def test_a_service_that_cannot_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    done = Shanty(tmp_path)("run", HELLO, SHANTY_DURABILITY="required", SHANTY_LOG_FORMAT="text", SHANTY_LANES="7")

    assert done.code == 1
    assert "before it was ready" in done.err and "SHANTY_7" in done.err
    assert "Traceback" not in done.err


def test_detaching_without_a_bus_is_refused(tmp_path: Path) -> None:
    done = Shanty(tmp_path)("run", HELLO, "--detach")

    assert (done.code, "shanty dev" in done.err) == (2, True)


def test_looking_without_any_bus_or_store_says_what_was_looked_for(tmp_path: Path) -> None:
    done = Shanty(tmp_path)("runs", "ls")

    assert done.code == 1
    assert "SHANTY_NATS_URL" in done.err and "shanty dev" in done.err
    assert not (tmp_path / ".shanty").exists()
