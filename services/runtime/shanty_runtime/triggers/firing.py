"""The first entry of a run that nobody starts by hand, written once however many try.

The place of the entry follows from what it is for. So each call here may be made again at any time, by any replica:
whoever comes later is told what stands there.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec

from shanty_protocol import DelegationSent, ProtocolError, ScheduleArmed, TriggerFailed
from shanty_protocol.headers import TRACEPARENT
from shanty_protocol.ids import ROOT_THREAD
from shanty_protocol.streams import trigger_consumer
from shanty_protocol.triggers import Cause, armed_address, failure_address, first_entry_address, started_filter
from shanty_runtime.bus import Bus, Stored
from shanty_runtime.redaction import redact
from shanty_runtime.telemetry import continued, inject, metrics, publish_span
from shanty_runtime.triggers.definition import Trigger
from shanty_runtime.triggers.order import Message, Order, Terms, Unusable, order_of_message, order_of_time

logger = logging.getLogger("shanty.triggers")

MAX_REASON_CHARACTERS = 2_000


class Fired(msgspec.Struct, frozen=True, kw_only=True):
    """A run there is, and whether it was this call that started it."""

    run: str
    ours: bool


class Firing:
    """Starts the runs of one team. Every call waits out an outage of the bus; cancel it to give up."""

    def __init__(self, bus: Bus, *, team: str, lead: str, lane: str, by: str, terms: Terms) -> None:
        self.bus = bus
        self.team = team
        self.lead = lead
        self.lane = lane
        self.by = by
        self.terms = terms

    async def at(self, trigger: Trigger, at_ms: int) -> Fired:
        """Obey a time of a schedule."""
        return await self._start(trigger, "at", order_of_time(trigger, at_ms, self.terms), {})

    async def on(self, trigger: Trigger, message: Message) -> Fired | Unusable:
        """Start the run a message asks for."""
        order = order_of_message(trigger, message, self.terms)
        if isinstance(order, Unusable):
            return order
        return await self._start(trigger, "on", order, message.headers)

    async def by_hand(self, trigger: Trigger, at_ms: int, key: str) -> Fired:
        """Start what a schedule starts, now; its times are not touched by that."""
        order = order_of_time(trigger, at_ms, self.terms)
        occurrence = msgspec.structs.replace(order.occurrence, key=key, due_at_ms=None)
        return await self._start(trigger, "on", msgspec.structs.replace(order, occurrence=occurrence), {})

    async def put_away(self, trigger: str, message: Message, unusable: Unusable) -> None:
        """Write a dead letter for a message that cannot be used."""
        # A reason may quote what was sent: all of it, and what should have been a secret.
        reason = redact(unusable.reason)[:MAX_REASON_CHARACTERS]
        logger.error("a message on %s starts no run: %s: %s", message.subject, unusable.code, reason)
        letter = TriggerFailed(
            at_ms=self.bus.clock.now_ms(),
            by=self.by,
            team=self.team,
            trigger=trigger,
            code=unusable.code,
            reason=reason,
            subject=message.subject,
            stream=trigger_consumer(self.team).stream,
            seq=message.seq or 0,
            traceparent=message.headers.get(TRACEPARENT, ""),
        )
        address = failure_address(self.lane, self.team, trigger or metrics.NO_TRIGGER, message.place)
        if (await self.bus.journals.append(address, letter)).ours:
            metrics.trigger_failed(trigger or metrics.NO_TRIGGER, unusable.code)
            # It is a dead letter, and whoever is alerted by those is to hear of it.
            metrics.mail_rejected(self.lead, unusable.code)

    async def obeyed_until_ms(self, trigger: Trigger, now_ms: int) -> int:
        """Up to when a schedule has been obeyed: its newest run, or since when it is in force, which may be now."""
        assert trigger.schedule is not None, "only a schedule has times"
        schedule = trigger.schedule
        place = armed_address(self.lane, self.team, trigger.name, schedule.cron, schedule.timezone)
        armed = await self.bus.journals.get(place.subject)
        if armed is None:
            entry = ScheduleArmed(
                at_ms=now_ms,
                by=self.by,
                team=self.team,
                trigger=trigger.name,
                schedule=schedule.cron,
                timezone=schedule.timezone,
            )
            armed = (await self.bus.journals.append(place, entry)).stored
        newest = await self.newest(trigger, "at")
        return max(armed.entry.at_ms, due_at_ms(newest))

    async def newest(self, trigger: Trigger, cause: Cause) -> Stored | None:
        """The first entry of the newest run that a trigger has started."""
        return await self.bus.journals.last_of(started_filter(self.lane, self.lead, self.team, trigger.name, cause))

    async def _start(self, trigger: Trigger, cause: Cause, order: Order, headers: Mapping[str, str]) -> Fired:
        """`headers` may name a trace: the run is then part of that."""
        address = first_entry_address(self.lane, self.lead, self.team, trigger.name, cause, order.occurrence.key)
        entry = DelegationSent(
            at_ms=self.bus.clock.now_ms(),
            by=self.by,
            to_thread=ROOT_THREAD,
            team=self.team,
            brief=order.brief,
            occurrence=order.occurrence,
        )
        with continued(headers), publish_span(address, server=self.bus.server_address) as span:
            placed = await self.bus.journals.append(address, entry, inject())
            span.stored(placed.stored.seq)
        if placed.ours:
            logger.info("trigger %s has started run %s", trigger.name, address.run, extra={"run": address.run})
            metrics.trigger_fired(trigger.name)
        return Fired(run=address.run, ours=placed.ours)


def due_at_ms(stored: Stored | None) -> int:
    """The time of a schedule that a first entry is for; 0 where there is none."""
    try:
        entry = None if stored is None else stored.entry
    except ProtocolError:
        return 0  # a later version wrote it; its own replicas go on from there
    occurrence = entry.occurrence if isinstance(entry, DelegationSent) else None
    return 0 if occurrence is None or occurrence.due_at_ms is None else occurrence.due_at_ms
