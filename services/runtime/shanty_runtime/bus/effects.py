"""Questions to the tool gateway and its answers, over core NATS. What has to be kept is in the gateway's journals."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from shanty_protocol import (
    EffectAnswered,
    EffectInquired,
    EffectRequested,
    ProtocolError,
    ToolAddress,
    subjects,
)
from shanty_protocol.codec import decode_effect, encode, message_headers
from shanty_protocol.ids import TOOL_GATEWAY
from shanty_runtime.bus.connection import Connection, Listening
from shanty_runtime.bus.wire import Incoming
from shanty_runtime.errors import BusError, BusUnavailable
from shanty_runtime.telemetry import inject

logger = logging.getLogger("shanty.bus")

GRACE_S = 2.0
"""How much longer than the gateway was given for its answer that answer is waited for."""

Question = EffectRequested | EffectInquired
Answer = Callable[[str, Question, Mapping[str, str]], Awaitable[EffectAnswered]]
"""Answers a question of an agent; the headers have the trace it is asked in."""


class Effects:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def ask(self, address: ToolAddress, question: Question) -> EffectAnswered:
        """One question, and its answer. Raises BusUnavailable where nobody answers: ask again."""
        headers = {**message_headers(question), **inject()}
        timeout_s = question.within_s + GRACE_S
        raw = await self._connection.request(address.subject, encode(question), headers, timeout_s=timeout_s)
        try:
            answer = decode_effect(raw.data, raw.headers)
        except ProtocolError as error:
            raise BusUnavailable(f"what answered on {address.subject} cannot be read: {error}") from error
        if not isinstance(answer, EffectAnswered):
            raise BusUnavailable(f"what answered on {address.subject} is not an answer")
        return answer

    async def tell(self, address: ToolAddress, question: Question) -> None:
        """A question whose answer nobody waits for. Lost where nobody hears it."""
        try:
            await self._connection.publish(address.subject, encode(question), message_headers(question))
        except BusError as error:
            logger.debug("a word to the tool gateway was dropped: %s", error)

    async def serve(self, team: str, answer: Answer) -> Serving:
        """Answer what the agents of a team ask, shared among all that do so. Returns once nothing sent is missed."""
        serving = Serving(self._connection, answer)
        serving.listening = await self._connection.listen(
            subjects.tool_filter(team), serving.hear, queue=f"{TOOL_GATEWAY}-{team}"
        )
        return serving


class Serving:
    """One of those that answer. `close` hears no more; `stop` also returns when what was asked is answered."""

    def __init__(self, connection: Connection, answer: Answer) -> None:
        self.listening: Listening | None = None
        self._connection = connection
        self._answer = answer
        self._at_work: set[asyncio.Task[None]] = set()

    def hear(self, message: Incoming) -> None:
        task = asyncio.create_task(self._reply(message))
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)

    async def close(self) -> None:
        listening, self.listening = self.listening, None
        if listening is not None:
            await listening.stop()

    async def stop(self) -> None:
        await self.close()
        await asyncio.gather(*self._at_work, return_exceptions=True)

    async def _reply(self, message: Incoming) -> None:
        try:
            address = subjects.parse(message.subject)
            question = decode_effect(message.data, message.headers)
        except ProtocolError as error:
            logger.warning("a question on %s is not answered: %s", message.subject, error)
            return
        if not isinstance(address, ToolAddress) or isinstance(question, EffectAnswered):
            logger.warning("what came on %s is no question", message.subject)
            return
        try:
            answer = await self._answer(address.agent, question, message.headers)
            if message.reply:
                await self._connection.publish(message.reply, encode(answer), message_headers(answer))
        except BusError as error:
            # Whoever asked asks again, and finds in the journal whatever had got there.
            logger.info("%s of %s gets no answer: %s", question.name, address.agent, error)
        except Exception:
            # The loop that hears questions must not end with one of them.
            logger.exception("%s of %s could not be answered", question.name, address.agent)
