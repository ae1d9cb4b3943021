"""Mail that waits for mail which is not there: what a worker remembers of it, and how much one sender may leave.

Mails of one thread are taken in in their order. One whose predecessor is not there is put back and comes again, less
and less often. A worker remembers what it has put back, so that all of it is taken in as soon as the first of it can
be, and not each when it happens to come again.

A predecessor that is a dead letter may take people days, so nothing is given up for its age. But the server hands out
only so many mails of an agent at a time, for all its senders together, and what is put back counts among them: a
sender that names mail which never comes could have all of them. So each sender has room for some. What is beyond that
may wait as long as something of that sender is taken in now and then, as it is where mail was only delivered out of
order; otherwise it becomes a dead letter, for people to have it processed again once what it waits for is there.

Nothing of this is stored. Another replica, or this one after a restart, leaves room to others and comes to the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container

import msgspec

from shanty_protocol import Entry
from shanty_runtime.thread.decide import Received

MOST_WAITING = 100
"""Mails of one agent, in all runs, that may wait however long. The server hands out 5,000 of all agents."""
MOST_PASSING = 1_000
"""Further ones that may wait for a while."""
PATIENCE_S = 60.0
"""How long these wait, since something of that sender was taken in. Put back often, mail comes again after 30 s."""
FORGOTTEN_S = 150.0
"""What was put back and does not come again for so long has been dealt with by another replica."""
MOST_REMEMBERED_BYTES = 16 * 1024
"""Of one mail: a larger one is taken in when it comes again."""

Key = tuple[str, str]
"""Run and thread."""


class _Waiting(msgspec.Struct, frozen=True):
    agent: str
    """Who has sent it."""
    mail: Received | None
    """None where it is too large to be remembered."""


class _Sender(msgspec.Struct):
    room: dict[str, tuple[Key, float]] = {}
    """The mails that may wait however long, by subject: whom each is for, and when it was seen last."""
    beyond: dict[str, float] = {}
    """The others, and when each was seen first."""
    moved_s: float = 0.0
    """When something that had been waiting was taken in last."""


class Patience:
    """What one worker knows of mail that waits."""

    def __init__(self) -> None:
        self._senders: dict[str, _Sender] = {}
        self._waiting: dict[Key, dict[str, _Waiting]] = {}
        """What has room, by whom it is for."""

    def remembered(self, run: str, thread: str) -> dict[str, Received]:
        """What was put back here of a thread's mail."""
        waiting = self._waiting.get((run, thread))
        if waiting is None:
            return {}
        return {subject: each.mail for subject, each in waiting.items() if each.mail is not None}

    def is_over(self, mail: Received, run: str, thread: str, size_bytes: int) -> bool:
        """Note that a mail of this thread waits. Whether it has to be given up."""
        now_s, subject, agent = asyncio.get_running_loop().time(), mail.subject, mail.address.agent
        sender = self._senders.setdefault(agent, _Sender())
        if subject not in sender.room and len(sender.room) >= MOST_WAITING:
            self._forget_what_vanished(sender, now_s)
        if subject in sender.room or len(sender.room) < MOST_WAITING:
            sender.room[subject] = (run, thread), now_s
            sender.beyond.pop(subject, None)
            kept = mail if size_bytes <= MOST_REMEMBERED_BYTES else None
            self._waiting.setdefault((run, thread), {})[subject] = _Waiting(agent, kept)
            return False
        if subject not in sender.beyond and len(sender.beyond) >= MOST_PASSING:
            return True
        since_s = sender.beyond.setdefault(subject, now_s)
        return now_s - max(since_s, sender.moved_s) >= PATIENCE_S

    def given_up(self, mail: Received) -> None:
        """It is a dead letter."""
        self._senders[mail.address.agent].beyond.pop(mail.subject, None)

    def rested(self, run: str, thread: str, *done: Container[str]) -> None:
        """The thread has come to rest. Of what waited for it, that is `done` which was taken in or put away."""
        waiting = self._waiting.get((run, thread), {})
        for subject in [each for each in waiting if any(each in some for some in done)]:
            sender = self._senders[waiting[subject].agent]
            sender.moved_s = asyncio.get_running_loop().time()
            self._forget(sender, subject)

    def _forget_what_vanished(self, sender: _Sender, now_s: float) -> None:
        for subject in [each for each, (_, seen_s) in sender.room.items() if now_s - seen_s > FORGOTTEN_S]:
            self._forget(sender, subject)
        sender.beyond = {each: since_s for each, since_s in sender.beyond.items() if now_s - since_s <= FORGOTTEN_S}

    def _forget(self, sender: _Sender, subject: str) -> None:
        key, _ = sender.room.pop(subject)
        waiting = self._waiting[key]
        del waiting[subject]
        if not waiting:
            del self._waiting[key]


def waited_in_vain(mail: Entry) -> str:
    """Why a mail was given up."""
    after = getattr(mail, "after", "")
    before = f"the mail before it, {after}, has not come" if after else "what it belongs to is not there"
    return f"{before}, and {MOST_WAITING} others of its sender have been waiting for longer"
