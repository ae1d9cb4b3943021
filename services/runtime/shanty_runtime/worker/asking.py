"""Asking the model: one call, journaled when it is complete, or why it was not.

A crash in the middle costs that one call. What a reply means is in `dialogue`, when a failed call is made again in
`retries`; both follow from the journal, so whoever holds the thread next does the same.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time

from shanty_protocol import (
    LiveAddress,
    ModelFailed,
    ModelReplied,
    TextStreamed,
    ThreadCompacted,
    UnwritableMessage,
)
from shanty_protocol.ids import LOG
from shanty_runtime.agent.context import model_request
from shanty_runtime.errors import ModelError, PayloadTooLarge
from shanty_runtime.models.base import Message, Model, ModelReply, ModelRequest
from shanty_runtime.redaction import redact
from shanty_runtime.telemetry import metrics, model_span
from shanty_runtime.thread.decide import Draft
from shanty_runtime.thread.dialogue import last_turn, text_block
from shanty_runtime.thread.plan import held_back, refusals
from shanty_runtime.thread.retries import retry_after_s
from shanty_runtime.thread.state import State
from shanty_runtime.worker.held import HeldThread

logger = logging.getLogger("shanty.thread")

KEEP_RESULTS_OF_MESSAGES = 6
"""The newest messages keep their tool results when older ones are cleared."""
CLEARING_PAYS = 0.2
"""Clearing is enough where it saves this part of the request."""
STREAMED_CHARACTERS = 60
"""Words are shown to observers in pieces of about this size."""

SUMMARISE = """\
This conversation is about to be replaced by your summary of it, because it has become too long. Write what you will
need to finish the task without it: what you have found (with file names, line numbers, figures and identifiers),
what you have decided and why, what is still open, and what you were about to do. Do not call a tool; answer with the
summary alone."""


async def ask_model(held: HeldThread) -> None:
    """The next reply of the thread's model, or the failure to get one, as an entry."""
    dialogue, shown = held.state.dialogue, held.state.next_n
    request = model_request(
        held.profile,
        held.state.thread,
        dialogue.next_messages(),
        max_tokens=room_for_reply(held.state, held.profile.max_tokens * 2**dialogue.cut_turns),
    )
    try:
        reply = await _reply(held, request)
        stamp = held.stamp()
        cost_microusd = _paid(held, reply, stamp.at_ms)
        refused = refusals(held.state, reply.blocks)
        entry = ModelReplied(
            at_ms=stamp.at_ms,
            by=stamp.by,
            fence=stamp.fence,
            blocks=reply.blocks,
            stop_reason=reply.stop_reason,
            model=reply.model,
            usage=reply.usage,
            cost_microusd=cost_microusd,
            refused=refused,
            to_approve=held_back(held.state, reply.blocks, refused),
            # What was taken in while the model was speaking is for its next turn.
            shown=shown if held.state.next_n > shown else None,
        )
        await held.write((Draft(LOG, entry),))
    except ModelError as error:
        await _note_failure(held, error)
    except (UnwritableMessage, PayloadTooLarge) as error:
        await _note_failure(held, ModelError(f"the model's reply cannot be stored: {error}"))


async def compact(held: HeldThread) -> None:
    """Make the model's view smaller: old tool results go first; if that is not enough, all becomes a summary."""
    dialogue = held.state.dialogue
    if dialogue.clearable(KEEP_RESULTS_OF_MESSAGES) >= CLEARING_PAYS * dialogue.expected_tokens():
        stamp = held.stamp()
        keep = min(KEEP_RESULTS_OF_MESSAGES, len(dialogue.messages))
        entry = ThreadCompacted(at_ms=stamp.at_ms, by=stamp.by, fence=stamp.fence, keep_messages=keep)
        await held.write((Draft(LOG, entry),))
        return
    messages = [*dialogue.next_messages(), Message("user", (text_block(SUMMARISE),))]
    room = room_for_reply(held.state, held.profile.max_tokens)
    request = model_request(held.profile, held.state.thread, messages, max_tokens=room, purpose="summary")
    try:
        reply = await _reply(held, request)
        summary = "\n".join(block["text"] for block in reply.blocks if block["type"] == "text").strip()
        if not summary:
            raise ModelError("the model gave no summary of a conversation that is too long for it")
        stamp = held.stamp()
        entry = ThreadCompacted(
            at_ms=stamp.at_ms,
            by=stamp.by,
            fence=stamp.fence,
            summary=summary,
            keep_messages=last_turn(dialogue.messages),
            model=reply.model,
            usage=reply.usage,
            cost_microusd=_paid(held, reply, stamp.at_ms),
        )
        await held.write((Draft(LOG, entry),))
    except ModelError as error:
        await _note_failure(held, error)


def room_for_reply(state: State, wanted: int) -> int:
    """How long a reply may be: a limit in tokens is not overdrawn by what the model says, only by what it reads."""
    return max(1, min(wanted, state.escrow.left.get("tokens", wanted)))


async def _reply(held: HeldThread, request: ModelRequest) -> ModelReply:
    model: Model | None = held.profile.model
    assert model is not None, "an agent without a handler has a model"
    await held.show("model", model.name)
    held.check_lease("its model was asked")
    agent = held.profile.agent
    with model_span(
        agent,
        held.state.run,
        model.name,
        name=held.profile.name,
        provider=model.provider,
        max_tokens=request.max_tokens,
    ) as span:
        words = _LiveWords(held)
        span.model_asked(system=request.system, messages=request.messages)
        # A worker that was paused or cut off may be the only one that does not know that the thread went on.
        held.check_lease(f"model {model.name} was asked")
        try:
            reply = await model.reply(request, stream=words)
        except ModelError as error:
            span.failed(error.kind)
            raise
        finally:
            words.flush()
        span.model_replied(
            model=reply.model,
            stop_reason=reply.stop_reason,
            usage=reply.usage,
            reply_id=reply.id,
            first_words_after_s=words.first_after_s,
        )
        span.model_said(reply.blocks, reply.stop_reason)
        metrics.model_replied(agent, model.name, model.provider, reply.usage)
        return reply


def _paid(held: HeldThread, reply: ModelReply, at_ms: int) -> int | None:
    """Millionths of a US dollar for a reply; None where nobody knows."""
    assert held.profile.model is not None
    cost_microusd = held.profile.price(reply.model, reply.usage, at_ms)
    metrics.model_paid(held.profile.agent, held.profile.model.name, cost_microusd)
    return cost_microusd


async def _note_failure(held: HeldThread, error: ModelError) -> None:
    """Write down why there is no reply, and when the call is made again."""
    failures = held.state.dialogue.failures
    wait_s = retry_after_s(error.kind, failures, error.retry_after_s, random.Random())
    logger.warning("a model call of %s failed: %s", held.name, error, extra={"retry_after_s": wait_s})
    stamp = held.stamp()
    entry = ModelFailed(
        at_ms=stamp.at_ms,
        by=stamp.by,
        fence=stamp.fence,
        failure=error.kind,
        reason=redact(str(error)),
        retry_at_ms=None if wait_s is None else stamp.at_ms + int(wait_s * 1000),
    )
    await held.write((Draft(LOG, entry),))


class _LiveWords:
    """Sends a reply to observers while it is being made."""

    def __init__(self, held: HeldThread) -> None:
        self._held = held
        self._text = ""
        self._offset = 0
        self._began_s = time.monotonic()
        self.first_after_s: float | None = None
        """How long the first words took; None while there are none."""
        self._sending: set[asyncio.Task[None]] = set()

    def text(self, text: str, offset: int) -> None:
        if self.first_after_s is None:
            self.first_after_s = time.monotonic() - self._began_s
        if not self._text:
            self._offset = offset
        self._text += text
        if len(self._text) >= STREAMED_CHARACTERS or "\n" in text:
            self.flush()

    def flush(self) -> None:
        if not self._text:
            return
        event = TextStreamed(agent=self._held.profile.agent, text=self._text, offset=self._offset)
        address = LiveAddress(self._held.state.run, self._held.state.thread, self._held.profile.agent)
        task = asyncio.create_task(self._held.bus.live.publish(address, event))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        self._text = ""
