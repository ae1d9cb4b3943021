"""How a connection proves who it is, and makes sure of the server: credentials, keys, tokens and certificates.

Every file is read anew at every connect, so that what is renewed on the disk (a rotated key, a projected token, a
certificate) is used as soon as the server asks again. A file that is wrong is named, with what is wrong with it;
what it holds is never shown.
"""

from __future__ import annotations

import base64
import re
import ssl
import time
from pathlib import Path

import msgspec

from shanty_runtime.bus.nkeys import Key
from shanty_runtime.bus.settings import BusSettings
from shanty_runtime.errors import ConfigError

MAX_FILE_BYTES = 64 * 1024
"""More than any key or token has: a wrong path may lead to anything."""

_JWT = re.compile(r"-----BEGIN NATS USER JWT-----\s+(\S+)\s+-+END NATS USER JWT-+")
_SEED = re.compile(r"-----BEGIN USER NKEY SEED-----\s+(\S+)\s+-+END USER NKEY SEED-+")


class Login:
    """What is presented to the server: a signed nonce, a token, or nothing beside a name and a password."""

    def __init__(self, *, key: Key | None = None, jwt: str = "", token: str = "", expires_at_s: int = 0) -> None:
        self.key = key
        self.jwt = jwt
        self.token = token
        self.expires_at_s = expires_at_s
        """0 where it does not expire, or nothing is known of it."""

    def sign(self, nonce: str) -> bytes:
        assert self.key is not None, "without a key there is nothing to sign with"
        return base64.b64encode(self.key.sign(nonce.encode()))


def read_login(settings: BusSettings) -> Login:
    """What to log in with now. Raises ConfigError that names the file it is missing from."""
    token = _token(settings.token_file) if settings.token_file else settings.token
    if settings.creds:
        return _credentials(settings.creds, token)
    if settings.nkey_seed_file:
        return Login(key=_user_key(_read(settings.nkey_seed_file, "a seed"), settings.nkey_seed_file), token=token)
    return Login(token=token)


def tls_context(settings: BusSettings) -> ssl.SSLContext:
    """Certificates are verified, and the host's name with them. Raises ConfigError that names the file."""
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca or None)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"{settings.tls_ca} {_wrong(error, 'CA certificates in PEM form')}") from error
    if settings.tls_cert:
        _load_certificate(context, settings.tls_cert, settings.tls_key)
    return context


def wants_tls(settings: BusSettings) -> bool:
    """Whether a server without TLS is refused: the name and the password would be sent in the clear."""
    secured = all(url.strip().startswith(("tls://", "wss://")) for url in settings.url.split(","))
    return bool(settings.tls_ca or settings.tls_cert or settings.tls_first or secured)


def described(settings: BusSettings) -> str:
    """What this connection logs in with, for a sentence that says it was refused."""
    if settings.creds:
        return f"the credentials in {settings.creds}"
    if settings.nkey_seed_file:
        return f"the key in {settings.nkey_seed_file}"
    if settings.token_file:
        return f"the token in {settings.token_file}"
    if settings.token:
        return "the token it was given"
    if settings.user:
        return f"the name {settings.user!r} and its password"
    return "no credentials"


def check_files(settings: BusSettings) -> None:
    """Raises ConfigError for anything that could be known to be wrong before a server is asked."""
    ways = {
        "a credentials file": settings.creds,
        "an nkey seed": settings.nkey_seed_file,
        "a user's name": settings.user,
    }
    if len(given := [what for what, value in ways.items() if value]) > 1:
        raise ConfigError(f"there is more than one way to log in: {' and '.join(given)}; set one of them")
    if settings.user and (settings.token or settings.token_file):
        raise ConfigError("there is more than one way to log in: a user's name and a token; set one of them")
    if settings.token and settings.token_file:
        raise ConfigError(f"there are two tokens: one as a value and one in {settings.token_file}; set one of them")
    if bool(settings.tls_cert) != bool(settings.tls_key):
        given_file, other = (
            (settings.tls_cert, "its private key") if settings.tls_cert else (settings.tls_key, "its certificate")
        )
        raise ConfigError(f"{given_file} is of no use without {other}: a client certificate needs both")
    read_login(settings)
    if wants_tls(settings):
        tls_context(settings)


def _credentials(name: str, token: str) -> Login:
    text = _read(name, "credentials")
    jwt, seed = _JWT.search(text), _SEED.search(text)
    if jwt is None or seed is None:
        missing = "no user JWT" if jwt is None else "no nkey seed"
        raise ConfigError(f"{name} is not a credentials file: there is {missing} in it")
    claims = _claims(jwt[1], name)
    key = _user_key(seed[1], name)
    if claims.sub != key.public:
        raise ConfigError(f"{name} does not fit together: its JWT is for {claims.sub}, its seed is of {key.public}")
    return Login(key=key, jwt=jwt[1], token=token, expires_at_s=claims.exp)


def _user_key(seed: str, name: str) -> Key:
    key = Key.from_seed(seed, name)
    if key.kind != "user":
        raise ConfigError(f"{name} holds the seed of an {key.kind}; a service logs in with a user's, which begins SU")
    return key


def _token(name: str) -> str:
    if not (token := _read(name, "a token").strip()):
        raise ConfigError(f"{name} is empty; it should hold a token")
    return token


def _read(name: str, what: str) -> str:
    path = Path(name)
    try:
        if not path.is_file():
            found = "is a folder" if path.is_dir() else "is not there"
            raise ConfigError(f"{name} {found}; it should hold {what} to log in to NATS with")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{name} is too large to hold {what}")
        return path.read_text()
    except OSError as error:
        raise ConfigError(f"{name} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name} does not hold {what}: it is not a text") from error


class _Claims(msgspec.Struct):
    sub: str
    exp: int = 0


_claims_decoder = msgspec.json.Decoder(_Claims)


def _claims(jwt: str, name: str) -> _Claims:
    """What the JWT says of itself; whether it is true is for the server to find out."""
    try:
        body = jwt.split(".")[1]
        return _claims_decoder.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (IndexError, ValueError) as error:  # msgspec's errors are ValueErrors
        raise ConfigError(f"{name} is not a credentials file: its user JWT cannot be read") from error


def _load_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    for name, what in ((certificate, "a certificate in PEM form"), (key, "a private key in PEM form")):
        try:
            Path(name).read_bytes()
        except OSError as error:
            raise ConfigError(f"{name} {_wrong(error, what)}") from error
    try:
        # A key with a passphrase would be asked for at the terminal, where nobody may be.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except OSError as error:
        why = error.reason if isinstance(error, ssl.SSLError) else ""
        if why == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"{key} is not the private key of the certificate in {certificate}") from error
        raise ConfigError(
            f"{certificate} and {key} do not hold a certificate and its private key in PEM form, without a passphrase"
            f"{': ' + why.lower().replace('_', ' ') if why else ''}"
        ) from error


def _wrong(error: OSError, what: str) -> str:
    match error:
        case FileNotFoundError():
            return f"is not there; it should hold {what}"
        case ssl.SSLError():
            return f"does not hold {what}"
        case _:
            return f"cannot be read: {error.strerror}"


def expired(login: Login, now_s: float | None = None) -> bool:
    return bool(login.expires_at_s) and login.expires_at_s <= (time.time() if now_s is None else now_s)
