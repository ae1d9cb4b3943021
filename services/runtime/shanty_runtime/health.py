"""The HTTP side of a service: is it alive, is it ready, how is it doing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import prometheus_client
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Check = Callable[[], dict[str, bool]]
"""Named conditions for being ready, and whether each holds."""


class HealthServer:
    """/healthz/live answers while the event loop turns, whatever the bus does; /healthz/ready tells whether work is
    taken; /metrics is for Prometheus."""

    def __init__(self, host: str, port: int, ready: Check) -> None:
        self.ready = ready
        self._socket = socket.create_server((host, port))
        routes = [
            Route("/healthz/live", self._live),
            Route("/healthz/ready", self._ready),
            Route("/metrics", self._metrics),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes), log_config=None, log_level="warning", access_log=False, lifespan="off"
        )
        self._server = _Server(config)
        self._serving: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        port: int = self._socket.getsockname()[1]
        return port

    async def start(self) -> None:
        self._serving = asyncio.create_task(self._server.serve([self._socket]))

    async def stop(self) -> None:
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
            self._serving = None
        self._socket.close()

    async def _live(self, request: Request) -> Response:
        return JSONResponse({"alive": True})

    async def _ready(self, request: Request) -> Response:
        checks = self.ready()
        return JSONResponse(checks, 200 if all(checks.values()) else 503)

    async def _metrics(self, request: Request) -> Response:
        return Response(prometheus_client.generate_latest(), media_type=prometheus_client.CONTENT_TYPE_LATEST)


class _Server(uvicorn.Server):
    """Leaves the process's signals to the service, which has more to stop than this."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
