"""Trust zones as JWTs: an operator signs accounts, an account signs its users, and a server knows only the operator.

Operator mode moves the list of users out of the server's configuration: who holds an account's key lets users in, for
a while if need be, and takes them out again by a revocation in the account's JWT. What a user may do stands in the
account's JWT as well, bound to the key that signs for this user and for nobody else (a scoped signing key): when a
team's grants change, the server is told, and no credentials have to be handed out again.

The control account exports what its guests were granted, each export for those only who hold a token for it
(`token_req`), and signs one activation token for each import of a guest. A token names the guest's account and what
may be imported, so that it is of no use to anybody else and for nothing else. One export may serve many guests: the
server refuses exports that lie within each other, so only the widest is written and the tokens narrow it down.

Signatures of Ed25519 do not depend on chance: a JWT that would say what an earlier one says is that JWT, byte for
byte, and files change only where facts do.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import msgspec

from shanty_protocol.zones import ADMIN, SYSTEM_ACCOUNT, Grant, Zone, Zones, inbox_of
from shanty_runtime.bus.nkeys import Key

Json = dict[str, Any]
Way = Literal["service", "stream"]

NO_LIMITS: Json = {"subs": -1, "data": -1, "payload": -1}
ACCOUNT_LIMITS: Json = {**NO_LIMITS, "imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1}
STORAGE: Json = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
"""JetStream is on in an account that may store something."""


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """Who is who. A user without a key is not let in."""

    operator: Key
    accounts: Mapping[str, Key]
    """By the account's name; SYS is one of them."""
    signing: Mapping[str, Key]
    """By the principal's name: the account's key that signs for this one."""
    users: Mapping[str, Key]
    """By the principal's name."""
    revoked: Mapping[str, Mapping[str, int]] = {}
    """For each account the public keys it does not let in any more, and the second since when."""


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a server and its clients need. Nothing in it is secret without the seeds."""

    operator: str
    system_account: str
    accounts: Mapping[str, str]
    """JWTs by the account's name."""
    users: Mapping[str, str]
    """JWTs by the principal's name."""


def sign_all(zones: Zones, keys: Keys, mint: Mint, *, lifetime_s: int = 0) -> Signed:
    """The JWTs of a team's zones. Users' last for `lifetime_s`, or for ever where that is 0."""
    system = keys.accounts[SYSTEM_ACCOUNT]
    accounts = {zones.control: mint.sign(keys.operator, *_control(zones, keys))}
    for guest in zones.guests:
        accounts[guest.account] = mint.sign(keys.operator, *_guest(guest, zones, keys, mint))
    accounts[SYSTEM_ACCOUNT] = mint.sign(keys.operator, *_account(SYSTEM_ACCOUNT, keys))
    users = {}
    for zone in zones.all:
        if (user := keys.users.get(zone.principal)) is not None:
            claims = {"type": "user", "issuer_account": keys.accounts[zone.account].public}
            signer = keys.signing[zone.principal]
            users[zone.principal] = mint.sign(signer, user.public, zone.principal, claims, lifetime_s=lifetime_s)
    if (user := keys.users.get(ADMIN)) is not None:
        admin = {"type": "user", **NO_LIMITS}
        users[ADMIN] = mint.sign(system, user.public, ADMIN, admin, lifetime_s=lifetime_s)
    return Signed(
        operator=mint.sign(
            keys.operator,
            keys.operator.public,
            zones.control,
            {"type": "operator", "system_account": system.public},
        ),
        system_account=system.public,
        accounts=accounts,
        users=users,
    )


def role(zone: Zone, signer: Key) -> Json:
    """Whoever this key signs for may do what the zone grants, and hear its own answers; everything else is denied."""
    heard = [grant.subject for grant in zone.grants if grant.verb == "subscribe"]
    permissions = {
        "pub": {"allow": sorted({grant.subject for grant in zone.grants if grant.verb != "subscribe"})},
        "sub": {"allow": sorted({*heard, f"{inbox_of(zone.principal)}.>"})},
    }
    template = {**permissions, **NO_LIMITS}
    return {"kind": "user_scope", "key": signer.public, "role": zone.principal, "template": template}


def _control(zones: Zones, keys: Keys) -> tuple[str, str, Json]:
    public, name, claims = _account(zones.control, keys, zones.residents)
    limits = {**ACCOUNT_LIMITS, **STORAGE}
    return public, name, {**claims, "limits": limits, "exports": _exports(zones, zones.control)}


def _exports(zones: Zones, account: str) -> list[Json]:
    return [
        {
            "name": grant.subject,
            "description": grant.why,
            "subject": grant.subject,
            "type": _way(grant),
            "token_req": True,
            **({"response_type": _response_type(grant)} if _way(grant) == "service" else {}),
        }
        for grant in widest(grant for grant, _ in zones.exports_of(account))
    ]


def _guest(guest: Zone, zones: Zones, keys: Keys, mint: Mint) -> tuple[str, str, Json]:
    public, name, claims = _account(guest.account, keys, (guest,))
    imports = []
    for grant in widest(zones.imports_of(guest)):
        source = keys.accounts[zones.source_of(grant)]
        activation = {"type": "activation", "subject": grant.subject, "kind": _way(grant)}
        imports.append(
            {
                "name": grant.subject,
                "subject": grant.subject,
                "account": source.public,
                "token": mint.sign(source, public, f"{name} {grant.subject}", activation),
                "type": _way(grant),
            }
        )
    exports = _exports(zones, guest.account)
    return public, name, {**claims, "imports": imports, **({"exports": exports} if exports else {})}


def _account(name: str, keys: Keys, users: Iterable[Zone] = ()) -> tuple[str, str, Json]:
    claims: Json = {"type": "account", "limits": ACCOUNT_LIMITS}
    if roles := [role(zone, keys.signing[zone.principal]) for zone in users]:
        claims["signing_keys"] = roles
    if revoked := keys.revoked.get(name):
        claims["revocations"] = dict(sorted(revoked.items()))
    return keys.accounts[name].public, name, claims


def widest(grants: Iterable[Grant]) -> tuple[Grant, ...]:
    """One grant for each subject that lies within no other's; it gives as many answers as any it stands for."""
    found: dict[tuple[Way, str, str], Grant] = {}
    for grant in sorted(grants, key=lambda grant: (grant.subject, grant.answers != "many")):
        found.setdefault((_way(grant), grant.source, grant.subject), grant)
    return tuple(
        msgspec.structs.replace(grant, answers="many") if _any_many(grant, found.values()) else grant
        for grant in found.values()
        if not any(other is not grant and _covers(other, grant) for other in found.values())
    )


def _any_many(grant: Grant, others: Iterable[Grant]) -> bool:
    return any(other.answers == "many" and _covers(grant, other) for other in others)


def _covers(wide: Grant, narrow: Grant) -> bool:
    same = (_way(wide), wide.source) == (_way(narrow), narrow.source)
    return same and subject_covers(wide.subject, narrow.subject)


def subject_covers(wide: str, narrow: str) -> bool:
    """Whether every subject the narrow pattern matches is matched by the wide one too."""
    wide_tokens, narrow_tokens = wide.split("."), narrow.split(".")
    for place, token in enumerate(wide_tokens):
        if token == ">":
            return len(narrow_tokens) > place
        if place >= len(narrow_tokens) or narrow_tokens[place] == ">":
            return False
        if token != "*" and token != narrow_tokens[place]:
            return False
    return len(wide_tokens) == len(narrow_tokens)


def _way(grant: Grant) -> Way:
    return "stream" if grant.verb == "subscribe" else "service"


def _response_type(grant: Grant) -> str:
    return "Stream" if grant.answers == "many" else "Singleton"


class Mint:
    """Signs claims at a moment. What was signed `earlier` and says the same is given out again as it is."""

    def __init__(self, now_s: int, earlier: Iterable[str] = ()) -> None:
        self.now_s = now_s
        self._earlier: dict[tuple[str, str, str], str] = {}
        for token in earlier:
            self._remember(token)

    def sign(self, issuer: Key, subject: str, name: str, claims: Json, *, lifetime_s: int = 0) -> str:
        """A JWT about `subject`, which is a public key. A user's is renewed in the second half of its lifetime."""
        earlier = self._earlier.get((issuer.public, subject, _imported(claims)))
        if earlier is not None:
            said = read_claims(earlier)
            issued_s, expires_s = said.get("iat", 0), said.get("exp", 0)
            if lifetime_s == 0:
                lasts = expires_s == 0
            else:
                lasts = self.now_s + lifetime_s // 2 < expires_s <= self.now_s + lifetime_s
            if lasts and _signed(issuer, subject, name, claims, issued_s, expires_s) == earlier:
                return earlier
        return _signed(issuer, subject, name, claims, self.now_s, self.now_s + lifetime_s if lifetime_s else 0)

    def _remember(self, token: str) -> None:
        try:
            said = read_claims(token)
            self._earlier[said["iss"], said["sub"], _imported(said["nats"])] = token
            for each in said["nats"].get("imports", ()):
                self._remember(each["token"])
        except (ValueError, KeyError, TypeError, AttributeError):
            return  # not one of ours any more: it is signed anew


def read_claims(token: str) -> Json:
    """What a JWT says, without a look at its signature. Raises ValueError where it is none."""
    parts = token.split(".")
    if len(parts) != 3:
        raise ValueError("a JWT has three parts")
    said = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
    return msgspec.json.decode(said, type=dict[str, Any])


def credentials(token: str, key: Key) -> str:
    """A credentials file as every NATS client reads it."""
    return "".join(_lines_of_credentials(token, key.seed))


def _lines_of_credentials(token: str, seed: str) -> Iterator[str]:
    yield f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
    yield "This file lets whoever has it act as this user: keep it as you keep a password.\n\n"
    yield f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"


def _imported(claims: Mapping[str, Any]) -> str:
    """What tells several tokens apart that one account gave another."""
    return f"{claims['kind']} {claims['subject']}" if claims.get("type") == "activation" else ""


def _signed(issuer: Key, subject: str, name: str, claims: Json, issued_s: int, expires_s: int) -> str:
    body = {"iat": issued_s, "iss": issuer.public, "name": name, "sub": subject, "nats": {**claims, "version": 2}}
    if expires_s:
        body["exp"] = expires_s
    digest = hashlib.sha256(msgspec.json.encode(body, order="sorted")).digest()
    body["jti"] = base64.b32encode(digest).rstrip(b"=").decode()
    head = _base64(msgspec.json.encode({"typ": "JWT", "alg": "ed25519-nkey"}))
    text = f"{head}.{_base64(msgspec.json.encode(body, order='sorted'))}"
    return f"{text}.{_base64(issuer.sign(text.encode()))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
