"""Making schedules for hypothesis, and a failing one smaller with its help."""

from __future__ import annotations

import msgspec
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from simulation.running import play
from simulation.schedule import KINDS, POINTS, SECONDS, WORK, Fault, Schedule

MOST_TRIES = 300
KEPT_MOSTLY = 12
"""One of so many draws leaves a fault out, so that the first tries are close to the schedule that failed."""


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    """Any schedule: fewer faults are simpler, and so are shorter ones."""
    work = draw(st.sampled_from(WORK))
    faults = st.builds(
        Fault,
        at=st.integers(1, POINTS[work]),
        kind=st.sampled_from(KINDS),
        seconds=st.sampled_from(SECONDS),
    )
    return Schedule(
        seed=draw(st.integers(0, 10_000)),
        work=work,
        faults=tuple(sorted(draw(st.lists(faults, max_size=6)))),
        replicas=draw(st.integers(1, 2)),
        unsteady=draw(st.booleans()),
    )


def shrunk(failing: Schedule) -> Schedule:
    """A schedule with as few and as short faults as possible that still breaks one of the same rules."""
    rules = {violation.rule for violation in play(failing).found}
    if not rules:
        return failing
    try:
        return find(
            _less_of(failing),
            lambda schedule: bool(rules & {violation.rule for violation in play(schedule).found}),
            settings=settings(
                max_examples=MOST_TRIES,
                deadline=None,
                database=None,
                derandomize=True,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            ),
        )
    except NoSuchExample:
        return failing


@st.composite
def _less_of(draw: st.DrawFn, failing: Schedule) -> Schedule:
    faults: list[Fault] = []
    for fault in failing.faults:
        if draw(st.integers(0, KEPT_MOSTLY)) == 0:
            continue
        shorter = [seconds for seconds in SECONDS if seconds < fault.seconds]
        cut = draw(st.integers(0, len(shorter) * 3))
        seconds = shorter[cut] if cut < len(shorter) else fault.seconds
        faults.append(msgspec.structs.replace(fault, seconds=seconds))
    return msgspec.structs.replace(failing, faults=tuple(faults))
