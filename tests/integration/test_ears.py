"""A replica listens to the runs it works on, and for a while to those it worked on last."""

from __future__ import annotations

import pytest

from shanty_runtime.bus import Bus
from shanty_runtime.testing import until
from shanty_runtime.worker import ears
from shanty_runtime.worker.ears import Ears


def runs_heard(bus: Bus) -> list[str]:
    return sorted(
        sub.subject.split(".")[4] for sub in bus.connection._client._subs.values() if ".feed." in sub.subject
    )


async def test_a_run_is_listened_to_once_however_many_of_its_threads_are_worked_on(bus: Bus) -> None:
    known = Ears(bus, "alpha", print)
    for _ in range(3):
        known.listen("0-a")
    known.listen("0-b")
    await until(lambda: runs_heard(bus) == ["0-a", "0-b"])


async def test_the_runs_that_rest_longest_are_not_listened_to_any_more(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ears, "MOST_RESTING", 2)
    known = Ears(bus, "alpha", print)
    for run in ("0-a", "0-b", "0-c", "0-d"):
        known.listen(run)
    for run in ("0-b", "0-a", "0-c"):
        known.stop(run)
    await until(lambda: runs_heard(bus) == ["0-a", "0-c", "0-d"])
    known.listen("0-a")
    for run in ("0-d", "0-a"):
        known.stop(run)
    await until(lambda: runs_heard(bus) == ["0-a", "0-d"])
