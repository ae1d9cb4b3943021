"""What waits for a person: approvals, questions, and runs that have spent what they may. No bus, no clock."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

from shanty_cli.text import one_line
from shanty_protocol import ApprovalRequested, BudgetRequested, EntryAddress, ProtocolError, QuestionAsked
from shanty_protocol.errors import CODES
from shanty_protocol.subjects import parse_entry
from shanty_runtime.agent.budget import told

ID_LENGTH = 8


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """One of them, for people and programs."""

    id: str
    """Short for the subject, and the same wherever it is shown."""
    kind: Literal["approval", "question", "budget"]
    run: str
    thread: str
    agent: str
    """Who asks."""
    text: str
    """What is asked, on one line."""
    question: str = ""
    tool: str = ""
    arguments: dict[str, Any] = {}
    digest: str = ""
    why: str = ""
    options: tuple[str, ...] = ()
    on_behalf_of: str = ""
    """Subject of the question of another thread that was passed on with this one."""
    asked_at_ms: int
    expires_at_ms: int
    """0 where it never does."""
    code: str = ""
    """Of a budget: the limit that was reached."""
    request: str
    """Subject of the entry that asks."""

    @property
    def on_behalf_of_thread(self) -> str:
        """Who has asked first; empty where nobody has, or an agent has written something else there."""
        try:
            return parse_entry(self.on_behalf_of).thread if self.on_behalf_of else ""
        except ProtocolError:
            return ""


def id_of(request: str) -> str:
    return hashlib.sha256(request.encode()).hexdigest()[:ID_LENGTH]


def budget_of(address: EntryAddress, entry: BudgetRequested) -> Waiting:
    """A run that waits until people grant it more."""
    return Waiting(
        id=id_of(address.subject),
        kind="budget",
        run=address.run,
        thread=address.thread,
        agent=address.agent,
        text=one_line(f"{CODES.get(entry.code, entry.code)}: {told(entry.limits)}"),
        code=entry.code,
        asked_at_ms=entry.at_ms,
        expires_at_ms=0,
        request=address.subject,
    )


def waiting_of(address: EntryAddress, entry: ApprovalRequested | QuestionAsked) -> Waiting:
    usual: dict[str, Any] = {
        "id": id_of(address.subject),
        "run": address.run,
        "thread": address.thread,
        "agent": address.agent,
        "asked_at_ms": entry.at_ms,
        "expires_at_ms": entry.expires_at_ms,
        "request": address.subject,
    }
    if isinstance(entry, QuestionAsked):
        text = one_line(entry.question)
        return Waiting(
            kind="question",
            text=text,
            question=entry.question,
            options=entry.options,
            on_behalf_of=entry.on_behalf_of,
            **usual,
        )
    arguments = msgspec.json.encode(entry.arguments, order="deterministic").decode()
    return Waiting(
        kind="approval",
        text=one_line(f"{entry.name} {arguments}"),
        tool=entry.name,
        arguments=entry.arguments,
        digest=entry.digest,
        why=entry.policy,
        **usual,
    )
