from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from shanty_cli.exits import UsageError
from shanty_cli.start import ids_from, input_files, new_ids
from shanty_protocol import EntryAddress
from shanty_protocol.ids import is_agent_thread


def test_a_new_run_is_named_after_its_lane_and_day_and_never_twice() -> None:
    made = [new_ids("3", now_s=86_400) for _ in range(200)]

    assert all(re.fullmatch(r"3-19700102-[a-z0-9]{6}", ids.run) for ids in made)
    assert len({ids.run for ids in made}) == len({ids.request for ids in made}) == 200


def test_the_same_key_gives_the_same_run() -> None:
    assert ids_from("nightly") == ids_from("nightly")
    assert ids_from("nightly") != ids_from("nightly2")


@pytest.mark.parametrize("key", ["nightly", "", "ü / \x00", "0-1", "not text: \udcff"])
def test_ids_from_any_key_are_addresses_of_somebody_outside(key: str) -> None:
    ids = ids_from(key)

    assert EntryAddress("lead", ids.run, ids.request, "cli", 0).subject
    assert not is_agent_thread(ids.request)


def test_input_is_every_regular_file_that_is_not_hidden(tmp_path: Path) -> None:
    for path in ("truth.json", "logs/api.log", "logs/deep/x.csv", ".env", ".git/config", "logs/.swp"):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("12345")

    assert [(file.path, file.size_bytes) for file in input_files(tmp_path)] == [
        ("logs/api.log", 5),
        ("logs/deep/x.csv", 5),
        ("truth.json", 5),
    ]


def test_a_link_in_the_input_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/passwd").symlink_to("/etc/passwd")

    with pytest.raises(UsageError, match="logs/passwd is a symbolic link"):
        input_files(tmp_path)


def test_a_pipe_in_the_input_is_refused_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(UsageError, match="pipe is not a regular file"):
        input_files(tmp_path)


def test_a_name_the_workspace_does_not_take_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a\\b").write_text("")

    with pytest.raises(UsageError, match="not allowed"):
        input_files(tmp_path)


def test_an_input_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such folder"):
        input_files(tmp_path / "nowhere")
