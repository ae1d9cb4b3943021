from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from shanty_protocol import EntryAddress, ThreadOpened, ThreadTakenOver, ToolCalled, ToolDelayed
from shanty_protocol.ids import LOG
from shanty_runtime.bus.clock import Clock
from shanty_runtime.thread.fold import apply
from shanty_runtime.thread.state import State
from shanty_runtime.worker.held import HeldThread
from support.player import RUN, SPECIALIST

THREAD = "0-1"


def folded(*entries: Any) -> State:
    state = State(run=RUN, thread=THREAD, profile=SPECIALIST)
    for n, entry in enumerate(entries):
        apply(state, EntryAddress(LOG, RUN, THREAD, SPECIALIST.agent, n), entry, {})
    return state


def held(state: State, lease_fence: int) -> HeldThread:
    workplace: Any = SimpleNamespace(bus=SimpleNamespace(clock=Clock()), replica="worker-2", profile=SPECIALIST)
    lease: Any = SimpleNamespace(
        key="alpha.0-r.0-1", fence=lease_fence, journal_length=0, abandoned=False, traced=False
    )
    return HeldThread(workplace, lease, state, {})


@pytest.mark.parametrize(("lease_fence", "fence"), [(12, 12), (9, 9), (8, 10), (1, 10)])
def test_whoever_goes_on_with_a_journal_is_later_than_it_although_leases_are_counted_anew(
    lease_fence: int, fence: int
) -> None:
    state = folded(ThreadOpened(at_ms=1, fence=9), ThreadTakenOver(at_ms=2, fence=7))

    assert held(state, lease_fence).fence == fence
    assert held(state, lease_fence).stamp().fence == fence


def test_an_intent_says_who_makes_the_call() -> None:
    state = folded(
        ToolCalled(at_ms=1, call_id="a", name="pay", fenced=True), ToolCalled(at_ms=2, call_id="b", name="pay")
    )

    assert [(call.id, call.intended, call.fenced) for call in state.open_calls] == [
        ("a", True, True),
        ("b", True, False),
    ]


def test_waiting_for_a_tool_gateway_is_no_step_forward() -> None:
    called = ToolCalled(at_ms=1, call_id="a", name="pay", fenced=True)
    delayed = ToolDelayed(at_ms=3, call_id="a", name="pay", reason="nobody answers")
    state = folded(called, ThreadTakenOver(at_ms=2), delayed, ThreadTakenOver(at_ms=4), delayed)

    assert state.attempts == 2
    assert [call.id for call in state.open_calls] == ["a"]
