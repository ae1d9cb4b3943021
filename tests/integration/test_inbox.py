"""The inbox on a real bus: what is shown of what waits, how it is found, and a decision that was broken off."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from shanty_cli import inbox, parked
from shanty_cli.exits import UsageError
from shanty_cli.inbox import answer, decide, open_requests
from shanty_cli.view import RunView
from shanty_cli.waiting import Waiting, id_of
from shanty_protocol import (
    ApprovalDecided,
    ApprovalRequested,
    ApprovalStanding,
    Brief,
    Budget,
    BudgetRequested,
    CancelSent,
    DelegationSent,
    EntryAddress,
    Spent,
    ThreadOpened,
    ThreadWaiting,
)
from shanty_protocol.subjects import decision_address, standing_address
from shanty_runtime.archive import SUFFIX, EntryLine, read_archive
from shanty_runtime.bus import Bus
from shanty_runtime.bus.jetstream import publish
from support.golden_journals import JOURNALS

RUN = "0-r"
LANES = ("0",)
NEVER_MS = 9_999_999_999_000
REQUEST = EntryAddress("operators", RUN, "0", "lead", 1)
DELEGATION = ApprovalRequested(
    at_ms=3,
    to_thread="inbox",
    call_id="a",
    name="delegate",
    arguments={"specialist": "alpha", "objective": "pay"},
    digest="ab" * 32,
    expires_at_ms=NEVER_MS,
)


async def begun(bus: Bus) -> None:
    """A run whose lead has opened its thread."""
    order = DelegationSent(at_ms=1, to_thread="0", brief=Brief(objective="pay", budget=Budget(tokens=5)))
    sent = EntryAddress("lead", RUN, "request-1", "cli", 0)
    await bus.journals.append(sent, order)
    opened = ThreadOpened(at_ms=2, by="lead-1", consumed=(sent.subject,))
    await bus.journals.append(EntryAddress("log", RUN, "0", "lead", 0), opened)


async def test_a_decision_for_the_whole_run_that_was_broken_off_is_completed_by_whoever_says_it_again(
    bus: Bus,
) -> None:
    await begun(bus)
    await bus.journals.append(REQUEST, DELEGATION)
    broken_off = ApprovalDecided(
        at_ms=4,
        by="cli",
        to_thread="0",
        request=REQUEST.subject,
        digest=DELEGATION.digest,
        decision="allow_for_thread",
        person="mara",
        for_run=True,
    )
    await bus.journals.append(decision_address(REQUEST), broken_off)
    place = standing_address(RUN, "delegate:alpha")
    assert await bus.journals.get(place.subject) is None
    for _ in range(2):
        given = await decide(
            bus, LANES, id_of(REQUEST.subject), "deny", message="", arguments=None, wait_s=0, for_run=False
        )
        assert (given.ours, given.said, given.by) == (False, "allow_for_thread", "mara")
    stored = await bus.journals.get(place.subject)
    assert stored is not None
    assert stored.entry == ApprovalStanding(
        at_ms=4, by="cli", name="delegate:alpha", request=REQUEST.subject, person="mara"
    )


async def test_what_is_allowed_once_stands_for_nothing_else(bus: Bus) -> None:
    await begun(bus)
    await bus.journals.append(REQUEST, DELEGATION)
    given = await decide(bus, LANES, id_of(REQUEST.subject), "allow", message="", arguments=None, wait_s=0)
    assert given.ours
    assert await bus.journals.get(standing_address(RUN, "delegate:alpha").subject) is None


async def test_a_run_that_has_spent_what_it_may_is_in_the_inbox_once_and_is_no_question(bus: Bus) -> None:
    await begun(bus)
    asked = BudgetRequested(at_ms=3, code="token_limit", limits=Budget(tokens=5), spent=Spent(tokens=5))
    for n in (1, 2):
        await bus.journals.append(EntryAddress("operators", RUN, "0", "lead", n), asked)
    (waiting,) = await open_requests(bus, LANES)
    assert (waiting.kind, waiting.run, waiting.code) == ("budget", RUN, "token_limit")
    with pytest.raises(UsageError, match=f"shanty runs budget {RUN} tokens=1M"):
        await decide(bus, LANES, waiting.id, "allow", message="", arguments=None, wait_s=0)
    with pytest.raises(UsageError, match=f"shanty runs budget {RUN} tokens=1M"):
        await answer(bus, LANES, waiting.id, "more", 0)


async def read_in_full(bus: Bus, requests: Sequence[Waiting]) -> dict[str, parked.Standing]:
    """What is said of requests by nobody who has not read their runs."""
    return dict.fromkeys((each.request for each in requests), "unclear")


def ids(requests: Sequence[Waiting]) -> list[str]:
    return [each.id for each in requests]


@pytest.mark.parametrize("name", ["approvals", "answered-again", "budget-raised", "incident", "stopped"])
async def test_the_inbox_is_at_every_moment_of_a_run_what_reading_all_of_it_says(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Each entry of a run that was recorded is stored once more, and the inbox is looked at after each."""
    monkeypatch.setattr(inbox, "_now_ms", lambda: 1)
    seen: set[str] = set()
    for line in read_archive(JOURNALS / "0.2.0" / f"{name}{SUFFIX}"):
        if not isinstance(line, EntryLine):
            continue
        await publish(bus.connection, line.subject, line.message.data, line.headers)
        there = await open_requests(bus, LANES)
        with monkeypatch.context() as reading:
            reading.setattr(inbox, "standings", read_in_full)
            assert ids(there) == ids(await open_requests(bus, LANES)), line.subject
        seen |= set(ids(there))
    assert len(seen) == {"approvals": 4, "budget-raised": 1}.get(name, 0)


async def test_most_of_an_inbox_is_known_without_reading_its_runs(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unread(bus: Bus, run: str) -> RunView:
        raise AssertionError(f"{run} is read")

    await begun(bus)
    await bus.journals.append(REQUEST, DELEGATION)
    specialist = await asked_by_a_specialist(bus)
    waiting = await open_requests(bus, LANES)
    assert [each.request for each in waiting] == [REQUEST.subject, specialist.subject]
    await decide(bus, LANES, waiting[1].id, "deny", message="", arguments=None, wait_s=0)
    monkeypatch.setattr(inbox, "view_of", unread)
    assert ids(await open_requests(bus, LANES)) == [waiting[0].id]


async def test_what_asks_in_anothers_name_is_not_in_the_inbox(bus: Bus) -> None:
    """An agent writes in the thread of another, and says that somebody has asked it to."""
    await begun(bus)
    forged = DelegationSent(at_ms=1, to_thread="0", brief=Brief(objective="pay"))
    await bus.journals.append(EntryAddress("alpha", RUN, "request-9", "alpha", 0), forged)
    await bus.journals.append(EntryAddress("log", RUN, "0", "alpha", 0), ThreadOpened(at_ms=2))
    await bus.journals.append(EntryAddress("operators", RUN, "0", "alpha", 1), DELEGATION)
    assert await open_requests(bus, LANES) == []


async def test_a_request_of_a_thread_that_is_asked_to_stop_is_not_in_the_inbox(bus: Bus) -> None:
    await begun(bus)
    specialist = await asked_by_a_specialist(bus)
    assert [each.request for each in await open_requests(bus, LANES)] == [specialist.subject]
    stop = CancelSent(at_ms=9, to_thread="0-1", mode="abort", reason="it is late")
    await bus.journals.append(EntryAddress("alpha", RUN, "0", "lead", 2), stop)
    assert await open_requests(bus, LANES) == []


async def asked_by_a_specialist(bus: Bus) -> EntryAddress:
    """The lead opens a thread, which asks people and tells the lead that it waits. Gives what asks."""
    order = DelegationSent(at_ms=3, to_thread="0-1", brief=Brief(objective="pay"))
    sent = EntryAddress("alpha", RUN, "0", "lead", 1)
    if await bus.journals.get(sent.guard) is not None:
        sent = EntryAddress("alpha", RUN, "0", "lead", 2)
    await bus.journals.append(sent, order)
    opened = ThreadOpened(at_ms=4, by="alpha-1", consumed=(sent.subject,))
    await bus.journals.append(EntryAddress("log", RUN, "0-1", "alpha", 0), opened)
    asking = EntryAddress("operators", RUN, "0-1", "alpha", 1)
    await bus.journals.append(asking, DELEGATION)
    waits = ThreadWaiting(at_ms=5, to_thread="0", since_ms=4, until_ms=NEVER_MS)
    await bus.journals.append(EntryAddress("lead", RUN, "0-1", "alpha", 2), waits)
    return asking
