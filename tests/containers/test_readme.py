"""The README's block for Docker, as it stands, in a copy of the checkout and under a project name of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.containers import ROOT, TAG, require_docker

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]

BLOCK = (ROOT / "README.md").read_text().split("```sh in docker\n")[1].split("```")[0]
LEFT_BEHIND = (".venv", ".git", ".shanty", ".cache", ".*_cache", "__pycache__", ".hypothesis", "incident-*")


def test_the_block_for_docker_runs_as_it_stands(tmp_path: Path) -> None:
    require_docker()
    checkout = tmp_path / "shanty"
    shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    (checkout / ".venv").symlink_to(Path(sys.executable).parents[1])
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SHANTY_", "ANTHROPIC_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**kept, "PATH": path, "COMPOSE_PROJECT_NAME": "shanty-readme", "SHANTY_TAG": TAG}
    try:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", BLOCK],
            cwd=checkout,
            env=environment,
            capture_output=True,
            text=True,
            timeout=800,
        )
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        assert "completed" in done.stdout + done.stderr
    finally:
        down = ["docker", "compose", "--profile", "tools", "down", "--volumes", "--remove-orphans"]
        subprocess.run(down, cwd=checkout, env=environment, capture_output=True, timeout=200)
