"""A thread that has gone on for long is taken up by a replica that has never seen it."""

from __future__ import annotations

import time
from typing import Literal

import msgspec
import pytest

from shanty_protocol import (
    Brief,
    DelegationSent,
    Entry,
    EntryAddress,
    ModelReplied,
    ThreadOpened,
    ToolReturned,
    Usage,
)
from shanty_protocol.ids import LOG
from shanty_runtime.agent import Profile
from shanty_runtime.bus import Bus, EmbeddedServer, Written, written
from shanty_runtime.testing.bus import bus_settings
from shanty_runtime.thread.decide import AskModel, Stamp, decide
from shanty_runtime.thread.verbs import SPECIALIST_VERBS, verb_cards
from shanty_runtime.worker.workplace import Workplace
from support.filling import PLACEHOLDER, fill

RUN = "0-20260101-long00"
ENTRIES = 2_001
MOST_S = 0.5
MOST_ON_A_BUSY_MACHINE_S = 2.0
TRIES = 5
PAGE = "line after line of something that was looked up\n" * 10


def long_thread() -> list[Written]:
    """As many entries of alpha's thread 0-1: each turn of its model looks something up."""
    order = EntryAddress("alpha", PLACEHOLDER, "0", "lead", 0)
    brief = Brief(objective="read all of it")
    found = [written(order, DelegationSent(at_ms=1, by="lead-1", fence=1, to_thread="0-1", brief=brief))]
    entries: list[Entry] = [ThreadOpened(at_ms=2, by="alpha-1", fence=1, consumed=(order.subject,))]
    while len(entries) < ENTRIES:
        call_id, at_ms = f"call-{len(entries)}", 2 + len(entries)
        call = {"type": "tool_use", "id": call_id, "name": "look_up", "input": {"page": len(entries)}}
        entries += [
            ModelReplied(
                at_ms=at_ms,
                by="alpha-1",
                fence=1,
                blocks=({"type": "text", "text": "On to the next page."}, call),
                stop_reason="tool_use",
                model="test",
                usage=Usage(input_tokens=1_000, output_tokens=20),
            ),
            ToolReturned(at_ms=at_ms, by="alpha-1", fence=1, call_id=call_id, name="look_up", content=PAGE),
        ]
    before = ""
    for n, entry in enumerate(entries):
        found.append(written(EntryAddress(LOG, PLACEHOLDER, "0-1", "alpha", n), entry, before))
        before = found[-1].own
    return found


@pytest.mark.parametrize("zone", ["control", "agent"])
async def test_a_thread_of_two_thousand_entries_is_resumed_within_half_a_second(
    server: EmbeddedServer, bus: Bus, zone: Literal["control", "agent"]
) -> None:
    await fill(server.url, [RUN], long_thread())
    profile = Profile(agent="alpha", role="specialist", verbs=verb_cards(SPECIALIST_VERBS), max_turns=10_000)
    took_s: list[float] = []
    used_s: list[float] = []
    async with Bus(msgspec.structs.replace(bus_settings(server), zone=zone)) as own:
        for _ in range(TRIES):
            began_s, used_before_s = time.perf_counter(), time.process_time()
            state = (await Workplace(own, profile, "alpha-2", lambda stored: None).load(RUN, "0-1")).state
            step = decide(state, [], Stamp(ENTRIES, "alpha-2", 2), abandoned=False)
            messages = state.dialogue.next_messages()
            took_s.append(time.perf_counter() - began_s)
            used_s.append(time.process_time() - used_before_s)
            assert (state.next_n, state.turns) == (ENTRIES, ENTRIES // 2)
            assert len(messages) == ENTRIES and isinstance(step, AskModel)
    # What other processes take of the machine meanwhile is not ours.
    assert min(used_s) <= MOST_S and min(took_s) <= MOST_ON_A_BUSY_MACHINE_S, (used_s, took_s)
