"""For tests of teams, tools and services: a real nats-server each, and a bus with its layout.

    async with nats_bus(agents=("lead", "logs")) as bus:
        ...

A server is up in about 20 ms, so there is no shared one and no imitation of one.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from shanty_runtime.bus import Bus, BusSettings, EmbeddedServer, create_layout
from shanty_runtime.bus.jetstream import manage

AGENTS = ("lead", "alpha", "beta")
SHORT_LEASE_S = 2
SHORT_ACK_WAIT_S = 2.0
DEADLINE_S = 15.0

T = TypeVar("T")


@contextlib.asynccontextmanager
async def nats_server(store_dir: Path | None = None, *, extra: str = "") -> AsyncIterator[EmbeddedServer]:
    """A nats-server of this test's own. A missing binary is an error that says how to get one."""
    async with EmbeddedServer(store_dir=store_dir, extra=extra) as server:
        yield server
        await server.kill9()  # nothing it has is needed any more, so it need not end in good order


def bus_settings(server: EmbeddedServer | EmbeddedCluster) -> BusSettings:
    """Settings with a short lease, so that tests need not wait long for one to run out."""
    return BusSettings(url=server.url, lease_s=SHORT_LEASE_S, request_timeout_s=2.0)


@contextlib.asynccontextmanager
async def nats_bus(
    server: EmbeddedServer | EmbeddedCluster | None = None,
    *,
    agents: Sequence[str] = AGENTS,
    ack_wait_s: float = SHORT_ACK_WAIT_S,
    num_replicas: int = 1,
) -> AsyncIterator[Bus]:
    """A connected bus whose layout has these agents; on a server of its own unless one is given."""
    async with contextlib.AsyncExitStack() as stack:
        if server is None:
            server = await stack.enter_async_context(nats_server())
        bus = await stack.enter_async_context(Bus(bus_settings(server)))
        await create_layout(bus, agents=agents, ack_wait_s=ack_wait_s, num_replicas=num_replicas, max_bytes=2**30)
        yield bus


async def until(condition: Callable[[], T], deadline_s: float = DEADLINE_S) -> T:
    """What the condition gives once it is true. For what no event tells; fails at the deadline."""
    end_s = time.monotonic() + deadline_s
    while not (found := condition()):
        assert time.monotonic() < end_s, f"not true within {deadline_s:g} s"
        await asyncio.sleep(0.005)
    return found


class EmbeddedCluster:
    """Nodes on loopback that replicate to each other. `start` returns when they have elected a leader."""

    def __init__(self, directory: Path, *, nodes: int = 3) -> None:
        ports = [_free_port() for _ in range(nodes)]
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
        self.servers = [
            EmbeddedServer(
                name=f"n{number}",
                store_dir=directory / f"n{number}",
                extra=f'cluster {{ name: shanty, listen: "127.0.0.1:{port}", routes: [{routes}] }}',
            )
            for number, port in enumerate(ports)
        ]

    @property
    def url(self) -> str:
        return ",".join(server.url for server in self.servers)

    async def start(self, deadline_s: float = 30.0) -> None:
        await asyncio.gather(*(server.start() for server in self.servers))
        async with Bus(BusSettings(url=self.url, request_timeout_s=1.0)) as bus:
            async with asyncio.timeout(deadline_s):
                await bus.connection.persist("waiting for a leader", lambda: manage(bus.connection, "INFO"))

    async def stop(self) -> None:
        await asyncio.gather(*(server.stop() for server in self.servers))

    async def leader_of(self, bus: Bus, stream: str, consumer: str = "") -> EmbeddedServer:
        """The node that decides about a stream, or about one of its consumers."""
        asked = f"CONSUMER.INFO.{stream}.{consumer}" if consumer else f"STREAM.INFO.{stream}"
        found = await manage(bus.connection, asked)
        name = found["cluster"]["leader"]
        return next(server for server in self.servers if server.name == name)

    async def __aenter__(self) -> EmbeddedCluster:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
