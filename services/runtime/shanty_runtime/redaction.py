"""Secrets are kept out of what is stored, traced and logged.

A secret is the value of an environment variable whose name says so, or a text of a form that only keys have. It is
replaced before a tool's result or an error's text goes anywhere, so a model does not see it either.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping

REDACTED = "[redacted]"
MIN_SECRET_LENGTH = 8
"""A shorter value is more likely a word than a secret, and would be cut out of everything."""

_SECRET_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE|AUTH", re.IGNORECASE)
_PATHS = frozenset({"SHANTY_NATS_NKEY_SEED", "SHANTY_NATS_TLS_KEY", "SHANTY_NATS_TOKEN_FILE"})
"""They only say where a secret is, and whoever mends it has to be told."""
_SECRET_FORMS = (
    r"sk-[A-Za-z0-9_-]{16,}",
    r"gh[pousr]_[A-Za-z0-9]{20,}",
    r"xox[abprs]-[A-Za-z0-9-]{10,}",
    r"AKIA[0-9A-Z]{16}",
    r"AIza[0-9A-Za-z_-]{30,}",
    r"eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    r"S[UAOC][A-Z2-7]{56}",  # an nkey seed
)


def redact(text: str) -> str:
    """The text without the secrets of this process's environment, and without anything that has a key's form."""
    return _pattern_of(_secrets(os.environ)).sub(REDACTED, text)


def _secrets(environment: Mapping[str, str]) -> tuple[str, ...]:
    named = (value for name, value in environment.items() if _SECRET_NAMES.search(name) and name not in _PATHS)
    # Longest first, so that one secret within another does not leave the rest of it standing.
    return tuple(sorted({value for value in named if len(value) >= MIN_SECRET_LENGTH}, key=len, reverse=True))


@functools.lru_cache(maxsize=4)
def _pattern_of(secrets: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join((*map(re.escape, secrets), *_SECRET_FORMS)), re.DOTALL)
