"""Identifiers: runs, threads, agents. The id of a thread is its place in the tree.

run      `<lane>-<name>`, such as `0-7f3a`: the lane is the shard the whole run lives in
thread   `0` is the lead's; `0-3` is the third that `0` opened; `0-3-1` is the first that `0-3` opened.
         People, gateways and other services choose a request id of their own as their thread
agent    the name of a specialist or lead: the author of entries, and the address of mail
"""

from __future__ import annotations

import functools
import re

from shanty_protocol.errors import ProtocolError

MAX_ID_LENGTH = 120
ROOT_THREAD = "0"

LOG = "log"
DEAD = "dead"
OPERATORS = "operators"
HOST = "specialist"
"""The agent that plays whom leads have hired."""
TOOL_GATEWAY = "toolgateway"
"""The author of what becomes of calls that cannot be undone."""
RESERVED_AGENTS = frozenset({LOG, DEAD, OPERATORS})
"""Recipients that are not agents: a thread's own steps, what could not be processed, and people."""

KNOWN = 4_096
"""Ids that are remembered as checked: the same few are in every subject of a run."""

_ID = re.compile(r"[a-z0-9-]+")
_LANE = re.compile(r"0|[1-9][0-9]{0,8}")
_RUN = re.compile(r"(?:0|[1-9][0-9]{0,8})-[a-z0-9-]+")
_AGENT_THREAD = re.compile(r"0(?:-[1-9][0-9]*)*")


@functools.lru_cache(KNOWN)
def checked(kind: str, value: str) -> str:
    """The value, if it is an id."""
    if not _ID.fullmatch(value) or len(value) > MAX_ID_LENGTH:
        raise ProtocolError(
            "invalid_message",
            f"{kind} is not of the form [a-z0-9-]+ with at most {MAX_ID_LENGTH} characters: {value!r}",
        )
    return value


def checked_lane(lane: str) -> str:
    if not _LANE.fullmatch(lane):
        raise ProtocolError("invalid_message", f"lane {lane!r} is not a number without leading zeros")
    return lane


@functools.lru_cache(KNOWN)
def checked_run(run: str) -> str:
    if not _RUN.fullmatch(checked("run", run)):
        raise ProtocolError("invalid_message", f"run {run!r} does not begin with its lane, as 0-7f3a does")
    return run


@functools.lru_cache(KNOWN)
def lane_of(run: str) -> str:
    """The shard a run lives in: the part of its id before the first dash."""
    return checked_run(run).partition("-")[0]


def is_agent_thread(thread: str) -> bool:
    """Whether this is a place in a run's tree rather than the request id of somebody outside."""
    return _AGENT_THREAD.fullmatch(thread) is not None


def child_thread(parent: str, ordinal: int) -> str:
    assert ordinal >= 1, "threads are counted from one"
    return f"{parent}-{ordinal}"


def parent_thread(thread: str) -> str | None:
    """The thread that opened this one; None for the lead's."""
    return thread.rpartition("-")[0] or None


def depth(thread: str) -> int:
    """0 for the lead's thread, 1 for those it opened."""
    return thread.count("-")
