"""Keys of NATS: who somebody is there is an Ed25519 key pair, written in base32 with its kind as the first letter.

A public key begins with O (operator), A (account) or U (user); a seed, from which everything follows and which is the
secret, with S and that letter. Each ends in a checksum, CRC-16/XMODEM with the low byte first (docs.nats.io, NKeys).

The package `nkeys` comes as source only, to be built by whatever setuptools an installation finds, and does not look
at the checksum. So the few bytes around a key are read here, and `cryptography` does what is cryptography.
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import Literal

from shanty_runtime.errors import ConfigError

Kind = Literal["operator", "account", "user"]

_KIND_BYTES: dict[Kind, int] = {"operator": 14 << 3, "account": 0, "user": 20 << 3}
_SEED_BYTE = 18 << 3
SEED_BYTES = 32


class Key:
    """A key pair. Printing it shows its public half."""

    def __init__(self, kind: Kind, raw_seed: bytes) -> None:
        assert len(raw_seed) == SEED_BYTES, "an Ed25519 seed has 32 bytes"
        # Imported here: it takes longer than the rest of the bus, and most services log in without a key.
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self.kind = kind
        self._pair = Ed25519PrivateKey.from_private_bytes(raw_seed)
        byte = _KIND_BYTES[kind]
        self.seed: str = _written(_seed_bytes(byte) + raw_seed)
        self.public: str = _written(bytes((byte,)) + self._pair.public_key().public_bytes_raw())

    @classmethod
    def new(cls, kind: Kind) -> Key:
        return cls(kind, os.urandom(SEED_BYTES))

    @classmethod
    def from_seed(cls, text: str, where: str) -> Key:
        """The key pair of a seed. Raises ConfigError that names `where` it was read, and never shows it."""
        raw = _read(text.strip())
        kind = next((kind for kind, byte in _KIND_BYTES.items() if raw[:2] == _seed_bytes(byte)), None)
        if kind is None or len(raw) != 2 + SEED_BYTES:
            raise ConfigError(f"{where} does not hold an nkey seed: one is a line of 58 letters that begins with S")
        return cls(kind, raw[2:])

    def sign(self, data: bytes) -> bytes:
        return self._pair.sign(data)

    def __repr__(self) -> str:
        return f"Key({self.public})"


def _seed_bytes(kind_byte: int) -> bytes:
    """How the seed of a kind begins: five bits make the first letter an S, and the kind's byte stands behind them."""
    return bytes((_SEED_BYTE | kind_byte >> 5, (kind_byte & 31) << 3))


def _written(raw: bytes) -> str:
    checksum = binascii.crc_hqx(raw, 0).to_bytes(2, "little")
    return base64.b32encode(raw + checksum).decode().rstrip("=")


def _read(text: str) -> bytes:
    """What `_written` wrote, without its checksum; empty where it is anything else."""
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))[:-2]
    except ValueError:
        return b""
    return raw if _written(raw) == text else b""
