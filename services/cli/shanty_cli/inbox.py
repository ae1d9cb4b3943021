"""The inbox: what waits for people, and what they say to it.

An answer goes to the one place that follows from what was asked, so of two people who answer at once the first has
answered, and the other one is told what was said and by whom. The thread reads it within a second, or whenever a
service that plays its agent is up again.
"""

from __future__ import annotations

import asyncio
import getpass
import time
from contextlib import aclosing
from typing import Any, Literal

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from shanty_cli.dev_bus import answered
from shanty_cli.exits import DONE, FAILED, UsageError
from shanty_cli.lookup import view_of
from shanty_cli.output import Output
from shanty_cli.parked import standings
from shanty_cli.spending import how_to_raise
from shanty_cli.text import at, clean, duration, one_line
from shanty_cli.view import RunView
from shanty_cli.waiting import Waiting, budget_of, waiting_of
from shanty_protocol import (
    ApprovalDecided,
    ApprovalRequested,
    ApprovalStanding,
    BudgetRequested,
    EntryAddress,
    MailRejected,
    ProtocolError,
    QuestionAnswered,
    QuestionAsked,
)
from shanty_protocol.codec import digest_of
from shanty_protocol.ids import OPERATORS
from shanty_protocol.subjects import decision_address, parse_entry, standing_address
from shanty_runtime.agent.permissions import permitted_as
from shanty_runtime.bus import Bus, Stored

SHORTEST_ID = 4


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """What became of something a person decided or answered."""

    id: str
    run: str
    thread: str
    agent: str
    said: str
    """What counts now: `allow`, `deny`, an answer."""
    by: str
    """Who said so."""
    ours: bool
    """False where somebody else had been first."""
    read_at_entry: int | None = None
    """The place in the thread's journal at which it took effect; none where nobody has read it in time."""
    refused: str = ""
    """Why the thread did not take it."""


async def open_requests(bus: Bus, lanes: tuple[str, ...]) -> list[Waiting]:
    """What waits for a person, oldest first; what is decided, expired or void is left out."""
    now_ms = _now_ms()
    asked = [each for each in await _asked(bus, lanes) if not each.expires_at_ms or each.expires_at_ms > now_ms]
    # Each request of a run for more budget takes the place of the one before.
    newest = {each.run: each.request for each in asked if each.kind == "budget"}
    asked = [each for each in asked if each.kind != "budget" or each.request == newest[each.run]]
    known = await standings(bus, asked)
    unclear = sorted({each.run for each in asked if known[each.request] == "unclear"})
    views = {run: await view_of(bus, run) for run in unclear}
    return [
        each
        for each in asked
        if known[each.request] == "open" or (known[each.request] == "unclear" and _waits(each, views[each.run]))
    ]


def _waits(request: Waiting, view: RunView) -> bool:
    if request.kind == "budget":
        return view.spending.out_of == request.code and view.outcome is None
    return request.request in view.waiting


async def find(bus: Bus, lanes: tuple[str, ...], wanted: str) -> Waiting:
    """The one whose id begins so, whether it still waits or not. Raises UsageError."""
    found = [each for each in await _asked(bus, lanes) if each.id.startswith(wanted.lower())]
    if len(found) == 1 and len(wanted) >= SHORTEST_ID:
        return found[0]
    if found:
        said = ", ".join(each.id for each in found[:5])
        raise UsageError(f"{one_line(wanted, 60)} could be {said}: give the whole id")
    there = ", ".join(each.id for each in await open_requests(bus, lanes)) or "nothing waits for a person"
    raise UsageError(f"there is no {one_line(wanted, 60)} in the inbox; there: {there}")


async def decide(
    bus: Bus,
    lanes: tuple[str, ...],
    wanted: str,
    decision: Literal["allow", "allow_for_thread", "edit", "deny"],
    *,
    message: str,
    arguments: dict[str, Any] | None,
    wait_s: float,
    for_run: bool = False,
) -> Given:
    """`for_run`: of `allow_for_thread`, and every later call of that tool in any thread of the run."""
    request = await find(bus, lanes, wanted)
    if request.kind == "question":
        raise UsageError(f"{request.id} is a question: `shanty inbox answer {request.id} TEXT` answers it")
    if request.kind == "budget":
        raise UsageError(
            f"{request.id} is a run that has spent what it may: `{_how_to_raise(request)}` lets it go on"
        )
    entry = ApprovalDecided(
        at_ms=_now_ms(),
        by="cli",
        to_thread=request.thread,
        request=request.request,
        digest=request.digest,
        decision=decision,
        person=_person(),
        message=message,
        arguments=arguments,
        arguments_digest="" if arguments is None else digest_of(arguments),
        for_run=for_run,
    )
    return await _give(bus, request, entry, wait_s)


async def answer(bus: Bus, lanes: tuple[str, ...], wanted: str, text: str, wait_s: float) -> Given:
    request = await find(bus, lanes, wanted)
    if request.kind == "budget":
        raise UsageError(
            f"{request.id} is a run that has spent what it may: `{_how_to_raise(request)}` lets it go on"
        )
    if request.kind != "question":
        raise UsageError(f"{request.id} asks for an approval: `shanty inbox allow` or `deny` decides on it")
    if not text.strip():
        raise UsageError("the answer is empty: give it as the last argument, in quotes")
    entry = QuestionAnswered(
        at_ms=_now_ms(),
        by="cli",
        to_thread=request.thread,
        question=request.request,
        answer=text,
        person=_person(),
    )
    return await _give(bus, request, entry, wait_s)


def arguments_from(text: str) -> dict[str, Any]:
    """What a person wants a tool to be called with. Raises UsageError."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise UsageError(f"--edit: the arguments must be a JSON object: {error}") from None


def show_given(given: Given, out: Output) -> int:
    """Say what became of it. Gives the exit code."""
    if out.json:
        out.data(given)
    elif not given.ours:
        out.say(f"{one_line(given.by, 60) or 'somebody'} was first: {one_line(given.said)}")
    elif given.refused:
        out.say(f"thread {given.thread} did not take it: {one_line(given.refused)}")
    elif given.read_at_entry is None:
        print(f"stored for {given.agent}, thread {given.thread}, which has not read it yet", file=out.stdout)
    else:
        print(f"read by {given.agent}, thread {given.thread}, at entry {given.read_at_entry}", file=out.stdout)
    return DONE if given.ours and not given.refused else FAILED


def inbox_table(requests: list[Waiting]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("id", "what", "run", "thread", "who asks", "expires in", "about"):
        table.add_column(column, overflow="fold")
    now_ms = _now_ms()
    for each in requests:
        left = duration(each.expires_at_ms - now_ms) if each.expires_at_ms else "never"
        table.add_row(*map(Text, (each.id, each.kind, each.run, each.thread, each.agent, left, each.text)))
    return table


def shown(request: Waiting, *, is_open: bool) -> RenderableType:
    """All that a person needs to decide. Every character of an agent's is made visible."""
    asks = f"{request.agent}, thread {request.thread} of run {request.run}"
    lines = [Text(f"{request.kind} {request.id}", style="bold"), Text(f"who asks   {asks}")]
    if request.kind == "approval":
        arguments = msgspec.json.format(msgspec.json.encode(request.arguments, order="deterministic"), indent=2)
        lines += [
            Text(f"tool       {one_line(request.tool)}"),
            Text(f"why        {one_line(request.why)}"),
            Text("arguments"),
            Text(clean(arguments.decode())),
            Text(f"SHA-256    {one_line(request.digest)}"),
        ]
    elif request.kind == "budget":
        lines += [Text(f"spent      {request.text}")]
    else:
        lines += [Text(clean(request.question))]
        lines += [Text(f"  - {one_line(option)}") for option in request.options]
    lines += [Text(f"asked      {at(request.asked_at_ms)}")]
    lines += [Text(f"expires    {at(request.expires_at_ms)}")] if request.expires_at_ms else []
    if not is_open:
        return Group(*lines, Text("It is not open any more.", style="yellow"))
    hints = {
        "approval": (
            f"shanty inbox allow {request.id}                this call, once, with these arguments",
            f"shanty inbox allow {request.id} --for-thread   "
            f"and every later call of {one_line(request.tool)} in thread {request.thread}, whatever its arguments",
            f"shanty inbox allow {request.id} --for-run      and in every other thread of {request.run}",
            f"shanty inbox allow {request.id} --edit '{{…}}' with other arguments",
            f"shanty inbox deny {request.id} --message '…'",
        ),
        "question": (f"shanty inbox answer {request.id} '…'",),
        "budget": (_how_to_raise(request),),
    }
    return Group(*lines, *(Text(hint, style="dim") for hint in hints[request.kind]))


async def _asked(bus: Bus, lanes: tuple[str, ...]) -> list[Waiting]:
    """Everything that people were ever asked."""
    found: list[Waiting] = []
    for lane in lanes:
        async for stored in answered(bus.journals.mail_entries(lane, OPERATORS), "the inbox"):
            try:
                entry = stored.entry
            except ProtocolError:
                continue
            if isinstance(entry, ApprovalRequested | QuestionAsked):
                found.append(waiting_of(stored.address, entry))
            elif isinstance(entry, BudgetRequested):
                found.append(budget_of(stored.address, entry))
    return found


async def _give(bus: Bus, request: Waiting, entry: ApprovalDecided | QuestionAnswered, wait_s: float) -> Given:
    place = decision_address(parse_entry(request.request))
    standing = await bus.journals.get(place.guard)
    if standing is None and request.request not in (await view_of(bus, request.run)).waiting:
        raise UsageError(
            f"{request.id} is not open any more: thread {request.thread} of {request.run} went on without"
        )
    ours = False
    if standing is None:
        placed = await bus.journals.append(place, entry)
        standing, ours = placed.stored, placed.ours
    # Whoever says it again completes it, should the first one have been cut off here.
    await _allow_for_run(bus, request, standing)
    given = _given(request, standing, ours=ours)
    return await _until_read(bus, given, place, standing.seq, wait_s) if ours else given


async def _allow_for_run(bus: Bus, request: Waiting, decided: Stored) -> None:
    """Write down for every thread of the run what was decided for all of it. Once, and the same whoever does it."""
    decision = decided.entry
    if not isinstance(decision, ApprovalDecided) or not decision.for_run or decision.decision != "allow_for_thread":
        return
    name = permitted_as(request.tool, request.arguments)
    standing = ApprovalStanding(
        at_ms=decision.at_ms, by=decision.by, name=name, request=request.request, person=decision.person
    )
    await bus.journals.append(standing_address(request.run, name), standing)


def _how_to_raise(request: Waiting) -> str:
    return how_to_raise(request.run, request.code)


def _given(request: Waiting, standing: Stored, *, ours: bool) -> Given:
    entry = standing.entry
    said, by = "", ""
    if isinstance(entry, ApprovalDecided):
        said, by = entry.decision, entry.person
    elif isinstance(entry, QuestionAnswered):
        said, by = entry.answer, entry.person
    return Given(
        id=request.id, run=request.run, thread=request.thread, agent=request.agent, said=said, by=by, ours=ours
    )


async def _until_read(bus: Bus, given: Given, place: EntryAddress, from_seq: int, wait_s: float) -> Given:
    """Wait until the thread's journal has taken it in, or it was put away."""
    try:
        async with asyncio.timeout(wait_s), aclosing(bus.feed.follow(given.run, from_seq)) as entries:
            async for stored in entries:
                try:
                    entry = stored.entry
                except ProtocolError:
                    continue
                if isinstance(entry, MailRejected) and entry.mail == place.subject:
                    return msgspec.structs.replace(given, refused=entry.reason)
                if place.subject in entry.consumed:
                    return msgspec.structs.replace(given, read_at_entry=stored.address.n)
    except TimeoutError:
        pass
    return given


def _person() -> str:
    """Who sits at this terminal, as the system knows them."""
    try:
        return one_line(getpass.getuser(), 60)
    except (OSError, KeyError):  # an account without a name, as in a container
        return ""


def _now_ms() -> int:
    return int(time.time() * 1000)
