"""A team under attack: its processes, each behind a gate of its own, and what happens to them.

Who dies is started again at once, as a supervisor would, under a new name: the journals tell the two apart.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from shanty_cli.chaos.faults import Fault
from shanty_cli.chaos.gate import Gate
from shanty_cli.chaos.ledgers import FOLDER_VARIABLE
from shanty_cli.chaos.nodes import Nodes
from shanty_cli.exits import NotRunning
from shanty_cli.fleet import Member, Service, environment_for
from shanty_runtime.bus import Bus, EmbeddedServer
from shanty_runtime.team import Team

READY_DEADLINE_S = 60.0
READY_POLL_S = 0.1
PACE_S = 0.03
"""How long a rehearsed model takes for a turn, so that something can happen meanwhile."""


class Hit(msgspec.Struct, kw_only=True):
    """A fault that has happened, or still goes on."""

    fault: Fault
    replica: str
    """Whom it hit, by the name this process had."""
    agent: str
    """Empty for a server."""
    at_ms: int
    back_at_ms: int = 0
    """When a pause or a partition ended, or a killed server was up again."""


class Storm:
    """Up between `start` and `stop`. `strike` carries faults out."""

    def __init__(
        self, team: Team, members: Sequence[Member], nodes: Nodes, bus: Bus, folder: Path, lease_s: int
    ) -> None:
        self._bus = bus
        self.team, self.nodes, self.folder, self.lease_s = team, nodes, folder, lease_s
        self.members = {member.replica: member for member in members}
        self.services: dict[str, Service] = {}
        self.gates: dict[str, Gate] = {}
        self.hits: list[Hit] = []
        self.deaths: list[str] = []
        """Processes that ended although nobody had killed them."""
        self._killed: set[int] = set()
        self._stopping = False
        self._watching: list[asyncio.Task[None]] = []
        self._away: dict[str, asyncio.Task[None]] = {}
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Returns when every process takes mail."""
        for name, member in self.members.items():
            gate = self.gates[name] = await self._stack.enter_async_context(Gate(self.nodes.ports))
            self.services[name] = Service(member, self._environment(gate), self.folder / "logs" / f"{name}.log")
        for service in self.services.values():
            await service.start()
        self._watching = [asyncio.create_task(self._keep_up(service)) for service in self.services.values()]
        await self._up(self.members)

    async def stop(self) -> None:
        self._stopping = True
        for task in (*self._watching, *self._away.values()):
            task.cancel()
        await asyncio.gather(*self._watching, *self._away.values(), return_exceptions=True)
        for service in self.services.values():
            service.send(signal.SIGKILL)
        await asyncio.gather(*(service.ended() for service in self.services.values() if service.running))
        await self._stack.aclose()

    async def strike(self, faults: Sequence[Fault], tell: Callable[[Hit], None]) -> None:
        """One fault after the other. Returns when all that was paused, cut or down is back."""
        for fault in faults:
            await asyncio.sleep(fault.wait_s)
            await self._back(fault.target)
            await self._others_up(fault.target)
            if fault.target in self.nodes.servers:
                for name in self.nodes.names:
                    await self._back(name)
                await self.nodes.whole()
            self._away[fault.target] = asyncio.create_task(self._carry_out(fault, tell))
            await asyncio.sleep(0)
        for target in list(self._away):
            await self._back(target)

    async def _others_up(self, target: str) -> None:
        """Wait until whoever does the same as the target takes mail: with nobody left there is no takeover to see."""
        if target in self.members:
            agent = self.members[target].agent
            others = [name for name, member in self.members.items() if member.agent == agent and name != target]
            for name in others:
                await self._back(name)
            await self._up(others)

    async def _back(self, target: str) -> None:
        if (task := self._away.pop(target, None)) is not None:
            await task

    async def _carry_out(self, fault: Fault, tell: Callable[[Hit], None]) -> None:
        service = self.services.get(fault.target)
        hit = Hit(
            fault=fault,
            replica=fault.target if service is None else service.replica,
            agent="" if service is None else service.member.agent,
            at_ms=_now_ms(),
        )
        self.hits.append(hit)
        tell(hit)
        if service is None:
            await _hit_server(self.nodes.servers[fault.target], fault)
        else:
            await self._hit_service(service, fault)
        hit.back_at_ms = _now_ms()
        with (self.folder / "faults.jsonl").open("ab") as file:
            file.write(msgspec.json.encode(hit) + b"\n")

    async def _hit_service(self, service: Service, fault: Fault) -> None:
        match fault.kind:
            case "kill":
                self._killed.add(service.pid)
                service.send(signal.SIGKILL)
            case "pause":
                service.send(signal.SIGSTOP)
                await asyncio.sleep(fault.lasts_s)
                service.send(signal.SIGCONT)
            case "partition":
                gate = self.gates[service.member.replica]
                gate.cut()
                await asyncio.sleep(fault.lasts_s)
                gate.heal()

    async def _keep_up(self, service: Service) -> None:
        while True:
            pid, code = service.pid, await service.ended()
            if self._stopping:
                return
            if pid not in self._killed:
                self.deaths.append(f"{service.replica} ended with {code}: {service.last_words()[-400:]}")
                await asyncio.sleep(1)  # what dies by itself would otherwise be started over and over
            await service.start()

    async def _up(self, names: Collection[str]) -> None:
        """Wait until all of these take mail, whoever plays them by then. Raises NotRunning where they do not."""
        deadline_s = time.monotonic() + READY_DEADLINE_S
        while True:
            there = {card.replica for card in await self._bus.roster.cards()}
            missing = [self.services[name].replica for name in names if self.services[name].replica not in there]
            if not missing:
                return
            if time.monotonic() > deadline_s:
                died = "".join(f"; {death}" for death in self.deaths)
                raise NotRunning(
                    f"{', '.join(sorted(missing))} did not get ready: logs are in {self.folder / 'logs'}{died}"
                )
            await asyncio.sleep(READY_POLL_S)

    def _environment(self, gate: Gate) -> dict[str, str]:
        usual = environment_for(
            self.team,
            nats_url=gate.url,
            monitor_url=self.nodes.monitor_url,
            model="rehearsal",
            pace_s=PACE_S,
            lease_s=self.lease_s,
            own_server=True,
        )
        return {**usual, FOLDER_VARIABLE: str(self.folder), "SHANTY_START_WAIT_S": "30"}


async def _hit_server(server: EmbeddedServer, fault: Fault) -> None:
    if fault.kind == "kill":
        await server.kill9()
        await asyncio.sleep(fault.lasts_s)
        await server.start()
    else:
        server.freeze()
        await asyncio.sleep(fault.lasts_s)
        server.thaw()


def _now_ms() -> int:
    return int(time.time() * 1000)
