"""Runs of a release, kept as archives for ever: what is needed to fold them again, and what that has to give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from shanty_protocol import AddressedEntry, Budget, Entry, FileRef, Outcome, Spent, Usage
from shanty_protocol.ids import is_agent_thread
from shanty_runtime.agent import Contract, Profile
from shanty_runtime.agent.handler import Handler
from shanty_runtime.agent.outcomes import Grading
from shanty_runtime.archive import SUFFIX, EntryLine, read_archive
from shanty_runtime.bus.journals import Stored, as_stored
from shanty_runtime.team import Team
from shanty_runtime.thread.fold import fold
from shanty_runtime.thread.state import State
from shanty_runtime.tools.base import Tool, ToolContext, tool

JOURNALS = Path(__file__).parents[1] / "journals"


class Specialist(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    name: str
    output_schema: dict[str, Any] | None = None
    budget: Budget | None = None


class Player(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the fold asks of an agent's profile: no team has to be there as it was."""

    agent: str
    is_lead: bool = False
    is_handler: bool = False
    output_schema: dict[str, Any] | None = None
    untrusted: tuple[str, ...] = ()
    specialists: tuple[Specialist, ...] = ()
    delegation_deadline_s: float
    grading: Grading | None = None


class Summary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a thread's journal amounts to, in what no release may see otherwise."""

    next_n: int
    opener: tuple[str, str] | None
    answered: str
    owes_reply: bool
    outcome: Outcome | None
    usage: Usage
    cost_microusd: int | None
    spent: Spent
    limits: Budget
    calls: dict[str, str] = {}
    """How those of the last turn ended."""
    children: dict[str, str] = {}
    consumed: tuple[str, ...] = ()
    files: dict[str, FileRef] = {}
    due: int = 0


class Golden(msgspec.Struct, frozen=True, kw_only=True):
    """What stands beside an archive."""

    players: dict[str, Player]
    threads: dict[str, Summary]


class _Anything(msgspec.Struct):
    pass


@tool(effect="read")
async def _any_tool(args: _Anything, context: ToolContext) -> str:
    """Stands for a tool that the fold only asks whether it is to be trusted."""
    return ""


async def _never_run(order: _Anything, context: Any) -> None:
    raise AssertionError("folding runs nothing")


def players_of(team: Team) -> dict[str, Player]:
    return {
        agent.name: Player(
            agent=agent.name,
            is_lead=agent.role == "lead",
            is_handler=agent.handler is not None,
            output_schema=agent.output_schema,
            untrusted=tuple(sorted(name for name, each in team.tools.items() if each.untrusted)),
            specialists=tuple(
                Specialist(name=each.name, output_schema=each.output_schema, budget=each.budget)
                for each in team.roster_of(agent)
            ),
            delegation_deadline_s=team.limits.delegation_deadline_s,
            grading=team.grading if agent.role == "lead" else None,
        )
        for agent in team.agents
    }


def profile_of(player: Player) -> Profile:
    untrusted: Tool = msgspec.structs.replace(_any_tool, untrusted=True)
    handler = Handler(function=_never_run, input_type=_Anything, output_type=None) if player.is_handler else None
    return Profile(
        agent=player.agent,
        role="lead" if player.is_lead else "specialist",
        handler=handler,
        output_schema=player.output_schema,
        tools=dict.fromkeys(player.untrusted, untrusted),
        contracts={
            each.name: Contract(name=each.name, description="", output_schema=each.output_schema, budget=each.budget)
            for each in player.specialists
        },
        delegation_deadline_s=player.delegation_deadline_s,
        grading=player.grading,
    )


def entries_of(archive: Path) -> list[Stored]:
    return [as_stored(line.message) for line in read_archive(archive) if isinstance(line, EntryLine)]


def folded(archive: Path, players: dict[str, Player]) -> dict[str, Summary]:
    """Every thread of a run, folded from its archive: by thread and agent."""
    stored = sorted(entries_of(archive), key=lambda one: one.address.n)
    mails: dict[str, Entry] = {
        one.address.subject: one.entry for one in stored if isinstance(one.entry, AddressedEntry)
    }
    threads: dict[str, list[Stored]] = {}
    for one in stored:
        if is_agent_thread(one.address.thread) and one.address.agent in players:
            threads.setdefault(f"{one.address.thread} {one.address.agent}", []).append(one)
    return {
        name: _summary(
            fold(
                profile_of(players[journal[0].address.agent]),
                journal[0].address.run,
                journal[0].address.thread,
                [(one.address, one.entry, mails) for one in journal],
            )
        )
        for name, journal in sorted(threads.items())
    }


def _summary(state: State) -> Summary:
    return Summary(
        next_n=state.next_n,
        opener=state.opener,
        answered=state.answered,
        owes_reply=state.owes_reply,
        outcome=state.outcome,
        usage=state.total_usage,
        cost_microusd=state.total_cost_microusd,
        spent=state.escrow.spent,
        limits=state.escrow.limits,
        calls={call.id: call.status for call in state.calls.values()},
        children={
            child.thread: "unanswered" if child.outcome is None else child.outcome.status
            for child in state.children.values()
        },
        consumed=tuple(sorted(state.consumed)),
        files=state.files,
        due=len(state.due),
    )


def golden_of(archive: Path) -> Golden:
    return msgspec.json.decode(_beside(archive).read_bytes(), type=Golden)


def write_golden(archive: Path, team: Team) -> None:
    """Write what an archive amounts to now beside it. For archives of this release, and never for older ones."""
    players = players_of(team)
    golden = Golden(players=players, threads=folded(archive, players))
    data = msgspec.json.encode(golden, order="deterministic")
    _beside(archive).write_bytes(msgspec.json.format(data, indent=1) + b"\n")


def archives() -> list[Path]:
    return sorted(JOURNALS.rglob(f"*{SUFFIX}"))


def _beside(archive: Path) -> Path:
    return archive.with_name(archive.name.removesuffix(SUFFIX) + ".json")
