"""What is told to a person who watches."""

from __future__ import annotations

from typing import Literal

import msgspec

from shanty_cli.view.state import ThreadView
from shanty_protocol import Entry

HappeningKind = Literal[
    "started",
    "hired",
    "delegated",
    "fanned_out",
    "opened",
    "model",
    "tool",
    "progress",
    "follow_up",
    "stopping",
    "asked",
    "answered",
    "allowed",
    "granted",
    "judged",
    "exhausted",
    "taken_over",
    "delayed",
    "replied",
    "late",
    "gave_up",
    "rejected",
    "retried",
    "dropped",
]


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """Something a person who watches wants to know. The text is on one line and fit for a terminal."""

    at_ms: int
    thread: str
    agent: str
    kind: HappeningKind
    text: str


def happening(thread: ThreadView, entry: Entry, kind: HappeningKind, text: str) -> Happening:
    return Happening(at_ms=entry.at_ms, thread=thread.thread, agent=thread.name, kind=kind, text=text)
