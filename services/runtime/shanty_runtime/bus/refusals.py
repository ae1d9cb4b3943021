"""Why a server does not let us in, or we do not want it: what to say of it, and how to mend it."""

from __future__ import annotations

import contextlib
import re
import ssl

import nats.errors

from shanty_runtime.bus.login import described, expired, read_login
from shanty_runtime.bus.settings import BusSettings
from shanty_runtime.errors import ConfigError, PermissionDenied, ShantyError

_LOGIN_REFUSED = re.compile("authoriz|authentic")
_CERTIFICATE_ALERT = re.compile("ALERT_(CERTIFICATE_[A-Z]+|[A-Z]+_CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED)$")


class NotLetIn(nats.errors.Error):
    """We do not go in like this. nats-py has to see it as an error of its own, or it would stop trying."""


def refusal_of(error: Exception, settings: BusSettings) -> ShantyError | None:
    """Why one of the two does not want the other; None where it is something that passes."""
    match error:
        case NotLetIn():
            return ConfigError(str(error))
        case ssl.SSLCertVerificationError():
            trusted = settings.tls_ca or "what this system trusts; SHANTY_NATS_TLS_CA names others"
            reason = error.verify_message.rstrip(".")
            return ConfigError(f"the certificate of {settings.where} is refused: {reason} (checked with {trusted})")
        case ssl.SSLError() if (alert := _CERTIFICATE_ALERT.search(error.reason or "")) is not None:
            ours = settings.tls_cert or "there is none, SHANTY_NATS_TLS_CERT and SHANTY_NATS_TLS_KEY name one"
            said = alert[1].lower().replace("_", " ")
            return PermissionDenied(
                f"the TLS handshake with {settings.where}", 0, f"{said} (our certificate: {ours})"
            )
        case nats.errors.Error() if _LOGIN_REFUSED.search(str(error).lower()):
            reason = str(error).removeprefix("nats: ").strip("'").lower()
            logging_in = f"logging in to {settings.where} with {described(settings)}"
            return PermissionDenied(logging_in, 0, reason + _expired(settings))
        case _:
            return None


def _expired(settings: BusSettings) -> str:
    with contextlib.suppress(ConfigError):
        return "; they have expired" if expired(read_login(settings)) else ""
    return ""
