"""The bus that is under attack: one nats-server, or three on loopback that form a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from shanty_runtime.bus import Bus, BusSettings, EmbeddedServer, create_layout
from shanty_runtime.errors import BusError

LAYOUT_DEADLINE_S = 60.0
"""Three servers that have just started elect leaders first."""
WHOLE_DEADLINE_S = 30.0
HEALTH_TIMEOUT_S = 2.0


class Nodes:
    """Named `nats-1` and on. Each flushes before it acks, and keeps its port and its store when it is killed."""

    def __init__(self, number: int, folder: Path) -> None:
        names = [f"nats-{each}" for each in range(1, number + 1)]
        routes = dict(zip(names, _free_ports(number), strict=True)) if number > 1 else {}
        self.servers = {
            name: EmbeddedServer(store_dir=folder / name, name=name, extra=_cluster(name, routes)) for name in names
        }

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.servers)

    @property
    def url(self) -> str:
        return ",".join(server.url for server in self.servers.values())

    @property
    def monitor_url(self) -> str:
        return ",".join(server.monitor_url for server in self.servers.values())

    @property
    def ports(self) -> list[int]:
        return [urlsplit(server.url).port or 0 for server in self.servers.values()]

    async def prepare(self, agents: list[str], ack_wait_s: float) -> None:
        """Make the streams, with a copy on every server."""
        async with Bus(BusSettings(url=self.url, name="chaos")) as bus:
            deadline_s = asyncio.get_running_loop().time() + LAYOUT_DEADLINE_S
            while True:
                try:
                    await create_layout(bus, agents=agents, num_replicas=len(self.servers), ack_wait_s=ack_wait_s)
                    return
                except BusError:
                    if asyncio.get_running_loop().time() > deadline_s:
                        raise
                await asyncio.sleep(0.2)

    async def whole(self) -> None:
        """Wait until every server is up and has caught up with the others. A majority is enough to work, so nobody
        else waits for this; but who takes the next server away before has taken the majority."""
        deadline_s = asyncio.get_running_loop().time() + WHOLE_DEADLINE_S
        while not all(await asyncio.gather(*(_is_healthy(server) for server in self.servers.values()))):
            if asyncio.get_running_loop().time() > deadline_s:
                return  # the audit will say what this did
            await asyncio.sleep(0.1)

    async def __aenter__(self) -> Nodes:
        try:
            await asyncio.gather(*(server.start() for server in self.servers.values()))
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stop()

    async def _stop(self) -> None:
        for server in self.servers.values():
            with contextlib.suppress(AssertionError, ProcessLookupError):
                server.thaw()
        await asyncio.gather(*(server.stop() for server in self.servers.values()))


async def _is_healthy(server: EmbeddedServer) -> bool:
    if not server.running:
        return False
    try:
        async with httpx2.AsyncClient(timeout=HEALTH_TIMEOUT_S) as client:
            return (await client.get(f"{server.monitor_url}/healthz")).status_code == httpx2.codes.OK
    except httpx2.HTTPError:
        return False


def _cluster(name: str, routes: dict[str, int]) -> str:
    if not routes:
        return ""
    others = ", ".join(f'"nats://127.0.0.1:{port}"' for other, port in routes.items() if other != name)
    # Clients that learned of the other servers would go round the gates.
    return f'cluster {{ name: "chaos", listen: "127.0.0.1:{routes[name]}", routes: [{others}], no_advertise: true }}'


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
