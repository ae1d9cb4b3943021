"""One run of the simulation: real workers on a modelled bus, in virtual time, with the faults of a schedule.

Nothing here decides what a worker does. Workers, activations, journals, leases and pulls are those that run in
production; what is replaced lies below them: the connection to the server, the clock, chance, and the event loop.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping

import msgspec

from shanty_protocol import Entry, EntryAddress
from shanty_protocol.codec import decode_entry
from shanty_protocol.ids import TOOL_GATEWAY
from shanty_protocol.subjects import effect_address, parse_entry
from shanty_runtime.bus import Bus
from shanty_runtime.bus import pull as pull_module
from shanty_runtime.bus.wire import Heard, Incoming
from shanty_runtime.models.base import ModelRequest
from shanty_runtime.tools.base import ToolContext
from shanty_runtime.worker import Worker
from simulation.connection import Answered, SimulatedConnection
from simulation.determinism import EPOCH_S, determinism
from simulation.ledgers import Begun, Disturbance, Effect, Ledgers, ModelCall
from simulation.loop import Process, SimulatedLoop, current
from simulation.people import RUN, People
from simulation.questions import INBOX, QUESTION, Questions, fail, resolve
from simulation.schedule import Fault, Schedule
from simulation.server import GET, GET_FROM_LEADER, NEXT, Message, Server
from simulation.team import stage
from simulation.tool_gateway import SimulatedToolGateway
from simulation.work import job_of

Service = Worker | SimulatedToolGateway

UNTIL_S = 800.0
MOST_STEPS = 12_000
TORN_S = 0.004
"""How long a process lives on after a message of it was torn from among those sent with it."""
NOTICED_S = pull_module.SILENCE_S
LOST_S = (0.005, 0.05, 0.5, 5.0)
"""How much of what it did without waiting for its disk a server may have forgotten that was killed."""
BEHIND = 3
"""How many entries a replica lags."""


class World:
    def __init__(self, schedule: Schedule, *, traced: bool = False) -> None:
        self.schedule = schedule
        self.job = job_of(schedule)
        self.programs = self.job.programs
        self.chance = random.Random(schedule.seed)
        # Of a loop it has what tasks and timeouts ask for, and none of what I/O does.
        self.loop = SimulatedLoop(self.chance)  # type: ignore[abstract]
        self.server = Server(self.loop, self.chance, EPOCH_S)
        self.server.on_stored, self.server.on_settled = self._on_stored, self._on_settled
        self.server.lossy = 0.1
        self.ledgers = Ledgers()
        self.points = 0
        self.last_fault_s = 0.0
        self.ended = ""
        """Why it ended although the run had not."""
        self.trace: list[str] | None = [] if traced else None
        self._faults: dict[int, list[Fault]] = {}
        for fault in schedule.faults:
            self._faults.setdefault(fault.at, []).append(fault)
        self._services: dict[Process, tuple[Service, SimulatedConnection]] = {}
        self._started = 0
        self._numbers = 0
        self._behind_until_s = 0.0
        self._crashes = 0
        self._to_tear: list[Fault] = []
        self._buried: list[Process] = []
        self._booted: list[tuple[Service, SimulatedConnection]] = []
        self.questions = Questions(self.loop, self.server, self.chance)
        self.people = People(self.job, self.loop, self.server, self.chance, self.ledgers)

    # From the beginning to the end

    def play(self) -> None:
        stage.world = self
        with determinism(self):
            for agent in self.job.agents:
                self.server.consumer(f"mail-{agent}")
                self.server.consumer(f"timers-{agent}")
            for agent in self.job.agents:
                for slot in range(self.schedule.replicas):
                    self._boot(agent, slot)
            self.people.order()
            self.ended = self.loop.run(until_s=UNTIL_S, most_steps=MOST_STEPS)
            for process in [*self._buried, *self._services]:
                process.dead = True
                self.loop.bury(process)

    def close(self) -> None:
        """Let go of all that happened, so that nothing has to look for it."""
        self.loop.forget()
        for service, connection in self._booted:
            connection.forget()
            vars(service).clear()  # what it has knows it
        self._booted.clear()
        self._services.clear()
        self.questions.answering.clear()
        self._buried.clear()
        self.server.forget()

    def tell(self, text: str) -> None:
        if self.trace is not None:
            self.trace.append(f"{self.loop.now_s:9.4f} {text}")

    # Processes

    def _boot(self, agent: str, slot: int) -> None:
        self._started += 1
        process = Process(f"{agent}-{slot}-{self._started}")
        connection = SimulatedConnection(self, process)
        bus = Bus(connection.settings, connection)
        service: Service
        if agent == TOOL_GATEWAY:
            service = SimulatedToolGateway(bus, process.name)
        else:
            service = Worker(bus, self.job.profiles[agent], replica=process.name, max_active=8)
        self._services[process] = (service, connection)
        self._booted.append((service, connection))
        self.tell(f"{process.name} starts")
        self.loop.spawn(process, _serve(self, process, service))

    def kill(self, process: Process, down_s: float) -> None:
        if process.dead:
            return
        self.tell(f"{process.name} is killed for {down_s:g} s")
        self._disturbed("kill", process, down_s)
        process.dead = True
        self.server.hang_up(process, deaf=True)
        del self._services[process]
        self._buried.append(process)
        agent, slot, _ = process.name.rsplit("-", 2)
        self.loop.call_for(None, self.loop.now_s + down_s, self._boot, agent, int(slot))

    def pause(self, process: Process, seconds: float) -> None:
        if process.paused:
            return
        self.tell(f"{process.name} stands still for {seconds:g} s")
        self._disturbed("pause", process, seconds)
        process.paused = True
        self.loop.call_for(None, self.loop.now_s + seconds, self.loop.resume, process)

    def cut(self, process: Process, seconds: float) -> None:
        """Take a process's connection away, and give it back."""
        if process not in self._services or self._services[process][1].cut:
            return
        self.tell(f"{process.name} loses its connection for {seconds:g} s")
        self._disturbed("cut", process, seconds)
        connection = self._services[process][1]
        connection.cut = True
        connection.breaks += 1
        self.server.hang_up(process, deaf=False)
        self.loop.call_for(process, self.loop.now_s, connection.notice)
        self.loop.call_for(None, self.loop.now_s + seconds, self._mend, process, connection)

    def _mend(self, process: Process, connection: SimulatedConnection) -> None:
        connection.cut = False
        self.loop.call_for(process, self.loop.now_s, connection.notice)

    def drain(self, process: Process, down_s: float) -> None:
        """As SIGTERM does: it hands back what it has, and another one comes."""
        if process not in self._services:
            return
        self.tell(f"{process.name} is told to stop")
        service, _ = self._services[process]
        self._disturbed("drain", process, down_s)
        self.loop.spawn(process, self._stop(process, service, down_s))

    async def _stop(self, process: Process, service: Service, down_s: float) -> None:
        await service.stop(grace_s=min(down_s, 2.0))
        self.kill(process, down_s)

    def _disturbed(self, kind: str, process: Process, seconds: float) -> None:
        now_s = self.loop.now_s
        self.ledgers.disturbances.append(Disturbance(kind, process.name, now_s, now_s + seconds))
        self.last_fault_s = max(self.last_fault_s, now_s + seconds)

    # Points and faults

    def point(self, process: Process, what: str) -> list[Fault]:
        """Something happens in a process. The faults that its schedule has for this moment."""
        self.points += 1
        if self.trace is not None:
            self.tell(f"#{self.points} {process.name} {what}")
        faults = self._faults.get(self.points, [])
        for fault in faults:
            self.last_fault_s = max(self.last_fault_s, self.loop.now_s + fault.seconds)
            match fault.kind:
                case "kill":
                    self.kill(process, fault.seconds)
                case "pause":
                    self.pause(process, fault.seconds)
                case "cut":
                    self.cut(process, fault.seconds)
                case "drain":
                    self.drain(process, fault.seconds)
                case "outage":
                    for each in list(self._services):
                        self.cut(each, fault.seconds)
                case "crash":
                    self._crash(fault.seconds)
                case "torn":
                    self._to_tear.append(fault)
                case "redeliver":
                    self._redeliver()
                case "timer":
                    self._fire_early()
                case "stale":
                    self.tell("reads lag")
                    self.ledgers.disturbances.append(Disturbance("stale", "all", self.loop.now_s, 0.0))
                    self._behind_until_s = self.loop.now_s + fault.seconds
                case _:
                    self._disturbed(fault.kind, process, fault.seconds)
        return faults

    def _crash(self, down_s: float) -> None:
        lost_s = self.chance.choice(LOST_S)
        self.tell(f"the server is killed for {down_s:g} s, and forgets {lost_s:g} s")
        for each in list(self._services):
            self.cut(each, down_s * (0.5 + 0.5 * self.chance.random()))
        self._crashes += 1
        self.server.crash(self.loop.now_s - lost_s)

    def _redeliver(self) -> None:
        held = [(consumer, seq) for consumer in self.server.consumers.values() for seq in consumer.in_flight]
        if held:
            consumer, seq = self.chance.choice(held)
            self.tell(f"{consumer.in_flight[seq].message.subject} is delivered once more")
            self.server.put_back(consumer, seq)

    def _fire_early(self) -> None:
        if self.server.schedules:
            subject = self.chance.choice(list(self.server.schedules))
            self.tell(f"{subject} comes early")
            self.server.fire(subject, self.server.streams["SHANTY_TIMERS_0"].by_subject[subject], again=True)

    def send(
        self,
        connection: SimulatedConnection,
        subject: str,
        data: bytes,
        headers: Mapping[str, str],
        heard: Heard | None,
        answered: Answered | None,
        timeout_s: float,
    ) -> None:
        """A message leaves a process."""
        process = connection.process
        if process.dead:
            return
        what = f"sends {subject} {data[:60]!r}" if self.trace is not None else ""
        faults = self.point(process, what)
        if process not in self._services:
            return  # it has just died
        kinds = {fault.kind for fault in faults} if faults else ()
        leaves_s = self.loop.now_s + self.server.latency_s()
        if "slow" in kinds:
            leaves_s += faults[0].seconds
        if connection.cut:
            return  # the connection is lost, whether its process knows that or not, and with it the message
        lost = "lose" in kinds or self._tears(connection, subject)
        if lost and subject.startswith(NEXT):
            leaves_s, lost = leaves_s + NOTICED_S, False  # a pull that is not heard of is sent again
        if lost:
            self.tell("and it is lost")
            self._fail(process, answered, timeout_s)
        else:
            deaf = "lose_ack" in kinds
            sent_over = connection.breaks, self._crashes
            self.loop.call_for(
                None,
                leaves_s,
                self._arrive,
                connection,
                sent_over,
                subject,
                data,
                headers,
                heard,
                None if deaf else answered,
            )
            if deaf:
                self.tell("and its answer is lost")
                self._fail(process, answered, timeout_s)
            elif subject.startswith(QUESTION):
                self._fail(process, answered, timeout_s)  # whoever answers may be gone before it does
        if "kill_after" in kinds:
            self.kill(process, faults[0].seconds)

    def _tears(self, connection: SimulatedConnection, subject: str) -> bool:
        """Whether this is the message that a fault waits for: an entry that is sent together with another."""
        if not subject.startswith("shanty.0."):
            return False
        together = connection.appended_at_s == self.loop.now_s
        connection.appended_at_s = self.loop.now_s
        if not together or not self._to_tear:
            return False
        fault = self._to_tear.pop()
        self.loop.call_for(None, self.loop.now_s + TORN_S, self.kill, connection.process, fault.seconds)
        self._disturbed("torn", connection.process, fault.seconds)
        return True

    def _fail(self, process: Process, answered: Answered | None, timeout_s: float) -> None:
        if answered is not None:
            self.loop.call_for(process, self.loop.now_s + timeout_s, fail, answered)

    def _arrive(
        self,
        connection: SimulatedConnection,
        sent_over: tuple[int, int],
        subject: str,
        data: bytes,
        headers: Mapping[str, str],
        heard: Heard | None,
        answered: Answered | None,
    ) -> None:
        """A message has come to the server."""
        process, server = connection.process, self.server
        if connection.cut or sent_over != (connection.breaks, self._crashes):
            return  # what was under way is lost with the connection
        if subject.startswith((QUESTION, INBOX)):
            self.questions.pass_on(connection, subject, data, headers, answered)
            return
        if subject.startswith((GET, GET_FROM_LEADER)):
            lags = self.loop.now_s < self._behind_until_s and subject.startswith(GET)
            answers = server.ask(subject, data, int(self.chance.random() * BEHIND) if lags else 0)
        elif subject.startswith(NEXT) and process.dead:
            return
        else:
            answers = [Incoming("", "", server.take(process, subject, data, headers, heard), {})]
        if answered is not None:
            self.loop.call_for(process, self.loop.now_s + server.latency_s(), resolve, answered, answers)

    # What the model and the tools tell

    async def reach(self, what: str) -> None:
        """A moment of a call that takes a while: its process may die here, or stand still."""
        process = current.get()
        assert process is not None, "only processes call models and tools"
        faults = self.point(process, what)
        if any(fault.kind == "kill_after" for fault in faults):
            self.kill(process, faults[0].seconds)
        await asyncio.sleep(0.001 + 0.2 * self.chance.random())

    async def begin(self, context: ToolContext, name: str) -> None:
        process = current.get()
        assert process is not None, "only processes call tools"
        leased = self.server.holds(process.name, _lease_for(process, context))
        self.ledgers.begun.append(
            Begun(key=context.key, tool=name, by=process.name, at_s=self.loop.now_s, leased=leased)
        )
        await self.reach(f"{name} begins")

    def happen(self, context: ToolContext, name: str, arguments: msgspec.Struct) -> None:
        process = current.get()
        assert process is not None, "only processes call tools"
        self.tell(f"{process.name} {name} of {context.key} HAPPENS")
        self.ledgers.effects.append(
            Effect(
                key=context.key,
                agent=context.agent,
                tool=name,
                arguments=msgspec.to_builtins(arguments),
                by=process.name,
                at_s=self.loop.now_s,
            )
        )

    def number(self) -> int:
        """One that was not given before."""
        self._numbers += 1
        return self._numbers

    def ask(self, request: ModelRequest, turn: int) -> None:
        process = current.get()
        assert process is not None, "only processes call models"
        agent = process.name.rsplit("-", 2)[0]  # the request names whom it plays, which may be one that was hired
        leased = self.server.holds(process.name, f"{agent}.{RUN}.{request.thread}")
        made = ModelCall(
            thread=request.thread,
            agent=agent,
            turn=turn,
            by=process.name,
            at_s=self.loop.now_s,
            leased=leased,
        )
        self.ledgers.model_calls.append(made)

    # The journal

    def _on_stored(self, message: Message) -> None:
        if self.trace is not None:
            self.tell(f"   stored {message.seq} {message.subject} {message.data[:160].decode()}")
        self.people.hear(message)
        self._on_settled()

    def _on_settled(self) -> None:
        self.loop.over = bool(self.people.replied) and self.server.idle

    def entries(self) -> list[tuple[EntryAddress, Entry, Message]]:
        return [
            (parse_entry(message.subject), decode_entry(message.data), message) for message in self.server.entries
        ]


async def _serve(world: World, process: Process, service: Service) -> None:
    try:
        await service.start()
        await service.run()
    except Exception as error:
        # Whatever ends a service that nobody has killed is a finding.
        if not service.draining:
            world.ledgers.complaints.append(f"{process.name} ended: {error!r}")


def _lease_for(process: Process, context: ToolContext) -> str:
    """The lease under which a process makes a call: that of its thread, or the tool gateway that of the call."""
    if process.name.startswith(f"{TOOL_GATEWAY}-"):
        call_id = context.key.rpartition(".")[2]
        place = effect_address(context.run, context.agent, context.thread, call_id, 0)
        return f"{TOOL_GATEWAY}.{context.run}.{place.thread}"
    return f"{context.agent}.{context.run}.{context.thread}"
