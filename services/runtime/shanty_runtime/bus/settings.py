"""How to reach the bus."""

from __future__ import annotations

import msgspec


class BusSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`url` may name several servers, separated by commas. Of the ways to log in, set one or none."""

    url: str = "nats://127.0.0.1:4222"
    name: str = "shanty"
    """What the server's monitoring calls this connection."""
    user: str = ""
    password: str = ""
    token: str = ""
    creds: str = ""
    """Path of a credentials file: a user's JWT and its key."""
    nkey_seed_file: str = ""
    inbox_prefix: str = "_INBOX"
    """Where answers arrive. A prefix of one's own keeps other users of the account from reading them."""
    lease_s: int = 10
    """How long a thread stays taken after its worker was last heard of."""
    request_timeout_s: float = 5.0
    connect_timeout_s: float = 10.0
    """How long `start` waits for a server. Once connected, a lost connection is tried again for ever."""
