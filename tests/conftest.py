"""What every test may ask for. Each test has a nats-server of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shanty_runtime.bus import Bus, EmbeddedServer
from shanty_runtime.testing import EmbeddedCluster, nats_bus, nats_server


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    async with nats_server(tmp_path / "nats") as started:
        yield started


@pytest.fixture
async def bus(server: EmbeddedServer) -> AsyncIterator[Bus]:
    """Connected, with the layout of agents lead, alpha and beta, a lease of 2 s and an ack wait of 2 s."""
    async with nats_bus(server) as connected:
        yield connected


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[EmbeddedCluster]:
    """Three servers that have elected a leader."""
    async with EmbeddedCluster(tmp_path / "cluster") as started:
        yield started
