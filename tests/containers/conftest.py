from __future__ import annotations

import os

import pytest

# testcontainers reads this when it is imported. Its reaper is one more image to fetch, and these tests remove what
# they have started.
os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")

from support.containers import Compose, require_docker


@pytest.fixture(scope="session")
def images() -> None:
    """The images of this checkout, tagged for tests. Without a Docker engine, the test is skipped."""
    require_docker()
    Compose("shanty-test-build")("--profile", "*", "build", "--quiet")
