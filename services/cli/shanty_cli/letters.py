"""Dead letters: what could not be processed, and what people do about it.

A letter is an entry addressed to `dead`: a mail that could not be taken in, or a thread that was given up. What
becomes of it is an entry as well, at the one place that follows from the letter: it is retried or dropped, by one
person, once. Should a retry fail, that is another letter.

A mail that is retried is processed as if it came now, on the thread it was meant for. A thread that was given up has
told its lead so; it is asked to go on from where it was, and its answer goes to the operators.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import aclosing
from typing import Literal

import msgspec

from shanty_cli.dev_bus import answered, answering
from shanty_cli.exits import UsageError
from shanty_cli.text import at, one_line
from shanty_protocol import (
    AddressedEntry,
    EntryAddress,
    LetterDropped,
    MailRejected,
    MailRetried,
    MessageSent,
    ProtocolError,
    ThreadFailed,
    TriggerFailed,
)
from shanty_protocol.headers import TRACEPARENT
from shanty_protocol.ids import DEAD
from shanty_protocol.subjects import letter_address
from shanty_runtime.bus import Bus, Stored
from shanty_runtime.bus.jetstream import get_batch
from shanty_runtime.redaction import redact

GO_ON = "Your work was broken off. Go on with what you were asked, from where you were."
NOT_FOR_EVER = frozenset({"invalid_message", "unknown_kind", "unsupported_version", "out_of_order"})
"""Why a mail was rejected that another version may be able to read, or that may be taken in once what it comes after
has come. For another reason it would be rejected again."""
LAST_ENTRIES = 10
MOST_DIGITS = 18
"""Of a place in a stream: what the server takes for one."""

Fate = Literal["open", "retried", "dropped"]


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    letter: str
    """Its name: lane and place in the lane's stream."""
    fate: Fate
    run: str
    agent: str
    """Who could not process it."""
    code: str
    reason: str
    at_ms: int
    thread: str = ""
    """The thread that was given up."""
    mail: str = ""
    """Subject of the mail that was rejected."""
    message: str = ""
    """The message that could start no run: `alerts.orders, 209 of SHANTY_TRIGGERS_incident`."""
    trace: str = ""
    """Id of the trace the mail came with."""
    dealt_with_by: str = ""
    dealt_with_at_ms: int = 0


class Found(msgspec.Struct, frozen=True):
    """A letter, and where it is stored."""

    letter: Letter
    address: EntryAddress


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A letter with all that belongs to it."""

    letter: Letter
    content: str
    """The mail as it is stored, without secrets; empty for a thread."""
    journal: tuple[Stored, ...]
    """The end of the thread's journal."""


class Retried(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a retry so far."""

    letter: str
    run: str
    agent: str
    said: str
    """Subject of what was written."""
    read_by: str = ""
    """The replica that has taken it in; empty where none had in time."""
    thread: str = ""
    read_at_entry: int | None = None
    rejected: str = ""
    """Why it is a dead letter again."""


async def letters(
    bus: Bus, lanes: Iterable[str], *, all_of_them: bool = False, limit: int | None = None
) -> list[Found]:
    """Dead letters, oldest first: those nobody has dealt with, or all; at most `limit` of a lane, the newest ones."""
    found: list[Found] = []
    for lane in lanes:
        reading = answered(bus.journals.mail_entries(lane, DEAD), "the dead letters")
        stored = [one async for one in reading if _is_letter(one)]
        of_lane: list[Found] = []
        for one in reversed(stored):
            if len(of_lane) == limit:
                break
            looked_up = await _looked_up(bus, one)
            if all_of_them or looked_up.letter.fate == "open":
                of_lane.append(looked_up)
        found += reversed(of_lane)
    return found


async def find(bus: Bus, lanes: Iterable[str], name: str) -> Found:
    """The letter of that name. Raises UsageError that says which there are."""
    lane, _, place = name.partition(".")
    if lane in lanes and place.isdecimal() and len(place) <= MOST_DIGITS:
        async with answering("the dead letters"):
            stored = await bus.journals.mail_at(lane, DEAD, int(place))
        if stored is not None and _is_letter(stored):
            return await _looked_up(bus, stored)
    there = ", ".join(each.letter.letter for each in await letters(bus, lanes, all_of_them=True, limit=5))
    said = f"; the newest are {there}" if there else "; there are none"
    raise UsageError(f"there is no dead letter {one_line(name, 60)}{said}")


async def _looked_up(bus: Bus, stored: Stored) -> Found:
    return _found(stored, await bus.journals.get(letter_address(stored.address, DEAD).guard))


async def shown(bus: Bus, found: Found) -> Shown:
    letter, mail = found.letter, None
    if letter.mail:
        mail = await bus.journals.get(letter.mail)
    thread = letter.thread or _thread_meant(mail)
    entries: tuple[Stored, ...] = ()
    if thread:
        entries = (await bus.journals.read(letter.run, thread, letter.agent)).entries[-LAST_ENTRIES:]
    data = await _message_of(bus, found) if mail is None else mail.data
    content = redact(data.decode(errors="replace"))
    return Shown(letter=letter, content=content, journal=entries)


async def retry(bus: Bus, found: Found, person: str, wait_s: float) -> Retried:
    """Have a letter's mail processed again, or its thread go on. Raises UsageError where that makes no sense."""
    letter = found.letter
    _check_open(letter)
    if letter.message:
        raise UsageError(
            f"{letter.message}, starts no run however often it is read: `shanty triggers fire` starts one, and "
            f"`shanty dead drop {letter.letter}` puts it away"
        )
    if letter.mail:
        if letter.code not in NOT_FOR_EVER:
            raise UsageError(
                f"{letter.mail} was rejected for what it says, and would be again: {one_line(letter.reason)}; "
                f"`shanty dead drop {letter.letter}` puts it away"
            )
        entry: MailRetried | MessageSent = MailRetried(
            at_ms=_now_ms(), by="cli", letter=found.address.subject, mail=letter.mail, person=person
        )
    else:
        entry = MessageSent(at_ms=_now_ms(), by="cli", to_thread=letter.thread, purpose="follow_up", text=GO_ON)
    address = letter_address(found.address, letter.agent)
    placed = await bus.journals.append(address, entry)
    if not placed.ours:
        _check_open(_found_with(found, placed.stored))
    begun = Retried(letter=letter.letter, run=letter.run, agent=letter.agent, said=address.subject)
    try:
        async with asyncio.timeout(wait_s):
            return await _taken_in(bus, begun, letter.mail or address.subject, placed.stored.seq)
    except TimeoutError:
        return begun


async def drop(bus: Bus, found: Found, person: str, reason: str) -> Letter:
    """Note that nothing more is to be done about a letter."""
    _check_open(found.letter)
    entry = LetterDropped(at_ms=_now_ms(), by="cli", letter=found.address.subject, reason=reason, person=person)
    placed = await bus.journals.append(letter_address(found.address, DEAD), entry)
    if not placed.ours:
        _check_open(_found_with(found, placed.stored))
    return _found_with(found, placed.stored)


def told(retried: Retried) -> str:
    """What became of a retry, in words."""
    if retried.rejected:
        return f"{retried.letter} is a dead letter again: {one_line(retried.rejected)}"
    if retried.read_at_entry is None:
        return f"{retried.letter} is stored for {retried.agent} once more, which has not read it yet"
    return (
        f"{retried.letter} was read by {one_line(retried.read_by, 60)}, thread {retried.thread}, "
        f"at entry {retried.read_at_entry}"
    )


def _is_letter(stored: Stored) -> bool:
    try:
        return isinstance(stored.entry, MailRejected | ThreadFailed | TriggerFailed)
    except ProtocolError:
        return False


def _found(stored: Stored, dealt_with: Stored | None) -> Found:
    entry, address = stored.entry, stored.address
    assert isinstance(entry, MailRejected | ThreadFailed | TriggerFailed)
    lane = address.run.partition("-")[0]
    letter = Letter(
        letter=f"{lane}.{stored.seq}",
        fate="open",
        run=address.run,
        agent=address.agent,
        code=entry.code,
        reason=redact(entry.reason),
        at_ms=entry.at_ms,
        thread=address.thread if isinstance(entry, ThreadFailed) else "",
        mail=entry.mail if isinstance(entry, MailRejected) else "",
        message=f"{entry.subject}, {entry.seq} of {entry.stream}" if isinstance(entry, TriggerFailed) else "",
        trace=_trace_of(entry, stored.headers),
    )
    found = Found(letter, address)
    return found if dealt_with is None else Found(_found_with(found, dealt_with), address)


def _found_with(found: Found, dealt_with: Stored) -> Letter:
    """The letter with what somebody did about it."""
    fate: Fate = "retried"
    person, at_ms = dealt_with.address.agent, 0
    try:
        entry = dealt_with.entry
    except ProtocolError:
        pass  # a later version has other ways to deal with a letter
    else:
        fate = "dropped" if isinstance(entry, LetterDropped) else "retried"
        person, at_ms = getattr(entry, "person", "") or person, entry.at_ms
    return msgspec.structs.replace(found.letter, fate=fate, dealt_with_by=person, dealt_with_at_ms=at_ms)


def _check_open(letter: Letter) -> None:
    if letter.fate != "open":
        by = f"by {one_line(letter.dealt_with_by, 60)} {at(letter.dealt_with_at_ms)}".rstrip()
        raise UsageError(f"{letter.letter} was {letter.fate} already, {by}")


def _trace_of(entry: MailRejected | ThreadFailed | TriggerFailed, headers: dict[str, str]) -> str:
    traceparent = headers.get(TRACEPARENT, "") if isinstance(entry, ThreadFailed) else entry.traceparent
    parts = traceparent.split("-")
    return parts[1] if len(parts) == 4 else ""


async def _message_of(bus: Bus, found: Found) -> bytes:
    """What a message says that could start no run, as long as it is kept."""
    stored = await bus.journals.get(found.address.subject) if found.letter.message else None
    if stored is None or not isinstance(stored.entry, TriggerFailed):
        return b""
    async with answering("the message"):
        batch, _ = await get_batch(
            bus.connection, stored.entry.stream, ">", from_seq=stored.entry.seq, max_messages=1
        )
    return next((message.data for message in batch if message.seq == stored.entry.seq), b"")


def _thread_meant(mail: Stored | None) -> str:
    """The thread a mail is for, as far as it can be read."""
    try:
        entry = None if mail is None else mail.entry
    except ProtocolError:
        return ""
    return entry.to_thread if isinstance(entry, AddressedEntry) else ""


async def _taken_in(bus: Bus, begun: Retried, mail: str, from_seq: int) -> Retried:
    """Wait until a journal has taken the mail in, or it is a dead letter again."""
    async with aclosing(bus.feed.follow(begun.run, from_seq)) as entries:
        async for stored in entries:
            try:
                entry = stored.entry
            except ProtocolError:
                continue
            if mail in entry.consumed:
                address = stored.address
                return msgspec.structs.replace(
                    begun, read_by=entry.by, thread=address.thread, read_at_entry=address.n
                )
            if isinstance(entry, MailRejected) and entry.mail == mail:
                return msgspec.structs.replace(begun, rejected=f"{entry.code}: {entry.reason}")
    raise AssertionError("a feed does not end by itself")


def _now_ms() -> int:
    return int(time.time() * 1000)
