"""The tool gateway as a process of the simulation, and what has to be true of the calls it makes.

It is the one that runs in production, without what is around it: health, its card, MCP servers, a team in a folder.

Nobody else makes a call of its tools. A call is started in its journal before it happens, and once; nothing is
started that was withdrawn; and what a thread writes down of a call is what the gateway's journal says came of it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from shanty_protocol import EffectEnded, EffectFenced, EffectStarted, ToolReturned
from shanty_protocol.ids import TOOL_GATEWAY
from shanty_protocol.subjects import effect_address
from shanty_runtime.bus import Bus, Serving
from shanty_runtime.tools.base import Tool
from shanty_toolgateway.gateway import ToolGateway
from simulation.kept import Kept
from simulation.ledgers import Effect
from simulation.team import TEAM, TOOLS


class SimulatedToolbox:
    """Every agent of the team has the same tools."""

    def find(self, agent: str, name: str) -> Tool | None:
        tool = TOOLS.get(name)
        return tool if tool is not None and tool.fenced else None

    def denied(self, agent: str, name: str, arguments: dict[str, Any]) -> bool:
        return False


class SimulatedToolGateway:
    """One replica. Has of a worker what a world asks of one."""

    def __init__(self, bus: Bus, replica: str) -> None:
        toolbox: Any = SimulatedToolbox()
        self.draining = False
        self._bus = bus
        self._gateway = ToolGateway(bus, toolbox, replica=replica, max_running=8)
        self._serving: Serving | None = None

    async def start(self) -> None:
        self._serving = await self._bus.effects.serve(TEAM, self._gateway.answer)

    async def run(self) -> None:
        await asyncio.get_running_loop().create_future()

    async def stop(self, grace_s: float) -> None:
        self.draining = True
        assert self._serving is not None, "it was started"
        await self._serving.close()
        await self._gateway.stop(grace_s)
        await self._serving.stop()


def problems(run: str, kept: Sequence[Kept], effects: Sequence[Effect]) -> Iterator[str]:
    """What is wrong with a run whose irreversible calls the tool gateway makes."""
    journals: dict[str, list[Kept]] = defaultdict(list)
    for each in kept:
        if each.address.agent == TOOL_GATEWAY:
            journals[each.address.thread].append(each)
    for thread, journal in journals.items():
        journal.sort(key=lambda one: one.address.n)
        yield from _problems_of_call(thread, journal)
    for effect in effects:
        if TOOLS[effect.tool].fenced:
            yield from _problems_of_effect(effect, journals)
    for each in kept:
        entry = each.entry
        if isinstance(entry, ToolReturned) and entry.name in TOOLS and TOOLS[entry.name].fenced:
            thread = effect_address(run, each.address.agent, each.address.thread, entry.call_id, 0).thread
            yield from _problems_of_result(entry, journals.get(thread, []))


def _problems_of_call(thread: str, journal: Sequence[Kept]) -> Iterator[str]:
    started = ended = withdrawn = False
    fence = 0
    for place, each in enumerate(journal):
        entry = each.entry
        if each.address.n != place or ended:
            yield f"{thread} has a gap, or goes on after its end"
        if entry.fence < fence:
            yield f"{thread} was written to for lease {entry.fence}, after a worker with lease {fence} had asked"
        fence = max(fence, entry.fence)
        match entry:
            case EffectFenced():
                withdrawn = withdrawn or entry.withdrawn
            case EffectStarted():
                if started or withdrawn:
                    yield f"{thread} was started {'again' if started else 'although it was withdrawn'}"
                started = True
            case EffectEnded():
                if not started:
                    yield f"{thread} has ended, and was never started"
                ended = True
            case _:
                yield f"{thread} has {type(entry).__name__}, which says nothing about a call"


def _problems_of_effect(effect: Effect, journals: dict[str, list[Kept]]) -> Iterator[str]:
    if not effect.by.startswith(f"{TOOL_GATEWAY}-"):
        yield f"{effect.tool} of {effect.key} was called by {effect.by}, which is no tool gateway"
        return
    run, thread, call_id = effect.key.split(".")
    journal = journals.get(effect_address(run, effect.agent, thread, call_id, 0).thread, [])
    if not any(isinstance(each.entry, EffectStarted) and each.message.at_s <= effect.at_s for each in journal):
        yield f"{effect.tool} of {effect.key} happened before the tool gateway had written that it starts it"


def _problems_of_result(entry: ToolReturned, journal: Sequence[Kept]) -> Iterator[str]:
    ended = next((each.entry.status for each in journal if isinstance(each.entry, EffectEnded)), None)
    if entry.status in ("ok", "unknown") and entry.status != ended:
        yield f"{entry.name} {entry.call_id} is said to be {entry.status}, and the tool gateway says {ended}"
