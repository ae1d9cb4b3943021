from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shanty_cli.dev_bus import Holder, Home, answers, existing_bus


@pytest.fixture
def open_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        yield port


def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        process.wait()
    return process.pid


def test_one_process_at_a_time_has_the_store(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.locked() as first:
        with Home(tmp_path).locked() as second:
            assert (first, second) == (True, False)
    with home.locked() as again:
        assert again


def test_a_killed_process_loses_its_lock(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, time\n"
        "from shanty_cli.dev_bus import Home\n"
        "with Home(pathlib.Path(sys.argv[1])).locked() as ours:\n"
        "    print(ours, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "True\n"
        with Home(tmp_path).locked() as while_it_lives:
            pass
        process.kill()
    with Home(tmp_path).locked() as afterwards:
        assert (while_it_lives, afterwards) == (False, True)


def test_commands_find_the_dev_of_their_directory(tmp_path: Path, open_port: int) -> None:
    home = Home(tmp_path)
    holder = Holder(pid=os.getpid(), nats_url=f"nats://127.0.0.1:{open_port}", team="t")
    with home.announced(holder):
        found = existing_bus("", Home(tmp_path))
    gone = existing_bus("", home)

    assert found is not None and found.nats_url == holder.nats_url
    assert gone is None


def test_a_dev_that_was_killed_is_not_found(tmp_path: Path, open_port: int) -> None:
    home = Home(tmp_path)
    with home.announced(Holder(pid=dead_pid(), nats_url=f"nats://127.0.0.1:{open_port}")):
        assert home.dev() is None


def test_a_process_that_has_the_number_of_a_dead_dev_is_not_taken_for_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as once_open:
        port = once_open.getsockname()[1]
    home = Home(tmp_path)
    with home.announced(Holder(pid=os.getpid(), nats_url=f"nats://127.0.0.1:{port}")):
        assert not answers(f"nats://127.0.0.1:{port}")
        assert home.dev() is None


def test_a_bus_that_is_named_goes_before_the_one_of_dev(tmp_path: Path, open_port: int) -> None:
    home = Home(tmp_path)
    with home.announced(Holder(pid=os.getpid(), nats_url=f"nats://127.0.0.1:{open_port}")):
        found = existing_bus("nats://elsewhere:4222", home)

    assert found is not None and found.nats_url == "nats://elsewhere:4222"


def test_a_file_that_is_half_written_is_no_dev(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.folder.mkdir()
    (home.folder / "dev.json").write_text('{"pid": 1')

    assert home.dev() is None
