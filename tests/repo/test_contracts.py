"""Who may import whom: the contracts in pyproject.toml hold, and they would catch somebody who breaks them."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = [ROOT / "protocol" / "shanty_protocol", *sorted(ROOT.glob("services/*/shanty_*"))]
CONTRACTS = [
    contract["name"]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
]
LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"

VIOLATIONS = {
    "services -> runtime -> protocol, and services never import each other": (
        "shanty_lead/__init__.py",
        "import shanty_specialist",
    ),
    "inside the runtime, imports point down": ("shanty_runtime/errors.py", "import shanty_runtime.telemetry"),
    "what a thread is and does next follows from its journal alone": (
        "shanty_runtime/thread/state.py",
        "import shanty_runtime.bus",
    ),
    "the protocol does no I/O": ("shanty_protocol/ids.py", "import asyncio"),
    "only the bus knows NATS": ("shanty_runtime/thread/__init__.py", "import nats"),
    "the agent loop does not know there is a bus": ("shanty_runtime/agent/__init__.py", "import shanty_runtime.bus"),
}


def lint(folder: Path) -> tuple[int, str]:
    """Exit code and report of import-linter, over the packages in that folder."""
    done = subprocess.run(
        [sys.executable, "-c", LINT],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """All packages beside each other, with the contracts."""
    for package in PACKAGES:
        shutil.copytree(package, tmp_path / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_every_contract_is_kept(copy: Path) -> None:
    code, report = lint(copy)
    assert code == 0, report
    for contract in CONTRACTS:
        assert f"{contract} KEPT" in report


def test_every_contract_catches_who_breaks_it(copy: Path) -> None:
    assert set(VIOLATIONS) == set(CONTRACTS), "each contract needs a violation to be tried with"
    for path, line in VIOLATIONS.values():
        with (copy / path).open("a") as module:
            module.write(f"\n{line}\n")
    code, report = lint(copy)
    assert code == 1, report
    for contract in CONTRACTS:
        assert f"{contract} BROKEN" in report


def imports() -> Iterator[tuple[str, str]]:
    """Every import of another package, those inside functions too: the importing file and the imported module."""
    for package in PACKAGES:
        for path in package.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                where = path.relative_to(package.parent).as_posix()
                if isinstance(node, ast.Import):
                    yield from ((where, alias.name) for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module:
                    yield from ((where, f"{node.module}.{alias.name}") for alias in node.names)


def test_only_telemetry_knows_opentelemetry_and_only_its_setup_the_sdk() -> None:
    users = {where for where, module in imports() if module.startswith("opentelemetry")}
    sdk_users = {
        where for where, module in imports() if module.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))
    }
    assert {where for where in users if not where.startswith("shanty_runtime/telemetry/")} == set()
    assert sdk_users == {"shanty_runtime/telemetry/setup.py"}


def test_nothing_imports_the_tests_or_the_test_tools() -> None:
    tools = ("tests", "support", "conftest", "pytest", "hypothesis", "_pytest")
    assert [(where, module) for where, module in imports() if module.split(".")[0] in tools] == []
