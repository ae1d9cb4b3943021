"""Dead letters: mail that was put away, and what people do about it."""

from __future__ import annotations

from shanty_cli.text import one_line
from shanty_cli.view.happenings import Happening
from shanty_protocol import EntryAddress, LetterDropped, MailRejected, MailRetried


def rejected(address: EntryAddress, entry: MailRejected) -> Happening:
    return Happening(
        at_ms=entry.at_ms,
        thread=address.thread,
        agent=address.agent,
        kind="rejected",
        text=f"a mail was put away: {entry.code}: {one_line(entry.reason)}",
    )


def dealt_with(address: EntryAddress, entry: MailRetried | LetterDropped) -> Happening:
    by = f" by {one_line(entry.person, 60)}" if entry.person else ""
    retried = isinstance(entry, MailRetried)
    said = f"mail of a dead letter for {address.to} is retried{by}" if retried else f"a dead letter was dropped{by}"
    because = "" if isinstance(entry, MailRetried) or not entry.reason else f": {one_line(entry.reason)}"
    return Happening(
        at_ms=entry.at_ms,
        thread=address.thread,
        agent=address.agent,
        kind="retried" if retried else "dropped",
        text=said + because,
    )
