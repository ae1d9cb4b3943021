"""One name everywhere: a service's folder, distribution, import and process are called the same."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(path.parent for path in ROOT.glob("services/*/pyproject.toml"))
SERVICES = [folder for folder in FOLDERS if folder.name != "runtime"]  # a library, not a service
MEMBERS = [ROOT / "protocol", *FOLDERS]

each_member = pytest.mark.parametrize("folder", MEMBERS, ids=lambda folder: folder.name)


def project(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text())


@each_member
def test_a_folder_is_its_distribution_and_its_import(folder: Path) -> None:
    stated = project(folder)
    package = f"shanty_{folder.name}"
    assert stated["project"]["name"] == f"shanty-{folder.name}"
    assert stated["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [package]
    assert [path.parent.name for path in folder.glob("*/__init__.py")] == [package]
    assert (folder / package / "py.typed").exists()


def test_every_folder_of_services_is_a_member() -> None:
    folders = {path for path in (ROOT / "services").iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    assert folders == set(FOLDERS)


def test_every_tool_knows_every_member() -> None:
    root = project(ROOT)
    folders = {path.relative_to(ROOT).as_posix() for path in MEMBERS}
    packages = {f"shanty_{path.name}" for path in MEMBERS}
    assert set(root["tool"]["uv"]["workspace"]["members"]) == folders
    assert set(root["tool"]["importlinter"]["root_packages"]) == packages
    assert folders <= set(root["tool"]["mypy"]["mypy_path"].split(":"))
    assert packages <= set(root["tool"]["ruff"]["lint"]["isort"]["known-first-party"])
    (members,) = re.findall(r"(?m)^MEMBERS\s*:=\s*(.+)$", (ROOT / "Makefile").read_text())
    assert set(members.split()) == folders


@pytest.mark.parametrize("folder", [each for each in SERVICES if each.name != "cli"], ids=lambda folder: folder.name)
def test_a_service_runs_under_the_name_of_its_folder(folder: Path) -> None:
    main = ast.parse((folder / f"shanty_{folder.name}" / "__main__.py").read_text())
    named = [
        node.args[0].value
        for node in ast.walk(main)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "run_service"
        and isinstance(node.args[0], ast.Constant)
    ]
    assert named == [folder.name]


def test_the_command_line_is_called_shanty() -> None:
    assert list(project(ROOT / "services" / "cli")["project"]["scripts"]) == ["shanty"]
