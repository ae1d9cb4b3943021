"""Time that is waited for people: it counts for nobody, and whoever is above is told."""

from __future__ import annotations

from typing import Literal

import msgspec
import pytest

from shanty_protocol import (
    ApprovalDecided,
    ApprovalRequested,
    Brief,
    Budget,
    BudgetExhausted,
    DelegationSent,
    Outcome,
    QuestionAsked,
    ThreadReplied,
    ThreadResumed,
    ThreadWaiting,
    TimerFired,
)
from shanty_protocol.subjects import decision_address, parse_entry
from shanty_runtime.agent import Contract
from shanty_runtime.thread.decide import AskModel, FireTimer, Park, Received, Reject, RunCalls
from shanty_runtime.thread.verbs import LEAD_VERBS, SPECIALIST_VERBS, verb_cards
from support.player import LEAD, SPECIALIST, Player, Use

DONE = Outcome(status="ok", summary="done")
CAREFUL = msgspec.structs.replace(SPECIALIST, permissions={"pay": "ask"}, decision_deadline_s=3_600.0)
OFFICE = msgspec.structs.replace(
    LEAD, agent="office", role="specialist", verbs=verb_cards((*LEAD_VERBS, *SPECIALIST_VERBS))
)
PATIENT = msgspec.structs.replace(
    LEAD,
    delegation_deadline_s=100.0,
    decision_deadline_s=3_600.0,
    contracts={"alpha": Contract(name="alpha", description="reads")},
)


def opened(player: Player, budget: Budget | None = None) -> None:
    brief = Brief(objective="pay", budget=budget)
    player.receive(
        "lead", "0", lambda after: DelegationSent(at_ms=1_000, to_thread=player.thread, after=after, brief=brief)
    )
    player.go_on()


@pytest.fixture
def careful() -> Player:
    """A specialist that may take 50 s, and waits until somebody has agreed to a payment."""
    player = Player(CAREFUL, "0-1")
    opened(player, Budget(wall_s=50.0))
    return player


def written(player: Player, *kinds: type) -> list[object]:
    return [entry for _, entry in player.journal if isinstance(entry, kinds)]


def person_says(player: Player, decision: Literal["allow", "deny"] = "allow") -> None:
    asked, request = next(
        (address, entry) for address, entry in player.journal if isinstance(entry, ApprovalRequested)
    )
    address = decision_address(asked)
    entry = ApprovalDecided(
        at_ms=player.now_ms,
        to_thread=player.thread,
        request=asked.subject,
        digest=request.digest,
        decision=decision,
    )
    player.mail[address.subject] = Received(address, entry)


def delegated(player: Player, use: Use) -> None:
    player.opened_by("cli", "request-1")
    player.go_on()
    player.model(use("a", "delegate", specialist="alpha", objective="pay"), use("b", "wait_for_replies"))
    assert isinstance(player.go_on(), Park)


@pytest.fixture
def patient(use: Use) -> Player:
    """A lead that waits for a specialist, which has 100 s."""
    player = Player(PATIENT, "0")
    delegated(player, use)
    return player


def waits(player: Player, n: int, since_ms: int, until_ms: int, thread: str = "0-1", agent: str = "alpha") -> None:
    waiting = ThreadWaiting(at_ms=since_ms, to_thread=player.thread, since_ms=since_ms, until_ms=until_ms)
    player.receive(agent, thread, lambda after: waiting, n=n)


def resumes(player: Player, n: int, since_ms: int, at_ms: int, thread: str = "0-1", agent: str = "alpha") -> None:
    resumed = ThreadResumed(at_ms=at_ms, to_thread=player.thread, since_ms=since_ms)
    player.receive(agent, thread, lambda after: resumed, n=n)


def test_a_thread_says_once_that_it_waits_for_people_and_once_that_it_goes_on(careful: Player, use: Use) -> None:
    careful.model(use("a", "pay", text="x"), use("b", "pay", text="y"))
    assert isinstance(careful.go_on(), Park)
    (waiting,) = written(careful, ThreadWaiting)
    assert isinstance(waiting, ThreadWaiting)
    assert (waiting.to_thread, waiting.since_ms, waiting.until_ms) == ("0", 1_000, 3_601_000)
    careful.now_ms += 90_000
    person_says(careful)
    assert isinstance(careful.go_on(), RunCalls)
    assert not written(careful, ThreadResumed), "the other call still waits"
    careful.returned("a", "pay", "paid")
    careful.now_ms = 3_601_000
    careful.timer_fired()
    assert isinstance(careful.go_on(), AskModel)
    (resumed,) = written(careful, ThreadResumed)
    assert isinstance(resumed, ThreadResumed) and (resumed.at_ms, resumed.since_ms) == (3_601_000, 1_000)


def test_the_wall_time_of_a_thread_stands_still_while_it_waits_for_people(careful: Player, use: Use) -> None:
    careful.now_ms = 31_000
    careful.model(use("a", "pay", text="x"))
    assert isinstance(careful.go_on(), Park)
    assert careful.state.next_wake_ms == 3_631_000
    careful.now_ms = 3_000_000
    person_says(careful)
    assert isinstance(careful.go_on(), RunCalls)
    assert careful.state.next_wake_ms == 3_020_000, "twenty of its fifty seconds were left"
    careful.now_ms = 3_020_000
    careful.go_on()
    assert written(careful, BudgetExhausted)


def test_a_deadline_stands_still_while_a_specialist_waits_and_goes_on_when_it_does(patient: Player) -> None:
    waits(patient, 5, since_ms=51_000, until_ms=1_051_000)
    patient.now_ms = 51_000
    assert isinstance(patient.go_on(), Park)
    assert patient.state.next_wake_ms == 1_101_000
    patient.now_ms = 200_000
    assert isinstance(patient.step(), Park)
    resumes(patient, 6, since_ms=51_000, at_ms=200_000)
    assert isinstance(patient.go_on(), Park)
    assert patient.state.next_wake_ms == 250_000
    patient.now_ms = 250_000
    assert isinstance(patient.step(), FireTimer)


def test_a_specialist_that_never_comes_back_is_late_once_what_it_waited_for_has_expired(patient: Player) -> None:
    waits(patient, 5, since_ms=51_000, until_ms=61_000)
    patient.go_on()
    patient.now_ms = 110_999
    assert isinstance(patient.step(), Park)
    patient.now_ms = 111_000
    assert isinstance(patient.step(), FireTimer)
    patient.timer_fired()
    assert patient.state.children["0-1"].late and not patient.state.pauses


def test_a_lead_that_was_down_all_night_reads_first_what_came_meanwhile(patient: Player) -> None:
    waits(patient, 5, since_ms=51_000, until_ms=3_651_000)
    resumes(patient, 6, since_ms=51_000, at_ms=3_000_000)
    patient.now_ms = 3_010_000
    assert isinstance(patient.go_on(), Park)
    assert not written(patient, TimerFired) and patient.state.next_wake_ms == 3_050_000


def test_nobody_waits_longer_than_the_team_lets_people_take(patient: Player) -> None:
    waits(patient, 5, since_ms=51_000, until_ms=999_999_000)
    patient.go_on()
    assert patient.state.next_wake_ms == 101_000 + 3_600_000
    resumes(patient, 6, since_ms=51_000, at_ms=999_999_000)
    patient.go_on()
    assert patient.state.next_wake_ms == 101_000 + 3_600_000


def test_what_is_older_than_what_was_read_counts_no_more(patient: Player) -> None:
    resumes(patient, 6, since_ms=51_000, at_ms=60_000)
    patient.go_on()
    waits(patient, 5, since_ms=51_000, until_ms=1_051_000)
    patient.go_on()
    assert patient.state.next_wake_ms == 101_000 and len(patient.state.consumed) == 3


def test_what_a_specialist_says_after_it_was_told_to_stop_gives_it_no_time(patient: Player) -> None:
    waits(patient, 5, since_ms=51_000, until_ms=1_051_000)
    patient.go_on()
    patient.cancel("cli", "request-1", "wrap_up", within_s=20)
    patient.go_on()
    resumes(patient, 7, since_ms=51_000, at_ms=61_000)
    patient.go_on()
    assert not patient.state.pauses
    assert patient.state.children["0-1"].deadline_ms == 1_000 + 25_000


def test_advice_to_a_thread_that_waits_does_not_end_its_waiting(use: Use) -> None:
    lead = Player(PATIENT, "0")
    lead.opened_by("cli", "request-1")
    lead.go_on()
    lead.model(use("a", "delegate", specialist="alpha", objective="pay"))
    lead.go_on()
    waits(lead, 5, since_ms=51_000, until_ms=1_051_000)
    lead.now_ms = 61_000
    lead.go_on()
    lead.model(use("b", "send_to_specialist", thread="0-1", message="in euros"))
    lead.go_on()
    assert lead.state.next_wake_ms == 161_000 + 990_000
    resumes(lead, 6, since_ms=51_000, at_ms=71_000)
    lead.go_on()
    assert lead.state.next_wake_ms == 161_000 + 10_000


def test_a_lead_in_the_middle_waits_with_whoever_is_below_and_says_so_above(use: Use) -> None:
    office = Player(OFFICE, "0-1")
    opened(office, Budget(wall_s=500.0))
    office.model(use("a", "delegate", specialist="alpha", objective="pay"), use("b", "wait_for_replies"))
    office.go_on()
    waits(office, 3, since_ms=2_000, until_ms=900_000, thread="0-1-1")
    office.now_ms = 3_000
    assert isinstance(office.go_on(), Park)
    (waiting,) = written(office, ThreadWaiting)
    assert isinstance(waiting, ThreadWaiting)
    assert (waiting.to_thread, waiting.since_ms, waiting.until_ms) == ("0", 3_000, 900_000)
    office.now_ms = 800_000
    assert isinstance(office.step(), Park), "neither its own time is over nor that of the thread below"
    resumes(office, 4, since_ms=2_000, at_ms=800_000, thread="0-1-1")
    assert isinstance(office.go_on(), Park)
    (resumed,) = written(office, ThreadResumed)
    assert isinstance(resumed, ThreadResumed) and resumed.to_thread == "0"
    assert office.state.pause is None and office.state.escrow.until_ms == 501_000 + 797_000


def test_a_reply_ends_the_waiting_of_everybody_above(use: Use) -> None:
    office = Player(OFFICE, "0-1")
    opened(office)
    office.model(use("a", "delegate", specialist="alpha", objective="pay"), use("b", "wait_for_replies"))
    office.go_on()
    sent = next(address.subject for address, entry in office.journal if isinstance(entry, DelegationSent))
    waits(office, 3, since_ms=2_000, until_ms=900_000, thread="0-1-1")
    office.go_on()
    office.sent.clear()
    place = parse_entry(sent)
    office.receive(
        "alpha",
        "0-1-1",
        lambda after: ThreadReplied(at_ms=1, to_thread="0-1", outcome=DONE, answers=place.subject),
        n=4,
    )
    assert isinstance(office.go_on(), AskModel)
    assert office.state.pauses == {} and office.state.said is None and written(office, ThreadResumed)


def test_whoever_asked_what_was_passed_on_to_people_waits_for_them_as_well(patient: Player, use: Use) -> None:
    asked = QuestionAsked(at_ms=2_000, to_thread="0", question="whom?", expires_at_ms=602_000)
    patient.receive("alpha", "0-1", lambda after: msgspec.structs.replace(asked, after=after), n=3)
    patient.now_ms = 2_000
    assert isinstance(patient.go_on(), AskModel)
    patient.model(use("c", "ask_human", question="whom?", on_behalf_of="q-0-1-3"), use("d", "wait_for_replies"))
    patient.go_on()
    assert patient.state.pauses["0-1"].passed_on
    assert patient.state.late_at_ms(patient.state.children["0-1"]) == 101_000 + 600_000
    patient.now_ms = 602_000
    assert isinstance(patient.step(), FireTimer)
    patient.timer_fired()
    assert patient.state.children["0-1"].deadline_ms == 101_000 + 600_000 and not patient.state.pauses


def test_a_run_waits_for_people_without_telling_anybody(use: Use) -> None:
    lead = Player(msgspec.structs.replace(PATIENT, budget=Budget(wall_s=50.0)), "0")
    lead.opened_by("cli", "request-1")
    lead.go_on()
    lead.model(use("a", "ask_human", question="which?"))
    assert isinstance(lead.go_on(), Park)
    assert not written(lead, ThreadWaiting) and lead.state.escrow.until_ms is None


def test_only_a_thread_that_was_opened_here_may_say_that_it_waits(patient: Player) -> None:
    waits(patient, 0, since_ms=1, until_ms=2, thread="0-9")
    step = patient.step()
    assert isinstance(step, Reject) and step.code == "wrong_recipient"
