"""Triggers: where the first entry of a run stands that nobody started by hand.

A schedule or a message starts a run by an entry of the author `trigger`. Its address follows from the team, the
trigger and a key: the time of a schedule, or what its sender calls a message. So any number of processes may try to
start it, now or after a crash, and there is one run.

    at-<trigger>-…    the thread of what a schedule started, each at the time it was for
    on-<trigger>-…    the thread of what a message or a person started
"""

from __future__ import annotations

import hashlib
from typing import Literal

from shanty_protocol.ids import DEAD, LOG, checked, checked_lane
from shanty_protocol.subjects import EntryAddress
from shanty_protocol.zones import TRIGGER

MAX_TRIGGER_NAME = 40

Cause = Literal["at", "on"]


def first_entry_address(lane: str, lead: str, team: str, trigger: str, cause: Cause, key: str) -> EntryAddress:
    """Where the delegation stands that starts the run for this key."""
    return _address(lane, lead, team, trigger, cause, "run", key)


def failure_address(lane: str, team: str, trigger: str, key: str) -> EntryAddress:
    """Where it stands that a message could not be used."""
    return _address(lane, DEAD, team, trigger, "on", "failed", key)


def armed_address(lane: str, team: str, trigger: str, schedule: str, timezone: str) -> EntryAddress:
    """Where it stands since when a schedule is in force. One that was changed is another one."""
    return _address(lane, LOG, team, trigger, "at", "armed", f"{schedule}\0{timezone}")


def started_filter(lane: str, lead: str, team: str, trigger: str, cause: Cause) -> str:
    """The first entries of all runs that a trigger has started."""
    thread = _thread(team, trigger, cause)
    return f"shanty.{checked_lane(lane)}.{checked('agent', lead)}.*.{thread}.{TRIGGER}.0"


def _address(lane: str, to: str, team: str, trigger: str, cause: Cause, what: str, key: str) -> EntryAddress:
    # The key comes last, for it may be any text; nothing before it holds a zero.
    digest = hashlib.sha256("\0".join((team, trigger, cause, what, key)).encode()).hexdigest()
    run = f"{checked_lane(lane)}-{trigger}-{digest[:24]}"
    return EntryAddress(to, run, _thread(team, trigger, cause), TRIGGER, 0)


def _thread(team: str, trigger: str, cause: Cause) -> str:
    # Two teams may have a lead of the same name, and triggers of the same name.
    whose = hashlib.sha256(checked("team", team).encode()).hexdigest()[:8]
    return f"{cause}-{checked('trigger', trigger)}-{whose}"
