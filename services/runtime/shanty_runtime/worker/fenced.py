"""Calls that the tool gateway makes: asked for, waited for, and asked about where a worker died in between.

A question may be asked as often as it takes, by whoever has the thread: what becomes of the call stands in the
gateway's journal, and is the same for everybody. A gateway that is not there is waited for, and the journal says so.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from shanty_protocol import EffectAnswered, EffectInquired, EffectRequested, ToolAddress, ToolDelayed
from shanty_protocol.codec import digest_of
from shanty_protocol.ids import LOG
from shanty_runtime.bus.backoff import Backoff
from shanty_runtime.errors import BusUnavailable, Fenced, PermissionDenied
from shanty_runtime.redaction import redact
from shanty_runtime.thread.decide import Draft
from shanty_runtime.thread.dialogue import Call
from shanty_runtime.tools.base import ToolResult
from shanty_runtime.worker.held import HeldThread

logger = logging.getLogger("shanty.thread")

LONGEST_WAIT_S = 5.0
"""How long the gateway may take before it says that the call still runs."""
PATIENCE_S = 3.0
"""How long a gateway may not answer before people are told."""
LONGEST_PAUSE_S = 1.0


def is_fenced(held: HeldThread, call: Call) -> bool:
    """Whether the tool gateway makes this call. Once it was announced, its intent says so."""
    tool = held.workplace.profile.tools.get(call.name)
    return call.fenced if call.intended else held.workplace.profile.fences and tool is not None and tool.fenced


async def fenced_outcome(held: HeldThread, call: Call, *, recovered: bool) -> ToolResult | None:
    """What a call gives; None where nobody can tell. Raises Fenced where another worker has the thread."""
    asking = _Asking(held, call)
    question: EffectRequested | EffectInquired = asking.inquiry() if recovered else asking.request()
    while True:
        answer = await asking.answer_to(question)
        match answer.status:
            case "result":
                return ToolResult(content=answer.content, is_error=answer.is_error, files=answer.files)
            case "unknown":
                return None
            case "never_started":
                question = asking.request()
            case "running":
                pass
            case "refused":
                raise Fenced(f"the tool gateway refuses {call.name} of {held.name}: {answer.reason}")


async def withdraw(held: HeldThread) -> None:
    """The thread was told to stop where it is: what the gateway has not started, it is not to start any more."""
    for call in held.state.open_calls:
        if call.intended and call.fenced:
            asking = _Asking(held, call)
            await held.bus.effects.tell(asking.address, asking.inquiry(withdraw=True))


class _Asking:
    def __init__(self, held: HeldThread, call: Call) -> None:
        self.address = ToolAddress(held.workplace.profile.team, held.profile.agent)
        self._held = held
        self._call = call
        self._within_s = min(LONGEST_WAIT_S, float(held.bus.settings.lease_s))
        self._silent_since_s: float | None = None
        self._told = False

    def request(self) -> EffectRequested:
        return EffectRequested(**self._said())

    def inquiry(self, *, withdraw: bool = False) -> EffectInquired:
        return EffectInquired(**self._said(), withdraw=withdraw)

    def _said(self) -> dict[str, Any]:
        held, call = self._held, self._call
        return {
            "run": held.state.run,
            "thread": held.state.thread,
            "call_id": call.id,
            "name": call.name,
            "fence": held.fence,
            "arguments": call.arguments,
            "digest": digest_of(call.arguments),
            "tainted": held.state.tainted,
            "within_s": self._within_s,
        }

    async def answer_to(self, question: EffectRequested | EffectInquired) -> EffectAnswered:
        """Ask until somebody answers."""
        backoff = Backoff(most_s=LONGEST_PAUSE_S)
        while True:
            self._held.check_lease(f"{self._call.name} was asked for")
            try:
                answer = await self._held.bus.effects.ask(self.address, question)
            except (BusUnavailable, PermissionDenied) as error:
                await self._note_silence(error)
                await backoff.pause()
            else:
                self._silent_since_s = None
                return answer

    async def _note_silence(self, error: Exception) -> None:
        now_s = time.monotonic()
        self._silent_since_s = now_s if self._silent_since_s is None else self._silent_since_s
        if self._told or now_s - self._silent_since_s < PATIENCE_S:
            return
        self._told = True
        reason = f"the tool gateway of team {self.address.team} does not answer: {redact(str(error))}"
        logger.warning("%s waits: %s", self._call.name, reason)
        stamp, call = self._held.stamp(), self._call
        delayed = ToolDelayed(
            at_ms=stamp.at_ms, by=stamp.by, fence=stamp.fence, call_id=call.id, name=call.name, reason=reason
        )
        await self._held.write((Draft(LOG, delayed),))
