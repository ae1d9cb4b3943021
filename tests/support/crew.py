"""A team as it runs in production, on one machine: a real nats-server, and one process for each replica."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from shanty_protocol import Brief, DelegationSent, Entry, EntryAddress, Outcome, ThreadReplied
from shanty_protocol.ids import OPERATORS, TOOL_GATEWAY
from shanty_protocol.zones import INSTALLER, Access, zones_of
from shanty_runtime.bus import Bus, BusSettings, EmbeddedServer, Stored, create_layout
from shanty_runtime.team import Team, load_team
from shanty_runtime.tools.workspace import one_part
from support.commands import Done
from support.zones import Logins

TEAMS = Path(__file__).parent.parent / "teams"
LEASE_S = 1
MODULES = {TOOL_GATEWAY: "shanty_toolgateway"}


class Replica:
    """One process that plays one agent."""

    def __init__(self, name: str, agent: str, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.name, self.agent = name, agent
        self.command, self.environment, self.log = command, environment, log
        self.process = self._spawn()

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(self.command, env=dict(self.environment), stdout=log, stderr=log)

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def respawn(self) -> None:
        self.process = self._spawn()

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


class Crew:
    def __init__(
        self,
        team: Team,
        server: EmbeddedServer,
        bus: Bus,
        folder: Path,
        environment: dict[str, str],
        logins: Logins | None = None,
    ) -> None:
        self.team, self.server, self.bus, self.folder = team, server, bus, folder
        self.logins = logins
        self.environment = environment
        self.replicas: list[Replica] = []
        self.fences = False
        """Whether irreversible calls are made by a tool gateway, or by the agents themselves."""
        self._added: Counter[str] = Counter()

    def add(self, agent: str, **environment: str) -> Replica:
        """One more replica of an agent."""
        self._added[agent] += 1
        name = f"{agent}-{self._added[agent]}"
        module = MODULES.get(agent, "shanty_specialist")
        if agent == self.team.lead.name:
            module = "shanty_lead"
        settings = {
            "SHANTY_NATS_URL": self.server.url,
            "SHANTY_TEAM": str(self.team.folder),
            "SHANTY_AGENT": agent,
            "SHANTY_MODEL": "rehearsal",
            "SHANTY_REPLICA": name,
            "SHANTY_LEASE_S": str(LEASE_S),
            "SHANTY_HTTP_PORT": "0",
            "SHANTY_TOOL_GATEWAY": "on" if self.fences else "off",
        }
        replica = Replica(
            name,
            agent,
            [sys.executable, "-m", module],
            {**os.environ, **settings, **self._login_of(agent), **self.environment, **environment},
            self.folder / f"{name}.log",
        )
        self.replicas.append(replica)
        return replica

    def _login_of(self, agent: str) -> dict[str, str]:
        if self.logins is None:
            return {}
        zone = "control" if agent in (self.team.lead.name, TOOL_GATEWAY) else "agent"
        return {"SHANTY_NATS_NKEY_SEED": str(self.logins.seed_file(agent)), "SHANTY_NATS_ZONE": zone}

    async def ready(self) -> None:
        """Every replica that was started is on the roster."""
        wanted = {each.name for each in self.replicas}
        await until(lambda: self._is_up(wanted), 90, f"replicas {sorted(wanted)} on the roster")

    async def _is_up(self, wanted: set[str]) -> bool:
        for replica in self.replicas:
            assert replica.process.poll() is None, f"{replica.name} died:\n{replica.log.read_text()[-3000:]}"
        return wanted <= {card.replica for card in await self.bus.roster.cards()}

    async def kill_one(self, chance: random.Random, within_s: float, *agents: str) -> None:
        """Kill a replica of one of these agents, or of any, at some instant; it is started again at once."""
        await asyncio.sleep(chance.uniform(0, within_s))
        replica = chance.choice([each for each in self.replicas if not agents or each.agent in agents])
        replica.kill()
        replica.respawn()

    async def start(self, run: str, objective: str = "go", traceparent: str = "") -> str:
        """Give the team a goal. Returns the subject of the delegation."""
        address = EntryAddress(self.team.lead.name, run, "request-1", "cli", 0)
        now_ms = int(time.time() * 1000)
        order = DelegationSent(at_ms=now_ms, by="test", to_thread="0", brief=Brief(objective=objective))
        await self.bus.journals.append(address, order, {"traceparent": traceparent} if traceparent else {})
        return address.subject

    async def put(self, run: str, folder: Path) -> None:
        """Put a folder's files into a run's workspace."""
        for path, content in contents(folder):
            await self.bus.files.commit(
                run, path, one_part(content), base_version=0, agent="cli", thread="request-1", key=f"{run}.input"
            )

    async def reply(self, run: str, within_s: float = 60) -> Outcome:
        """The outcome of a run."""
        async with asyncio.timeout(within_s):
            async for stored in self.bus.feed.follow(run):
                if stored.address.to == "cli" and isinstance(stored.entry, ThreadReplied):
                    return stored.entry.outcome
        raise AssertionError("a feed does not end by itself")

    async def shanty(self, *arguments: str) -> Done:
        """A command of people on this bus, carried out. It prints JSON."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "shanty_cli", *arguments, "--nats-url", self.server.url, "-o", "json"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return Done(process.returncode, out.decode(), err.decode())

    async def told(self, *arguments: str) -> Any:
        """What a command prints that has to succeed."""
        done = await self.shanty(*arguments)
        assert done.code == 0, (arguments, done)
        return done.json

    async def entries(self, run: str) -> list[Stored]:
        return [stored async for stored in self.bus.journals.run_entries(run)]

    async def journal(self, run: str, thread: str, agent: str) -> list[Entry]:
        part = await self.bus.journals.read(run, thread, agent)
        return [stored.entry for stored in part.entries]


def contents(folder: Path) -> list[tuple[str, bytes]]:
    files = sorted(each for each in folder.rglob("*") if each.is_file())
    return [(file.relative_to(folder).as_posix(), file.read_bytes()) for file in files]


@asynccontextmanager
async def crew(
    team: str | Path,
    folder: Path,
    agents: Mapping[str, int],
    environment: Mapping[str, str] | None = None,
    *,
    ack_wait_s: float = LEASE_S,
    zones: bool = False,
) -> AsyncIterator[Crew]:
    """A running team: `agents` says how many replicas of each.

    Replicas of `toolgateway` are tool gateways; without any, agents make irreversible calls themselves.
    With `zones` each agent logs into a zone of its own, and the test itself into that of the operators.
    """
    loaded = load_team(TEAMS / team)
    logins = _logins_of(loaded, folder / "keys") if zones else None
    async with EmbeddedServer(store_dir=folder / "nats", extra=logins.configuration() if logins else "") as server:
        names = [agent.name for agent in loaded.agents]
        anybody = Bus(BusSettings(url=server.url, name="test", lease_s=LEASE_S))
        async with logins.bus(server.url, INSTALLER) if logins else anybody as installer:
            await create_layout(installer, agents=names, mapped=loaded.mapped, ack_wait_s=ack_wait_s)
        async with logins.bus(server.url, OPERATORS, lease_s=LEASE_S) if logins else anybody as bus:
            running = Crew(loaded, server, bus, folder, dict(environment or {}), logins)
            try:
                running.fences = TOOL_GATEWAY in agents
                for agent, replicas in agents.items():
                    for _ in range(replicas):
                        running.add(agent)
                await running.ready()
                yield running
            finally:
                for replica in running.replicas:
                    replica.kill()


def _logins_of(team: Team, folder: Path) -> Logins:
    specialists = {
        agent.name: Access(memory=agent.memory, leads=team.leads_of(agent.name)) for agent in team.specialists
    }
    starts_on = team.mapped.get(team.name, ())
    return Logins(zones_of(team.name, team.lead.name, specialists, starts_on=starts_on, fenced=team.fenced), folder)


async def until(check: Callable[[], Awaitable[bool]], within_s: float, what: str) -> None:
    """Ask again until it is so. For what no event tells."""
    deadline = time.monotonic() + within_s
    while not await check():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.02)
