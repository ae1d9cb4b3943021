"""Calls that a person has to agree to: what is asked, which decision counts, and what is called in the end."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest

from shanty_protocol import (
    ApprovalDecided,
    ApprovalRequested,
    EntryAddress,
    MailReceived,
    ThreadOpened,
    ToolCalled,
)
from shanty_protocol.codec import digest_of
from shanty_protocol.subjects import decision_address, parse_entry
from shanty_runtime.agent.handler import Context, handler_from
from shanty_runtime.thread.approvals import NOT_DECIDED, VOID, requests_for
from shanty_runtime.thread.decide import AskModel, Draft, FireTimer, Park, Received, Reject, RunCalls, RunHandler
from shanty_runtime.thread.dialogue import Call
from shanty_runtime.thread.state import NOTHING_NEW
from support.player import SPECIALIST, Player, Use


class Order(msgspec.Struct, frozen=True, kw_only=True):
    cents: int


CAREFUL = msgspec.structs.replace(SPECIALIST, permissions={"pay": "ask"}, decision_deadline_s=60.0)


@pytest.fixture
def careful() -> Player:
    """A specialist that has to ask before it pays."""
    player = Player(CAREFUL, "0-1")
    player.opened_by("lead", "0")
    player.go_on()
    return player


def requests(player: Player) -> list[tuple[EntryAddress, ApprovalRequested]]:
    return [(address, entry) for address, entry in player.journal if isinstance(entry, ApprovalRequested)]


def decide_on(
    player: Player,
    request: str,
    decision: Literal["allow", "allow_for_thread", "edit", "deny"] = "allow",
    *,
    arguments: dict[str, Any] | None = None,
    agent: str = "operators",
    thread: str = "",
    digest: str = "",
    at_ms: int = 0,
    message: str = "",
) -> str:
    """A person's decision is mail. Returns its subject."""
    place = parse_entry(request)
    address = decision_address(place)
    address = msgspec.structs.replace(address, agent=agent, thread=thread or address.thread)
    asked = next((entry.digest for where, entry in requests(player) if where == place), "")
    entry = ApprovalDecided(
        at_ms=at_ms or player.now_ms,
        to_thread=player.thread,
        request=request,
        digest=digest or asked,
        decision=decision,
        person="mara",
        message=message,
        arguments=arguments,
        arguments_digest="" if arguments is None else digest_of(arguments),
    )
    player.mail[address.subject] = Received(address, entry)
    return address.subject


def test_a_person_is_asked_with_the_arguments_before_the_call_is_announced(careful: Player, use: Use) -> None:
    careful.model(use("a", "pay", text="x"), use("b", "look", text="y"))
    assert isinstance(step := careful.go_on(), RunCalls)
    assert [call.id for call in step.calls] == ["b"]
    ((address, request),) = requests(careful)
    assert (address.to, request.to_thread, request.name, request.call_id) == ("operators", "inbox", "pay", "a")
    assert request.arguments == {"text": "x"} and request.digest == digest_of({"text": "x"})
    assert request.expires_at_ms == careful.now_ms + 60_000 == careful.state.next_wake_ms
    assert request.policy == "the team's permissions say that alpha asks before pay"
    careful.returned("b", "look", "seen")
    assert isinstance(careful.go_on(), Park)
    assert not any(isinstance(entry, ToolCalled) for _, entry in careful.journal)


def test_two_calls_of_one_turn_are_asked_about_one_after_the_other(careful: Player, use: Use) -> None:
    careful.model(use("a", "pay", text="x"), use("b", "pay", text="x"))
    assert isinstance(careful.go_on(), Park)
    (first, one), (second, other) = requests(careful)
    assert (one.after, other.after) == ("", first.subject) and one.digest == other.digest
    decide_on(careful, second.subject)
    careful.go_on()
    assert careful.open_calls() == ["b"]


def test_a_call_that_was_allowed_is_made_as_it_was_asked_about(careful: Player, use: Use) -> None:
    careful.model(use("a", "pay", text="x"))
    careful.go_on()
    mail = decide_on(careful, requests(careful)[0][0].subject)
    careful.go_on()
    (taken,) = (entry for _, entry in careful.journal if isinstance(entry, MailReceived))
    assert taken.consumed == (mail,)
    assert careful.open_calls() == ["a"]
    assert careful.state.calls["a"].arguments == {"text": "x"}
    careful.intends("a", "pay", text="x")
    careful.returned("a", "pay", "paid")
    assert isinstance(careful.go_on(), AskModel) and careful.state.dialogue.notes == []


def test_a_later_call_with_other_arguments_needs_an_approval_of_its_own(careful: Player, use: Use) -> None:
    careful.model(use("a", "pay", text="x"))
    careful.go_on()
    decide_on(careful, requests(careful)[0][0].subject)
    careful.go_on()
    careful.returned("a", "pay", "paid")
    careful.model(use("b", "pay", text="y"))
    assert isinstance(careful.go_on(), Park)
    assert [entry.arguments for _, entry in requests(careful)] == [{"text": "x"}, {"text": "y"}]


def test_what_is_allowed_for_the_run_is_not_asked_about_again_in_this_thread(careful: Player, use: Use) -> None:
    careful.model(use("a", "pay", text="x"))
    careful.go_on()
    decide_on(careful, requests(careful)[0][0].subject, "allow_for_thread")
    careful.go_on()
    careful.returned("a", "pay", "paid")
    careful.model(use("b", "pay", text="y"))
    assert careful.open_calls() == ["b"] and len(requests(careful)) == 1


def test_a_person_changes_the_arguments_and_exactly_those_are_called(careful: Player, use: Use) -> None:
    careful.model(use("a", "pay", text="x"))
    careful.go_on()
    decide_on(careful, requests(careful)[0][0].subject, "edit", arguments={"text": "less"}, message="too much")
    careful.go_on()
    call = careful.state.calls["a"]
    assert careful.open_calls() == ["a"] and call.arguments == {"text": "less"}
    assert call.approval is not None and call.approval.edited
    (note,) = careful.state.dialogue.notes
    assert note.text == 'mara changed the arguments of your call of pay to {"text":"less"}, and said: too much'


def test_an_edit_whose_arguments_are_not_those_of_its_digest_is_put_away(careful: Player, use: Use) -> None:
    careful.model(use("a", "pay", text="x"))
    careful.go_on()
    subject = decide_on(careful, requests(careful)[0][0].subject, "edit", arguments={"text": "less"})
    mail = careful.mail[subject]
    assert isinstance(mail.entry, ApprovalDecided)
    forged = msgspec.structs.replace(mail.entry, arguments={"text": "more"})
    careful.mail[subject] = Received(mail.address, forged)
    step = careful.step()
    assert isinstance(step, Reject) and step.code == "stale"


def test_a_call_that_was_denied_is_not_made_and_the_model_is_told_why(careful: Player, use: Use) -> None:
    careful.model(use("a", "pay", text="x"))
    careful.go_on()
    decide_on(careful, requests(careful)[0][0].subject, "deny", message="not this month")
    assert isinstance(careful.go_on(), AskModel)
    call = careful.state.calls["a"]
    assert (call.status, call.content) == ("error", "mara denied this call, and said: not this month")


def test_nobody_deciding_in_time_means_no(careful: Player, use: Use) -> None:
    careful.model(use("a", "pay", text="x"))
    careful.go_on()
    request = requests(careful)[0][0].subject
    careful.now_ms += 60_000
    assert isinstance(careful.step(), FireTimer)
    careful.timer_fired()
    assert isinstance(careful.go_on(), AskModel)
    assert (careful.state.calls["a"].status, careful.state.calls["a"].content) == ("error", NOT_DECIDED)
    decide_on(careful, request)
    step = careful.step()
    assert isinstance(step, Reject) and step.code == "stale"


def test_a_decision_made_in_time_and_read_late_counts_and_one_made_late_does_not(careful: Player, use: Use) -> None:
    careful.model(use("a", "pay", text="x"))
    careful.go_on()
    request = requests(careful)[0][0].subject
    careful.now_ms += 90_000
    decide_on(careful, request)
    step = careful.step()
    assert isinstance(step, Reject) and step.reason.endswith("had expired")
    decide_on(careful, request, at_ms=careful.now_ms - 31_000)
    careful.go_on()
    assert careful.open_calls() == ["a"]


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"agent": "lead"}, "wrong_recipient"),
        ({"thread": "decide-0"}, "stale"),
        ({"digest": "0" * 64}, "stale"),
    ],
)
def test_only_people_decide_at_one_place_and_on_what_was_asked(
    careful: Player, use: Use, changed: dict[str, str], code: str
) -> None:
    careful.model(use("a", "pay", text="x"))
    careful.go_on()
    decide_on(careful, requests(careful)[0][0].subject, **changed)  # type: ignore[arg-type]  # one keyword of several
    step = careful.step()
    assert isinstance(step, Reject) and step.code == code


def test_a_decision_on_what_another_thread_asked_is_put_away(careful: Player, use: Use) -> None:
    careful.model(use("a", "pay", text="x"))
    careful.go_on()
    decide_on(careful, "shanty.0.operators.0-r.0-2.alpha.2", digest=digest_of({"text": "x"}))
    step = careful.step()
    assert isinstance(step, Reject) and step.code == "stale"


def test_a_decision_on_a_request_this_reader_does_not_see_yet_waits(careful: Player, use: Use) -> None:
    careful.model(use("a", "pay", text="x"))
    careful.go_on()
    request = requests(careful)[0][0].subject
    decide_on(careful, request)
    behind = careful.folded(len(careful.journal) - 1)
    assert not isinstance(careful.step(state=behind), Reject)


def test_a_request_is_void_once_the_thread_is_to_stop(careful: Player, use: Use) -> None:
    careful.model(use("a", "pay", text="x"))
    careful.go_on()
    request = requests(careful)[0][0].subject
    careful.cancel("lead", "0", "wrap_up", within_s=30)
    assert isinstance(careful.go_on(), AskModel)
    assert careful.state.calls["a"].content == VOID
    decide_on(careful, request)
    step = careful.step()
    assert isinstance(step, Reject) and step.code == "stale"
    careful.mail.popitem()
    careful.model(use("b", "pay", text="x"))
    assert careful.state.calls["b"].content == NOTHING_NEW


def test_an_abort_leaves_nothing_to_decide_on(careful: Player, use: Use) -> None:
    careful.model(use("a", "pay", text="x"))
    careful.go_on()
    careful.cancel("lead", "0", "abort")
    assert isinstance(careful.go_on(), Park)
    assert careful.outcome.code == "aborted" and careful.state.next_wake_ms is None


def test_a_call_that_was_announced_before_the_policy_changed_is_not_asked_about(use: Use) -> None:
    player = Player(SPECIALIST, "0-1")
    player.opened_by("lead", "0")
    player.go_on()
    player.model(use("a", "pay", text="x"))
    player.intends("a", "pay", text="x")
    player.profile = CAREFUL
    assert player.open_calls() == ["a"]


def test_what_the_team_denies_is_refused_with_a_sentence(use: Use) -> None:
    player = Player(msgspec.structs.replace(SPECIALIST, permissions={"pay": "deny"}), "0-1")
    player.opened_by("lead", "0")
    player.go_on()
    player.model(use("a", "pay", text="x"))
    assert isinstance(player.go_on(), AskModel)
    assert player.state.calls["a"].content == "the team's permissions deny pay to alpha"


def test_a_request_that_is_journaled_is_not_asked_again_by_whoever_takes_over(careful: Player, use: Use) -> None:
    careful.model(use("a", "pay", text="x"))
    careful.go_on()
    assert isinstance(careful.step(abandoned=True), Park)
    assert requests_for(careful.state, [], at_ms=1, by="", fence=1) == []
    assert len(requests(careful)) == 1


async def settle(order: Order, context: Context) -> None:
    """Only its being there counts."""


@pytest.fixture
def teller() -> Player:
    """A specialist that is code, and has asked before its first payment."""
    profile = msgspec.structs.replace(CAREFUL, handler=handler_from(settle), verbs=())
    player = Player(profile, "0-1")
    opening = player.opened_by("lead", "0")
    assert isinstance(player.step(), RunHandler)
    player.write(Draft("log", ThreadOpened(at_ms=1, consumed=(opening,))))
    call = Call(id="step-1", name="pay", arguments={"text": "x"})
    (request,) = requests_for(player.state, [call], at_ms=player.now_ms, by="worker-1", fence=7)
    player.write(Draft("operators", request))
    return player


def test_a_handler_rests_until_somebody_has_decided_and_is_run_again(teller: Player) -> None:
    assert isinstance(teller.go_on(), Park)
    decide_on(teller, requests(teller)[0][0].subject, "edit", arguments={"text": "y"})
    assert isinstance(teller.go_on(), RunHandler)
    call = teller.state.calls["step-1"]
    assert call.arguments == {"text": "y"} and not call.intended and not call.settled


def test_a_handler_that_waits_for_a_decision_is_stopped_like_any_other(teller: Player) -> None:
    teller.cancel("lead", "0", "wrap_up")
    assert isinstance(teller.go_on(), Park)
    assert (teller.outcome.status, teller.outcome.code) == ("cancelled", "cancelled")
