"""Every block of the README does what it says. Those that need Docker or a cluster are run where there is one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

import pytest

from support.crew import until

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*) ?(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    language: str
    note: str
    """The rest of the opening line: the path of a file, or what has to be running."""
    text: str


BLOCKS = [Block(*found) for found in FENCE.findall((ROOT / "README.md").read_text())]
ELSEWHERE = ("in docker", "on kubernetes")
"""Notes of blocks that tests/containers and tests/chart run."""


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """A copy of what a newcomer has, with the environment that `make` has built."""
    copy = tmp_path / "shanty"
    ignored = shutil.ignore_patterns(
        ".venv", ".git", ".shanty", ".cache", ".*_cache", "__pycache__", ".hypothesis", "incident-*"
    )
    shutil.copytree(ROOT, copy, ignore=ignored)
    (copy / ".venv").symlink_to(Path(sys.executable).parents[1])
    yield copy


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SHANTY_")}
    return {**kept, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", **more}


def shell(checkout: Path, script: str, **more: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=checkout,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.timeout(300)
async def test_every_block_of_the_readme_runs(checkout: Path) -> None:
    outputs: dict[str, str] = {}
    for language, note, text in BLOCKS:
        if note in ELSEWHERE:
            continue
        if note.startswith("with "):
            outputs[text] = await shell_beside(checkout, note.removeprefix("with "), text)
        elif language == "sh":
            outputs[text] = shell(checkout, text)
        elif note:
            path = checkout / note
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    greeting = next(
        json.loads(out.splitlines()[-1]) for script, out in outputs.items() if "shanty run greeting" in script
    )
    assert (greeting["status"], greeting["result"]) == ("completed", {"words": 5})
    called = next(out for script, out in outputs.items() if "client.py" in script)
    assert called == "A greeting of 5 words.\n"


def spawned(command: str, directory: Path, log: TextIO) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command.split(), cwd=directory, env=environment(), stdout=log, stderr=log)


async def shell_beside(checkout: Path, server: str, script: str) -> str:
    """Run a script while `shanty dev` serves a team."""
    with (checkout / "dev.log").open("w") as log:
        process = spawned(server, checkout, log)
        try:
            announced = checkout / ".shanty" / "dev.json"

            async def up() -> bool:
                assert process.poll() is None, (checkout / "dev.log").read_text()
                return announced.exists()

            await until(up, 60, f"{server} is up")
            url = json.loads(announced.read_text())["nats_url"]
            return shell(checkout, script, SHANTY_NATS_URL=url)
        finally:
            process.terminate()
            process.wait(60)
