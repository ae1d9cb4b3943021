"""Starting a run: its input goes into the workspace, and one delegation to the lead's agent opens it.

The delegation is the first entry of a journal of our own: agent `cli`, and a request id as its thread. Both ids can
be made from a key, so that whoever starts the same run twice gets the same run.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from shanty_cli.exits import UsageError
from shanty_cli.text import one_line
from shanty_protocol import Brief, Budget, Criterion, DelegationSent, EntryAddress
from shanty_protocol.ids import ROOT_THREAD
from shanty_runtime.agent.budget import filled
from shanty_runtime.bus import Bus
from shanty_runtime.errors import WorkspaceError
from shanty_runtime.team import Team
from shanty_runtime.tools.workspace import checked_path

AGENT = "cli"
"""The author of what people say by way of this program."""
PART_BYTES = 256 * 1024
MAX_NAMED_FILES = 200
"""More files than this are not listed in the brief: the lead lists the workspace itself."""
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"

Progress = Callable[[int, int], None]
"""Is told the bytes that are stored and the bytes there are."""


class Ids(msgspec.Struct, frozen=True):
    run: str
    request: str


class InputFile(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    """Its place in the workspace: relative to the input folder."""
    source: Path
    size_bytes: int


class Started(msgspec.Struct, frozen=True, kw_only=True):
    ids: Ids
    ours: bool
    """False where the run was there already."""


def new_ids(lane: str = "0", *, now_s: float | None = None) -> Ids:
    """A run's id says the day it began, and no two are the same."""
    day = time.strftime("%Y%m%d", time.gmtime(now_s))
    return Ids(f"{lane}-{day}-{_random(6)}", f"request-{_random(8)}")


def ids_from(key: str, lane: str = "0") -> Ids:
    """The same key gives the same run, whoever uses it and whenever."""
    # A command line may hold bytes that are no text.
    digest = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
    return Ids(f"{lane}-k-{digest[:16]}", f"request-{digest[16:32]}")


def input_files(folder: Path) -> tuple[InputFile, ...]:
    """The regular files below a folder, by path. Hidden ones are left out; links and devices are refused."""
    if not folder.is_dir():
        raise UsageError(f"--input {folder}: there is no such folder")
    return tuple(sorted(_walk(folder, ""), key=lambda file: file.path))


async def upload(bus: Bus, ids: Ids, files: Sequence[InputFile], progress: Progress) -> None:
    """Put the files into the run's workspace, one part after the other. Doing it again changes nothing."""
    total = sum(file.size_bytes for file in files)
    stored = 0

    def count(size: int) -> None:
        nonlocal stored
        stored += size
        progress(stored, total)

    for file in files:
        await bus.files.commit(
            ids.run,
            file.path,
            _parts(file, count),
            base_version=0,
            agent=AGENT,
            thread=ids.request,
            key=f"{ids.run}.{ids.request}.input",
        )


async def started_before(bus: Bus, ids: Ids, team: Team) -> DelegationSent | None:
    """What has started this run, where something has. Raises UsageError where that is another team's."""
    entries = (await bus.journals.read(ids.run, ids.request, AGENT)).entries
    if not entries:
        return None
    first = entries[0].entry
    if not isinstance(first, DelegationSent) or first.team != team.name:
        whose = f"team {first.team}" if isinstance(first, DelegationSent) else "something else"
        raise UsageError(
            f"this key stands for run {ids.run} of {one_line(whose)}: take another one for team {team.name}"
        )
    return first


async def start(
    bus: Bus,
    ids: Ids,
    team: Team,
    goal: str,
    files: Sequence[InputFile],
    *,
    label: str = "",
    budget: Budget | None = None,
    rubric: tuple[Criterion, ...] = (),
) -> Started:
    """Publish the delegation that opens the run. Durable once this returns.

    What `budget` does not limit is limited as the team says.
    """
    named = tuple(file.path for file in files) if len(files) <= MAX_NAMED_FILES else ()
    guidance = "" if named or not files else f"{len(files)} files are in the workspace; list_files shows them."
    delegation = DelegationSent(
        at_ms=int(time.time() * 1000),
        by=f"cli-{os.getpid()}",
        to_thread=ROOT_THREAD,
        brief=Brief(
            objective=goal,
            guidance=guidance,
            files=named,
            label=label,
            budget=filled(budget, team.budget),
            rubric=rubric,
        ),
        team=team.name,
    )
    address = EntryAddress(team.lead.name, ids.run, ids.request, AGENT, 0)
    placed = await bus.journals.append(address, delegation)
    return Started(ids=ids, ours=placed.ours)


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _walk(folder: Path, prefix: str) -> Iterator[InputFile]:
    for item in sorted(os.scandir(folder), key=lambda item: item.name):
        path = f"{prefix}{item.name}"
        if item.name.startswith("."):
            continue
        if item.is_symlink():
            raise UsageError(f"--input: {one_line(path)} is a symbolic link; put the file itself there")
        if item.is_dir(follow_symlinks=False):
            yield from _walk(Path(item.path), f"{path}/")
            continue
        found = item.stat(follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"--input: {one_line(path)} is not a regular file")
        try:
            yield InputFile(path=checked_path(path), source=Path(item.path), size_bytes=found.st_size)
        except WorkspaceError as error:
            raise UsageError(f"--input: {error}") from error


async def _parts(file: InputFile, count: Callable[[int], None]) -> AsyncIterator[bytes]:
    with _opened(file) as source:
        while part := source.read(PART_BYTES):
            count(len(part))
            yield part


def _opened(file: InputFile) -> BinaryIO:
    try:
        # A file that was exchanged for a link since it was looked at is not followed either.
        return open(os.open(file.source, os.O_RDONLY | os.O_NOFOLLOW), "rb")
    except OSError as error:
        raise UsageError(f"--input: {one_line(file.path)} cannot be read: {error.strerror}") from error
