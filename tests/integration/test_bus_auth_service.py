"""A service whose key is refused, taken back and renewed: what it says, what it shows, and what it costs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from shanty_runtime.bus import Bus, EmbeddedServer, create_layout
from shanty_runtime.team import load_team
from shanty_runtime.testing import until
from support.keys import Keyring, guarded_server, reload

HELLO = Path(__file__).parents[1] / "teams" / "hello"
START_S = 90.0


class Service:
    """A lead as a process, and its log."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self.log = process, log

    def said(self, level: str) -> list[str]:
        lines = [msgspec.json.decode(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line["message"] for line in lines if line["level"] == level]

    def port(self) -> int:
        for line in self.log.read_text().splitlines():
            if line.startswith("{") and "http_port" in line:
                port: int = msgspec.json.decode(line)["http_port"]
                return port
        assert self.process.poll() is None, self.log.read_text()
        return 0

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port()}/healthz/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError:
            return False

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def lead(server: EmbeddedServer, key: Path, log: Path) -> Iterator[Service]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SHANTY_")}
    settings = {
        "SHANTY_NATS_URL": server.url,
        "SHANTY_NATS_NKEY_SEED": str(key),
        "SHANTY_TEAM": str(HELLO),
        "SHANTY_MODEL": "rehearsal",
        "SHANTY_HTTP_PORT": "0",
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "shanty_lead"], env={**kept, **settings}, stdout=out, stderr=out
        )
    with process:
        try:
            yield Service(process, log)
        finally:
            process.kill()


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    keyring = Keyring(load_team(HELLO), "conf", tmp_path / "auth")
    keyring.write()
    return keyring


async def test_a_service_that_is_not_let_in_ends_with_a_sentence_that_names_the_key(
    keyring: Keyring, tmp_path: Path
) -> None:
    stale, seed = tmp_path / "stale.nk", keyring.file("lead").read_text().strip()
    shutil.copy(keyring.file("lead"), stale)
    keyring.write(rotate=("lead",))
    async with guarded_server(keyring) as server:
        with lead(server, stale, tmp_path / "log") as service:
            await until(lambda: service.process.poll() is not None, START_S)
            assert service.process.returncode == 1
            (said,) = service.said("error")
    assert "authorization violation" in said and "stale.nk" in said and server.url in said
    assert seed not in service.log.read_text()


async def test_a_service_whose_key_is_taken_back_is_not_ready_waits_quietly_and_goes_on_with_a_new_one(
    keyring: Keyring, tmp_path: Path
) -> None:
    mounted = Path(shutil.copy(keyring.file("lead"), tmp_path / "mounted.nk"))
    async with guarded_server(keyring) as server:
        async with Bus(keyring.settings(server, "installer")) as installer:
            await create_layout(installer, agents=("lead", "greeter", "counter"), max_bytes=2**28)
        with lead(server, mounted, tmp_path / "log") as service:
            await until(lambda: service.port() and service.ready(), START_S)
            keyring.write(revoke=("lead",))
            await reload(server)
            await until(lambda: not service.ready(), 5)
            before_s, refusals = service.cpu_s(), server.log_text().count("authentication error")
            await until(lambda: server.log_text().count("authentication error") >= refusals + 4, 60)
            assert service.cpu_s() - before_s < 1.0
            assert len([said for said in service.said("error") if "mounted.nk" in said]) == 1
            assert service.process.poll() is None
            keyring.write(rotate=("lead",))
            shutil.copy(keyring.file("lead"), mounted)
            await reload(server)
            await until(lambda: service.ready(), START_S)
