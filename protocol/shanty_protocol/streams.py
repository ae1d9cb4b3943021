"""Streams, buckets and consumers as plain data: what the installer creates and every service checks at start.

One lane has one stream of entries (the log and the queues), one of timers and one of files. What outlives runs is in
no lane: there is one stream of documents for all. Consumers are durable and one per agent, never one per run, thread
or observer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import msgspec

from shanty_protocol import subjects
from shanty_protocol.ids import checked, checked_lane

MAX_MESSAGE_BYTES = 900_000
"""Largest message the streams take, below NATS's own default limit of 1 MiB."""
CHUNK_BYTES = 256 * 1024
"""Size of the parts a file's content is stored in."""
MEMORY_STREAM = "SHANTY_MEMORY"
TRIGGER_CONSUMER = "triggers"
LEADER_ELECTED = "$JS.EVENT.ADVISORY.*.LEADER_ELECTED.>"
"""Where the servers of a cluster say that a stream or a consumer has a leader again."""
LEASE_BUCKET = "SHANTY_LEASE"
ROSTER_BUCKET = "SHANTY_ROSTER"

DAY_S = 86_400


class StreamSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A stream as this version needs it. Field names are those of the JetStream API."""

    name: str
    description: str
    subjects: tuple[str, ...]
    discard: Literal["old", "new"]
    max_age_s: int
    max_bytes: int
    max_msg_size: int = MAX_MESSAGE_BYTES
    max_msgs_per_subject: int = -1
    discard_new_per_subject: bool = False
    deny_delete: bool = False
    allow_direct: bool = True
    allow_msg_ttl: bool = False
    allow_msg_schedules: bool = False
    republish_from: str = ""
    republish_to: str = ""
    num_replicas: int = 1


class BucketSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A key-value bucket whose keys may carry a time to live, and whose loss costs nothing but time."""

    name: str
    description: str
    storage: Literal["file", "memory"]
    persist_mode: Literal["default", "async"]
    num_replicas: int = 1


class ConsumerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A durable pull consumer with explicit acks. Attempts are counted by us, so deliveries are not limited."""

    stream: str
    name: str
    filter_subject: str
    ack_wait_s: float
    max_ack_pending: int = 5_000


@lru_cache(1_024)
def entry_stream(lane: str) -> str:
    return f"SHANTY_{checked_lane(lane)}"


def timer_stream(lane: str) -> str:
    return f"SHANTY_TIMERS_{checked_lane(lane)}"


def file_stream(lane: str) -> str:
    return f"SHANTY_FILES_{checked_lane(lane)}"


def lane_streams(lane: str, *, num_replicas: int = 1, max_bytes: int = 4 * 2**30) -> tuple[StreamSpec, ...]:
    """The three streams of a lane. `max_bytes` bounds each of them.

    What is older than `max_age_s` is dropped, of open runs too: no run may take as long as that.
    """
    return (
        StreamSpec(
            name=entry_stream(lane),
            description="journals: every entry of every thread, written once",
            subjects=(f"shanty.{lane}.>",),
            discard="new",
            max_age_s=90 * DAY_S,
            max_bytes=max_bytes,
            max_msgs_per_subject=1,
            discard_new_per_subject=True,
            deny_delete=True,
            republish_from=f"shanty.{lane}.>",
            republish_to=f"shanty.feed.{lane}.>",
            num_replicas=num_replicas,
        ),
        StreamSpec(
            # Schedules refuse `discard: new` and a target in another stream, so timers have a stream of their own.
            name=timer_stream(lane),
            description="durable timers",
            subjects=(f"shanty.timer.{lane}.>",),
            discard="old",
            max_age_s=90 * DAY_S,
            max_bytes=max_bytes,
            max_msgs_per_subject=1,
            allow_msg_ttl=True,
            allow_msg_schedules=True,
            num_replicas=num_replicas,
        ),
        StreamSpec(
            name=file_stream(lane),
            description="workspace files: versions, and contents by digest",
            subjects=(f"shanty.file.{lane}.>",),
            discard="new",
            max_age_s=90 * DAY_S,
            max_bytes=max_bytes,
            max_msgs_per_subject=1,
            discard_new_per_subject=True,
            deny_delete=True,
            num_replicas=num_replicas,
        ),
    )


def memory_stream(*, num_replicas: int = 1, max_bytes: int = 4 * 2**30) -> StreamSpec:
    """Documents of every scope. Nothing in it ages: what runs have learnt is kept until somebody takes it away."""
    return StreamSpec(
        name=MEMORY_STREAM,
        description="documents that outlive runs: versions, and releases from quarantine",
        subjects=("shanty.memory.>",),
        discard="new",
        max_age_s=0,
        max_bytes=max_bytes,
        max_msgs_per_subject=1,
        discard_new_per_subject=True,
        deny_delete=True,
        num_replicas=num_replicas,
    )


def trigger_stream(
    team: str, starts_on: Sequence[str], *, num_replicas: int = 1, max_bytes: int = 4 * 2**30
) -> StreamSpec:
    """Messages that start runs of a team, by the subjects it names.

    A full stream refuses what comes, so that whoever sends it and asks for an ack learns of it. What was used stays
    for a while, so that people can look at it.
    """
    return StreamSpec(
        name=f"SHANTY_TRIGGERS_{checked('team', team)}",
        description="messages that start runs",
        subjects=tuple(starts_on),
        discard="new",
        max_age_s=30 * DAY_S,
        max_bytes=max_bytes,
        num_replicas=num_replicas,
    )


def trigger_consumer(team: str, *, ack_wait_s: float = 15.0) -> ConsumerSpec:
    """The lead's on that stream: one for all its triggers."""
    return ConsumerSpec(
        stream=f"SHANTY_TRIGGERS_{checked('team', team)}",
        name=TRIGGER_CONSUMER,
        filter_subject=">",
        ack_wait_s=ack_wait_s,
    )


def buckets(*, num_replicas: int = 1) -> tuple[BucketSpec, ...]:
    """Leases and cards. What becomes of a thread its journal decides: a lost lease costs the step under way, at most
    a model call that had not been answered yet; a lost card costs nothing.

    Replicas keep them in memory. A server that is alone keeps them in a file it does not wait for: it would forget a
    memory stream when it restarts, the stream itself and not only what was in it.
    """

    def bucket(name: str, description: str) -> BucketSpec:
        alone = num_replicas == 1
        return BucketSpec(
            name=name,
            description=description,
            storage="file" if alone else "memory",
            persist_mode="async" if alone else "default",
            num_replicas=num_replicas,
        )

    return bucket(LEASE_BUCKET, "who works on which thread"), bucket(ROSTER_BUCKET, "which agents are up")


def agent_consumers(lane: str, agent: str, *, ack_wait_s: float = 15.0) -> tuple[ConsumerSpec, ...]:
    """The two consumers of an agent in a lane: its mail and its timers."""
    return (
        ConsumerSpec(
            stream=entry_stream(lane),
            name=f"mail-{agent}",
            filter_subject=subjects.mail_filter(lane, agent),
            ack_wait_s=ack_wait_s,
        ),
        ConsumerSpec(
            stream=timer_stream(lane),
            name=f"timers-{agent}",
            filter_subject=subjects.timer_filter(lane, agent),
            ack_wait_s=ack_wait_s,
        ),
    )
