"""A standing pull: an agent's mail or timers, delivered as long as there is room for more in hand.

One pull keeps one or a few requests waiting at the server. It notices when they are lost (a restart, a new leader, a
heartbeat that did not come) and asks again. What it has delivered stays its own, however long the work takes: one
task tells the server about all of it until each delivery is settled.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from typing import Literal

import msgspec

from shanty_runtime.bus.backoff import Backoff
from shanty_runtime.bus.connection import Connection, Listening
from shanty_runtime.bus.jetstream import CONSUMER_MISSING, STREAM_MISSING, authored, manage
from shanty_runtime.bus.wire import Incoming
from shanty_runtime.errors import BusError, BusRefused, BusUnavailable, LayoutDrift

logger = logging.getLogger("shanty.bus")

Kind = Literal["mail", "timers"]
"""Which of an agent's two consumers."""

EXPIRES_S = 30.0
HEARTBEAT_S = 2.0
SILENCE_S = 2.5 * HEARTBEAT_S
"""A request that has not been heard of for so long is lost."""
MISSED_S = 1.25 * HEARTBEAT_S
"""And after so long, if a leader has been elected now."""

NANOSECONDS = 10**9
HEARTBEAT = 100
EXPIRED = 408
PUT_BACK = b"-NAK"
TROUBLE_PAUSE_S = 0.1
MAX_REQUESTS_REMEMBERED = 64


class Delivery:
    """A message that is ours to work on until it is settled: acked, put back, or given up."""

    __slots__ = (
        "_pull",
        "copied",
        "data",
        "delivered",
        "headers",
        "message_id",
        "reply",
        "seq",
        "settled",
        "stored_at_s",
        "subject",
    )

    def __init__(self, pull: Pull, message: Incoming) -> None:
        headers = message.headers
        self.subject = message.subject
        self.data = message.data
        self.headers = authored(headers)
        self.delivered, self.seq, self.stored_at_s = _metadata(message.reply)
        self.settled = False
        self.reply = message.reply
        self.message_id = headers.get("Nats-Msg-Id", "")
        # A message the server wrote as an answer to somebody's request carries these, and only such a one does.
        self.copied = "Nats-Stream" in headers or "Nats-Subject" in headers
        self._pull = pull

    def stand_for(self, subject: str, headers: dict[str, str]) -> None:
        """This message asks for another one to be processed: it counts as a delivery of that one."""
        self.subject, self.headers = subject, headers

    async def ack(self) -> None:
        await self._settle(b"+ACK")

    async def nak(self, delay_s: float = 0.0) -> None:
        """Have it delivered again, to anybody, after a while."""
        if delay_s <= 0:
            await self._settle(PUT_BACK)
        else:
            await self._settle(PUT_BACK + b" " + msgspec.json.encode({"delay": int(delay_s * NANOSECONDS)}))

    async def term(self, reason: str) -> None:
        """Never have it delivered again; the server publishes the reason."""
        await self._settle(b"+TERM " + reason.replace("\r", " ").replace("\n", " ").encode())

    async def _settle(self, verdict: bytes) -> None:
        if self.settled:
            return
        self.settled = True
        await self._pull._settled(self, verdict)

    def __repr__(self) -> str:
        return f"<Delivery {self.subject} seq={self.seq} delivered={self.delivered} settled={self.settled}>"


class Pull:
    """Made by `Bus.pull`. `async for` gives deliveries until `close`; then what is in hand is still kept alive."""

    def __init__(
        self, connection: Connection, stream: str, consumer: str, max_in_hand: int, *, takes_copies: bool = False
    ) -> None:
        assert max_in_hand >= 1, "a pull needs room for one delivery"
        self.stream = stream
        self.consumer = consumer
        self.max_in_hand = max_in_hand
        self._worth_asking = (max_in_hand + 1) // 2
        self.takes_copies = takes_copies
        self._connection = connection
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._inbox = ""
        self._listening: Listening | None = None
        self._in_hand: dict[int, Delivery] = {}
        self._ready: deque[Delivery] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._requested = 0
        self._requests: dict[str, int] = {}
        self._request_count = 0
        self._newest_request_at = 0.0
        self._heard_at = 0.0
        self._trouble = False
        self._backoff = Backoff(first_s=TROUBLE_PAUSE_S)
        self._closed = False
        self._error: BusError | None = None
        self._ack_wait_s = 0.0
        self._asking: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Returns when the first request is on its way. Raises LayoutDrift where there is no such consumer."""
        self._ack_wait_s = await self._connection.persist(f"looking up {self.stream}/{self.consumer}", self._look_up)
        self._inbox = self._connection.new_inbox()
        self._listening = await self._connection.listen(f"{self._inbox}.*", self._hear)
        self._connection.watch_denial(self._subject, self._fail)
        self._connection.on_reconnect.append(self._on_reconnect)
        self._connection.elections.on_elected.append(self._on_elected)
        self._asking = asyncio.create_task(self._keep_asking())

    async def close(self) -> None:
        """Take no more. What was delivered but not handed out goes back at once; the rest is kept until settled."""
        if self._closed:
            return
        self._closed = True
        self._news.set()
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        if self._listening is not None:
            await self._listening.stop()
        self._connection.watch_denial(self._subject, None)
        if self._on_reconnect in self._connection.on_reconnect:
            self._connection.on_reconnect.remove(self._on_reconnect)
            self._connection.elections.on_elected.remove(self._on_elected)
        while self._ready:
            await self._ready.popleft().nak()
        self._rest()

    async def release(self) -> None:
        """Put back everything that is still in hand."""
        for delivery in list(self._in_hand.values()):
            await delivery.nak()
        self._rest()

    async def stop(self) -> None:
        """Close, and keep nothing any more: what is in hand is delivered to somebody else after a while."""
        await self.close()
        self._in_hand.clear()
        self._rest()
        if self._keeping is not None:
            await asyncio.gather(self._keeping, return_exceptions=True)

    def __aiter__(self) -> Pull:
        return self

    async def __anext__(self) -> Delivery:
        delivery = await self._take()
        if delivery is None:
            raise StopAsyncIteration
        return delivery

    async def next(self) -> Delivery:
        """The next delivery, however long it takes. Raises BusUnavailable once the pull is closed."""
        delivery = await self._take()
        if delivery is None:
            raise BusUnavailable(f"the pull on {self.stream}/{self.consumer} is closed")
        return delivery

    async def _take(self) -> Delivery | None:
        while True:
            if self._error is not None:
                raise self._error
            if self._closed:
                return None
            if self._ready and len(self._in_hand) - len(self._ready) < self.max_in_hand:
                delivery = self._ready.popleft()
                if self.takes_copies or not delivery.copied:
                    return delivery
                logger.error("%s was written by the server in somebody's name; it is put away", delivery.subject)
                await delivery.term("written by the server, not by its author")
            else:
                self._news.clear()
                await self._news.wait()

    # Hearing

    def _hear(self, message: Incoming) -> None:
        self._heard_at = time.monotonic()
        if message.status == 0:
            if self._requested:
                self._requested -= 1
            self._receive(Delivery(self, message))
            self._backoff.tries = 0
            self._news.set()
            if self._has_room():
                self._room.set()
        elif message.status != HEARTBEAT:
            self._on_request_ended(message)

    def _receive(self, delivery: Delivery) -> None:
        known = self._in_hand.get(delivery.seq)
        if known is not None:
            # A server that crashed has forgotten what it delivered. It is still ours, by its new delivery.
            known.reply, known.delivered = delivery.reply, max(known.delivered, delivery.delivered)
            return
        self._in_hand[delivery.seq] = delivery
        self._ready.append(delivery)
        if self._keeping is None:
            self._keeping = asyncio.create_task(self._keep_in_hand())

    def _on_request_ended(self, message: Incoming) -> None:
        """The server is done with a request before all it asked for was delivered."""
        batch = self._requests.pop(message.subject, 0)
        left = int(message.headers.get("Nats-Pending-Messages", batch))
        self._requested = max(0, self._requested - left)
        if message.status != EXPIRED:
            logger.info("a pull on %s ended: %s %s", self.consumer, message.status, message.description)
            self._trouble = True
        self._room.set()

    def _on_reconnect(self) -> None:
        self._forget_requests()

    def _on_elected(self) -> None:
        if time.monotonic() - self._heard_at > MISSED_S:
            self._forget_requests()

    def _forget_requests(self) -> None:
        self._requested = 0
        self._requests.clear()
        self._room.set()

    def _fail(self, error: BusError) -> None:
        self._error = error
        self._news.set()

    # Asking

    async def _keep_asking(self) -> None:
        while self._error is None:
            self._room.clear()
            if self._trouble:
                self._trouble = False
                await asyncio.sleep(TROUBLE_PAUSE_S)
                await self._connection.elections.pause(self._backoff)
            if self._connection.connected and self._has_room():
                await self._ask(self.max_in_hand - len(self._in_hand) - self._requested)
            look_again = asyncio.get_running_loop().call_later(HEARTBEAT_S, self._room.set)
            await self._room.wait()
            look_again.cancel()
            if self._requested and self._connection.connected and self._is_lost():
                logger.info("a pull on %s was not heard of any more; asking again", self.consumer)
                self._forget_requests()

    def _has_room(self) -> bool:
        """Whether it is worth asking for more: for half of what may be in hand, or as nothing is asked for."""
        room = self.max_in_hand - len(self._in_hand) - self._requested
        return room >= self._worth_asking or room > 0 == self._requested

    async def _ask(self, batch: int) -> None:
        self._request_count += 1
        reply = f"{self._inbox}.{self._request_count}"
        self._requests[reply] = batch
        self._requested += batch
        self._newest_request_at = self._heard_at = time.monotonic()
        request = {
            "batch": batch,
            "expires": int(EXPIRES_S * NANOSECONDS),
            "idle_heartbeat": int(HEARTBEAT_S * NANOSECONDS),
        }
        try:
            await self._connection.publish(self._subject, msgspec.json.encode(request), reply=reply)
        except BusUnavailable:
            self._forget_requests()
            self._trouble = True
        if len(self._requests) > MAX_REQUESTS_REMEMBERED:
            # Those that were delivered in full end without a word.
            self._requests.pop(next(iter(self._requests)))

    def _is_lost(self) -> bool:
        now = time.monotonic()
        return now - self._heard_at > SILENCE_S or now - self._newest_request_at > EXPIRES_S + SILENCE_S

    # Keeping

    async def _keep_in_hand(self) -> None:
        """Tell the server of what is in hand, until nothing is."""
        try:
            while self._in_hand:
                await asyncio.sleep(self._ack_wait_s / 3)
                for delivery in list(self._in_hand.values()):
                    # Without a connection the message is delivered again later, and its reader finds it consumed.
                    with contextlib.suppress(BusUnavailable):
                        await self._connection.publish(delivery.reply, b"+WPI")
        finally:
            self._keeping = None

    async def _settled(self, delivery: Delivery, verdict: bytes) -> None:
        if self._in_hand.get(delivery.seq) is delivery:
            del self._in_hand[delivery.seq]
        if self._has_room():
            self._room.set()
        if self._ready:
            self._news.set()
        try:
            if verdict.startswith(PUT_BACK) and not self._closed:  # nobody who leaves waits for that
                await self._put_back(delivery, verdict)
            else:
                await self._connection.publish(delivery.reply, verdict)
        except BusUnavailable as error:
            logger.info("%s will be delivered again: %s", delivery.subject, error)
        if self._closed:
            self._rest()

    async def _put_back(self, delivery: Delivery, verdict: bytes) -> None:
        """Until the server has heard it: while its consumer has no leader nobody does, and the message would not come
        again before the ack wait is over."""
        with contextlib.suppress(TimeoutError):  # it is over
            async with asyncio.timeout(self._ack_wait_s):
                await self._connection.persist(
                    f"putting back {delivery.subject}", lambda: self._connection.request(delivery.reply, verdict)
                )

    def _rest(self) -> None:
        if self._closed and not self._in_hand and self._keeping is not None:
            self._keeping.cancel()

    async def _look_up(self) -> float:
        name = f"{self.stream}/{self.consumer}"
        try:
            found = await manage(self._connection, f"CONSUMER.INFO.{self.stream}.{self.consumer}")
        except BusRefused as error:
            if error.code in (CONSUMER_MISSING, STREAM_MISSING):
                raise LayoutDrift(name, ("it is missing",)) from error
            raise
        return float(found["config"]["ack_wait"]) / NANOSECONDS


def _metadata(reply: str) -> tuple[int, int, float]:
    """How often it was delivered, its sequence, and when it was stored, in seconds since 1970.

    They are in `$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<n>.<seq>.<consumer seq>.<nanoseconds>…`.
    """
    tokens = reply.split(".")
    first = 4 if len(tokens) == 9 else 6
    return int(tokens[first]), int(tokens[first + 1]), int(tokens[first + 3]) / NANOSECONDS
