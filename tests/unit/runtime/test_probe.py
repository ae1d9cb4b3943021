from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shanty_runtime import probe
from shanty_runtime.health import HealthServer


class Patient:
    """A service that is ready or not, and answers either way."""

    def __init__(self) -> None:
        self.connected = True
        self.health = HealthServer("127.0.0.1", 0, lambda: {"connected": self.connected})
        self.port = self.health.port

    async def asked(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """As a container asks: without the packages of the environment."""
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-I", "-S", str(Path(probe.__file__)), *arguments],
            env={**os.environ, "SHANTY_HTTP_HOST": "0.0.0.0", "SHANTY_HTTP_PORT": str(self.port)},
            capture_output=True,
            text=True,
        )


@pytest.fixture
async def patient() -> AsyncIterator[Patient]:
    patient = Patient()
    await patient.health.start()
    yield patient
    await patient.health.stop()


async def test_a_service_that_is_ready_is_healthy(patient: Patient) -> None:
    done = await patient.asked()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == 'HTTP/1.1 200 OK {"connected":true}\n'


async def test_a_service_that_is_not_ready_is_alive_and_says_what_is_missing(patient: Patient) -> None:
    patient.connected = False
    ready, live = await asyncio.gather(patient.asked("ready"), patient.asked("live"))
    assert (ready.returncode, live.returncode) == (1, 0)
    assert '"connected":false' in ready.stdout


async def test_where_nobody_listens_the_answer_is_no(patient: Patient) -> None:
    await patient.health.stop()
    done = await patient.asked()
    assert done.returncode == 1
    assert "does not answer" in done.stdout


def test_a_question_nobody_knows_is_a_mistake() -> None:
    assert probe.main(["well"]) == 2
