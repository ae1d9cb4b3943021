"""Streams, buckets and consumers on the server, as the protocol's specifications want them.

The installer calls `create_layout`; a service calls `check_layout` when it starts and makes nothing. What the server
returns is compared, not what was sent: some settings change others (schedules turn roll-ups on, for one).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from shanty_protocol.streams import (
    BucketSpec,
    ConsumerSpec,
    StreamSpec,
    agent_consumers,
    buckets,
    entry_stream,
    lane_streams,
    memory_stream,
    trigger_consumer,
    trigger_stream,
)
from shanty_runtime.bus.jetstream import CONSUMER_MISSING, STREAM_MISSING, manage
from shanty_runtime.errors import BusRefused, LayoutDrift

if TYPE_CHECKING:
    from shanty_runtime.bus.bus import Bus

NANOSECONDS = 10**9
MARKER_TTL_S = 3600
"""How long the trace of a lease that ran out is kept, so that the next holder learns of it."""
DEFAULT_MAX_BYTES = 4 * 2**30
DEFAULT_ACK_WAIT_S = 15.0

CHOSEN_BY_OPERATORS = frozenset(
    {"max_bytes", "max_age", "num_replicas", "ack_wait", "max_ack_pending", "description"}
)
"""Settings a deployment may choose: `create_layout` sets them, and no check compares them."""

Config = dict[str, Any]

Mapped = Mapping[str, Sequence[str]]
"""Subjects whose messages start runs, by team."""
NOTHING_MAPPED: Mapped = {}


class Change(msgspec.Struct, frozen=True):
    """Something `create_layout` did."""

    name: str
    action: Literal["created", "updated"]
    differences: tuple[str, ...] = ()


async def create_layout(
    bus: Bus,
    *,
    lanes: Sequence[str] = ("0",),
    agents: Sequence[str],
    mapped: Mapped = NOTHING_MAPPED,
    num_replicas: int | None = None,
    max_bytes: int | None = None,
    max_age_s: int | None = None,
    ack_wait_s: float | None = None,
) -> tuple[Change, ...]:
    """Create what is missing and update what differs. Raises LayoutDrift for what the server will not change.

    Doing it again changes nothing. What is there besides is left alone, and so is what operators choose (replicas,
    sizes, ages, waits) unless it is given here. `max_age_s` is of what belongs to runs.
    """
    given = {
        name
        for name, value in (("num_replicas", num_replicas), ("max_bytes", max_bytes), ("ack_wait", ack_wait_s))
        if value is not None
    }
    kept = CHOSEN_BY_OPERATORS - given
    of_runs = {stream.name for lane in lanes for stream in lane_streams(lane)}
    changes: list[Change] = []
    for name in _stream_names(lanes, mapped):
        found = await _stream(bus, name)
        wanted = _stream_config(lanes, mapped, name, found, num_replicas=num_replicas, max_bytes=max_bytes)
        settings = _keeping(wanted, found, kept)
        if max_age_s is not None and name in of_runs:
            settings = {**settings, "max_age": max_age_s * NANOSECONDS}
        changes += await _make_stream(bus, name, settings, found)
    for consumer in _consumers(lanes, agents, mapped, ack_wait_s or DEFAULT_ACK_WAIT_S):
        there = await _consumer(bus, consumer)
        changes += await _make_consumer(bus, consumer, _keeping(consumer_config(consumer), there, kept), there)
    return tuple(changes)


async def check_layout(
    bus: Bus, lanes: Sequence[str], agents: Sequence[str], mapped: Mapped = NOTHING_MAPPED
) -> None:
    """Raises LayoutDrift that names every difference between the server and what this version needs.

    In an agent's own account only its mail is there to be looked at: what a stream says of itself can be made to name
    the subjects of everybody's entries.
    """
    confined = bus.settings.zone == "agent"
    drifted: list[tuple[str, tuple[str, ...]]] = []
    for name in () if confined else _stream_names(lanes, mapped):
        found = await _stream(bus, name)
        wanted = _stream_config(lanes, mapped, name, found)
        if differences := _differences(wanted, found, ignored=CHOSEN_BY_OPERATORS):
            drifted.append((name, differences))
    for consumer in _consumers(lanes, agents, mapped, DEFAULT_ACK_WAIT_S):
        if confined and consumer.stream not in map(entry_stream, lanes):
            continue
        there = await _consumer(bus, consumer)
        if differences := _differences(consumer_config(consumer), there, ignored=CHOSEN_BY_OPERATORS):
            drifted.append((f"{consumer.stream}/{consumer.name}", differences))
    if len(drifted) == 1:
        raise LayoutDrift(*drifted[0])
    if drifted:
        named = tuple(f"{name}: {difference}" for name, found in drifted for difference in found)
        raise LayoutDrift("the layout of the bus", named)


def stream_config(spec: StreamSpec) -> Config:
    """A stream as the JetStream API writes it."""
    config: Config = {
        "name": spec.name,
        "description": spec.description,
        "subjects": list(spec.subjects),
        "retention": "limits",
        "storage": "file",
        "discard": spec.discard,
        "discard_new_per_subject": spec.discard_new_per_subject,
        "max_age": spec.max_age_s * NANOSECONDS,
        "max_bytes": spec.max_bytes,
        "max_msg_size": spec.max_msg_size,
        "max_msgs_per_subject": spec.max_msgs_per_subject,
        "deny_delete": spec.deny_delete,
        "allow_direct": spec.allow_direct,
        "allow_msg_ttl": spec.allow_msg_ttl,
        "allow_msg_schedules": spec.allow_msg_schedules,
        "num_replicas": spec.num_replicas,
    }
    if spec.republish_from:
        config["republish"] = {"src": spec.republish_from, "dest": spec.republish_to}
    return config


def bucket_config(spec: BucketSpec) -> Config:
    """A key-value bucket is a stream with these settings; its keys may carry a time to live."""
    config: Config = {
        "name": f"KV_{spec.name}",
        "description": spec.description,
        "subjects": [f"$KV.{spec.name}.>"],
        "retention": "limits",
        "storage": spec.storage,
        "discard": "new",
        "max_msgs_per_subject": 1,
        "deny_delete": True,
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "allow_msg_ttl": True,
        "subject_delete_marker_ttl": MARKER_TTL_S * NANOSECONDS,
        "num_replicas": spec.num_replicas,
    }
    if spec.persist_mode == "async":
        config["persist_mode"] = "async"
    return config


def consumer_config(spec: ConsumerSpec) -> Config:
    return {
        "name": spec.name,
        "durable_name": spec.name,
        "filter_subject": spec.filter_subject,
        "deliver_policy": "all",
        "replay_policy": "instant",
        "ack_policy": "explicit",
        "ack_wait": int(spec.ack_wait_s * NANOSECONDS),
        "max_deliver": -1,
        "max_ack_pending": spec.max_ack_pending,
    }


def _consumers(
    lanes: Sequence[str], agents: Sequence[str], mapped: Mapped, ack_wait_s: float
) -> Iterator[ConsumerSpec]:
    for lane in lanes:
        for agent in agents:
            yield from agent_consumers(lane, agent, ack_wait_s=ack_wait_s)
    for team in mapped:
        yield trigger_consumer(team, ack_wait_s=ack_wait_s)


def _stream_configs(
    lanes: Sequence[str], mapped: Mapped, num_replicas: int, max_bytes: int
) -> Iterator[tuple[str, Config]]:
    for lane in lanes:
        for stream in lane_streams(lane, num_replicas=num_replicas, max_bytes=max_bytes):
            yield stream.name, stream_config(stream)
    memory = memory_stream(num_replicas=num_replicas, max_bytes=max_bytes)
    yield memory.name, stream_config(memory)
    for team, starts_on in mapped.items():
        triggers = trigger_stream(team, starts_on, num_replicas=num_replicas, max_bytes=max_bytes)
        yield triggers.name, stream_config(triggers)
    for bucket in buckets(num_replicas=num_replicas):
        config = bucket_config(bucket)
        yield config["name"], config


def _stream_names(lanes: Sequence[str], mapped: Mapped) -> list[str]:
    return [name for name, _ in _stream_configs(lanes, mapped, 1, DEFAULT_MAX_BYTES)]


def _stream_config(
    lanes: Sequence[str],
    mapped: Mapped,
    name: str,
    found: Config | None,
    *,
    num_replicas: int | None = None,
    max_bytes: int | None = None,
) -> Config:
    """What a stream should be. What a bucket needs depends on how many replicas there are, or are to be."""
    replicas = num_replicas or (1 if found is None else int(found["num_replicas"]))
    return dict(_stream_configs(lanes, mapped, replicas, max_bytes or DEFAULT_MAX_BYTES))[name]


def _keeping(wanted: Config, found: Config | None, kept: frozenset[str]) -> Config:
    """What is wanted, with what is to be kept of what was found."""
    return {**wanted, **{name: found[name] for name in kept & wanted.keys() & found.keys()}} if found else wanted


async def _make_stream(bus: Bus, name: str, wanted: Config, found: Config | None) -> list[Change]:
    differences = _differences(wanted, found)
    if not differences:
        return []
    call = "CREATE" if found is None else "UPDATE"
    await _change(bus, f"STREAM.{call}.{name}", wanted, name, differences)
    if left := _differences(wanted, await _stream(bus, name)):
        raise LayoutDrift(name, left)
    return [Change(name, "created") if found is None else Change(name, "updated", differences)]


async def _make_consumer(bus: Bus, spec: ConsumerSpec, wanted: Config, found: Config | None) -> list[Change]:
    name = f"{spec.stream}/{spec.name}"
    differences = _differences(wanted, found)
    if not differences:
        return []
    request = {"stream_name": spec.stream, "config": wanted, "action": "create" if found is None else "update"}
    call = f"CONSUMER.CREATE.{spec.stream}.{spec.name}.{spec.filter_subject}"
    await _change(bus, call, request, name, differences)
    if left := _differences(wanted, await _consumer(bus, spec)):
        raise LayoutDrift(name, left)
    return [Change(name, "created") if found is None else Change(name, "updated", differences)]


async def _change(bus: Bus, call: str, request: Config, name: str, differences: tuple[str, ...]) -> None:
    try:
        await manage(bus.connection, call, request)
    except BusRefused as error:
        raise LayoutDrift(name, (*differences, f"the server says: {error.description or error}")) from error


async def _stream(bus: Bus, name: str) -> Config | None:
    return await _config(bus, f"STREAM.INFO.{name}", STREAM_MISSING)


async def _consumer(bus: Bus, spec: ConsumerSpec) -> Config | None:
    return await _config(bus, f"CONSUMER.INFO.{spec.stream}.{spec.name}", CONSUMER_MISSING, STREAM_MISSING)


async def _config(bus: Bus, call: str, *missing: int) -> Config | None:
    try:
        found: Config = (await manage(bus.connection, call))["config"]
    except BusRefused as error:
        if error.code in missing:
            return None
        raise
    return found


def _differences(wanted: Config, found: Config | None, *, ignored: frozenset[str] = frozenset()) -> tuple[str, ...]:
    if found is None:
        return ("it is missing",)
    differences = []
    for key, value in wanted.items():
        # The server leaves out what is off.
        there = found.get(key, False if isinstance(value, bool) else None)
        if key not in ignored and there != value:
            differences.append(f"{key} is {_shown(there)}, not {_shown(value)}")
    return tuple(differences)


def _shown(value: object) -> str:
    return msgspec.json.encode(value).decode() if value is not None else "not set"
