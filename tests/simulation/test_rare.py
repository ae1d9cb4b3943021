"""What goes wrong once in thousands of schedules: each precaution against it has schedules that need it.

Most are about a model that is asked although its reply is stored. A server that was killed has lost the newest
leases, and counts them anew; whoever had them is at work, with entries on their way. A server that lags shows a
journal as it was.
"""

from __future__ import annotations

import msgspec
import pytest

from shanty_protocol import ThreadDue
from shanty_runtime.bus import Delivery
from shanty_runtime.bus.leases import Lease, Leases, _Standing
from shanty_runtime.thread.state import State
from shanty_runtime.worker.activation import Activation
from shanty_runtime.worker.held import HeldThread
from shanty_runtime.worker.workplace import Loaded, Workplace
from simulation.audit import violations
from simulation.schedule import Fault, Schedule
from simulation.world import World


def crash(seed: int, work: str, at: int, seconds: float) -> Schedule:
    return Schedule(seed, work, (Fault(at, "crash", seconds),), 2)


EVERYWHERE = [crash(seed, "delegate", at, 1.0) for seed in range(12) for at in range(5, 60, 5)]
LATE = [crash(1, "nested", 20, 4.0), crash(8, "delegate", 15, 4.0), crash(114, "delegate", 45, 4.0)]
"""Whoever was at work is back only when another has gone on with it."""
ON_ITS_WAY = [crash(6, "delegate", 81, 1.0), crash(7, "nested", 22, 1.0), crash(7, "fan_out", 46, 1.0)]
"""A reply is stored just when another worker has read its journal."""
COUNTED_ANEW = [crash(1, "nested", 28, 1.0), crash(2, "fan_out", 89, 1.0), crash(4, "delegate", 19, 1.0)]
"""What is renewed has the revision of somebody else's lease."""
GIVEN_BACK = [crash(110, "delegate", 97, 0.3)]
"""What was given back has it."""
OUTGROWN = [crash(94, "delegate", 45, 0.3)]
"""It was given back, taken again and worked on; the server has forgotten all but that it was given back."""
LAGGING = [
    Schedule(
        1041,
        "nested",
        (Fault(20, "redeliver", 0.02), Fault(29, "pause", 5.5), Fault(42, "lose", 0.02), Fault(55, "stale", 0.02)),
        2,
    ),
    Schedule(6155, "cancel", (Fault(37, "timer", 0.02), Fault(43, "stale", 1.0)), 2),
]
"""The thread was given back by somebody who knew more of its journal than is shown."""
LAGGING_TWICE = [
    Schedule(seed, work, (Fault(at, "stale", 14.0), Fault(crashed_at, "crash", 8.0)), 2)
    for seed, work, at, crashed_at in ((1, "delegate", 48, 49), (3, "fan_out", 30, 33), (9, "budget", 36, 42))
]
"""It was given back by somebody who was about to write that he takes it over, and had not been shown all either."""

STOOD_STILL = [Schedule(972192, "delegate", (Fault(25, "pause", 1.0), Fault(40, "crash", 0.02)), 2)]
"""Whoever stood still finds an ack from before in its socket, and only then that the connection broke meanwhile."""
UNSETTLED = [
    Schedule(
        5076089,
        "hire",
        (Fault(40, "drain", 0.02), Fault(52, "stale", 0.3), Fault(60, "kill_after", 1.0), Fault(68, "pause", 14.0)),
    )
]
"""It was given back by somebody who was told to stop while an entry was on its way."""
SET_BY_BOTH = [Schedule(seed, "cancel", (), 2, True) for seed in (62, 9416)]
"""A thread's timer is set by one worker, by another to an earlier time, and again by the first to its own."""
SET_LATE = [Schedule(6138738, "budget", (Fault(79, "crash", 1.0), Fault(83, "kill_after", 14.0)), 2, True)]
"""It was being set when the server was killed, and is set once there is one again, when another has the thread."""


def problems(schedules: list[Schedule]) -> list[str]:
    found = []
    for schedule in schedules:
        world = World(schedule)
        world.play()
        found += [f"{schedule}: {each}" for each in violations(world)]
        world.close()
    return found


def test_no_reply_is_paid_for_again_after_a_server_was_killed() -> None:
    assert not problems([*EVERYWHERE, *LATE, *ON_ITS_WAY, *COUNTED_ANEW, *GIVEN_BACK, *OUTGROWN, *STOOD_STILL])


def test_no_reply_is_paid_for_again_where_a_server_lags() -> None:
    assert not problems([*LAGGING, *LAGGING_TWICE, *UNSETTLED])


def test_no_thread_sleeps_on_where_two_workers_have_set_its_timer() -> None:
    assert not problems([*SET_BY_BOTH, *SET_LATE])


async def _believes(self: HeldThread) -> bool:
    return True


async def _trusts_the_clock(self: Leases, lease: Lease) -> None:
    return


async def _goes_ahead(self: Activation) -> None:
    return


def _takes_each_for_its_own(self: Activation, due: ThreadDue, delivery: Delivery) -> None:
    known = self._is_timer_known
    _POST_TIMER(self, due, delivery)
    self._is_timer_known = known


async def _takes_it_for_settled(self: HeldThread) -> None:
    self._unsettled = False
    await _RELEASE(self)


def _only_counts(self: Leases) -> None:
    self._times_connected += 1
    self._at_once.set()


def _takes_what_it_is_shown_for_all(self: HeldThread, state: State) -> None:
    assert self.lease is not None
    self.lease.journal_length = min(self.lease.journal_length, state.next_n)
    _GO_ON(self, state)


def _tells_only_its_length(self: Lease) -> _Standing:
    return msgspec.structs.replace(_TRACE(self), abandoned=False)


async def _remembers_its_timer(self: Workplace, run: str, thread: str) -> Loaded:
    before = dict(self.timers)
    loaded = await _LOAD(self, run, thread)
    self.timers |= before
    return loaded


def _believes_the_trace(self: HeldThread, state: State) -> None:
    assert self.lease is not None
    traced = self.lease.traced
    _GO_ON(self, state)
    self.lease.traced = traced


_TRACE, _LOAD, _GO_ON, _RELEASE = Lease.trace, Workplace.load, HeldThread.go_on, HeldThread.release
_POST_TIMER = Activation.post_timer


@pytest.mark.parametrize(
    ("schedules", "owner", "name", "instead"),
    [
        pytest.param(LATE, Leases, "confirm", _trusts_the_clock, id="a lease is confirmed"),
        pytest.param(
            STOOD_STILL, Leases, "_is_recent", lambda self, lease: True, id="a lease is confirmed after a while"
        ),
        pytest.param(UNSETTLED, HeldThread, "release", _takes_it_for_settled, id="an entry may be on its way"),
        pytest.param(
            ON_ITS_WAY, HeldThread, "has_read_all", _believes, id="an entry is written before a model is asked"
        ),
        pytest.param(COUNTED_ANEW, Leases, "_is_known", lambda self, lease: True, id="a lease is looked at first"),
        pytest.param(GIVEN_BACK, Leases, "_note_connected", _only_counts, id="old revisions are forgotten"),
        pytest.param(OUTGROWN, HeldThread, "go_on", _believes_the_trace, id="what was given back has grown since"),
        pytest.param(
            LAGGING,
            HeldThread,
            "go_on",
            _takes_what_it_is_shown_for_all,
            id="the next holder knows how much there is",
        ),
        pytest.param(LAGGING_TWICE, Lease, "trace", _tells_only_its_length, id="a takeover is still to be noted"),
    ],
)
def test_each_precaution_is_needed(
    schedules: list[Schedule], owner: type, name: str, instead: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, instead)
    assert problems(schedules)


@pytest.mark.parametrize(
    ("schedules", "owner", "name", "instead"),
    [
        pytest.param(SET_BY_BOTH, Workplace, "load", _remembers_its_timer, id="a timer is another's by now"),
        pytest.param(SET_LATE, Activation, "_confirm_lease", _goes_ahead, id="a timer is set under a lease"),
    ],
)
def test_of_two_precautions_for_a_timer_either_is_enough_here(
    schedules: list[Schedule], owner: type, name: str, instead: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, instead)
    assert not problems(schedules)
    monkeypatch.setattr(Activation, "post_timer", _takes_each_for_its_own)
    assert problems(schedules)
