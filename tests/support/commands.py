"""`shanty` as people and programs use it: processes in a directory, their words, their exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

HELLO = str(Path(__file__).parents[1] / "teams" / "hello")
DEADLINE_S = 90.0


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """What it said on stderr, on one line."""
        return " ".join(self.err.split())


class Shanty:
    """Runs commands in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, *arguments: str, **environment: str) -> Done:
        with self.started(*arguments, **environment) as process:
            out, err = process.communicate(timeout=DEADLINE_S)
        return Done(process.returncode, out, err)

    @contextmanager
    def started(self, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """A command that is still at work. It is ended with the block."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SHANTY_")}
        process = subprocess.Popen(
            [sys.executable, "-m", "shanty_cli", *arguments],
            cwd=self.directory,
            env={**kept, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()


def line_with(stream: Iterator[str], words: str) -> str:
    """The next line of a stream that has these words; reading waits for it."""
    for line in stream:
        if words in line:
            return line
    raise AssertionError(f"the process ended without saying {words!r}")


def until(holds: Callable[[], bool], what: str, deadline_s: float = 30.0) -> None:
    """Wait for something that can only be seen by looking."""
    deadline = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come true within {deadline_s:g} s"
        time.sleep(0.05)


def descendants(pid: int) -> set[int]:
    """Every process below one."""
    children: dict[int, set[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(fields[1]), set()).add(int(stat.parent.name))
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), set())
        found |= below
        waiting += below
    return found


def runs(pid: int) -> bool:
    """Whether a process is there and is not just waiting to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def interrupt(process: subprocess.Popen[str]) -> None:
    """What Ctrl-C does."""
    process.send_signal(signal.SIGINT)
