"""The people around a team: one orders the work, and they decide, answer, pay and change their minds."""

from __future__ import annotations

import random

import msgspec

from shanty_protocol import (
    ApprovalDecided,
    ApprovalRequested,
    Budget,
    BudgetGranted,
    BudgetRequested,
    CancelSent,
    DelegationSent,
    Entry,
    EntryAddress,
    QuestionAnswered,
    QuestionAsked,
    ThreadReplied,
)
from shanty_protocol.codec import decode_entry, digest_of, encode, message_headers
from shanty_protocol.ids import OPERATORS
from shanty_protocol.subjects import decision_address, parse_entry
from simulation.determinism import EPOCH_S
from simulation.ledgers import Ledgers
from simulation.loop import SimulatedLoop
from simulation.server import Message, Server
from simulation.work import Job

RUN = "0-sim"
START = EntryAddress("lead", RUN, "request-1", "cli", 0)


class People:
    def __init__(
        self, job: Job, loop: SimulatedLoop, server: Server, chance: random.Random, ledgers: Ledgers
    ) -> None:
        self.replied: list[ThreadReplied] = []
        """What they have been told in the end."""
        self._job, self._loop, self._server, self._chance, self._ledgers = job, loop, server, chance, ledgers
        self._granted: list[str] = []
        self._cancelled = False

    @property
    def now_ms(self) -> int:
        return int((EPOCH_S + self._loop.now_s) * 1000)

    def order(self) -> None:
        self._store(START, DelegationSent(at_ms=self.now_ms, to_thread="0", brief=self._job.brief))

    def hear(self, message: Message) -> None:
        """An entry has been stored, which may be for them."""
        to = message.subject.split(".", 3)[2]
        if to == "cli":
            entry = decode_entry(message.data)
            assert isinstance(entry, ThreadReplied), entry
            self.replied.append(entry)
        elif to == OPERATORS:
            address, entry = parse_entry(message.subject), decode_entry(message.data)
            for _ in range(1 + (self._chance.random() < 0.2)):  # people click twice
                self._loop.call_for(
                    None, self._loop.now_s + self._chance.choice((0.05, 0.5, 3.0)), self._decide, address, entry
                )
        if self._job.cancel_after is not None and message.seq >= self._job.cancel_after and not self._cancelled:
            self._cancelled = True
            self._loop.call_for(None, self._loop.now_s + 0.01, self._cancel)

    def _decide(self, request: EntryAddress, entry: Entry) -> None:
        """One of them answers what the team has asked."""
        at_ms = self.now_ms
        match entry:
            case ApprovalRequested():
                decision = self._chance.choice(("allow", "allow", "deny", "edit", "allow_for_thread"))
                edited = {"text": "edited"} if decision == "edit" else None
                decided = ApprovalDecided(
                    at_ms=at_ms,
                    to_thread=request.thread,
                    request=request.subject,
                    digest=entry.digest,
                    decision=decision,  # type: ignore[arg-type]  # one of the Literal's values
                    person="ann",
                    arguments=edited,
                    arguments_digest=digest_of(edited) if edited else "",
                )
                self._store(decision_address(request), decided)
            case QuestionAsked():
                answer = QuestionAnswered(
                    at_ms=at_ms, to_thread=request.thread, question=request.subject, answer="yes", person="ann"
                )
                self._store(decision_address(request), answer)
            case BudgetRequested() if len(self._granted) < 10:
                after = self._granted[-1] if self._granted else ""
                address = EntryAddress("lead", RUN, "people", OPERATORS, len(self._granted))
                more = Budget(model_calls=4, tool_calls=4)
                granted = BudgetGranted(at_ms=at_ms, to_thread="0", after=after, budget=more)
                self._granted.append(address.subject)
                self._ledgers.granted_calls += 4
                self._store(address, granted)
            case _:
                pass

    def _cancel(self) -> None:
        cancel = CancelSent(
            at_ms=self.now_ms,
            to_thread="0",
            after=START.subject,
            mode=self._job.cancel_mode,  # type: ignore[arg-type]  # one of the Literal's values
            reason="enough",
            within_s=3.0,
        )
        self._store(msgspec.structs.replace(START, n=1), cancel)

    def _store(self, address: EntryAddress, entry: Entry) -> None:
        self._server.store_entry(address.subject, encode(entry), message_headers(entry))
