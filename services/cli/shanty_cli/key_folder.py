"""The folder `shanty bus-auth` keeps: what was written into it, and how files appear in it.

`bus-auth.json` lists every file, so that nothing else is ever overwritten or removed. A file appears whole or not at
all, and one that holds a secret is its owner's only from the moment it exists.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from shanty_cli.exits import UsageError

Form = Literal["conf", "jwt"]

RECORD = "bus-auth.json"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a folder from the last time."""

    team: str
    form: Form
    lanes: tuple[str, ...] = ("0",)
    lifetime_s: int = 0
    keys: dict[str, str] = {}
    """Public keys of the users, by principal."""
    revoked: tuple[str, ...] = ()
    """Principals who are not let in until they are given a new key."""
    revoked_keys: dict[str, dict[str, int]] = {}
    """For each account the public keys that were taken back, and the second it was done."""
    files: tuple[str, ...] = ()
    """Everything that was written, relative to the folder."""


class File(msgspec.Struct, frozen=True, kw_only=True):
    text: str
    secret: bool = False


def write(
    folder: Path, files: Mapping[str, File], before: Record, after: Record
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Which files were written and which removed. Each appears whole or not at all."""
    foreign = [name for name in files if name not in before.files and (folder / name).exists()]
    if foreign:
        names = ", ".join(str(folder / name) for name in foreign)
        raise UsageError(
            f"{names}: not written by `shanty bus-auth`, which overwrites only what it wrote; name another folder"
        )
    gone = sorted(set(before.files) - set(after.files))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Before the first file, so that whoever is interrupted finds all of them to be ours the next time.
        everything = tuple(sorted({*before.files, *after.files}))
        _put(folder / RECORD, _recorded(msgspec.structs.replace(before, files=everything)))
        written = tuple(name for name in sorted(files) if _put(folder / name, files[name]))
        removed = tuple(name for name in gone if _remove(folder / name))
        _put(folder / RECORD, _recorded(after))
    except OSError as error:
        raise UsageError(f"{error.filename} cannot be written: {error.strerror}") from error
    return written, removed


def _recorded(record: Record) -> File:
    return File(text=msgspec.json.format(msgspec.json.encode(record), indent=2).decode() + "\n")


def _put(path: Path, file: File) -> bool:
    """Write a file in one step. False where it is like that already."""
    mode = 0o600 if file.secret else 0o644
    if path.exists() and path.read_text() == file.text:
        if file.secret and path.stat().st_mode & 0o077:
            path.chmod(mode)
        return False
    path.parent.mkdir(exist_ok=True)
    if file.secret:
        path.parent.chmod(0o700)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with open(descriptor, "w") as out:
            out.write(file.text)
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    return True


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True
