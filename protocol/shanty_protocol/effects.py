"""What an agent asks of the tool gateway, and what that answers: a request and a reply over core NATS.

The gateway makes the calls that must not be made twice. It writes that it starts one before it does, at a place that
is taken once, so a request may be sent again whenever its answer was lost: to any replica, by any worker. What stands
in the gateway's journal is the answer, and the answer does not change.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from shanty_protocol.parts import FileRef


class EffectQuestion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """What both questions say. The agent that asks is in the subject."""

    run: str
    thread: str
    call_id: str
    name: str
    """The tool."""
    fence: int
    """The lease of the worker that asks. One with an earlier lease than somebody before it is refused."""
    arguments: dict[str, Any] = {}
    digest: str
    """SHA-256 of the arguments as canonical JSON."""
    tainted: bool = False
    """The thread has read what an untrusted tool gave."""
    within_s: float = 5.0
    """How long the answer is waited for: by then it is `running` if nothing else can be said."""


class EffectRequested(EffectQuestion, frozen=True, kw_only=True, omit_defaults=True, tag="effect.requested"):
    """Make this call, if nobody has; say what it gave."""


class EffectInquired(EffectQuestion, frozen=True, kw_only=True, omit_defaults=True, tag="effect.inquired"):
    """What became of this call? Whoever had the thread before cannot start it after the answer `never_started`."""

    withdraw: bool = False
    """Nor can anybody else: the thread was told to stop."""


class EffectAnswered(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="effect.answered"
):
    """What is known of a call.

    result         it was made, and this is what it gave
    running        somebody makes it right now: ask again
    never_started  nobody has made it, and nobody with an earlier lease can any more
    unknown        whoever made it was gone before saying what it gave; it is not made again
    refused        somebody with a later lease has asked: stop, the thread is not yours
    """

    status: Literal["result", "running", "never_started", "unknown", "refused"]
    content: str = ""
    is_error: bool = False
    files: tuple[FileRef, ...] = ()
    reason: str = ""
    """In words, where it was refused."""


EffectMessage = EffectRequested | EffectInquired | EffectAnswered
