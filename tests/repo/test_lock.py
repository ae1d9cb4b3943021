"""The requirements files install what was resolved, byte for byte, from whichever index is at hand."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = [ROOT / "requirements.txt", ROOT / "requirements-dev.txt"]
MEMBERS = [ROOT / "protocol", *sorted(path.parent for path in ROOT.glob("services/*/pyproject.toml"))]
OWN = {canonicalize_name(f"shanty-{member.name}") for member in MEMBERS}

each_lock = pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)


def entries(lock: Path) -> dict[Requirement, list[str]]:
    """The requirements of a file, each with its hashes."""
    logical_lines = lock.read_text().replace("\\\n", " ").splitlines()
    found = {}
    for line in logical_lines:
        if line.strip() and not line.startswith("#"):
            stated, *hashes = re.split(r"\s+--hash=", line.strip())
            found[Requirement(stated)] = hashes
    return found


def locked(lock: Path) -> dict[NormalizedName, list[Requirement]]:
    by_name: dict[NormalizedName, list[Requirement]] = {}
    for requirement in entries(lock):
        by_name.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return by_name


def project(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text())


def needed(folder: Path) -> list[Requirement]:
    """What a member says it needs to run, its extras included."""
    stated = project(folder)["project"]
    extras = stated.get("optional-dependencies", {}).values()
    every = [*stated.get("dependencies", []), *(line for extra in extras for line in extra)]
    return [requirement for requirement in map(Requirement, every) if canonicalize_name(requirement.name) not in OWN]


def missing(requirements: list[Requirement], lock: Path) -> list[str]:
    """Those that no version in the file satisfies."""
    pins = locked(lock)
    return [
        str(requirement)
        for requirement in requirements
        if not any(
            requirement.specifier.contains(pin.version, prereleases=True)
            for stated in pins.get(canonicalize_name(requirement.name), [])
            for pin in stated.specifier
        )
    ]


@each_lock
def test_every_requirement_is_one_version_with_its_hashes(lock: Path) -> None:
    found = entries(lock)
    assert len(found) > 20
    for requirement, hashes in found.items():
        assert [pin.operator for pin in requirement.specifier] == ["=="], requirement
        assert hashes, f"{requirement} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), requirement


@each_lock
def test_no_requirement_says_where_to_get_it(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert not re.search(r"(?m)^\s*(-i|-f|-e|--(?!hash=))", text)
    assert all(requirement.url is None for requirement in entries(lock))


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
@each_lock
def test_all_that_a_member_needs_is_locked(member: Path, lock: Path) -> None:
    assert missing(needed(member), lock) == []


def test_all_that_building_and_checking_need_is_locked() -> None:
    groups = project(ROOT)["dependency-groups"]
    builds = [Requirement(line) for member in MEMBERS for line in project(member)["build-system"]["requires"]]
    run, dev = LOCKS
    assert missing([*builds, *map(Requirement, groups["build"])], run) == []
    assert missing([*builds, *map(Requirement, [*groups["build"], *groups["dev"]])], dev) == []


def test_both_files_agree_on_every_version() -> None:
    run, dev = (entries(lock) for lock in LOCKS)
    assert {str(requirement) for requirement in run} <= {str(requirement) for requirement in dev}


def test_the_members_themselves_are_not_locked() -> None:
    for lock in LOCKS:
        assert not OWN & set(locked(lock))
