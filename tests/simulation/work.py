"""What the team is given to do, made from a seed: the programs of its threads, and what people do meanwhile."""

from __future__ import annotations

import random

import msgspec

from shanty_protocol import Brief, Budget
from shanty_protocol.ids import HOST, TOOL_GATEWAY
from shanty_runtime.agent import Profile
from shanty_runtime.agent.outcomes import GRADER
from shanty_runtime.models.rehearsal import Call, call
from simulation.schedule import Schedule
from simulation.team import FENCING, GHOST_DEADLINE_S, GRADING, HEDGING, HIRED_TOOLS, HIRING, PROFILES, Program

OWN_TOOLS = ("look", "book", "ring", "pay")
FENCED_TOOLS = ("ring", "pay", "pay", "book")


class Job(msgspec.Struct, frozen=True, kw_only=True):
    brief: Brief
    programs: dict[str, Program]
    agents: tuple[str, ...]
    """Those that have processes: agents have workers, and the tool gateway has itself."""
    profiles: dict[str, Profile]
    cancel_after: int | None = None
    """After so many stored entries somebody asks the run to stop."""
    cancel_mode: str = "wrap_up"


class _Writer:
    """Writes programs, each with a name."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.programs: dict[str, Program] = {}
        self.agents = ["lead"]
        self.hired: list[str] = []

    def add(self, program: Program) -> str:
        name = f"program {len(self.programs)}"
        self.programs[name] = program
        return name

    def tools(self, most: int = 2, names: tuple[str, ...] = OWN_TOOLS) -> list[Call]:
        return [call(self.chance.choice(names), text=str(number)) for number in range(self.chance.randint(1, most))]

    def labour(self, steps: int, names: tuple[str, ...] = OWN_TOOLS) -> str:
        return self.add([self.tools(names=names) for _ in range(steps)])

    def order(self, specialist: str, objective: str = "", **more: object) -> Call:
        agent = HOST if specialist in self.hired else specialist
        if agent not in self.agents and agent != "ghost":
            self.agents.append(agent)
        if specialist == "gamma":
            calls = [self.chance.choice(OWN_TOOLS) for _ in range(self.chance.randint(0, 3))]
            given = {"calls": calls, "progress": self.chance.random() < 0.3}
            return call("delegate", specialist="gamma", objective="handle it", input=given, **more)
        return call("delegate", specialist=specialist, objective=objective, **more)

    def hire(self, name: str) -> Call:
        self.hired.append(name)
        tools = self.chance.sample(HIRED_TOOLS, 2)
        return call("hire_specialist", name=name, role="helps", instructions=f"You are {name}.", tools=tools)

    def each(self, at_most: int) -> Call:
        items = [{"calls": [self.chance.choice(OWN_TOOLS)]} for _ in range(self.chance.randint(2, 3))]
        if "gamma" not in self.agents:
            self.agents.append("gamma")
        return call(
            "delegate_each",
            specialist="gamma",
            objective="handle {item}",
            items=items,
            output="handled.jsonl",
            at_most=at_most,
        )


def job_of(schedule: Schedule) -> Job:
    chance = random.Random(schedule.seed * 7919 + 1)
    writer = _Writer(chance)
    budget: Budget | None = None
    cancel_after: int | None = None
    profiles = PROFILES
    lead: Program
    wait = [call("wait_for_replies")]
    match schedule.work:
        case "delegate":
            lead = [[writer.order("alpha", writer.labour(1))], wait]
            if chance.random() < 0.3:
                lead[0].append(writer.order("gamma"))
            if chance.random() < 0.6:
                lead += [[call("send_to_specialist", thread="0-1", message=writer.labour(1))]]
                if chance.random() < 0.3:
                    lead += [[call("send_to_specialist", thread="0-1", message=writer.labour(1))]]
                lead += [wait]
        case "fan_out":
            orders = [
                writer.order(chance.choice(("beta", "gamma", "gamma")), writer.labour(1))
                for _ in range(chance.randint(2, 4))
            ]
            lead = [orders, [call("wait_for_replies", mode=chance.choice(("all", "any")))], wait]
        case "effects":
            lead = [writer.tools(3) for _ in range(chance.randint(1, 3))]
        case "budget":
            budget = Budget(model_calls=chance.randint(4, 9), tool_calls=chance.choice((None, 6)))
            orders = [
                writer.order("alpha", writer.labour(1), budget={"model_calls": chance.randint(2, 4)})
                for _ in range(chance.randint(1, 2))
            ]
            again = writer.order("alpha", writer.labour(1))
            lead = [orders, wait, [again], wait]
        case "approvals":
            signing = writer.add([[call("sign", text="a"), *writer.tools(1)], [call("sign", text="b")]])
            lead = [[writer.order("alpha", signing)], wait]
            if chance.random() < 0.5:
                lead = [[call("sign", text="c"), *writer.tools(1)]]
        case "cancel":
            lead = [[writer.order("alpha", writer.labour(3)), writer.order("gamma")]]
            if chance.random() < 0.6:
                mode = chance.choice(("wrap_up", "abort"))
                lead += [writer.tools(2, ("look",)), [call("cancel", thread="0-1", mode=mode, within_s=3.0)]]
            else:
                cancel_after = chance.randint(1, 20)
            lead += [wait]
        case "nested":
            below = [
                writer.order(chance.choice(("beta", "gamma")), writer.labour(1)) for _ in range(chance.randint(1, 2))
            ]
            middle = writer.add([below, wait, writer.tools(1)])
            lead = [[writer.order("alpha", middle)], wait]
            if chance.random() < 0.3:
                cancel_after = chance.randint(4, 30)
        case "deadline":
            lead = [
                [
                    writer.order("ghost", "appear", deadline_s=GHOST_DEADLINE_S),
                    writer.order("beta", writer.labour(1)),
                ],
                wait,
            ]
        case "handler":
            lead = [[writer.order("gamma"), writer.order("gamma")], wait]
        case "question":
            asking = writer.add([[call("ask_lead", question="which?")], writer.tools(1)])
            lead = [[writer.order("beta", asking)], wait]
            if chance.random() < 0.5:
                lead.insert(0, [call("ask_human", question="really?")])
        case "each":
            lead = [[writer.each(chance.randint(1, 2))]]
        case "hedge":
            profiles = HEDGING
            orders = [
                writer.order(chance.choice(("alpha", "beta", "gamma")), writer.labour(chance.randint(1, 2)))
                for _ in range(chance.randint(1, 2))
            ]
            lead = [orders, wait]
            further = chance.random()
            if further < 0.2:
                lead = [[writer.each(chance.randint(2, 3))]]
            elif further < 0.35:
                lead.insert(1, [call("cancel", thread="0-1", mode=chance.choice(("wrap_up", "abort")), within_s=3.0)])
            elif further < 0.5:
                lead += [[writer.order("beta", writer.labour(1))], wait]
            elif further < 0.6:
                cancel_after = chance.randint(4, 30)
        case "grade":
            profiles = GRADING
            writer.agents.append(GRADER)
            lead = [writer.tools(2) for _ in range(chance.randint(0, 1))]
            if chance.random() < 0.4:
                lead += [[writer.order(chance.choice(("beta", "gamma")), writer.labour(1))], wait]
            if chance.random() < 0.2:
                cancel_after = chance.randint(3, 25)
        case "fenced":
            profiles = FENCING
            writer.agents.append(TOOL_GATEWAY)
            lead = [writer.tools(2, FENCED_TOOLS) for _ in range(chance.randint(1, 2))]
            further = chance.random()
            if further < 0.5:
                specialist = chance.choice(("alpha", "beta", "gamma"))
                lead += [[writer.order(specialist, writer.labour(1, FENCED_TOOLS))], wait]
            elif further < 0.6:
                lead += [[call("sign", text="d")]]
            if chance.random() < 0.3:
                cancel_after = chance.randint(2, 20)
        case "hire":
            profiles = HIRING
            names = ("helper", "other")[: chance.randint(1, 2)]
            hires = [writer.hire(name) for name in names]
            orders = [writer.order(name, writer.labour(chance.randint(1, 2))) for name in names]
            lead = [[*hires, *orders], wait] if chance.random() < 0.5 else [hires, orders, wait]
            if chance.random() < 0.5:
                lead += [[writer.order(chance.choice(names), writer.labour(1))], wait]
            if chance.random() < 0.2:
                cancel_after = chance.randint(4, 30)
        case unknown:
            raise AssertionError(f"there is no work {unknown}")
    brief = Brief(objective=writer.add(lead), budget=budget)
    return Job(
        brief=brief,
        programs=writer.programs,
        agents=tuple(writer.agents),
        profiles=profiles,
        cancel_after=cancel_after,
        cancel_mode=chance.choice(("wrap_up", "abort")),
    )
