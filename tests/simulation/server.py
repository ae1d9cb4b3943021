"""A model of the nats-server: what it does with entries, leases, timers, files and consumers, and nothing else.

It takes what a connection sends, a message after the other, and answers as the server does: a place is taken once
(10071), a consumer delivers at least once, in any order, and again after the ack wait; acks are not fenced; a lease
that runs out leaves a marker whose sequence is what the next holder has to expect; a scheduled message comes a few
tenths of a second late. What is stored stays.
"""

from __future__ import annotations

import base64
import random
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from shanty_protocol.streams import LEASE_BUCKET
from shanty_runtime.bus.jetstream import EXPECT_SEQ, EXPECT_SEQ_SUBJECT, TTL
from shanty_runtime.bus.leases import MARKER_REASON, RAN_OUT
from shanty_runtime.bus.timers import SCHEDULE, TARGET
from shanty_runtime.bus.wire import Heard, Incoming, header_block
from simulation.loop import Process, SimulatedLoop

ENTRIES, TIMERS, FILES, LEASES = "SHANTY_0", "SHANTY_TIMERS_0", "SHANTY_FILES_0", f"KV_{LEASE_BUCKET}"
ACK_WAIT_S = 5.0
MOST_LATE_S = 0.3
NANOSECONDS = 10**9

GET = "$JS.API.DIRECT.GET."
GET_FROM_LEADER = "$JS.API.STREAM.MSG.GET."
NEXT = "$JS.API.CONSUMER.MSG.NEXT."
ACK = "$JS.ACK."

FOUND_NOTHING = Incoming("", "", b"", {}, 404, "Message Not Found")
FOUND_NO_RESULTS = Incoming("", "", b"", {}, 404, "No Results")
END_OF_BATCH = Incoming("", "", b"", {"Nats-Num-Pending": "0"}, 204, "EOB")
TAKEN = b'{"error":{"code":400,"err_code":10071,"description":"wrong last sequence"}}'
NO_MESSAGE = b'{"error":{"code":404,"err_code":10037,"description":"no message found"}}'


class Message(msgspec.Struct):
    subject: str
    seq: int
    data: bytes
    headers: dict[str, str]
    at_s: float
    gone: bool = False
    holder: str = ""
    """Of a lease."""


class Stream:
    """Messages by subject: each has one, for these streams keep one."""

    def __init__(self) -> None:
        self.last_seq = 0
        self.by_subject: dict[str, Message] = {}

    def store(self, subject: str, data: bytes, headers: dict[str, str], at_s: float) -> Message:
        self.last_seq += 1
        if (old := self.by_subject.get(subject)) is not None:
            old.gone = True
        message = self.by_subject[subject] = Message(subject, self.last_seq, data, headers, at_s)
        return message

    def take_back(self, kept: list[Message]) -> None:
        """Be as after the last of these."""
        self.last_seq = kept[-1].seq if kept else 0
        for message in self.by_subject.values():
            message.gone = True
        self.by_subject = {message.subject: message for message in kept}
        for message in self.by_subject.values():
            message.gone = False

    def matching(self, pattern: str) -> list[Message]:
        tokens = pattern.split(".")
        found = [each for each in self.by_subject.values() if _matches(tokens, each.subject)]
        return sorted(found, key=lambda message: message.seq)


def _matches(pattern: list[str], subject: str) -> bool:
    tokens = subject.split(".")
    for place, token in enumerate(pattern):
        if token == ">":
            return len(tokens) > place
        if place >= len(tokens) or token not in ("*", tokens[place]):
            return False
    return len(tokens) == len(pattern)


class InFlight(msgspec.Struct):
    message: Message
    until_s: float
    delivered: int
    to: Process


class Request(msgspec.Struct):
    process: Process
    heard: Heard
    left: int


class _Asked(msgspec.Struct):
    """What a pull asks for."""

    batch: int


class _Lease(msgspec.Struct):
    holder: str


_pulls = msgspec.json.Decoder(_Asked)
_leases = msgspec.json.Decoder(_Lease)


class Consumer:
    def __init__(self, stream: str, name: str) -> None:
        self.stream, self.name = stream, name
        self.pending: list[Message] = []
        self.delivered: dict[int, int] = {}
        self.in_flight: dict[int, InFlight] = {}
        self.requests: deque[Request] = deque()
        self.later = 0
        """How many were put back and are delivered again after a while."""
        self.settled: list[tuple[float, Message]] = []
        """When what was acked."""

    @property
    def open(self) -> int:
        return len(self.pending) + len(self.in_flight) + self.later


class LeaseTaken(msgspec.Struct, frozen=True):
    """A key of the lease bucket got a new holder."""

    key: str
    fence: int
    holder: str
    after_run_out: bool
    """The holder before it had vanished."""
    at_s: float


class Server:
    def __init__(self, loop: SimulatedLoop, chance: random.Random, epoch_s: float) -> None:
        self.loop, self.chance, self.epoch_s = loop, chance, epoch_s
        self.streams = {name: Stream() for name in (ENTRIES, TIMERS, FILES, LEASES)}
        self.entries: list[Message] = []
        """All of them, as they were stored."""
        self.places: dict[str, Message] = {}
        self.journals: dict[str, list[Message]] = {}
        self.consumers: dict[str, Consumer] = {}
        self.listeners: list[tuple[str, Process, Heard]] = []
        """What the subjects they listen to begin with, and whose they are."""
        self.leases_taken: list[LeaseTaken] = []
        self._leases: list[Message] = []
        """All that was ever stored of them."""
        self._forgotten: list[Message] = []
        self.schedules: dict[str, tuple[float, str]] = {}
        """When and where to, by the subject it was set at."""
        self.on_stored: Callable[[Message], None] = lambda message: None
        self.on_settled: Callable[[], None] = lambda: None
        self.lossy = 0.0
        """How many of those who listen to the feed miss what is sent."""

    def now_s(self) -> float:
        return self.epoch_s + self.loop.now_s

    def consumer(self, name: str) -> Consumer:
        if name not in self.consumers:
            self.consumers[name] = Consumer(TIMERS if name.startswith("timers-") else ENTRIES, name)
        return self.consumers[name]

    @property
    def idle(self) -> bool:
        return not any(consumer.open for consumer in self.consumers.values())

    # What is sent to it

    def take(
        self, process: Process, subject: str, data: bytes, headers: Mapping[str, str], heard: Heard | None
    ) -> bytes:
        """Store, answer with the ack. `heard` is where the messages of a pull go."""
        if subject.startswith("shanty."):
            return self._publish(subject, data, headers)
        if subject.startswith("$KV."):
            return self._put(subject, data, headers)
        if subject.startswith(ACK):
            self._settle(subject, data)
        elif subject.startswith(NEXT):
            assert heard is not None, "a pull has somebody who hears"
            consumer = self.consumer(subject.rpartition(".")[2])
            consumer.requests.append(Request(process, heard, _pulls.decode(data).batch))
            self._deliver(consumer)
        else:
            raise AssertionError(f"the model knows nothing of {subject}")
        return b""

    def ask(self, subject: str, data: bytes, behind: int = 0) -> list[Incoming]:
        """Answer a question. `behind`: so many of the newest messages has the server not seen that answers."""
        if subject.startswith(GET_FROM_LEADER):
            stream = self.streams[subject.removeprefix(GET_FROM_LEADER)]
            found = stream.matching(msgspec.json.decode(data)["last_by_subj"])
            return [_answer(_leaders_answer(found[-1]) if found else NO_MESSAGE)]
        name, _, exact = subject.removeprefix(GET).partition(".")
        stream = self.streams[name]
        newest = stream.last_seq - behind
        if exact:
            message = self._at(name, exact)
            return [FOUND_NOTHING if message is None or message.seq > newest else _stored(message)]
        request = msgspec.json.decode(data)
        if (last := request.get("last_by_subj")) is not None:
            found = [message for message in stream.matching(last) if message.seq <= newest]
            return [_stored(found[-1]) if found else FOUND_NOTHING]
        if (filters := request.get("multi_last")) is not None:
            return self._looked_up(name, filters, request["seq"], newest)
        part = self._under(name, request["next_by_subj"])
        page = [_stored(message) for message in part if request["seq"] <= message.seq <= newest]
        return [*page, END_OF_BATCH] if page else [FOUND_NOTHING]

    def _looked_up(self, stream: str, filters: list[str], from_seq: int, newest: int) -> list[Incoming]:
        """What stands under any of these filters: no subject has more than one message."""
        found = {message.seq: message for each in filters for message in self._at_or_under(stream, each)}
        there = [message for seq, message in sorted(found.items()) if seq <= newest]
        if not there:
            return [FOUND_NO_RESULTS]
        return [*(_stored(message) for message in there if message.seq >= from_seq), END_OF_BATCH]

    def _at_or_under(self, stream: str, pattern: str) -> list[Message]:
        if pattern.endswith("*"):
            return self._under(stream, pattern)
        message = self._at(stream, pattern)
        return [] if message is None else [message]

    def _at(self, stream: str, subject: str) -> Message | None:
        if stream == ENTRIES:
            message = self.places.get(subject.split(".", 3)[3])
            exact = message is not None and (subject == message.subject or subject.split(".")[2] == "*")
            return message if exact else None
        return self.streams[stream].by_subject.get(subject)

    def _under(self, stream: str, pattern: str) -> list[Message]:
        if stream == ENTRIES and pattern.startswith("shanty.0.*.") and pattern.endswith(".*"):
            return self.journals.get(pattern[len("shanty.0.*.") : -2], [])
        return self.streams[stream].matching(pattern)

    # Storing

    def _publish(self, subject: str, data: bytes, headers: Mapping[str, str]) -> bytes:
        kind = subject.split(".", 2)[1]
        if kind == "live":
            return b""
        if kind == "timer":
            return self._schedule(subject, data, headers)
        if kind == "file":
            stream, guard = self.streams[FILES], headers.get(EXPECT_SEQ_SUBJECT, subject)
            if EXPECT_SEQ in headers and stream.matching(guard):
                return TAKEN
            return _ack(stream.store(subject, data, _authored(headers), self.loop.now_s))
        return self.store_entry(subject, data, headers)

    def store_entry(self, subject: str, data: bytes, headers: Mapping[str, str]) -> bytes:
        _, _, to, place = subject.split(".", 3)
        if place in self.places:
            return TAKEN
        message = self.streams[ENTRIES].store(subject, data, _authored(headers), self.loop.now_s)
        self.places[place] = message
        self.entries.append(message)
        self.journals.setdefault(place.rpartition(".")[0], []).append(message)
        consumer = self.consumers.get(f"mail-{to}")
        if consumer is not None:
            self._feed(message)
            consumer.pending.append(message)
            self._deliver(consumer)
        self.on_stored(message)
        return _ack(message)

    def _feed(self, message: Message) -> None:
        subject = f"shanty.feed.{message.subject.removeprefix('shanty.')}"
        heard: Incoming | None = None
        for pattern, process, listener in self.listeners:
            if subject.startswith(pattern) and self.chance.random() >= self.lossy:
                if heard is None:
                    headers = {**message.headers, "Nats-Sequence": str(message.seq)}
                    heard = Incoming(subject, "", message.data, headers)
                self.loop.call_for(process, self.loop.now_s + self.latency_s(), listener, heard)

    def _schedule(self, subject: str, data: bytes, headers: Mapping[str, str]) -> bytes:
        message = self.streams[TIMERS].store(subject, data, _authored(headers), self.loop.now_s)
        self.schedules.pop(subject, None)
        if SCHEDULE in headers:
            at_s = datetime.fromisoformat(headers[SCHEDULE].removeprefix("@at ")).timestamp() - self.epoch_s
            self.schedules[subject] = (at_s, headers[TARGET])
            late_s = self.chance.random() * MOST_LATE_S
            self.loop.call_for(None, max(at_s, self.loop.now_s) + late_s, self.fire, subject, message)
        return _ack(message)

    def fire(self, subject: str, message: Message, *, again: bool = False) -> None:
        """Send what was scheduled, if that still stands."""
        if message.gone or subject not in self.schedules:
            return
        _, target = self.schedules[subject]
        if not again:
            del self.schedules[subject]
        due = self.streams[TIMERS].store(target, message.data, message.headers, self.loop.now_s)
        consumer = self.consumer(f"timers-{target.split('.')[4]}")
        consumer.pending.append(due)
        self._deliver(consumer)

    def _put(self, subject: str, data: bytes, headers: Mapping[str, str]) -> bytes:
        stream, key = self.streams[LEASES], subject.removeprefix(f"$KV.{LEASE_BUCKET}.")
        if not key.count("."):
            return b'{"seq":1}'
        standing = stream.by_subject.get(subject)
        if (standing.seq if standing else 0) != int(headers[EXPECT_SEQ]):
            return TAKEN
        ran_out = standing is not None and standing.headers.get(MARKER_REASON) == RAN_OUT
        before = "" if standing is None else standing.holder
        message = stream.store(subject, data, dict(headers), self.loop.now_s)
        message.holder = _leases.decode(data).holder if data else ""
        self._leases.append(message)
        self.loop.call_for(None, _until_s(message), self._run_out, message)
        if data and message.holder != before:
            self.leases_taken.append(LeaseTaken(key, message.seq, message.holder, ran_out, self.loop.now_s))
        return _ack(message)

    def _run_out(self, message: Message) -> None:
        if message.gone:
            return
        stream = self.streams[LEASES]
        if message.data:
            self._leases.append(stream.store(message.subject, b"", {MARKER_REASON: RAN_OUT}, self.loop.now_s))
        else:
            message.gone = True
            del stream.by_subject[message.subject]

    def holds(self, holder: str, key: str) -> bool:
        """Whether somebody has a lease at this moment, or would, had it not been forgotten."""
        subject = f"$KV.{LEASE_BUCKET}.{key}"
        standing = self.streams[LEASES].by_subject.get(subject)
        if standing is not None and standing.holder == holder:
            return True
        return any(
            each.subject == subject and each.holder == holder and self.loop.now_s < _until_s(each)
            for each in self._forgotten
        )

    # Crashing

    def crash(self, at_s: float) -> None:
        """Be killed, and start again. What is stored without waiting for the disk is as it was at a moment."""
        kept = [message for message in self._leases if message.at_s <= at_s]
        self._forgotten += self._leases[len(kept) :]
        self._leases = kept
        self.streams[LEASES].take_back(kept)
        for message in list(self.streams[LEASES].by_subject.values()):
            if TTL in message.headers:
                self.loop.call_for(None, max(_until_s(message), self.loop.now_s), self._run_out, message)
        self.leases_taken = [taken for taken in self.leases_taken if taken.at_s <= at_s]
        for consumer in self.consumers.values():
            for seq in list(consumer.in_flight):
                self.put_back(consumer, seq)
            while consumer.settled and consumer.settled[-1][0] > at_s:
                consumer.pending.append(consumer.settled.pop()[1])

    # Consumers

    def _deliver(self, consumer: Consumer) -> None:
        while consumer.pending and consumer.requests:
            request = consumer.requests[0]
            chosen = 0
            if len(consumer.pending) > 1 and self.chance.random() < 0.25:
                chosen = int(self.chance.random() * len(consumer.pending))
            message = consumer.pending.pop(chosen)
            if message.gone:
                self.on_settled()
                continue
            request.left -= 1
            if request.left == 0:
                consumer.requests.popleft()
            elif len(consumer.requests) > 1:
                consumer.requests.rotate(-1)
            count = consumer.delivered[message.seq] = consumer.delivered.get(message.seq, 0) + 1
            until_s = self.loop.now_s + ACK_WAIT_S
            consumer.in_flight[message.seq] = InFlight(message, until_s, count, request.process)
            self.loop.call_for(None, until_s, self._check, consumer, message.seq)
            stored_ns = int((self.epoch_s + message.at_s) * NANOSECONDS)
            reply = f"{ACK}{consumer.stream}.{consumer.name}.{count}.{message.seq}.{message.seq}.{stored_ns}.0"
            incoming = Incoming(message.subject, reply, message.data, message.headers)
            self.loop.call_for(request.process, self.loop.now_s + self.latency_s(), request.heard, incoming)

    def _check(self, consumer: Consumer, seq: int) -> None:
        """The ack wait of a delivery may be over."""
        known = consumer.in_flight.get(seq)
        if known is None:
            return
        if known.until_s > self.loop.now_s + 1e-9:
            self.loop.call_for(None, known.until_s, self._check, consumer, seq)
            return
        self.put_back(consumer, seq)

    def put_back(self, consumer: Consumer, seq: int) -> None:
        """Deliver again what was delivered and not acked."""
        known = consumer.in_flight.pop(seq, None)
        if known is not None:
            consumer.pending.insert(0, known.message)
            self._deliver(consumer)

    def _settle(self, reply: str, verdict: bytes) -> None:
        tokens = reply.split(".")
        consumer, seq = self.consumer(tokens[3]), int(tokens[5])
        known = consumer.in_flight.get(seq)
        if known is None:
            return
        if verdict == b"+WPI":
            known.until_s = self.loop.now_s + ACK_WAIT_S
        elif verdict.startswith(b"-NAK"):
            delay: dict[str, Any] = msgspec.json.decode(verdict[5:]) if len(verdict) > 5 else {}
            delay_s = delay.get("delay", 0) / NANOSECONDS
            if delay_s <= 0:
                self.put_back(consumer, seq)
            else:
                del consumer.in_flight[seq]
                consumer.later += 1
                self.loop.call_for(None, self.loop.now_s + delay_s, self._later, consumer, known.message)
        else:
            del consumer.in_flight[seq]
            consumer.settled.append((self.loop.now_s, known.message))
            self.on_settled()

    def _later(self, consumer: Consumer, message: Message) -> None:
        consumer.later -= 1
        consumer.pending.append(message)
        self._deliver(consumer)

    # Connections

    def forget(self) -> None:
        """Know nobody any more. What is stored stays."""
        self.on_stored, self.on_settled = lambda message: None, lambda: None
        self.listeners.clear()
        for consumer in self.consumers.values():
            consumer.requests.clear()

    def hang_up(self, process: Process, *, deaf: bool) -> None:
        """A connection is gone: nobody waits for its pulls any more. `deaf`: it will not be back."""
        for consumer in self.consumers.values():
            kept = [request for request in consumer.requests if request.process is not process]
            consumer.requests = deque(kept)
        if deaf:
            self.listeners = [each for each in self.listeners if each[1] is not process]

    def latency_s(self) -> float:
        chance = self.chance.random()
        return 0.0002 + 0.002 * chance if chance < 0.98 else 0.3 * self.chance.random()


def _authored(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if not name.startswith("Nats-")}


def _until_s(lease: Message) -> float:
    return lease.at_s + float(lease.headers[TTL].removesuffix("s"))


def _ack(message: Message) -> bytes:
    return b'{"stream":"S","seq":%d}' % message.seq


def _answer(data: bytes) -> Incoming:
    return Incoming("", "", data, {})


def _stored(message: Message) -> Incoming:
    headers = {**message.headers, "Nats-Subject": message.subject, "Nats-Sequence": str(message.seq)}
    return Incoming("", "", message.data, headers)


def _leaders_answer(message: Message) -> bytes:
    found = {
        "subject": message.subject,
        "seq": message.seq,
        "hdrs": base64.b64encode(header_block(message.headers)).decode(),
        "data": base64.b64encode(message.data).decode(),
    }
    return msgspec.json.encode({"message": found})
