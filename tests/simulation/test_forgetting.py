"""A server that was killed has lost the newest leases; whoever had them is at work, with entries on their way."""

from __future__ import annotations

from collections import defaultdict

import pytest

from shanty_protocol import ModelReplied
from shanty_runtime.bus.leases import Leases
from shanty_runtime.worker.held import HeldThread
from simulation.loop import Process
from simulation.schedule import Fault, Schedule
from simulation.world import World

AWAY_S = 1.5
EVERYWHERE = [(seed, "delegate", at) for seed in range(12) for at in range(5, 60, 5)]
CLOSE = (
    (101, "delegate", 59),
    (109, "delegate", 56),
    (110, "delegate", 47),
    (111, "delegate", 23),
    (116, "fan_out", 44),
    (126, "fan_out", 29),
    (134, "fan_out", 68),
)
"""Where a reply is stored just while another worker reads its journal."""


class Forgetful(World):
    """At one point the server is killed. It comes back without any lease, and delivers all mail in hand once more."""

    def __init__(self, schedule: Schedule, at: int) -> None:
        super().__init__(schedule)
        self._at = at

    def point(self, process: Process, what: str) -> list[Fault]:
        faults = super().point(process, what)
        if self.points == self._at:
            self.server.forget_leases()
            for each in list(self._services):
                self.cut(each, AWAY_S * self.chance.random())
            for consumer in self.server.consumers.values():
                for seq in list(consumer.in_flight):
                    self.server.put_back(consumer, seq)
        return faults


def paid_again(world: World) -> list[str]:
    """Model calls that began after the reply to their turn was stored."""
    replied_s: dict[str, list[float]] = defaultdict(list)
    for address, entry, message in world.entries():
        if isinstance(entry, ModelReplied):
            replied_s[address.thread].append(message.at_s)
    return [
        f"{world.schedule}: turn {call.turn} of {call.thread} was paid by {call.by}"
        for call in world.ledgers.model_calls
        if call.turn < len(replied_s[call.thread]) and replied_s[call.thread][call.turn] < call.at_s
    ]


def played() -> list[str]:
    found = []
    for seed, work, at in (*EVERYWHERE, *CLOSE):
        world = Forgetful(Schedule(seed, work, (), 2), at)
        world.play()
        assert world.replied, f"{world.schedule}, at {at}: {world.ended}"
        found += paid_again(world)
    return found


def test_no_reply_is_paid_for_again_where_a_server_forgets_whose_the_threads_are() -> None:
    assert not played()


@pytest.mark.parametrize(
    ("owner", "name", "instead"),
    [
        pytest.param(Leases, "_is_certain", lambda self, lease: True, id="the bus is not asked whose the thread is"),
        pytest.param(HeldThread, "unproven", False, id="nothing is written before a model is asked"),
    ],
)
def test_one_would_be_without_either_of_two_precautions(
    owner: type, name: str, instead: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, instead)
    assert played()
