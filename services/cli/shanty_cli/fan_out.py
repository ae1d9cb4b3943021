"""How far a fan-out has come: many items given to a specialist by one call, counted from the entries of a run."""

from __future__ import annotations

import msgspec

from shanty_protocol import DelegationSent, FanOutStarted, Status

TOLD = 10
"""How often a person is told, from beginning to end."""


class FanOutView(msgspec.Struct, kw_only=True):
    specialist: str
    items: int
    at_most: int
    refused: int
    newest: dict[int, str] = {}
    """The thread each item was given to last."""
    item_of: dict[str, int] = {}
    """By thread."""
    beside: dict[str, str] = {}
    """Threads that have the item of another one as well, and that other one."""
    replies: dict[int, Status] = {}
    """Of those threads."""

    @property
    def done(self) -> int:
        return len(self.replies) + self.refused

    @property
    def failed(self) -> int:
        return sum(status not in ("ok", "partial") for status in self.replies.values()) + self.refused

    @property
    def text(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.specialist}: {self.done} of {self.items} done{failed}"


def begun(entry: FanOutStarted) -> FanOutView:
    return FanOutView(
        specialist=entry.specialist, items=entry.items, at_most=entry.at_most, refused=len(entry.refused)
    )


def delegated(fan: FanOutView, entry: DelegationSent) -> None:
    """An item was given to a thread. Another try replaces what was known of it; a hedge stands beside it."""
    assert entry.item is not None, "a delegation of a fan-out names its item"
    if entry.hedges:
        fan.beside[entry.to_thread], fan.item_of[entry.to_thread] = entry.hedges, entry.item
        return
    fan.newest[entry.item], fan.item_of[entry.to_thread] = entry.to_thread, entry.item
    fan.replies.pop(entry.item, None)


def replied(fan: FanOutView, thread: str, status: Status) -> bool:
    """A thread has replied. Whether that is worth telling a person who watches."""
    item = fan.item_of[thread]
    if fan.newest[item] != fan.beside.get(thread, thread) or item in fan.replies:
        return False
    before = fan.done
    fan.replies[item] = status
    return fan.done > before and fan.done * TOLD // fan.items > before * TOLD // fan.items
