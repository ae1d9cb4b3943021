"""The entries of a journal: facts in the past tense, one tagged union.

An entry is one transaction. It names the mails it consumed by their subjects, and if it is addressed to another
agent it is itself the message. What goes to `log` is a thread's own steps; nobody else needs them.

The sender of an addressed entry and its place are in its subject, so they are not repeated in the body.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from shanty_protocol.parts import Brief, FileRef, Outcome, Usage


class Fact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """What every entry says."""

    at_ms: int
    """Milliseconds since 1970 by the author's clock."""
    by: str = ""
    """The replica that wrote it."""
    fence: int = 0
    """The lease under which it was written; a later holder's is larger."""
    consumed: tuple[str, ...] = ()
    """Subjects of the mails and timers this entry took in."""


class Mail(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """What every addressed entry says besides."""

    to_thread: str
    after: str = ""
    """Subject of the entry its author sent to the same thread before this one: mails are consumed in that order."""


class DelegationSent(Mail, frozen=True, kw_only=True, omit_defaults=True, tag="delegation.sent"):
    """Opens the thread `to_thread`. It is answered by exactly one `thread.replied`."""

    brief: Brief
    team: str = ""
    """The team it is meant for: agents of another team leave it alone."""
    call_id: str = ""
    """The model's tool call this came from."""


class MessageSent(Mail, frozen=True, kw_only=True, omit_defaults=True, tag="message.sent"):
    """A further message to a thread that exists already."""

    purpose: Literal["follow_up", "progress"]
    """`follow_up` goes down and asks for another reply; `progress` goes up and asks for nothing."""
    text: str
    percent: int | None = None
    call_id: str = ""


class ThreadReplied(Mail, frozen=True, kw_only=True, omit_defaults=True, tag="thread.replied"):
    """The answer to all that the receiver sent to this thread up to `answers`."""

    outcome: Outcome
    answers: str
    """Subject of the newest delegation or follow-up this reply takes into account."""
    usage: Usage = Usage()
    """What the thread has used so far, the threads it opened included."""
    cost_microusd: int | None = None
    """What that cost; none where a price is not known."""


class ThreadOpened(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="thread.opened"):
    """A worker has started on a delegation (which it names in `consumed`)."""


class ThreadTakenOver(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="thread.taken_over"):
    """The worker that had the thread is gone; another goes on. This is what attempts are counted by."""


class MailReceived(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="mail.received"):
    """Follow-ups or progress messages were taken in."""


class ReplyReceived(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="reply.received"):
    """Replies of threads this one opened were taken in."""


class ModelReplied(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="model.replied"):
    """One complete model reply. It fixes the ids of its tool calls and all the delegations it makes."""

    blocks: tuple[dict[str, Any], ...]
    stop_reason: str
    model: str
    usage: Usage = Usage()
    refused: dict[str, str] = {}
    """Tool calls that are not carried out, by id, and the sentence the model is told."""
    cost_microusd: int | None = None
    """Millionths of a US dollar at list price; none where the price of the model is not known."""


class ModelFailed(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="model.failed"):
    """A model call gave no reply."""

    failure: str
    """What kind of failure: rate_limited, overloaded, transient, spend_limit, configuration, too_large, invalid."""
    reason: str
    retry_at_ms: int | None = None
    """When the call is made again; none where it is not."""


class ThreadCompacted(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="thread.compacted"):
    """The model's view of the thread was made smaller. The journal keeps everything."""

    summary: str = ""
    """What stands in place of all that was said; empty where only old tool results were cleared."""
    keep_messages: int = 0
    """How many of the newest messages stay as they were."""
    model: str = ""
    usage: Usage = Usage()
    cost_microusd: int | None = None


class ToolCalled(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="tool.called"):
    """The intent to make a call that has an effect: written before acting."""

    call_id: str
    name: str
    arguments: dict[str, Any] = {}


class ToolReturned(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="tool.returned"):
    """What a call gave. `unknown` means: it may have happened, nobody can tell, and it was not repeated."""

    call_id: str
    name: str
    content: str
    status: Literal["ok", "error", "unknown"] = "ok"
    files: tuple[FileRef, ...] = ()


class TimerFired(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="timer.fired"):
    """The time of this entry has come: whatever was to be answered by then is late."""

    unstarted: tuple[str, ...] = ()
    """Late threads that nobody had started on."""


class ThreadFailed(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="thread.failed"):
    """The thread cannot go on; addressed to `dead`."""

    code: str
    reason: str


class MailRejected(Fact, frozen=True, kw_only=True, omit_defaults=True, tag="mail.rejected"):
    """A mail that could not be processed; addressed to `dead`. The mail itself stays where it was stored."""

    mail: str
    code: str
    reason: str
    traceparent: str = ""


Entry = (
    DelegationSent
    | MessageSent
    | ThreadReplied
    | ThreadOpened
    | ThreadTakenOver
    | MailReceived
    | ReplyReceived
    | ModelReplied
    | ModelFailed
    | ThreadCompacted
    | ToolCalled
    | ToolReturned
    | TimerFired
    | ThreadFailed
    | MailRejected
)

AddressedEntry = DelegationSent | MessageSent | ThreadReplied
