"""One call as the gateway's journal of it says: folded from its entries, and what a question about it leads to. Pure.

    effect.fenced*   it was not started when somebody asked: nobody with an earlier lease can start it
    effect.started   once: its place is written once, so of all that want to start it one does
    effect.ended     once: what it gave, or that nobody can tell

Start and fence want the same place. So "never started" and "started" exclude each other, whichever replicas are
asked, and without a lock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from shanty_protocol import (
    EffectAnswered,
    EffectEnded,
    EffectFenced,
    EffectInquired,
    EffectRequested,
    EffectStarted,
    ProtocolError,
)
from shanty_runtime.bus import Stored

WITHDRAWN = "This call was withdrawn before it was started."
OTHER_ARGUMENTS = "this call was started before with other arguments; it is not made again"

Question = EffectRequested | EffectInquired
Step = EffectAnswered | Literal["fence", "start", "recover"]
"""Answer; or write that it is fenced, or started, and act; or find out what became of one that was started."""


class Effect(msgspec.Struct):
    next_n: int = 0
    chained_to: str = ""
    fence: int = 0
    """The latest lease that has asked."""
    withdrawn: bool = False
    started: EffectStarted | None = None
    ended: EffectEnded | None = None


def fold(entries: Iterable[Stored]) -> Effect:
    """Raises ProtocolError for entries this version does not know."""
    effect = Effect()
    for stored in entries:
        take(effect, stored)
    return effect


def take(effect: Effect, stored: Stored) -> None:
    """One entry more."""
    entry = stored.entry
    effect.fence = max(effect.fence, entry.fence)
    match entry:
        case EffectFenced():
            effect.withdrawn = effect.withdrawn or entry.withdrawn
        case EffectStarted():
            effect.started = entry
        case EffectEnded():
            effect.ended = entry
        case _:
            raise ProtocolError("invalid_message", f"{stored.address.subject} is no entry about a call")
    effect.chained_to = stored.own(effect.chained_to)
    effect.next_n = stored.address.n + 1


def decide(effect: Effect, question: Question) -> Step:
    """What a question leads to. Nobody else works on the call, or else it is in nobody's hands any more."""
    if question.fence < effect.fence:
        return EffectAnswered(status="refused", reason=f"a worker with the later lease {effect.fence} has asked")
    if effect.started is not None and question.digest != effect.started.digest:
        return EffectAnswered(status="result", is_error=True, content=OTHER_ARGUMENTS)
    if effect.ended is not None:
        return answer_of(effect.ended)
    if effect.started is not None:
        return "recover"
    if isinstance(question, EffectInquired):
        known = effect.withdrawn or (effect.fence == question.fence and effect.next_n > 0 and not question.withdraw)
        return EffectAnswered(status="never_started") if known else "fence"
    if effect.withdrawn:
        return EffectAnswered(status="result", is_error=True, content=WITHDRAWN)
    return "start"


def answer_of(ended: EffectEnded) -> EffectAnswered:
    if ended.status == "unknown":
        return EffectAnswered(status="unknown")
    return EffectAnswered(status="result", content=ended.content, is_error=ended.status == "error", files=ended.files)
