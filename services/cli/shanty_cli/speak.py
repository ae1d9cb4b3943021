"""Speaking to a run that is under way: advice to one of its threads, and requests to stop.

What a person says is an entry of a journal of their own, like everything else: agent `operators`, a thread of its own
for each thing said. A thread that works reads it at once, and notes in its journal that it has.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import aclosing
from typing import Literal

import msgspec

from shanty_cli.exits import UsageError
from shanty_cli.lookup import view_of
from shanty_cli.output import Output
from shanty_cli.text import one_line
from shanty_protocol import Budget, BudgetGranted, CancelSent, Entry, EntryAddress, MessageSent, ProtocolError
from shanty_protocol.ids import OPERATORS, ROOT_THREAD
from shanty_runtime.agent.budget import told
from shanty_runtime.bus import Bus


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What became of something a person said."""

    run: str
    thread: str
    agent: str
    said: str
    """Subject of what was said."""
    read_by: str = ""
    """The replica that has read it; empty where none had in time."""
    read_at_entry: int | None = None
    """The place in the thread's journal at which it took effect."""
    after_s: float | None = None


async def say(bus: Bus, run: str, thread: str, text: str, wait_s: float) -> Said:
    """Advise a thread at work, or ask one that has replied something further."""
    if not text.strip():
        raise UsageError("there is nothing to say: give the text as the last argument, in quotes")
    message = MessageSent(at_ms=_now_ms(), by=_by(), to_thread=thread, purpose="follow_up", text=text)
    return await _send(bus, run, thread, message, wait_s)


async def stop(
    bus: Bus, run: str, thread: str, mode: Literal["wrap_up", "abort"], reason: str, within_s: float, wait_s: float
) -> Said:
    """Have a thread stop, and all it has opened."""
    cancel = CancelSent(at_ms=_now_ms(), by=_by(), to_thread=thread, mode=mode, reason=reason, within_s=within_s)
    return await _send(bus, run, thread, cancel, wait_s)


async def grant(bus: Bus, run: str, more: Budget, reason: str, wait_s: float) -> Said:
    """Let a run spend more. What it is not limited in cannot be raised."""
    limits = (await view_of(bus, run)).spending.limits
    named = {name for name, amount in msgspec.structs.asdict(more).items() if amount is not None}
    if free := [name for name in sorted(named) if getattr(limits, name) is None]:
        kept = told(limits) if limits != Budget() else "in nothing"
        raise UsageError(f"run {run} is not limited in {_names(free)}, so there is nothing to raise; it is: {kept}")
    entry = BudgetGranted(at_ms=_now_ms(), by=_by(), to_thread=ROOT_THREAD, budget=more, reason=reason)
    return await _send(bus, run, ROOT_THREAD, entry, wait_s)


def _names(fields: list[str]) -> str:
    people_say = {"cost_microusd": "usd", "wall_s": "seconds"}
    return ", ".join(people_say.get(field, field) for field in fields)


def show(said: Said, out: Output) -> None:
    if out.json:
        out.data(said)
    elif said.read_at_entry is None:
        print(f"stored for {said.agent}, thread {said.thread}, which has not read it yet", file=out.stdout)
    else:
        print(
            f"read by {said.read_by}, thread {said.thread}, at entry {said.read_at_entry} after {said.after_s} s",
            file=out.stdout,
        )


async def _send(bus: Bus, run: str, thread: str, entry: Entry, wait_s: float) -> Said:
    agent = await _agent_of(bus, run, thread)
    address = EntryAddress(agent, run, f"say-{secrets.token_hex(6)}", OPERATORS, 0)
    began_s = time.monotonic()
    placed = await bus.journals.append(address, entry)
    said = Said(run=run, thread=thread, agent=agent, said=address.subject)
    try:
        async with asyncio.timeout(wait_s):
            return await _read(bus, said, placed.stored.seq, began_s)
    except TimeoutError:
        return said


async def _read(bus: Bus, said: Said, from_seq: int, began_s: float) -> Said:
    """Wait until the thread's journal has taken it in."""
    async with aclosing(bus.feed.follow(said.run, from_seq)) as entries:
        async for stored in entries:
            try:
                entry = stored.entry
            except ProtocolError:
                continue
            if said.said in entry.consumed:
                return msgspec.structs.replace(
                    said,
                    read_by=entry.by,
                    read_at_entry=stored.address.n,
                    after_s=round(time.monotonic() - began_s, 3),
                )
    raise AssertionError("a feed does not end by itself")


async def _agent_of(bus: Bus, run: str, thread: str) -> str:
    view = await view_of(bus, run)
    if thread not in view.threads:
        there = ", ".join(f"{each.thread} ({each.agent})" for each in view.in_order) or "none"
        raise UsageError(f"run {run} has no thread {one_line(thread, 60)}; there are {there}")
    return view.threads[thread].agent


def _by() -> str:
    return "cli"


def _now_ms() -> int:
    return int(time.time() * 1000)
