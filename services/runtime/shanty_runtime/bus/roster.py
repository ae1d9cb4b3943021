"""The roster: which agents are up. Each replica keeps a card that vanishes when it is not renewed.

Each replica also answers as a NATS service of its agent's name, so that `nats micro ls` shows the team.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import logging
import re
import secrets
from datetime import UTC, datetime
from typing import Any

import msgspec

from shanty_protocol import AgentCard, ProtocolError
from shanty_protocol.codec import decode_card, encode
from shanty_protocol.streams import ROSTER_BUCKET
from shanty_runtime.bus import jetstream
from shanty_runtime.bus.connection import Connection, Listening
from shanty_runtime.bus.jetstream import TTL
from shanty_runtime.bus.wire import Incoming
from shanty_runtime.errors import BusError, BusFull, BusUnavailable, PermissionDenied

logger = logging.getLogger("shanty.bus")

STREAM = f"KV_{ROSTER_BUCKET}"
INTERVAL_S = 5.0
INTERVALS_PER_LIFE = 3
"""A card outlives this many intervals without being renewed."""

_NOT_IN_A_KEY = re.compile(r"[^A-Za-z0-9_=-]")


class Roster:
    """One card a replica. `announce` shows it and keeps it fresh; `withdraw` takes it away, and may be repeated."""

    def __init__(self, connection: Connection, *, interval_s: float = INTERVAL_S) -> None:
        self.interval_s = interval_s
        self._connection = connection
        self._card: AgentCard | None = None
        self._advert: _Advert | None = None
        self._renewing: asyncio.Task[None] | None = None

    async def announce(self, card: AgentCard) -> None:
        # Who asks for services does so in the control account, and his question does not get into another one.
        if self._advert is None and self._connection.settings.zone == "control":
            self._advert = _Advert(self._connection, card)
            await self._advert.start()  # first: whoever sees the card may ask the service
        try:
            await self.update(card)
        except (BusFull, BusUnavailable) as error:
            # A service that ended because of that would be started again and again. Work does not need the card.
            logger.warning("the card of %s is not shown yet: %s", card.agent, error)
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._keep_fresh())

    async def update(self, card: AgentCard) -> None:
        """Show another card from now on."""
        self._card = card
        await self._show(card)

    async def withdraw(self) -> None:
        card, self._card = self._card, None
        if self._renewing is not None:
            self._renewing.cancel()
        if card is not None:
            gone = {"KV-Operation": "PURGE", "Nats-Rollup": "sub", TTL: "1s"}
            try:
                await jetstream.publish(self._connection, _subject(card), b"", gone)
            except BusError as error:
                logger.info("the card of %s vanishes by itself: %s", card.agent, error)
        await self.stop()

    async def cards(self) -> tuple[AgentCard, ...]:
        """The cards of all replicas that take work, by agent and replica."""
        found = []
        async for message in jetstream.read_on(self._connection, STREAM, f"$KV.{ROSTER_BUCKET}.>"):
            if not message.data:
                continue  # the trace of a card that is gone
            try:
                card = decode_card(message.data, message.headers)
            except ProtocolError as error:
                logger.debug("a card is not readable here: %s", error)
                continue
            if isinstance(card, AgentCard):
                found.append(card)
        return tuple(sorted(found, key=lambda card: (card.agent, card.replica)))

    async def stop(self) -> None:
        """Renew no more. A card that was not withdrawn vanishes by itself."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
            self._renewing = None
        if self._advert is not None:
            await self._advert.stop()
            self._advert = None

    async def _keep_fresh(self) -> None:
        complained = False
        while True:
            await asyncio.sleep(self.interval_s)
            if self._card is not None:
                try:
                    await self._show(self._card)
                    complained = False
                except BusError as error:
                    if not complained:
                        logger.info("the card of %s is not renewed for now: %s", self._card.agent, error)
                    complained = True

    async def _show(self, card: AgentCard) -> None:
        life_s = max(1, round(self.interval_s * INTERVALS_PER_LIFE))
        await jetstream.publish(self._connection, _subject(card), encode(card), {TTL: f"{life_s}s"})


class _Advert:
    """A replica as a NATS service (ADR-32): it answers PING, INFO and STATS, and has no endpoint besides."""

    def __init__(self, connection: Connection, card: AgentCard) -> None:
        self._connection = connection
        self._identity: dict[str, Any] = {
            "name": card.agent,
            "id": secrets.token_hex(11),
            "version": importlib.metadata.version("shanty-runtime"),
            "metadata": {
                "role": card.role,
                "team": card.team,
                "replica": card.replica,
                "protocol_version": str(card.protocol_version),
            },
        }
        self._description = card.description
        self._started = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._listening: list[Listening] = []
        self._answering: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        name, identity = self._identity["name"], self._identity["id"]
        try:
            for subject in ("$SRV.*", f"$SRV.*.{name}", f"$SRV.*.{name}.{identity}"):
                self._listening.append(await self._connection.listen(subject, self._hear))
        except PermissionDenied as error:
            logger.warning("%s is not shown as a NATS service: %s", name, error)

    async def stop(self) -> None:
        while self._listening:
            await self._listening.pop().stop()
        await asyncio.gather(*self._answering, return_exceptions=True)

    def _hear(self, request: Incoming) -> None:
        verb = request.subject.split(".")[1].lower()
        answers: dict[str, dict[str, Any]] = {
            "ping": {},
            "info": {"description": self._description, "endpoints": []},
            "stats": {"started": self._started, "endpoints": []},
        }
        if request.reply and verb in answers:
            answer = {"type": f"io.nats.micro.v1.{verb}_response", **self._identity, **answers[verb]}
            task = asyncio.create_task(self._answer(request.reply, msgspec.json.encode(answer)))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _answer(self, reply: str, data: bytes) -> None:
        with contextlib.suppress(BusUnavailable):  # whoever asked has long given up
            await self._connection.publish(reply, data)


def _subject(card: AgentCard) -> str:
    return f"$KV.{ROSTER_BUCKET}.{card.agent}.{_NOT_IN_A_KEY.sub('-', card.replica)}"
