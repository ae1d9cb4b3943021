"""The inbox on a real bus: what is shown of what waits, and a decision for a whole run that was broken off."""

from __future__ import annotations

import pytest

from shanty_cli.exits import UsageError
from shanty_cli.inbox import answer, decide, open_requests
from shanty_cli.waiting import id_of
from shanty_protocol import (
    ApprovalDecided,
    ApprovalRequested,
    ApprovalStanding,
    Brief,
    Budget,
    BudgetRequested,
    DelegationSent,
    EntryAddress,
    Spent,
    ThreadOpened,
)
from shanty_protocol.subjects import decision_address, standing_address
from shanty_runtime.bus import Bus

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
