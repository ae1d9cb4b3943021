"""Every subject of the bus is built and parsed here, and nowhere else.

    shanty.<lane>.<to>.<run>.<thread>.<agent>.<n>                    entry n of a journal, addressed to <to>
    shanty.timer.<lane>.{set,due}.<agent>.<run>.<thread>.<id>        a durable timer, and what it sends when due
    shanty.file.<lane>.<run>.<agent>.version.<path>.<n>              version n of a workspace file
    shanty.file.<lane>.<run>.<agent>.chunk.<digest>.<i>              part i of a content
    shanty.memory.<scope>.<agent>.version.<path>.<n>                 version n of a document that outlives runs
    shanty.memory.<scope>.operators.release.<path>.<n>               a person let that version out of quarantine
    shanty.feed.<lane>.<to>.<run>.<thread>.<agent>.<n>               a stored entry, sent again for observers
    shanty.live.<run>.<thread>.<agent>                               what happens right now; lossy on purpose
    shanty.tool.<team>.<agent>                                       an agent asks the tool gateway of its team

<agent> is the author. A path is written in base32, so that any path fits one token.
`parse` accepts exactly what `subject` builds.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Literal

import msgspec

from shanty_protocol.errors import ProtocolError
from shanty_protocol.ids import (
    LOG,
    MAX_ID_LENGTH,
    OPERATORS,
    TOOL_GATEWAY,
    checked,
    checked_lane,
    checked_run,
    lane_of,
)
from shanty_protocol.lazy import lazy

MAX_PATH_BYTES = 400
MAX_NUMBER = 9_999_999_999
"""The largest place in a journal, version or part: ten digits."""

_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ENTRY = re.compile(
    rf"shanty\.(0|[1-9][0-9]{{0,8}})\.([a-z0-9-]{{1,{MAX_ID_LENGTH}}})\.(\1-[a-z0-9-]+)"
    rf"\.([a-z0-9-]{{1,{MAX_ID_LENGTH}}})\.([a-z0-9-]{{1,{MAX_ID_LENGTH}}})\.(0|[1-9][0-9]{{0,9}})"
)
"""A whole subject of an entry at once: there is one for every step of every thread."""


class EntryAddress(msgspec.Struct, frozen=True, order=True, dict=True):
    """Place n of the journal that `agent` keeps of `thread`, and whom its entry is addressed to."""

    to: str
    run: str
    thread: str
    agent: str
    n: int

    @property
    def lane(self) -> str:
        return self.run.partition("-")[0]

    @lazy
    def subject(self) -> str:
        subject = f"shanty.{self.lane}.{self.to}.{self.run}.{self.thread}.{self.agent}.{self.n}"
        if _ENTRY.fullmatch(subject) and len(self.run) <= MAX_ID_LENGTH:
            return subject
        # Part by part: whatever is wrong with it is said.
        journal = _journal("shanty", checked("recipient", self.to), self.run, self.thread, self.agent)
        return f"{journal}.{_checked_number(self.n)}"

    @property
    def feed_subject(self) -> str:
        return f"shanty.feed.{self.subject.removeprefix('shanty.')}"

    @property
    def guard(self) -> str:
        """All subjects this place could be taken under: an entry is stored only while none of them is."""
        _, lane, _, place = self.subject.split(".", 3)
        return f"shanty.{lane}.*.{place}"


class TimerAddress(msgspec.Struct, frozen=True):
    phase: Literal["set", "due"]
    agent: str
    run: str
    thread: str
    id: str

    @property
    def subject(self) -> str:
        if self.phase not in ("set", "due"):
            raise ProtocolError("invalid_message", f"{self.phase!r} is not a phase of a timer")
        owner = f"{checked('agent', self.agent)}.{self.run}.{checked('thread', self.thread)}"
        return f"shanty.timer.{lane_of(self.run)}.{self.phase}.{owner}.{checked('timer', self.id)}"


class FileAddress(msgspec.Struct, frozen=True):
    run: str
    agent: str
    path: str
    version: int

    @property
    def subject(self) -> str:
        version = f"{path_token(self.path)}.{_checked_number(self.version)}"
        return f"{_files(self.run, checked('agent', self.agent))}.version.{version}"

    @property
    def guard(self) -> str:
        """All subjects this version could be taken under, whoever wrote it."""
        return f"{_files(self.run, '*')}.version.{path_token(self.path)}.{_checked_number(self.version)}"


class ChunkAddress(msgspec.Struct, frozen=True):
    run: str
    agent: str
    digest: str
    index: int

    @property
    def subject(self) -> str:
        if not _DIGEST.fullmatch(self.digest):
            raise ProtocolError("invalid_message", f"{self.digest!r} is not a SHA-256 digest in hexadecimal")
        return f"{_files(self.run, checked('agent', self.agent))}.chunk.{self.digest}.{_checked_number(self.index)}"


class DocumentAddress(msgspec.Struct, frozen=True):
    scope: str
    agent: str
    path: str
    version: int

    @property
    def subject(self) -> str:
        version = f"{path_token(self.path)}.{_checked_number(self.version)}"
        return f"{_memory(self.scope, checked('agent', self.agent))}.version.{version}"

    @property
    def guard(self) -> str:
        """All subjects this version could be taken under, whoever wrote it."""
        return f"{_memory(self.scope, '*')}.version.{path_token(self.path)}.{_checked_number(self.version)}"


class ReleaseAddress(msgspec.Struct, frozen=True):
    """Only people release, so the author is not an agent and always the same: the subject is its own guard."""

    scope: str
    path: str
    version: int

    @property
    def subject(self) -> str:
        version = f"{path_token(self.path)}.{_checked_number(self.version)}"
        return f"{_memory(self.scope, OPERATORS)}.release.{version}"


class LiveAddress(msgspec.Struct, frozen=True):
    run: str
    thread: str
    agent: str

    @property
    def subject(self) -> str:
        thread = f"{checked_run(self.run)}.{checked('thread', self.thread)}"
        return f"shanty.live.{thread}.{checked('agent', self.agent)}"


class ToolAddress(msgspec.Struct, frozen=True):
    """Where an agent asks the tool gateway of its team to make its calls."""

    team: str
    agent: str

    @property
    def subject(self) -> str:
        return f"shanty.tool.{checked('team', self.team)}.{checked('agent', self.agent)}"


Address = (
    EntryAddress
    | TimerAddress
    | FileAddress
    | ChunkAddress
    | DocumentAddress
    | ReleaseAddress
    | LiveAddress
    | ToolAddress
)


def parse(subject: str) -> Address:
    """The address behind a subject. Raises ProtocolError for anything `subject` would not have built."""
    match subject.split("."):
        case ["shanty", "timer", _, ("set" | "due") as phase, agent, run, thread, identity]:
            address: Address = TimerAddress(phase, agent, run, thread, identity)
        case ["shanty", "file", _, run, agent, "version", token, version]:
            address = FileAddress(run, agent, path_of(token), _number(version))
        case ["shanty", "file", _, run, agent, "chunk", digest, index]:
            address = ChunkAddress(run, agent, digest, _number(index))
        case ["shanty", "memory", scope, agent, "version", token, version]:
            address = DocumentAddress(scope, agent, path_of(token), _number(version))
        case ["shanty", "memory", scope, _, "release", token, version]:
            address = ReleaseAddress(scope, path_of(token), _number(version))
        case ["shanty", "live", run, thread, agent]:
            address = LiveAddress(run, thread, agent)
        case ["shanty", "tool", team, agent]:
            address = ToolAddress(team, agent)
        case ["shanty", _, to, run, thread, agent, n]:
            address = EntryAddress(to, run, thread, agent, _number(n))
        case _:
            raise ProtocolError("invalid_message", f"{subject!r} is not a subject of this protocol")
    if address.subject != subject:
        raise ProtocolError("invalid_message", f"{subject!r} is not a subject of this protocol")
    return address


def parse_entry(subject: str) -> EntryAddress:
    """The address of a journal entry, from its own subject or from the feed's."""
    if subject.startswith("shanty.feed."):
        subject = "shanty." + subject.removeprefix("shanty.feed.")
    if (found := _ENTRY.fullmatch(subject)) is not None and len(found[3]) <= MAX_ID_LENGTH:
        _, to, run, thread, agent, n = found.groups()
        known = EntryAddress(to, run, thread, agent, int(n))
        vars(known)["subject"] = subject  # it was just taken apart, so it need not be put together again
        return known
    address = parse(subject)
    if not isinstance(address, EntryAddress):
        raise ProtocolError("invalid_message", f"{subject!r} is not the subject of an entry")
    return address


def mail_filter(lane: str, agent: str) -> str:
    """All mail of an agent in a lane."""
    return f"shanty.{checked_lane(lane)}.{checked('agent', agent)}.>"


def mail_feed(run: str, agent: str) -> str:
    """An agent's mail in a run as it is stored, for whoever is working on it right now."""
    return f"shanty.feed.{lane_of(run)}.{checked('agent', agent)}.{run}.>"


def decision_address(request: EntryAddress) -> EntryAddress:
    """Where people answer a question or decide on a request: one place for each, so the first of them has decided."""
    digest = hashlib.sha256(request.subject.encode()).hexdigest()
    return EntryAddress(request.agent, request.run, f"decide-{digest[:32]}", OPERATORS, 0)


def standing_address(run: str, name: str) -> EntryAddress:
    """Where people say that every later call of a tool is allowed in a run: one place for each."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    return EntryAddress(LOG, run, f"standing-{digest[:32]}", OPERATORS, 0)


def letter_address(letter: EntryAddress, to: str) -> EntryAddress:
    """Where people say what becomes of a dead letter: one place for each, so it is retried or dropped, and once."""
    digest = hashlib.sha256(letter.subject.encode()).hexdigest()
    return EntryAddress(to, letter.run, f"letter-{digest[:32]}", OPERATORS, 0)


def effect_address(run: str, agent: str, thread: str, call_id: str, n: int) -> EntryAddress:
    """Place n of the journal that the tool gateway keeps of a call; the name of its thread follows from the call."""
    digest = hashlib.sha256(f"{checked('agent', agent)}.{checked('thread', thread)}.{call_id}".encode()).hexdigest()
    return EntryAddress(LOG, run, f"effect-{digest[:32]}", TOOL_GATEWAY, n)


def tool_filter(team: str) -> str:
    """What all agents of a team ask of its tool gateway."""
    return f"shanty.tool.{checked('team', team)}.*"


def timer_filter(lane: str, agent: str) -> str:
    """All timers of an agent that are due."""
    return f"shanty.timer.{checked_lane(lane)}.due.{checked('agent', agent)}.>"


def run_mail_filter(run: str, agent: str) -> str:
    """All mail of an agent in a run."""
    return f"shanty.{lane_of(run)}.{checked('agent', agent)}.{checked_run(run)}.>"


def beginnings_filter(run: str, thread: str) -> str:
    """The first entry of everybody who has written one in a thread."""
    return f"shanty.{lane_of(run)}.*.{checked_run(run)}.{checked('thread', thread)}.*.0"


def journal_filter(run: str, thread: str, agent: str) -> str:
    """All entries of one journal."""
    return f"{_journal('shanty', '*', run, thread, agent)}.*"


def run_filter(run: str) -> str:
    """All entries of a run, by every agent."""
    return f"shanty.{lane_of(run)}.*.{run}.>"


def run_feed(run: str) -> str:
    """All entries of a run as they are stored."""
    return f"shanty.feed.{lane_of(run)}.*.{run}.>"


def run_live(run: str) -> str:
    return f"shanty.live.{checked_run(run)}.>"


def first_entries_filter(lane: str) -> str:
    """Entry 0 of every lead's thread: one message a run."""
    return f"shanty.{checked_lane(lane)}.*.*.0.*.0"


def versions_filter(run: str, path: str | None = None) -> str:
    """All versions of a run's files, or of one file."""
    token = "*" if path is None else path_token(path)
    return f"{_files(run, '*')}.version.{token}.*"


def memory_filter(scope: str, path: str | None = None) -> str:
    """All versions and releases of a scope's documents, or of one document."""
    token = "*" if path is None else path_token(path)
    return f"{_memory(scope, '*')}.*.{token}.*"


def path_token(path: str) -> str:
    """A path as one subject token."""
    try:
        data = path.encode()
    except UnicodeEncodeError as error:
        raise ProtocolError("invalid_message", f"the path {path!r} is not valid Unicode") from error
    if not data or len(data) > MAX_PATH_BYTES:
        raise ProtocolError("invalid_message", f"a path has 1 to {MAX_PATH_BYTES} bytes, this one {len(data)}")
    return base64.b32encode(data).decode().rstrip("=").lower()


def path_of(token: str) -> str:
    """The path a token stands for. There is one token for each path: other spellings of it are refused."""
    try:
        path = base64.b32decode(token.upper() + "=" * (-len(token) % 8)).decode()
    except ValueError as error:
        raise ProtocolError("invalid_message", f"{token!r} is not a path in base32") from error
    if path_token(path) != token:
        raise ProtocolError("invalid_message", f"{token!r} is not the token of the path {path!r}")
    return path


def _journal(prefix: str, recipient: str, run: str, thread: str, agent: str) -> str:
    # The caller has checked the recipient: it is an id in an address, and * in a guard or a filter.
    return f"{prefix}.{lane_of(run)}.{recipient}.{run}.{checked('thread', thread)}.{checked('agent', agent)}"


def _files(run: str, author: str) -> str:
    # The caller has checked the author, as above.
    return f"shanty.file.{lane_of(run)}.{run}.{author}"


def _memory(scope: str, author: str) -> str:
    # The caller has checked the author, as above.
    return f"shanty.memory.{checked('scope', scope)}.{author}"


def _checked_number(number: int) -> int:
    if not 0 <= number <= MAX_NUMBER:
        raise ProtocolError("invalid_message", f"{number} is not a number from 0 to {MAX_NUMBER}")
    return number


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ProtocolError("invalid_message", f"{text!r} is not a number from 0 to {MAX_NUMBER}")
    return int(text)
