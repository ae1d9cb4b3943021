"""A server that lets in who has a key, and what `shanty bus-auth` writes for it."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from shanty_cli.bus_auth import Order, Report, file_of, write_keys
from shanty_cli.key_folder import Form
from shanty_runtime.bus import Bus, BusSettings, EmbeddedServer
from shanty_runtime.team import Team
from shanty_runtime.testing import SHORT_LEASE_S, until


class Keyring:
    """A folder that `shanty bus-auth` keeps for a team, and the server that knows it."""

    def __init__(self, team: Team, form: Form, folder: Path) -> None:
        self.team, self.form, self.folder = team, form, folder
        self.order = Order(team=team, folder=folder, form=form)
        self.now_s = 1_800_000_000
        """Later than any clock these tests are run by, so that each writing is later than the one before."""

    def write(self, **changes: object) -> Report:
        self.now_s += 1
        return write_keys(msgspec.structs.replace(self.order, **changes), self.now_s)

    @property
    def conf(self) -> Path:
        return self.folder / ("accounts.conf" if self.form == "conf" else "resolver.conf")

    def file(self, principal: str) -> Path:
        return self.folder / file_of(self.form, principal)

    def settings(self, server: EmbeddedServer, principal: str, file: Path | None = None) -> BusSettings:
        """How a principal logs in, with its file or with another."""
        path = str(file or self.file(principal))
        return BusSettings(
            url=server.url,
            name=principal,
            creds=path if self.form == "jwt" else "",
            nkey_seed_file=path if self.form == "conf" else "",
            inbox_prefix=f"_INBOX_{principal}",
            lease_s=SHORT_LEASE_S,
            request_timeout_s=2.0,
        )


@asynccontextmanager
async def guarded_server(keyring: Keyring) -> AsyncIterator[EmbeddedServer]:
    """A server whose configuration includes what was written. Both are in neighbouring folders."""
    store = keyring.folder.parent / f"nats-{keyring.form}"
    async with EmbeddedServer(
        store_dir=store, extra=f"include ../{keyring.folder.name}/{keyring.conf.name}"
    ) as server:
        yield server
        await server.kill9()


async def reload(server: EmbeddedServer) -> None:
    """What `nats-server --signal reload` does. Returns when the server says that it is done."""
    done = "Reloaded server configuration"
    before = server.log_text().count(done)
    os.kill(server.pid, signal.SIGHUP)
    await until(lambda: server.log_text().count(done) > before or "Failed to reload" in server.log_text())
    assert "Failed to reload" not in server.log_text(), server.log_text()[-500:]


async def lets_in(settings: BusSettings) -> bool:
    async with Bus(settings) as bus:
        return bus.connected
