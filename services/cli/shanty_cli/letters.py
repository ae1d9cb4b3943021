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

from shanty_cli.dev_bus import answering
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
)
from shanty_protocol.headers import TRACEPARENT
from shanty_protocol.ids import DEAD
from shanty_protocol.subjects import letter_address
from shanty_runtime.bus import Bus, Stored
from shanty_runtime.redaction import redact

GO_ON = "Your work was broken off. Go on with what you were asked, from where you were."
NOT_READ = frozenset({"invalid_message", "unknown_kind", "unsupported_version"})
"""Why a mail was rejected that another version may be able to read. For another reason it would be rejected again."""
LAST_ENTRIES = 10

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


async def letters(bus: Bus, lanes: Iterable[str], *, all_of_them: bool = False) -> list[Found]:
    """Dead letters, oldest first: those nobody has dealt with, or all."""
    stored: list[Stored] = []
    for lane in lanes:
        async with answering("the dead letters"):
            stored += [one async for one in bus.journals.mail_entries(lane, DEAD) if _is_letter(one)]
    places = [letter_address(one.address, DEAD).guard for one in stored]
    dealt_with = await asyncio.gather(*(bus.journals.get(place) for place in places))
    found = [_found(one, answer) for one, answer in zip(stored, dealt_with, strict=True)]
    return [each for each in found if all_of_them or each.letter.fate == "open"]


async def find(bus: Bus, lanes: Iterable[str], name: str) -> Found:
    """The letter of that name. Raises UsageError that says which there are."""
    found = await letters(bus, lanes, all_of_them=True)
    for each in found:
        if each.letter.letter == name:
            return each
    there = ", ".join(each.letter.letter for each in found[-5:])
    said = f"; the newest are {there}" if there else "; there are none"
    raise UsageError(f"there is no dead letter {one_line(name, 60)}{said}")


async def shown(bus: Bus, found: Found) -> Shown:
    letter, mail = found.letter, None
    if letter.mail:
        mail = await bus.journals.get(letter.mail)
    thread = letter.thread or _thread_meant(mail)
    entries: tuple[Stored, ...] = ()
    if thread:
        entries = (await bus.journals.read(letter.run, thread, letter.agent)).entries[-LAST_ENTRIES:]
    content = "" if mail is None else redact(mail.data.decode(errors="replace"))
    return Shown(letter=letter, content=content, journal=entries)


async def retry(bus: Bus, found: Found, person: str, wait_s: float) -> Retried:
    """Have a letter's mail processed again, or its thread go on. Raises UsageError where that makes no sense."""
    letter = found.letter
    _check_open(letter)
    if letter.mail:
        if letter.code not in NOT_READ:
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
        return isinstance(stored.entry, MailRejected | ThreadFailed)
    except ProtocolError:
        return False


def _found(stored: Stored, dealt_with: Stored | None) -> Found:
    entry, address = stored.entry, stored.address
    assert isinstance(entry, MailRejected | ThreadFailed)
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


def _trace_of(entry: MailRejected | ThreadFailed, headers: dict[str, str]) -> str:
    traceparent = entry.traceparent if isinstance(entry, MailRejected) else headers.get(TRACEPARENT, "")
    parts = traceparent.split("-")
    return parts[1] if len(parts) == 4 else ""


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
