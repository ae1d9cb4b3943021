"""How much waits for each agent of a team, and for how long: seen from outside, so also where nobody works.

A lead's replicas look every few seconds and tell `metrics`; an agent that was scaled to zero has no process that
could. Whoever scales by these figures, or is woken by them, reads them from the lead.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from shanty_protocol.streams import ConsumerSpec, agent_consumers, lane_streams
from shanty_runtime.bus.jetstream import FOUND_NOTHING, manage
from shanty_runtime.errors import BusError, BusUnavailable, PermissionDenied
from shanty_runtime.telemetry import metrics

if TYPE_CHECKING:
    from shanty_runtime.bus.bus import Bus
    from shanty_runtime.bus.connection import Connection

logger = logging.getLogger("shanty.bus")

INTERVAL_S = 5.0


class _Delivered(msgspec.Struct, frozen=True):
    stream_seq: int = 0


class _Queue(msgspec.Struct, frozen=True):
    """What the server says of a consumer."""

    ts: datetime
    """The server's clock when it said so."""
    num_pending: int = 0
    num_ack_pending: int = 0
    delivered: _Delivered = _Delivered()


class _State(msgspec.Struct, frozen=True):
    bytes: int = 0


class _Config(msgspec.Struct, frozen=True):
    max_bytes: int = -1


class _Stream(msgspec.Struct, frozen=True):
    """What the server says of a stream."""

    state: _State
    config: _Config


async def watch_queues(bus: Bus, lanes: Sequence[str], agents: Sequence[str]) -> None:
    """Look at each agent's queues every `INTERVAL_S`, until cancelled, or until this account may not.

    The streams the queues are in are looked at as well: how full they are.
    """
    while True:
        for stream in (stream for lane in lanes for stream in lane_streams(lane)):
            with contextlib.suppress(BusError, msgspec.MsgspecError):
                await _look_at_space(bus.connection, stream.name)
        for lane, agent in itertools.product(lanes, agents):
            mail, timers = agent_consumers(lane, agent)
            try:
                await _look(bus.connection, lane, agent, mail, "mail")
                await _look(bus.connection, lane, agent, timers, "timers")
            except PermissionDenied as error:
                logger.warning("queues are not measured: %s", error)
                return
            except (BusError, msgspec.MsgspecError) as error:
                # The next look is as good. What was seen before vanishes from the metrics by itself.
                logger.debug("the queues of %s were not seen: %s", agent, error)
                if isinstance(error, BusUnavailable):
                    break
        # Replicas that were started together do not ask together.
        await asyncio.sleep(random.uniform(0.8, 1.2) * INTERVAL_S)


async def _look(connection: Connection, lane: str, agent: str, consumer: ConsumerSpec, kind: str) -> None:
    told = await manage(connection, f"CONSUMER.INFO.{consumer.stream}.{consumer.name}")
    queue = msgspec.convert(told, _Queue)
    metrics.queue_seen(agent, lane, kind, pending=queue.num_pending, in_hand=queue.num_ack_pending)
    if kind == "mail":
        metrics.oldest_mail_seen(agent, lane, await _oldest_age_s(connection, consumer, queue))


async def _look_at_space(connection: Connection, name: str) -> None:
    stream = msgspec.convert(await manage(connection, f"STREAM.INFO.{name}"), _Stream)
    if stream.config.max_bytes > 0:
        metrics.stream_seen(name, stream.state.bytes / stream.config.max_bytes)


async def _oldest_age_s(connection: Connection, consumer: ConsumerSpec, queue: _Queue) -> float:
    """How long the next mail has been waiting, by the server's clock alone; 0 where there is none."""
    if queue.num_pending == 0:
        return 0.0
    request = {"seq": queue.delivered.stream_seq + 1, "next_by_subj": consumer.filter_subject}
    answer = await connection.request(f"$JS.API.DIRECT.GET.{consumer.stream}", msgspec.json.encode(request))
    if answer.status == FOUND_NOTHING or (stored := answer.headers.get("Nats-Time-Stamp")) is None:
        return 0.0  # it was taken in the meantime, or this replica lags
    return max(0.0, (queue.ts - msgspec.convert(stored, datetime)).total_seconds())
