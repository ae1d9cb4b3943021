"""What a replica of a lead does about triggers all day long: it looks at the clock, and takes messages.

Any number of replicas do the same, at the same time. A replica that dies loses nothing: the next look at a schedule
begins where the journals say it was obeyed, and a message that was not acked is delivered again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from shanty_protocol.streams import trigger_consumer
from shanty_runtime.bus import Delivery, Pull
from shanty_runtime.errors import BusUnavailable, PayloadTooLarge
from shanty_runtime.telemetry import metrics
from shanty_runtime.triggers.definition import Trigger, matches
from shanty_runtime.triggers.firing import Firing
from shanty_runtime.triggers.order import Message, Unusable
from shanty_runtime.triggers.schedule import due, key_of, next_time

logger = logging.getLogger("shanty.triggers")

LOOK_S = 30.0
"""The clock is looked at no less often than this: it may be set while we wait."""
MAX_IN_HAND = 16
UNKNOWN_DELAY_S = 5.0
"""A subject that no trigger has may be one that another replica, of a newer version of the team, knows."""
UNKNOWN_DELIVERIES = 12
FAILED_DELAY_S = 5.0
FAILED_DELIVERIES = 5


class TriggerWatch:
    """`start` returns when it watches; `run` goes on until it is cancelled; `stop` may be called at any time."""

    def __init__(self, firing: Firing, triggers: Sequence[Trigger], now_ms: Callable[[], int] | None = None) -> None:
        self.firing = firing
        self.triggers = tuple(triggers)
        self.now_ms = now_ms or firing.bus.clock.now_ms
        self._pull: Pull | None = None
        self._watching: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        for trigger in self.triggers:
            metrics.trigger_begins(trigger.name)
        if any(trigger.subject for trigger in self.triggers):
            consumer = trigger_consumer(self.firing.team)
            self._pull = await self.firing.bus.pull_from(consumer.stream, consumer.name, MAX_IN_HAND)
            self._watching.append(asyncio.create_task(self._take_messages(self._pull)))
        for trigger in self.triggers:
            if trigger.schedule is not None:
                self._watching.append(asyncio.create_task(self._obey(trigger)))

    async def run(self) -> None:
        """Raises what broke it off."""
        done, _ = await asyncio.wait(self._watching, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        raise BusUnavailable("the bus gives no more messages that start runs")

    async def stop(self) -> None:
        """Begin nothing more. A message in hand is put back."""
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        if self._pull is not None:
            await self._pull.close()
            await self._pull.release()

    # Schedules

    async def _obey(self, trigger: Trigger) -> None:
        while True:
            next_ms = await self.look(trigger)
            wait_s = LOOK_S if next_ms is None else (next_ms - self.now_ms()) / 1000
            await asyncio.sleep(min(max(wait_s, 0.001), LOOK_S))

    async def look(self, trigger: Trigger) -> int | None:
        """Obey what is due. Returns when to look again; None where a schedule has no time any more."""
        assert trigger.schedule is not None, "only a schedule has times"
        now_ms = self.now_ms()
        since_ms = await self.firing.obeyed_until_ms(trigger, now_ms)
        for at_ms in due(trigger.schedule, since_ms, now_ms):
            fired = await self.firing.at(trigger, at_ms)
            late_s = (self.now_ms() - at_ms) / 1000
            if fired.ours and late_s > LOOK_S:
                logger.warning("trigger %s makes up for %s, %.0f s late", trigger.name, key_of(at_ms), late_s)
        return next_time(trigger.schedule, now_ms)

    # Messages

    async def _take_messages(self, pull: Pull) -> None:
        async for delivery in pull:
            try:
                await self._take(delivery)
            except Exception:
                # Whatever one message does to us, the next one is taken; this one comes again, and not for ever.
                logger.exception("a message on %s could not be worked on", delivery.subject)
                await self._give_up_or_wait(delivery)

    async def _take(self, delivery: Delivery) -> None:
        message = message_of(delivery)
        trigger = next(
            (each for each in self.triggers if each.subject and matches(each.subject, message.subject)), None
        )
        if trigger is None:
            if delivery.delivered < UNKNOWN_DELIVERIES:
                await delivery.nak(UNKNOWN_DELAY_S)
                return
            await self._put_away(delivery, "", f"no trigger of team {self.firing.team} has this subject")
            return
        try:
            fired = await self.firing.on(trigger, message)
        except PayloadTooLarge as error:
            fired = Unusable("invalid_message", f"what it asks for is too large: {error}")
        if isinstance(fired, Unusable):
            await self.firing.put_away(trigger.name, message, fired)
        await delivery.ack()

    async def _give_up_or_wait(self, delivery: Delivery) -> None:
        if delivery.delivered < FAILED_DELIVERIES:
            await delivery.nak(FAILED_DELAY_S)
        else:
            await self._put_away(delivery, "", f"it could not be worked on {delivery.delivered} times; see the log")

    async def _put_away(self, delivery: Delivery, trigger: str, reason: str) -> None:
        await self.firing.put_away(trigger, message_of(delivery), Unusable("invalid_message", reason))
        await delivery.ack()


def message_of(delivery: Delivery) -> Message:
    return Message(
        subject=delivery.subject,
        data=delivery.data,
        seq=delivery.seq,
        stored_at_ms=int(delivery.stored_at_s * 1000),
        message_id=delivery.message_id,
        headers=delivery.headers,
    )
