"""Files out of a run's workspace."""

from __future__ import annotations

import os
from pathlib import Path

from shanty_cli.exits import UsageError
from shanty_cli.output import Output
from shanty_cli.start import AGENT
from shanty_cli.text import size
from shanty_runtime.bus import Bus
from shanty_runtime.tools.workspace import Workspace


def open_workspace(bus: Bus, run: str) -> Workspace:
    """For reading: nothing is written under this key."""
    return Workspace(bus.files, run, agent=AGENT, thread="cli", key="")


async def copy_out(bus: Bus, run: str, path: str, version: int | None, to: Path | None, out: Output) -> None:
    """A file's bytes to stdout or into a file, in bounded memory."""
    workspace = open_workspace(bus, run)
    found = await workspace.stat(path, version)
    if to is None:
        async for part in workspace.content(path, found.version):
            out.stdout.buffer.write(part)
        out.stdout.buffer.flush()
        return
    # Under another name until it is whole: a copy that was broken off is not taken for the file.
    unfinished = to.with_name(f".{to.name}.{os.getpid()}.part")
    try:
        with unfinished.open("wb") as target:
            async for part in workspace.content(path, found.version):
                target.write(part)
        unfinished.replace(to)
    except OSError as error:
        raise UsageError(f"--to {to}: {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    out.say(f"{path} version {found.version}, {size(found.size_bytes)}, is in {to}")
