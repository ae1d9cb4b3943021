"""An auth callout: a service that the server asks who somebody is, here by a list of tokens."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from shanty_cli.accounts_jwt import NO_LIMITS, read_claims
from shanty_runtime.bus import Bus, BusSettings, EmbeddedServer
from shanty_runtime.bus.nkeys import Key
from shanty_runtime.bus.wire import Incoming

ISSUER = Key.new("account")
CONFIGURATION = f"""
accounts {{
  AUTH {{ users: [ {{ user: auth, password: auth }} ] }}
  TEAM {{ jetstream: enabled }}
  SYS {{}}
}}
system_account: SYS
authorization {{ auth_callout {{ issuer: {ISSUER.public}, auth_users: [ auth ], account: AUTH }} }}
"""


@asynccontextmanager
async def callout(server: EmbeddedServer, users: Mapping[str, str]) -> AsyncIterator[None]:
    """Lets in whoever has one of these tokens, as the user it is for."""
    questions: asyncio.Queue[Incoming] = asyncio.Queue()
    async with Bus(BusSettings(url=server.url, user="auth", password="auth")) as bus:
        await bus.connection.listen("$SYS.REQ.USER.AUTH", questions.put_nowait)

        async def answer_all() -> None:
            while True:
                question = await questions.get()
                await bus.connection.publish(question.reply, _answer(question.data.decode(), users).encode())

        answering = asyncio.create_task(answer_all())
        yield
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)


def _answer(question: str, users: Mapping[str, str]) -> str:
    asked = read_claims(question)["nats"]
    answer: dict[str, Any] = {"type": "authorization_response"}
    user = users.get(asked["connect_opts"].get("auth_token", ""))
    if user is None:
        answer["error"] = "nobody has this token"
    else:
        rights = {
            "type": "user",
            "pub": {"allow": ["$JS.API.INFO", f"shanty.0.*.*.*.{user}.*"]},
            "sub": {"allow": [f"_INBOX_{user}.>"]},
            **NO_LIMITS,
        }
        answer["jwt"] = _signed(asked["user_nkey"], "TEAM", user, rights)
    return _signed(asked["user_nkey"], asked["server_id"]["id"], "", answer)


def _signed(subject: str, audience: str, name: str, claims: dict[str, Any]) -> str:
    body = {
        "iat": int(time.time()),
        "iss": ISSUER.public,
        "sub": subject,
        "aud": audience,
        "name": name,
        "nats": {**claims, "version": 2},
    }
    text = ".".join(_base64(msgspec.json.encode(part)) for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, body))
    return f"{text}.{_base64(ISSUER.sign(text.encode()))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
