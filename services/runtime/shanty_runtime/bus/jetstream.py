"""What the bus asks of JetStream, as requests and answers: write once, read by subject, manage.

Every call raises one of our errors. A call that has to succeed goes through `Connection.persist`.
"""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from shanty_runtime.bus.connection import Connection
from shanty_runtime.bus.wire import Incoming, parse_headers
from shanty_runtime.errors import BusError, BusFull, BusRefused, BusUnavailable

EXPECT_SEQ = "Nats-Expected-Last-Subject-Sequence"
EXPECT_SEQ_SUBJECT = "Nats-Expected-Last-Subject-Sequence-Subject"
TTL = "Nats-TTL"

WRONG_LAST_SEQUENCE = (10071, 10164)
"""Somebody else took the subject, or our own write succeeded and its ack was lost."""
STORE_FAILED = 10077
"""No space, or the subject has its one message already: the description tells which."""
NO_SPACE = (10002, 10023, 10028, 10047)
"""The account, the server, its memory, its disk: each has a limit of its own."""
NO_MESSAGE = 10037
STREAM_MISSING = 10059
CONSUMER_MISSING = 10014
SERVICE_UNAVAILABLE = 503

FOUND_NOTHING = 404
TOO_MANY = 413
END_OF_BATCH = 204
BATCH_MESSAGES = 500
MOST_LOOKED_UP = 1_024
"""Subjects that the server looks up for one question."""
MOST_BYTES_AT_ONCE = 512 * 2**10
"""Of one answer, or the message after which it is more. The server hangs up on whoever reads more slowly than it
sends, once more than its `max_pending` waits; an answer that never fits would be asked for again and again."""
FIRST_WINDOW_BACK = 256
"""Places of a stream that are looked through first, where it is read from its end."""


class ApiError(msgspec.Struct, frozen=True):
    code: int
    err_code: int = 0
    description: str = ""


class Ack(msgspec.Struct, frozen=True):
    """JetStream's answer to a published message."""

    seq: int = 0
    error: ApiError | None = None


class Taken(Exception):
    """The place has a message already. Never leaves the bus."""


class RawMessage(msgspec.Struct, frozen=True):
    """A stored message, as any read gives it. Its headers are its author's and some of the server's."""

    subject: str
    seq: int
    data: bytes
    headers: dict[str, str]


_ack_decoder = msgspec.json.Decoder(Ack)


async def publish(
    connection: Connection, subject: str, data: bytes, headers: Mapping[str, str], *, timeout_s: float = 0.0
) -> int:
    """Store a message; its sequence. Raises Taken where an expectation in the headers does not hold."""
    return _stored_at(subject, await connection.request(subject, data, headers, timeout_s=timeout_s))


def _stored_at(subject: str, answer: Incoming) -> int:
    """The sequence that JetStream's answer to a published message gives it."""
    try:
        ack = _ack_decoder.decode(answer.data)
    except msgspec.DecodeError as error:
        raise BusRefused(f"the message on {subject}", 0, "what answered is not a stream") from error
    if ack.error is None:
        return ack.seq
    if ack.error.err_code in WRONG_LAST_SEQUENCE or (
        ack.error.err_code == STORE_FAILED and "per subject" in ack.error.description
    ):
        raise Taken(subject)
    raise refused(f"the message on {subject}", ack.error)


def refused(what: str, error: ApiError) -> BusError:
    """The error that a JetStream error is to us."""
    if error.err_code in NO_SPACE or error.err_code == STORE_FAILED:
        return BusFull(what, error.err_code, error.description)
    if error.code == SERVICE_UNAVAILABLE:
        return BusUnavailable(f"{what} was not taken now: {error.description} ({error.err_code})")
    return BusRefused(what, error.err_code, error.description)


async def write_once(
    connection: Connection, stream: str, subject: str, guard: str, data: bytes, headers: dict[str, str]
) -> RawMessage:
    """Store a message at a place that is taken once, whatever happens in between: what stands there afterwards.

    `guard` is the filter of all subjects the place could be taken under. What stands there is read by direct get
    alone: a specialist's account may ask for nothing that could show more than this one place.
    """
    expecting = {**headers, EXPECT_SEQ: "0", EXPECT_SEQ_SUBJECT: guard}
    try:
        answer = await connection.request(subject, data, expecting)
        return RawMessage(subject, _stored_at(subject, answer), data, headers)
    except (Taken, BusUnavailable, BusFull):
        pass  # what is nearly always enough was not: from here on it is tried until it is settled

    async def attempt() -> RawMessage:
        try:
            seq = await publish(connection, subject, data, expecting)
        except Taken:
            # What stands at a place never changes, so any replica may say so.
            standing = await get(connection, stream, subject) or await get(connection, stream, guard)
            if standing is None:
                # Refused for a write that was under way and has not been applied yet, here or at all.
                raise BusUnavailable(f"what stands at {guard} cannot be read yet") from None
            return standing
        return RawMessage(subject, seq, data, headers)

    return await connection.persist(f"writing {subject}", attempt)


# Reading


async def get(connection: Connection, stream: str, subject: str) -> RawMessage | None:
    """The newest message with this subject, which may have `*` for some of its tokens."""
    return _got(await connection.request(f"$JS.API.DIRECT.GET.{stream}.{subject}"))


async def get_last(connection: Connection, stream: str, filter_subject: str) -> RawMessage | None:
    """The newest message under a filter. A replica that lags may answer with an older one."""
    request = msgspec.json.encode({"last_by_subj": filter_subject})
    return _got(await connection.request(f"$JS.API.DIRECT.GET.{stream}", request))


class _LeaderMessage(msgspec.Struct):
    subject: str
    seq: int
    hdrs: str = ""
    data: str = ""


class _LeaderAnswer(msgspec.Struct):
    message: _LeaderMessage | None = None
    error: ApiError | None = None


_leader_answers = msgspec.json.Decoder(_LeaderAnswer)


async def get_last_from_leader(connection: Connection, stream: str, filter_subject: str) -> RawMessage | None:
    """The newest message under a filter, from the one server that cannot lag."""
    request = msgspec.json.encode({"last_by_subj": filter_subject})
    raw = await connection.request(f"$JS.API.STREAM.MSG.GET.{stream}", request)
    answer = _leader_answers.decode(raw.data)
    if answer.message is None:
        if answer.error is None or answer.error.err_code == NO_MESSAGE:
            return None
        raise refused(f"reading {filter_subject}", answer.error)
    found = answer.message
    _, _, headers = parse_headers(base64.b64decode(found.hdrs))
    return RawMessage(found.subject, found.seq, base64.b64decode(found.data), headers)


async def get_batch(
    connection: Connection, stream: str, filter_subject: str, *, from_seq: int = 1, max_messages: int = BATCH_MESSAGES
) -> tuple[list[RawMessage], bool]:
    """Messages under a filter in stream order, and whether there are more.

    A replica that lags gives fewer, but never leaves one out in between.
    """
    found: list[RawMessage] = []
    more = False

    def hear(answer: Incoming) -> bool:
        nonlocal more
        if answer.status == 0:
            found.append(_stored(answer))
            return False
        if answer.status not in (FOUND_NOTHING, END_OF_BATCH):
            raise _no_answer(filter_subject, answer)
        more = int(answer.headers.get("Nats-Num-Pending", "0")) > 0
        return True

    request = {"batch": max_messages, "seq": max(from_seq, 1), "next_by_subj": filter_subject}
    await connection.converse(f"$JS.API.DIRECT.GET.{stream}", msgspec.json.encode(request), hear)
    return found, more


async def get_few(
    connection: Connection, stream: str, filters: Sequence[str], *, from_seq: int = 1
) -> tuple[list[RawMessage], bool] | None:
    """The newest message of each subject under these filters in stream order, and whether there are more; None
    where these are more subjects than the server looks up at once.

    The server finds them by their subjects, in an index, where `get_batch` has it look through what is stored.
    """
    found: list[RawMessage] = []
    more = too_many = False

    def hear(answer: Incoming) -> bool:
        nonlocal more, too_many
        if answer.status == 0:
            found.append(_stored(answer))
            return False
        too_many = answer.status == TOO_MANY
        if answer.status not in (FOUND_NOTHING, END_OF_BATCH, TOO_MANY):
            raise _no_answer(filters[0], answer)
        more = int(answer.headers.get("Nats-Num-Pending", "0")) > 0
        return True

    request = {
        "batch": MOST_LOOKED_UP,
        "max_bytes": MOST_BYTES_AT_ONCE,
        "seq": max(from_seq, 1),
        "multi_last": list(filters),
    }
    await connection.converse(f"$JS.API.DIRECT.GET.{stream}", msgspec.json.encode(request), hear)
    return None if too_many else (found, more)


async def read_on(
    connection: Connection, stream: str, filter_subject: str, from_seq: int = 1
) -> AsyncGenerator[RawMessage, None]:
    """Everything stored under a filter, in stream order, over outages. For streams with one message a subject."""
    few = more = True
    while more:
        if few:
            looking_up = partial(get_few, connection, stream, (filter_subject,), from_seq=from_seq)
            found = await connection.persist(f"reading {filter_subject}", looking_up)
            few = found is not None
            page, more = found or ([], True)
        else:
            reading_on = partial(get_batch, connection, stream, filter_subject, from_seq=from_seq)
            page, more = await connection.persist(f"reading {filter_subject}", reading_on)
        for message in page:
            yield message
        if page:
            from_seq = page[-1].seq + 1


async def read_back(
    connection: Connection, stream: str, wanted: Callable[[str], bool]
) -> AsyncGenerator[RawMessage, None]:
    """Messages whose subject is wanted, from the newest on, as far as they are asked for.

    The server reads forwards only, so this goes back in windows, each twice as long as the one before. It asks for
    all that is there: to find out how much is under a filter the server would go through every subject it has.
    """
    newest = await connection.persist(f"reading {stream}", partial(get_last, connection, stream, ">"))
    below, length = (0 if newest is None else newest.seq + 1), FIRST_WINDOW_BACK
    while below > 1:
        begin = max(1, below - length)
        found: list[RawMessage] = []
        from_seq = begin
        while from_seq < below:
            most = min(BATCH_MESSAGES, below - from_seq)
            attempt = partial(get_batch, connection, stream, ">", from_seq=from_seq, max_messages=most)
            page, _ = await connection.persist(f"reading {stream}", attempt)
            found += [message for message in page if message.seq < below and wanted(message.subject)]
            from_seq = page[-1].seq + 1 if page else below
        for message in reversed(found):
            yield message
        below, length = begin, 2 * length


def lagging(filter_subject: str) -> BusUnavailable:
    return BusUnavailable(f"the replica that answered does not have all of {filter_subject} yet")


def authored(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers without those that are between us and the server."""
    return {name: headers[name] for name in headers if name[:5] != "Nats-"}


def _got(answer: Incoming) -> RawMessage | None:
    if answer.status == FOUND_NOTHING:
        return None
    if answer.status:
        raise _no_answer("a stored message", answer)
    return _stored(answer)


def _stored(answer: Incoming) -> RawMessage:
    headers = answer.headers
    return RawMessage(headers["Nats-Subject"], int(headers["Nats-Sequence"]), answer.data, headers)


def _no_answer(what: str, answer: Incoming) -> BusRefused:
    return BusRefused(f"reading {what}", answer.status, answer.description)


# Managing


async def manage(connection: Connection, call: str, request: object = None) -> dict[str, Any]:
    """A call of the JetStream API by name, such as `STREAM.INFO.SHANTY_0`."""
    asked_s = time.monotonic()
    answer = await connection.request(f"$JS.API.{call}", b"" if request is None else msgspec.json.encode(request))
    found: dict[str, Any] = msgspec.json.decode(answer.data, type=dict[str, Any])
    connection.clock.told(found, asked_s, time.monotonic())
    if "error" in found:
        raise refused(call, msgspec.convert(found["error"], ApiError))
    return found
