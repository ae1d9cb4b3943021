"""Schedules of the simulation: none breaks a promise, and bugs that are planted are found."""

from __future__ import annotations

import itertools
from collections import Counter

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from shanty_protocol import DelegationSent, DeliverableGraded, EffectEnded, EffectFenced
from simulation.audit import violations
from simulation.mutations import MUTATIONS
from simulation.running import Tally, first_failure, play, simulate
from simulation.schedule import Fault, Schedule, from_seed
from simulation.shrinking import schedules, shrunk
from simulation.team import MOST_ROUNDS
from simulation.world import World

MOST = 2_000
"""A planted bug is found within so many schedules."""

FOUND_AT_ONCE = (
    "mail is acked before it is taken in",
    "an effect is not announced",
    "an unknown effect is repeated",
    "a grant is returned twice",
    "a denial is taken for consent",
    "whoever was second is left at work",
    "rounds of judging are not counted",
    "the tool gateway acts before it has written that it does",
)
"""Bugs that need no rare fault: the default run plants these."""

ONCE_WRONG = (
    Schedule(918, "handler", (Fault(27, "kill", 0.2), Fault(53, "lose_ack", 4.0)), 2),
    Schedule(130, "delegate", (Fault(57, "torn", 8.0), Fault(92, "kill_after", 1.0)), 2),
    Schedule(357, "deadline", (Fault(24, "torn", 0.02),)),
    Schedule(
        102559, "question", (Fault(22, "kill_after", 0.02), Fault(58, "timer", 5.5), Fault(81, "lose_ack", 5.5)), 2
    ),
    Schedule(203155, "cancel", (Fault(15, "pause", 5.5), Fault(37, "cut", 5.5), Fault(45, "lose_ack", 0.02)), 2),
    Schedule(
        201578,
        "handler",
        (
            Fault(12, "pause", 5.5),
            Fault(19, "kill_after", 0.02),
            Fault(27, "kill", 5.5),
            Fault(39, "cut", 5.5),
            Fault(51, "pause", 1.0),
        ),
        2,
    ),
    Schedule(21084, "handler", (Fault(12, "stale", 5.5),), 2, unsteady=True),
    Schedule(4003, "grade", (Fault(13, "stale", 14.0), Fault(30, "kill_after", 14.0)), 2),
    Schedule(662931, "hedge", (Fault(61, "pause", 5.5), Fault(74, "crash", 0.3), Fault(78, "kill_after", 5.5)), 2),
    Schedule(391541, "hedge", (Fault(14, "timer", 0.3), Fault(16, "crash", 0.3), Fault(30, "slow", 5.5)), 2),
    Schedule(
        1259,
        "fenced",
        (Fault(28, "kill_after", 5.5), Fault(59, "kill_after", 3.0), Fault(74, "stale", 14.0), Fault(94, "cut", 8.0)),
    ),
)
"""Schedules that have found a bug of the engine."""


def told(tally: Tally) -> str:
    return "\n".join(f"{played.schedule}: {played.found[0]}" for played in tally.failed)


def test_no_schedule_breaks_a_promise() -> None:
    failure = first_failure(range(600))
    assert failure is None, f"{failure.schedule}: {failure.found}"


@pytest.mark.parametrize("schedule", ONCE_WRONG, ids=str)
def test_a_schedule_that_has_found_a_bug_finds_none_any_more(schedule: Schedule) -> None:
    assert not play(schedule).found


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(schedules())
def test_no_schedule_that_hypothesis_thinks_of_breaks_a_promise(schedule: Schedule) -> None:
    assert not play(schedule).found


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_a_hundred_thousand_schedules_break_no_promise() -> None:
    tally = simulate(0, 100_000, processes=2, progress=lambda tally: None)
    assert not tally.failed, told(tally)


@pytest.mark.parametrize("name", FOUND_AT_ONCE)
def test_a_bug_that_is_planted_is_found(name: str) -> None:
    with MUTATIONS[name].planted():
        assert first_failure(range(300)) is not None


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_each_planted_bug_is_found_by_schedules_that_pass_without_it(name: str) -> None:
    with MUTATIONS[name].planted():
        failure = first_failure(range(MOST))
    assert failure is not None, f"{name} was not found in {MOST} schedules"
    assert not play(failure.schedule).found


def test_a_schedule_happens_the_same_way_every_time() -> None:
    for seed in range(10):
        first, second = (World(from_seed(seed), traced=True) for _ in range(2))
        first.play()
        second.play()
        assert first.trace == second.trace


def test_schedules_have_briefs_that_are_hedged_and_deliverables_that_are_judged_twice() -> None:
    hedged, rounds = 0, 0
    for seed, work in itertools.product(range(20), ("hedge", "grade")):
        world = World(Schedule(seed, work, ()))
        world.play()
        entries = [entry for _, entry, _ in world.entries()]
        hedged += sum(isinstance(entry, DelegationSent) and bool(entry.hedges) for entry in entries)
        rounds = max([rounds, *(entry.grade.round for entry in entries if isinstance(entry, DeliverableGraded))])
    assert hedged > 5
    assert rounds == MOST_ROUNDS


def test_schedules_have_calls_of_which_the_tool_gateway_says_everything_that_it_can_say() -> None:
    said: Counter[str] = Counter()
    for seed in range(300):
        world = World(msgspec.structs.replace(from_seed(seed), work="fenced"))
        world.play()
        for _, entry, _ in world.entries():
            if isinstance(entry, EffectFenced):
                said["never started"] += 1
            elif isinstance(entry, EffectEnded):
                said[entry.status] += 1
    assert said["ok"] > 300
    assert min(said["unknown"], said["never started"]) > 5, said


def test_a_call_that_is_withdrawn_before_the_tool_gateway_has_heard_of_it_is_never_made() -> None:
    withdrawn = 0
    for at in range(4, 30):
        world = World(Schedule(1227, "fenced", (Fault(at, "lose"),)))
        world.play()
        withdrawn += sum(isinstance(entry, EffectFenced) and entry.withdrawn for _, entry, _ in world.entries())
        assert not violations(world)
    assert withdrawn > 5


def test_faults_hit_something() -> None:
    disturbed = 0
    for seed in range(40):
        world = World(from_seed(seed))
        world.play()
        disturbed += bool(world.ledgers.disturbances)
    assert disturbed > 20


def test_a_schedule_that_fails_is_made_smaller_and_fails_still() -> None:
    with MUTATIONS["a takeover is not counted"].planted():
        seeds = (seed for seed in itertools.count() if len(from_seed(seed).faults) > 2)
        failing = next(played for played in map(play, map(from_seed, seeds)) if played.found)
        smaller = shrunk(failing.schedule)
        assert play(smaller).found
        assert len(smaller.faults) < len(failing.schedule.faults)


def test_no_intent_stands_behind_one_that_was_lost_with_its_worker() -> None:
    for seed in range(30):
        played = play(Schedule(seed, "effects", (Fault(1, "torn", 1.0),)))
        assert not played.found, f"{played.schedule}: {played.found}"


def test_a_fan_out_that_is_torn_is_finished_by_somebody_else() -> None:
    for seed in range(30):
        world = World(Schedule(seed, "fan_out", (Fault(1, "torn", 1.0),)))
        world.play()
        assert world.ledgers.disturbances and not violations(world)


def test_mail_that_is_heard_before_it_is_delivered_becomes_a_dead_letter_where_it_comes_too_late() -> None:
    for seed, at in itertools.product((2, 4, 5), range(34, 48)):
        played = play(Schedule(seed, "question", (Fault(at, "timer", 1.0),), 2))
        assert not played.found, f"{played.schedule}: {played.found}"
