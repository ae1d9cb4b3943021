"""All of a run: each stored entry by itself, in its journal, in its thread, and who wrote to whom."""

from __future__ import annotations

from collections.abc import Iterable

from shanty_protocol import (
    AddressedEntry,
    ApprovalStanding,
    DelegationSent,
    EffectStarted,
    Entry,
    EntryAddress,
    FileVersion,
    MailRejected,
    MailRetried,
    ProtocolError,
    chain,
)
from shanty_protocol.codec import decode_entry, kind_of
from shanty_protocol.headers import KIND
from shanty_protocol.ids import OPERATORS, RESERVED_AGENTS, ROOT_THREAD, is_agent_thread
from shanty_protocol.subjects import effect_address, parse_entry
from shanty_runtime.bus.files import as_version
from shanty_runtime.bus.jetstream import RawMessage
from shanty_runtime.verify.books import MailBook, ThreadBook
from shanty_runtime.verify.findings import Audit, OpenDelegation, Place, Report
from shanty_runtime.verify.journals import Journal, Placed

FLAWS = {
    "misnamed": ("its chain header has another name", "Shanty-Chain"),
    "malformed": ("its chain header is none", "<before>-<own>"),
    "altered": ("it is not what was written: its subject, a header or its body has changed", "the digest it carries"),
    "trace_altered": ("its trace is not the one it was written with", "the seal it carries"),
}


class Auditor:
    """`take` every stored entry of the run in the order of the stream; `end` says what is wrong."""

    def __init__(self, run: str) -> None:
        self.run = run
        self._report = Report()
        self._journals: dict[tuple[str, str], tuple[Journal, ThreadBook]] = {}
        self._mails: dict[str, MailBook] = {}
        self._put_away: set[str] = set()
        self._standing: set[str] = set()
        self._started: set[tuple[str, str, str]] = set()
        self._unreadable: dict[str, tuple[Place, str]] = {}
        self._versions: dict[tuple[str, int], FileVersion] = {}
        self._damaged: list[tuple[Place, str, str]] = []
        self._entries = self._chained = 0

    def take(self, message: RawMessage) -> None:
        self._entries += 1
        at: Place = (message.subject, message.seq)
        try:
            address = parse_entry(message.subject)
        except ProtocolError as error:
            self._report.wrong(at, "address", error.detail, "the subject of an entry")
            return
        if address.run != self.run:
            self._report.wrong(at, "address", f"it is of run {address.run}", self.run)
            return
        flaw = self._check_by_itself(at, message)
        entry = self._decoded(at, message)
        if entry is not None:
            self._note_mail(at, address, entry)
        journal, book = self._journal(address)
        link = chain.link_of(message.headers)
        placed = Placed(address, at, entry, link, flaw == "unchained", None if link else message)
        for each in journal.take(placed):
            if each.entry is not None:
                book.take(each.address, each.at, each.entry)
                self._check_effect(each.at, each.address, each.entry)

    def take_file(self, message: RawMessage) -> FileVersion | None:
        """Take a version of one of the run's files, as it is stored; none where it is no version."""
        version = as_version(message)
        if version is not None:
            self._versions[version.path, version.version] = version
        return version

    def damaged(self, message: RawMessage, version: FileVersion, what: str) -> None:
        """The content of a version is not what its digest says."""
        at = (message.subject, message.seq)
        self._damaged.append((at, f"{version.path} at version {version.version}: {what}", version.digest))

    def end(self) -> Audit:
        """Nothing more comes."""
        for journal, _ in self._journals.values():
            journal.end()
        books = [book for _, book in self._journals.values()]
        self._check_unreadable()
        self._check_announced(books)
        self._check_files(books)
        self._report.forgive(self._put_away)
        by_place = sorted(self._report.findings, key=lambda finding: finding.seq)
        for at, what, digest in self._damaged:  # its sequence is of another stream
            self._report.wrong(at, "file", what, digest)
        by_place += self._report.findings[len(by_place) :]
        return Audit(
            run=self.run,
            entries=self._entries,
            journals=len(self._journals),
            chained=self._chained,
            replied=any(book.thread == ROOT_THREAD and book.newest and not book.owes_reply for book in books),
            findings=tuple(by_place),
            notes=tuple(sorted(self._report.notes, key=lambda note: note.seq)),
            open_delegations=tuple(self._open_delegations(books)),
            waiting_mail=tuple(self._waiting_mail()),
            unsettled_calls=tuple(
                f"{self.run}.{book.thread}.{call_id}"
                for book in books
                for call_id, call in book.calls.calls.items()
                if call.intended and not call.returned
            ),
        )

    # Each entry by itself

    def _check_by_itself(self, at: Place, message: RawMessage) -> chain.Flaw | None:
        flaw = chain.flaw_of(message.subject, message.headers, message.data)
        if flaw == "unchained":
            self._report.note(at, "chain", "it is not chained")
            return flaw
        self._chained += 1
        if flaw is not None:
            what, expected = FLAWS[flaw]
            self._report.wrong(at, "chain", what, expected)
        return flaw

    def _decoded(self, at: Place, message: RawMessage) -> Entry | None:
        try:
            entry = decode_entry(message.data, message.headers)
        except ProtocolError as error:
            if error.code == "invalid_message":
                self._unreadable[message.subject] = (at, error.detail)
            else:
                self._report.note(at, "message", f"this version cannot read it: {error}")
            return None
        if message.headers.get(KIND, kind_of(entry)) != kind_of(entry):
            self._report.wrong(at, "message", f"its header says that it is {message.headers[KIND]}", kind_of(entry))
        return entry

    def _check_unreadable(self) -> None:
        for at, detail in self._unreadable.values():
            self._report.wrong(at, "message", f"it cannot be read: {detail}", "an entry")

    # Mail

    def _note_mail(self, at: Place, address: EntryAddress, entry: Entry) -> None:
        if isinstance(entry, MailRejected):
            self._put_away.add(entry.mail)
        elif isinstance(entry, ApprovalStanding) and address.agent == OPERATORS:
            self._standing.add(address.subject)
        elif isinstance(entry, AddressedEntry) and address.to not in RESERVED_AGENTS:
            self._mails[address.subject] = MailBook(
                at, (address.to, entry.to_thread), (address.agent, address.thread), entry
            )
        elif isinstance(entry, MailRetried) and entry.mail not in self._mails and entry.mail not in self._unreadable:
            self._report.wrong(at, "mail", f"it asks for {entry.mail} again, which was not stored before it")

    def _waiting_mail(self) -> Iterable[str]:
        for subject, mail in self._mails.items():
            if not mail.taken_by and subject not in self._put_away and is_agent_thread(mail.to[1]):
                yield subject

    # Threads

    def _journal(self, address: EntryAddress) -> tuple[Journal, ThreadBook]:
        key = (address.agent, address.thread)
        if key not in self._journals:
            book = ThreadBook(address.agent, address.thread, self._mails, self._standing, self._report)
            self._journals[key] = (Journal(self._report), book)
        return self._journals[key]

    def _open_delegations(self, books: Iterable[ThreadBook]) -> Iterable[OpenDelegation]:
        """Every delegation is answered once, which its own book says, or it is open."""
        answered = {(book.agent, book.thread): book.answered for book in books}
        for book in books:
            for thread, child in book.children.items():
                if answered.get((child.agent, thread)) != child.last_sent:
                    yield OpenDelegation(subject=child.last_sent, thread=thread, agent=child.agent)
        for subject, mail in self._mails.items():
            if isinstance(mail.entry, DelegationSent) and not is_agent_thread(mail.sender[1]):
                yield OpenDelegation(subject=subject, thread=mail.to[1], agent=mail.to[0])

    def _check_announced(self, books: Iterable[ThreadBook]) -> None:
        """A tool has effects or it has none: where one call of it is announced, all of them have to be."""
        announced: dict[str, set[str]] = {}
        for book in books:
            announced.setdefault(book.agent, set()).update(book.calls.announced)
        for book in books:
            for at, tool in book.calls.unannounced:
                if tool in announced[book.agent]:
                    self._report.wrong(
                        at, "effect", f"a call of {tool} that was not announced", "its intent before it"
                    )

    def _check_effect(self, at: Place, address: EntryAddress, entry: Entry) -> None:
        """The tool gateway makes a call once, after its thread has announced it, and with those arguments."""
        if not isinstance(entry, EffectStarted):
            return
        call_id = f"{entry.agent} {entry.thread} {entry.call_id}"
        if effect_address(address.run, entry.agent, entry.thread, entry.call_id, address.n) != address:
            self._report.wrong(at, "effect", f"this is not the journal of call {call_id}")
        if (entry.agent, entry.thread, entry.call_id) in self._started:
            self._report.wrong(at, "effect", f"{call_id} is started a second time", "once")
        self._started.add((entry.agent, entry.thread, entry.call_id))
        _, book = self._journals.get((entry.agent, entry.thread), (None, None))
        call = None if book is None else book.calls.calls.get(entry.call_id)
        if call is None or not call.intended:
            self._report.wrong(at, "effect", f"{call_id} is started and was not announced", "its intent before it")
        elif call.digest != entry.digest:
            self._report.wrong(at, "effect", f"{call_id} is started with other arguments", call.digest)

    def _check_files(self, books: Iterable[ThreadBook]) -> None:
        for book in books:
            for at, file in book.files:
                version = self._versions.get((file.path, file.version))
                if version is None:
                    self._report.wrong(at, "file", f"{file.path} has no version {file.version}")
                elif version.ref != file:
                    told = f"{file.path} at version {file.version} is {file.digest[:12]}"
                    self._report.wrong(at, "file", told, version.digest[:12])
