"""A service's own way to the bus. While it is cut nothing passes, and what was under way arrives when it is healed:
late, as after a network partition.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial

PIECE_BYTES = 64 * 1024


class Gate:
    """One listening port for each of the bus's servers."""

    def __init__(self, server_ports: Sequence[int]) -> None:
        self._server_ports = server_ports
        self._open = asyncio.Event()
        self._open.set()
        self._listeners: list[asyncio.Server] = []
        self._passing: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        ports = (listener.sockets[0].getsockname()[1] for listener in self._listeners)
        return ",".join(f"nats://127.0.0.1:{port}" for port in ports)

    def cut(self) -> None:
        self._open.clear()

    def heal(self) -> None:
        self._open.set()

    async def __aenter__(self) -> Gate:
        for port in self._server_ports:
            self._listeners.append(await asyncio.start_server(partial(self._accept, port), "127.0.0.1", 0))
        return self

    async def __aexit__(self, *exc: object) -> None:
        for listener in self._listeners:
            listener.close()
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    def _accept(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._pass_on(port, reader, writer))
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)

    async def _pass_on(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(writer):
            await self._open.wait()
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.closing(server_writer):
                ways = [
                    asyncio.create_task(self._pump(reader, server_writer)),
                    asyncio.create_task(self._pump(server_reader, writer)),
                ]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(PIECE_BYTES):
            await self._open.wait()
            writer.write(piece)
            await writer.drain()
