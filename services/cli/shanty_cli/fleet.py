"""The processes of a team on this machine: started, watched, started again when they die, and never left behind.

Each service is a child in a session of its own, so that Ctrl-C in the terminal reaches only us and we drain the
services in order. On Linux the kernel ends them when we die without a chance to: a killed parent leaves no orphan.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec

from shanty_cli.dev_bus import cards_of
from shanty_cli.exits import NotRunning
from shanty_cli.text import clean
from shanty_protocol import AgentCard
from shanty_protocol.ids import TOOL_GATEWAY
from shanty_runtime.bus import Bus
from shanty_runtime.errors import ConfigError
from shanty_runtime.team import Team

READY_DEADLINE_S = 60.0
READY_POLL_S = 0.1
STOP_DEADLINE_S = 5.0
RESTART_FIRST_S = 0.5
RESTART_MOST_S = 10.0
STEADY_S = 30.0
"""A service that ran this long before it died starts again at once."""
LOG_TAIL_LINES = 12

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None

Say = Callable[[str], None]


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One process: which agent it plays, or that it is a tool gateway, and its name among those that do the same."""

    agent: str
    module: str
    replica: str


def members_of(team: Team, scale: Mapping[str, int]) -> tuple[Member, ...]:
    """One process for each agent, or as many as `scale` says, and a tool gateway where the team needs one.

    Raises ConfigError for an agent the team has not.
    """
    modules = {agent.name: "shanty_lead" if agent.role == "lead" else "shanty_specialist" for agent in team.agents}
    if team.fenced:
        modules[TOOL_GATEWAY] = "shanty_toolgateway"
    for name in scale.keys() - modules.keys():
        team.agent(name)
    return tuple(
        Member(agent=name, module=module, replica=f"{name}-{number}")
        for name, module in modules.items()
        for number in range(1, scale.get(name, 1) + 1)
    )


class Service:
    """One member's process, and the one that follows it when it dies."""

    def __init__(self, member: Member, environment: Mapping[str, str], log: Path) -> None:
        self.member = member
        self.environment = environment
        self.log = log
        self.starts = 0
        self.ready = False
        self._process: asyncio.subprocess.Process | None = None
        self._started_s = 0.0

    @property
    def replica(self) -> str:
        """A process that follows a dead one has a name of its own: a thread's journal tells the two apart."""
        return self.member.replica if self.starts <= 1 else f"{self.member.replica}-{self.starts}"

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.member.replica} was never started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def ran_s(self) -> float:
        return time.monotonic() - self._started_s

    async def start(self) -> None:
        self.starts += 1
        self._started_s = time.monotonic()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self.member.module,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**self.environment, "SHANTY_AGENT": self.member.agent, "SHANTY_REPLICA": self.replica},
                start_new_session=True,
                preexec_fn=partial(_die_with_parent, os.getpid()) if _libc is not None else None,
            )

    async def ended(self) -> int:
        """Its exit code, once it has ended; minus the signal's number where a signal ended it."""
        assert self._process is not None
        return await self._process.wait()

    def send(self, how: signal.Signals) -> None:
        """To the process and whatever it started."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, how)

    def last_words(self) -> str:
        """The end of its log: what it said before it died."""
        with contextlib.suppress(FileNotFoundError), self.log.open(errors="replace") as log:
            return clean("".join(deque(log, LOG_TAIL_LINES))).strip()
        return ""


class Fleet:
    """`start` returns when the processes are there, `wait_ready` when they take mail. `stop` may be called twice."""

    def __init__(
        self,
        members: Sequence[Member],
        environment: Mapping[str, str],
        logs: Path,
        *,
        say: Say,
        restart: bool = True,
    ) -> None:
        self.services = tuple(Service(member, environment, logs / f"{member.replica}.log") for member in members)
        self.say = say
        self.restart = restart
        self._stopping = False
        self._started_ms = 0
        self._failed: asyncio.Future[NotRunning] | None = None
        self._watching: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._failed = asyncio.get_running_loop().create_future()
        self._started_ms = int(time.time() * 1000)
        for service in self.services:
            service.log.unlink(missing_ok=True)
            await service.start()
        self._watching = [asyncio.create_task(self._watch(service)) for service in self.services]

    async def wait_ready(self, bus: Bus, deadline_s: float = READY_DEADLINE_S) -> None:
        """Until each process has put its card on the roster. Raises NotRunning where one ends or does not come."""
        assert self._failed is not None, "the fleet was not started"
        deadline = time.monotonic() + deadline_s
        while missing := self._not_up(await cards_of(bus)):
            if self._failed.done():
                raise self._failed.result()
            if time.monotonic() > deadline:
                names = ", ".join(service.member.replica for service in missing)
                raise NotRunning(f"{names} did not get ready within {deadline_s:g} s; logs: {missing[0].log.parent}")
            await asyncio.wait([self._failed], timeout=READY_POLL_S)
        for service in self.services:
            service.ready = True

    async def stop(self) -> None:
        """Let every service finish its step, and end what does not."""
        self._stopping = True
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        self._watching = []
        running = [service for service in self.services if service.running]
        for service in running:
            service.send(signal.SIGTERM)
        ending = [asyncio.ensure_future(service.ended()) for service in running]
        if ending:
            await asyncio.wait(ending, timeout=STOP_DEADLINE_S)
            for service in running:
                service.send(signal.SIGKILL)
            await asyncio.gather(*ending)

    async def __aenter__(self) -> Fleet:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    def named(self, replica: str) -> Service | None:
        """The service whose process has this name now."""
        return next((service for service in self.services if service.replica == replica), None)

    def _not_up(self, cards: Sequence[AgentCard]) -> list[Service]:
        # A card outlives a killed process for a while: one of the same name from before us does not count.
        up = {(card.agent, card.replica) for card in cards if card.started_at_ms >= self._started_ms}
        return [service for service in self.services if (service.member.agent, service.replica) not in up]

    async def _watch(self, service: Service) -> None:
        """Start a service again when it dies, later each time it dies young."""
        pause_s = RESTART_FIRST_S
        while True:
            code = await service.ended()
            if self._stopping:
                return
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            if not service.ready:
                self._fail(service, how)
                return
            if not self.restart:
                return
            pause_s = RESTART_FIRST_S if service.ran_s > STEADY_S else min(2 * pause_s, RESTART_MOST_S)
            self.say(f"{service.replica} {how}; starting it again in {pause_s:g} s (log: {service.log})")
            await asyncio.sleep(pause_s)
            await service.start()

    def _fail(self, service: Service, how: str) -> None:
        assert self._failed is not None
        if not self._failed.done():
            words = service.last_words()
            told = f":\n{words}" if words else f"; its log is {service.log}"
            self._failed.set_result(NotRunning(f"{service.replica} {how} before it was ready{told}"))


def environment_for(
    team: Team,
    *,
    nats_url: str,
    monitor_url: str = "",
    model: str = "",
    record: str = "",
    pace_s: float | None = None,
    lease_s: int | None = None,
    drain_s: float = STOP_DEADLINE_S - 1,
    own_server: bool,
) -> dict[str, str]:
    """The environment of every service. With a server of our own, what was set for another one is left out."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not (own_server and name.startswith("SHANTY_NATS_")) and name not in _PER_PROCESS
    }
    ours = {
        "SHANTY_NATS_URL": nats_url,
        "SHANTY_NATS_MONITOR_URL": monitor_url,
        "SHANTY_TEAM": str(team.folder.resolve()),
        "SHANTY_MODEL": model,
        "SHANTY_RECORD": record,
        "SHANTY_HTTP_HOST": "127.0.0.1",
        "SHANTY_HTTP_PORT": "0",
        "SHANTY_DRAIN_S": str(drain_s),
        "SHANTY_REHEARSAL_PACE_S": "" if pace_s is None else str(pace_s),
        "SHANTY_LEASE_S": "" if lease_s is None else str(lease_s),
        "PYTHONUNBUFFERED": "1",
    }
    return {**kept, **{name: value for name, value in ours.items() if value}}


_PER_PROCESS = frozenset({"SHANTY_AGENT", "SHANTY_REPLICA", "SHANTY_HTTP_HOST", "SHANTY_HTTP_PORT", "SHANTY_TEAM"})


def scale_of(given: Sequence[str]) -> dict[str, int]:
    """`logs=2` as a mapping. Raises ConfigError for anything else."""
    scale: dict[str, int] = {}
    for each in given:
        agent, equals, number = each.partition("=")
        if not equals or not number.isdecimal() or int(number) < 1:
            raise ConfigError(f"--scale {each}: expected AGENT=NUMBER with a number from 1, such as logs=2")
        scale[agent] = int(number)
    return scale


def _die_with_parent(parent: int) -> None:
    """Runs in the child before Python does. SIGKILL: the service loses nothing by it, and cannot ignore it."""
    assert _libc is not None
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel was told to watch it
        os._exit(1)
