"""Others that do the same, each in an environment of its own, made where it is not there yet.

What cannot be installed or does not run is left out, and said so. What waits for the disk before it goes on is held
against delegations at `sync_interval: always`; what does not, against those at the default.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import venv
from pathlib import Path

import msgspec

from shanty_runtime.bus import EmbeddedServer

FOLDER = Path(".shanty") / "bench"
REQUIREMENTS = Path(__file__).parent / "peers"
INSTALL_WITHIN_S = 600
RUN_WITHIN_S = 300


class Peer(msgspec.Struct, frozen=True):
    name: str
    """Also of its requirements, in the folder of the peers."""
    module: str
    sync: str
    """What a delegation is held against: `always` or `default`."""


PEERS = (
    Peer("celery", "bench.peers.celery_redis", "default"),
    Peer("taskiq", "bench.peers.taskiq_nats_js", "default"),
    Peer("faststream", "bench.peers.faststream_rpc", "default"),
    Peer("dbos", "bench.peers.dbos_sqlite", "always"),
    Peer("langgraph", "bench.peers.langgraph_sqlite", "always"),
    Peer("a2a", "bench.peers.a2a_sqlite", "always"),
)


class Measured(msgspec.Struct):
    one_by_one_s: list[float]
    rate: float

    @property
    def p50_s(self) -> float:
        return statistics.median(self.one_by_one_s)

    @property
    def p99_s(self) -> float:
        return statistics.quantiles(self.one_by_one_s, n=100)[98]


def environment(name: str) -> Path | None:
    """The Python of a peer's environment; None where that cannot be made."""
    folder, wanted = FOLDER / name, (REQUIREMENTS / f"{name}.txt").read_text()
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"installing {name}", file=sys.stderr)
    venv.create(folder, with_pip=True, clear=True)
    installing = [str(python), "-m", "pip", "install", "--quiet", "-r", str(REQUIREMENTS / f"{name}.txt")]
    try:
        done = subprocess.run(installing, capture_output=True, text=True, timeout=INSTALL_WITHIN_S)
    except subprocess.TimeoutExpired:
        left_out(name, f"it was not installed within {INSTALL_WITHIN_S} s")
        return None
    if done.returncode:
        left_out(name, f"it cannot be installed: {_last_line(done.stderr)}")
        return None
    stamp.write_text(wanted)
    return python


async def measure_peer(peer: Peer) -> Measured | None:
    """One run of a peer, with a nats-server for those that want one; None where that does not work."""
    python = environment(peer.name)
    if python is None:
        return None
    print(f"  {peer.name}", file=sys.stderr)
    async with EmbeddedServer(sync_interval="2m") as server:
        said = {"BENCH_NATS": server.url, "PYTHONPATH": str(REQUIREMENTS.parent.parent)}
        try:
            done = subprocess.run(  # noqa: ASYNC221  # nothing else is to run meanwhile
                [str(python), "-m", peer.module],
                env={**os.environ, **said},
                capture_output=True,
                text=True,
                timeout=RUN_WITHIN_S,
            )
        except subprocess.TimeoutExpired:
            left_out(peer.name, f"it did not end within {RUN_WITHIN_S} s")
            return None
    if done.returncode or not done.stdout.strip():
        left_out(peer.name, f"it failed: {_last_line(done.stderr)}")
        return None
    return msgspec.json.decode(done.stdout.strip().splitlines()[-1], type=Measured)


def left_out(name: str, why: str) -> None:
    """Say aloud that a peer is not in the table."""
    print(f"LEFT OUT: {name}: {why}", file=sys.stderr)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it says nothing"])[-1][:300]
