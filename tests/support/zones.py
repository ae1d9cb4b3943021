"""A bus with trust zones: the configuration that is generated for a team, and a login for each of its principals."""

from __future__ import annotations

import re
from pathlib import Path

from shanty_cli.accounts_conf import render
from shanty_protocol.ids import OPERATORS, TOOL_GATEWAY
from shanty_protocol.zones import ADMIN, CONSOLE, GATEWAY, INSTALLER, Zones, inbox_of
from shanty_runtime.bus import Bus, BusSettings
from shanty_runtime.bus.nkeys import Key

WITNESS = "witness"
"""A user of the control account who may do everything. No configuration of ours has one; tests see by it."""
NOT_CONFINED = (INSTALLER, OPERATORS, GATEWAY, TOOL_GATEWAY, CONSOLE, WITNESS)


class Logins:
    """Keys for everybody, the server's configuration, and a Bus in anybody's name."""

    def __init__(self, zones: Zones, folder: Path) -> None:
        self.zones, self.folder = zones, folder
        self.principals = tuple(zone.principal for zone in zones.all)
        self.agents = tuple(name for name in self.principals if name not in NOT_CONFINED)
        self.lead = zones.residents[0].principal
        folder.mkdir()
        keys = {name: Key.new("user") for name in (*self.principals, ADMIN, WITNESS)}
        for name, key in keys.items():
            self.seed_file(name).write_text(key.seed)
        self.users = {name: key.public for name, key in keys.items()}

    def seed_file(self, principal: str) -> Path:
        return self.folder / f"{principal}.nk"

    def configuration(self, *, witness: bool = False, permissions: bool = True) -> str:
        """As it is generated; or with a witness, or with accounts alone to keep guests apart."""
        conf = render(self.zones, self.users)
        if witness:
            first = conf.index("users: [", conf.index(f"  {self.zones.control} {{"))
            conf = f'{conf[:first]}users: [ {{ nkey: "{self.users[WITNESS]}" }}{conf[first + len("users: [") :]}'
        if not permissions:
            for guest in self.zones.guests:
                account = conf.index(f"  {guest.account} {{")
                conf = conf[:account] + _PERMISSIONS.sub("", conf[account:], count=1)
        return conf

    def bus(self, url: str, principal: str, *, lease_s: int = 2, request_timeout_s: float = 2.0) -> Bus:
        confined = principal in self.agents and principal != self.lead
        return Bus(
            BusSettings(
                url=url,
                name=principal,
                nkey_seed_file=str(self.seed_file(principal)),
                inbox_prefix=inbox_of(principal),
                zone="agent" if confined else "control",
                lease_s=lease_s,
                request_timeout_s=request_timeout_s,
            )
        )


_PERMISSIONS = re.compile(r"\n {8}permissions: \{.*?\n {8}\}", re.DOTALL)
