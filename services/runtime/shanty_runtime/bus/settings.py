"""How to reach the bus, and as whom."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from shanty_protocol.zones import inbox_of
from shanty_runtime.config import Settings

CONNECT_TIMEOUT_S = 10.0
_USERINFO = re.compile(r"(?:(?<=://)|(?<=,)|^)[^@/,]*@")


class BusSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`url` may name several servers, separated by commas. Of the ways to log in, set one or none.

    Files are read anew at every connect, because keys, tokens and certificates are renewed while we run.
    """

    url: str = "nats://127.0.0.1:4222"
    name: str = "shanty"
    """What the server's monitoring calls this connection."""
    user: str = ""
    password: str = ""
    token: str = ""
    token_file: str = ""
    """Path of a file with a token, such as the one Kubernetes projects and renews. For an auth callout."""
    creds: str = ""
    """Path of a credentials file: a user's JWT and its key."""
    nkey_seed_file: str = ""
    tls_ca: str = ""
    """Path of the certificates the server's is signed by. Empty: what the system trusts."""
    tls_cert: str = ""
    """Path of our own certificate, where the server asks for one; `tls_key` is the path of its private key."""
    tls_key: str = ""
    tls_first: bool = False
    """The handshake comes before anything is said, as with the server's `handshake_first`."""
    inbox_prefix: str = "_INBOX"
    """Where answers arrive. A prefix of one's own keeps other users of the account from reading them."""
    zone: Literal["control", "agent"] = "control"
    """Whether we log into the account that holds the streams, or into an agent's own, which reaches only its part."""
    lease_s: int = 10
    """How long a thread stays taken after its worker was last heard of."""
    request_timeout_s: float = 5.0
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    """How long `start` waits for a server. Once connected, a lost connection is tried again for ever."""

    @property
    def where(self) -> str:
        """The address, without a name and a password that may be in it."""
        return _USERINFO.sub("", self.url)


def login_of(principal: str, settings: Settings, *, name: str) -> BusSettings:
    """How a user of the bus logs in, by the environment's settings. Answers arrive under a prefix of its own."""
    return BusSettings(
        url=settings.nats_url,
        name=name,
        user=settings.nats_user,
        password=settings.nats_password,
        token=settings.nats_token,
        token_file=settings.nats_token_file,
        creds=settings.nats_creds,
        nkey_seed_file=settings.nats_nkey_seed,
        tls_ca=settings.nats_tls_ca,
        tls_cert=settings.nats_tls_cert,
        tls_key=settings.nats_tls_key,
        tls_first=settings.nats_tls_first,
        inbox_prefix=settings.nats_inbox_prefix or inbox_of(principal),
        zone=settings.nats_zone,
        lease_s=settings.lease_s,
        connect_timeout_s=max(CONNECT_TIMEOUT_S, settings.start_wait_s),
    )
