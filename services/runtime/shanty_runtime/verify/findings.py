"""What an audit says: entries that are wrong, what was expected in their place, and what is still open."""

from __future__ import annotations

from collections.abc import Container
from typing import Literal

import msgspec

Place = tuple[str, int]
"""Subject of an entry, and its place in the stream."""

Rule = Literal[
    "address",
    "chain",
    "place",
    "message",
    "fence",
    "mail",
    "order",
    "effect",
    "approval",
    "delegation",
    "reply",
    "budget",
    "timer",
    "file",
]
"""Which rule of journals an entry breaks."""


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry that is not as it has to be."""

    subject: str
    seq: int
    """Its place in the stream; 0 where it stands in none."""
    rule: Rule
    what: str
    expected: str = ""
    is_note: bool = False
    """It can be so without anything being wrong."""


class OpenDelegation(msgspec.Struct, frozen=True, kw_only=True):
    """A thread that has not replied to what it was asked last."""

    subject: str
    thread: str
    agent: str


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    run: str
    entries: int
    journals: int
    chained: int
    """Entries that are chained; others are of a release before 0.2.0."""
    replied: bool
    """Whether the run has answered whoever started it."""
    findings: tuple[Finding, ...]
    """The entries that are wrong, the first of them first."""
    notes: tuple[Finding, ...]
    open_delegations: tuple[OpenDelegation, ...]
    waiting_mail: tuple[str, ...]
    """Subjects of mail that nobody has taken in or put away."""
    unsettled_calls: tuple[str, ...]
    """Effect keys of calls that were begun and whose outcome nobody has noted."""

    @property
    def is_sound(self) -> bool:
        return not self.findings


class Report:
    """Collects findings."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.notes: list[Finding] = []

    def wrong(self, at: Place, rule: Rule, what: str, expected: str = "") -> None:
        subject, seq = at
        self.findings.append(Finding(subject=subject, seq=seq, rule=rule, what=what, expected=expected))

    def forgive(self, put_away: Container[str]) -> None:
        """Mail that whoever it was for has put away may be wrong in any way: nothing came of it."""
        self.notes += [
            msgspec.structs.replace(each, is_note=True) for each in self.findings if each.subject in put_away
        ]
        self.findings = [each for each in self.findings if each.subject not in put_away]

    def note(self, at: Place, rule: Rule, what: str) -> None:
        subject, seq = at
        self.notes.append(Finding(subject=subject, seq=seq, rule=rule, what=what, is_note=True))
