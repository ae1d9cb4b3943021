"""What is decided without asking a person, and which delegations a person has to allow first."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest

from shanty_protocol import (
    ApprovalDecided,
    ApprovalRequested,
    ApprovalRuled,
    DelegationSent,
    EntryAddress,
    ModelReplied,
)
from shanty_protocol.codec import digest_of
from shanty_protocol.subjects import decision_address, standing_address
from shanty_runtime.agent.permissions import Condition, Permission, Rule
from shanty_runtime.thread.approvals import ALLOWED_HERE, VOID
from shanty_runtime.thread.decide import AskModel, AskPeople, Park, Received, RunCalls, StartFanOut, Write
from shanty_runtime.thread.state import NOTHING_NEW
from support.player import LEAD, RUN, SPECIALIST, Player, Use

SMALL = Condition("text", "one_of", ("tea", "ink"))


def specialist(pay: Permission) -> Player:
    player = Player(msgspec.structs.replace(SPECIALIST, permissions={"pay": pay}), "0-1")
    player.opened_by("lead", "0")
    player.go_on()
    return player


@pytest.fixture
def lead() -> Player:
    """A lead that needs a person's word before it delegates to alpha."""
    player = Player(msgspec.structs.replace(LEAD, permissions={"delegate:alpha": "ask"}), "0")
    player.opened_by("cli", "request-1")
    player.go_on()
    return player


def written(player: Player, kind: type) -> list[Any]:
    return [entry for _, entry in player.journal if isinstance(entry, kind)]


def requests(player: Player) -> list[tuple[EntryAddress, ApprovalRequested]]:
    return [(address, entry) for address, entry in player.journal if isinstance(entry, ApprovalRequested)]


def person_says(
    player: Player,
    request: tuple[EntryAddress, ApprovalRequested],
    decision: Literal["allow", "allow_for_thread", "edit", "deny"] = "allow",
    arguments: dict[str, Any] | None = None,
) -> None:
    asked, entry = request
    address = decision_address(asked)
    decided = ApprovalDecided(
        at_ms=player.now_ms,
        to_thread=player.thread,
        request=asked.subject,
        digest=entry.digest,
        decision=decision,
        person="mara",
        arguments=arguments,
        arguments_digest="" if arguments is None else digest_of(arguments),
    )
    player.mail[address.subject] = Received(address, decided)


# Rules


def test_a_call_that_a_rule_allows_is_made_once_the_journal_says_which_rule(use: Use) -> None:
    player = specialist(Rule((SMALL,)))
    player.model(use("a", "pay", text="tea"))
    assert isinstance(player.step(), Write)
    assert isinstance(step := player.go_on(), RunCalls) and [call.id for call in step.calls] == ["a"]
    (ruled,) = written(player, ApprovalRuled)
    assert ruled.rule == 'text is one of "tea", "ink"' and ruled.standing == ""
    assert (ruled.call_id, ruled.name, ruled.arguments) == ("a", "pay", {"text": "tea"})
    assert ruled.digest == digest_of({"text": "tea"}) and not requests(player)


def test_a_call_that_a_rule_does_not_allow_is_asked_about_and_why(use: Use) -> None:
    player = specialist(Rule((SMALL,), "ask"))
    player.model(use("a", "pay", text="gold"), use("b", "pay", text="ink"))
    assert isinstance(step := player.go_on(), RunCalls) and [call.id for call in step.calls] == ["b"]
    ((_, request),) = requests(player)
    assert request.policy == (
        'alpha may call pay without asking where text is one of "tea", "ink", and here text is "gold"'
    )


def test_a_rule_may_deny_and_the_model_is_told_by_which(use: Use) -> None:
    player = specialist(Rule((SMALL,), "deny"))
    player.model(use("a", "pay", text="gold"))
    assert isinstance(player.go_on(), AskModel) and not requests(player)
    assert player.state.calls["a"].content == (
        'the team\'s permissions allow pay to alpha where text is one of "tea", "ink", and here text is "gold"'
    )


def test_what_a_rule_allowed_stays_so_when_the_rule_has_changed_before_the_call(use: Use) -> None:
    player = specialist(Rule((SMALL,)))
    player.model(use("a", "pay", text="tea"))
    player.go_on()
    player.profile = msgspec.structs.replace(player.profile, permissions={"pay": "ask"})
    assert player.open_calls() == ["a"]


# For the whole run


def test_a_call_that_people_have_allowed_for_the_run_is_made_without_asking(use: Use) -> None:
    player = specialist("ask")
    player.standing["pay"] = standing_address(RUN, "pay").subject
    player.model(use("a", "pay", text="x"))
    assert isinstance(player.step(), AskPeople)
    assert isinstance(player.go_on(), RunCalls)
    (ruled,) = written(player, ApprovalRuled)
    assert (ruled.standing, ruled.rule) == (player.standing["pay"], "") and not requests(player)
    player.returned("a", "pay", "paid")
    player.standing.clear()
    player.model(use("b", "pay", text="y"))
    assert player.open_calls() == ["b"], "what a thread has found once it does not look for again"


def test_what_is_allowed_for_the_run_covers_that_tool_alone(use: Use) -> None:
    both: dict[str, Permission] = {"pay": "ask", "look": "ask"}
    player = Player(msgspec.structs.replace(SPECIALIST, permissions=both), "0-1")
    player.opened_by("lead", "0")
    player.go_on()
    player.standing["look"] = standing_address(RUN, "look").subject
    player.model(use("a", "pay", text="x"), use("b", "look", text="y"))
    assert isinstance(step := player.go_on(), RunCalls) and [call.id for call in step.calls] == ["b"]
    assert [entry.name for _, entry in requests(player)] == ["pay"]
    assert requests(player)[0][0].n == 3, "the places are those they are written at"


# Delegations


def test_a_delegation_goes_out_once_a_person_has_allowed_exactly_it(lead: Player, use: Use) -> None:
    lead.model(use("a", "delegate", specialist="alpha", objective="pay"), use("b", "wait_for_replies"))
    assert isinstance(lead.go_on(), Park)
    (replied,) = written(lead, ModelReplied)
    assert replied.to_approve == {"a": "the team's permissions say that lead asks before it delegates to alpha"}
    (request,) = requests(lead)
    assert request[1].arguments == {"specialist": "alpha", "objective": "pay"}
    assert (request[1].name, request[1].policy) == ("delegate", replied.to_approve["a"])
    assert not written(lead, DelegationSent) and not lead.state.waits
    person_says(lead, request)
    assert isinstance(lead.go_on(), Park)
    (sent,) = written(lead, DelegationSent)
    assert (sent.to_thread, sent.brief.objective, sent.call_id) == ("0-1", "pay", "a")
    assert lead.state.waits["b"].threads == ("0-1",), "what waits for all waits for this one as well"


def test_a_delegation_that_is_denied_does_not_go_out_and_the_lead_is_told(lead: Player, use: Use) -> None:
    lead.model(use("a", "delegate", specialist="alpha", objective="pay"), use("b", "wait_for_replies"))
    lead.go_on()
    person_says(lead, requests(lead)[0], "deny")
    assert isinstance(lead.go_on(), AskModel)
    assert lead.state.calls["a"].content == "mara denied this call." and not written(lead, DelegationSent)
    assert lead.state.calls["b"].settled


def test_a_person_changes_a_brief_and_exactly_that_goes_out(lead: Player, use: Use) -> None:
    lead.model(use("a", "delegate", specialist="alpha", objective="pay all"))
    lead.go_on()
    person_says(lead, requests(lead)[0], "edit", {"specialist": "alpha", "objective": "pay half", "deadline_s": 9})
    lead.go_on()
    (sent,) = written(lead, DelegationSent)
    assert (sent.brief.objective, sent.brief.deadline_s) == ("pay half", 9.0)
    assert lead.state.dialogue.notes[-1].text.startswith("mara changed the arguments of your call of delegate to")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"specialist": "gamma", "objective": "pay"}, "there is no specialist gamma"),
        ({"specialist": "beta", "objective": "pay", "input": {"n": "x"}}, "n"),
        ({"specialist": "alpha", "objective": " "}, "`objective` is empty"),
        ({"specialist": "alpha", "objective": "pay", "deadline_s": 0}, "deadline_s must be more than 0"),
        ({"objective": "pay"}, "missing required field"),
    ],
)
def test_a_brief_that_a_person_changed_into_none_does_not_go_out(
    lead: Player, use: Use, changed: dict[str, Any], says: str
) -> None:
    lead.model(use("a", "delegate", specialist="alpha", objective="pay"))
    lead.go_on()
    person_says(lead, requests(lead)[0], "edit", changed)
    assert isinstance(lead.go_on(), AskModel)
    call = lead.state.calls["a"]
    assert call.status == "error" and says in call.content and not written(lead, DelegationSent)


def test_what_needs_nobodys_word_goes_out_at_once_beside_what_does(lead: Player, use: Use) -> None:
    lead.model(
        use("a", "delegate", specialist="alpha", objective="pay"),
        use("b", "delegate", specialist="beta", objective="count", input={"n": 1}),
        use("c", "wait_for_replies"),
    )
    assert isinstance(lead.go_on(), Park)
    assert [sent.call_id for sent in written(lead, DelegationSent)] == ["b"]
    person_says(lead, requests(lead)[0])
    lead.go_on()
    assert [sent.to_thread for sent in written(lead, DelegationSent)] == ["0-1", "0-2"]
    assert lead.state.waits["c"].threads == ("0-1", "0-2") and lead.state.waits["c"].needed == 2


def test_a_wait_for_named_threads_does_not_wait_for_a_persons_word(lead: Player, use: Use) -> None:
    lead.model(use("a", "delegate", specialist="beta", objective="count", input={"n": 1}))
    lead.go_on()
    lead.model(
        use("b", "delegate", specialist="alpha", objective="pay"), use("c", "wait_for_replies", threads=["0-1"])
    )
    lead.go_on()
    assert lead.state.waits["c"].threads == ("0-1",)


def test_a_list_of_items_is_given_out_once_a_person_has_allowed_it(lead: Player, use: Use) -> None:
    lead.model(
        use("a", "delegate_each", specialist="alpha", objective="pay {item}", output="out.jsonl", items=["x", "y"])
    )
    assert isinstance(lead.go_on(), Park)
    ((_, request),) = requests(lead)
    assert request.name == "delegate_each" and request.arguments["items"] == ["x", "y"]
    person_says(lead, requests(lead)[0])
    assert isinstance(lead.go_on(), StartFanOut)


def test_every_later_delegation_to_a_specialist_may_be_allowed_and_no_other(lead: Player, use: Use) -> None:
    lead.profile = msgspec.structs.replace(
        lead.profile, permissions={"delegate:alpha": "ask", "delegate:beta": "ask"}
    )
    lead.model(use("a", "delegate", specialist="alpha", objective="pay"))
    lead.go_on()
    person_says(lead, requests(lead)[0], "allow_for_thread")
    lead.go_on()
    lead.model(
        use("b", "delegate", specialist="alpha", objective="pay more"),
        use("c", "delegate", specialist="beta", objective="count", input={"n": 1}),
    )
    lead.go_on()
    assert [sent.call_id for sent in written(lead, DelegationSent)] == ["a", "b"]
    assert [entry.call_id for _, entry in requests(lead)] == ["a", "c"]


def test_two_of_one_turn_go_out_where_the_first_was_allowed_for_the_thread_before_the_second_was_asked_about(
    lead: Player, use: Use
) -> None:
    lead.model(
        use("a", "delegate", specialist="alpha", objective="pay"),
        use("b", "delegate", specialist="alpha", objective="pay more"),
    )
    step = lead.step()
    assert isinstance(step, AskPeople)
    lead.write(lead.asked(step)[0])  # and the worker dies
    person_says(lead, requests(lead)[0], "allow_for_thread")
    lead.write(*lead.drafts())
    lead.go_on()
    assert [sent.call_id for sent in written(lead, DelegationSent)] == ["a", "b"]
    (ruled,) = written(lead, ApprovalRuled)
    assert (ruled.call_id, ruled.rule) == ("b", ALLOWED_HERE)


def test_a_delegation_is_allowed_for_the_whole_run_like_any_call(lead: Player, use: Use) -> None:
    lead.standing["delegate:alpha"] = standing_address(RUN, "delegate:alpha").subject
    lead.model(use("a", "delegate", specialist="alpha", objective="pay"))
    lead.go_on()
    assert written(lead, ApprovalRuled) and written(lead, DelegationSent) and not requests(lead)


def test_a_delegation_that_waits_for_a_person_is_void_once_the_run_is_to_stop(lead: Player, use: Use) -> None:
    lead.model(use("a", "delegate", specialist="alpha", objective="pay"), use("b", "wait_for_replies"))
    lead.go_on()
    lead.cancel("cli", "request-1", "wrap_up")
    assert isinstance(lead.go_on(), AskModel)
    assert lead.state.calls["a"].content == VOID and not written(lead, DelegationSent)
    lead.model(use("c", "delegate", specialist="alpha", objective="pay"))
    assert lead.state.calls["c"].content == NOTHING_NEW and not lead.state.calls["c"].held


def test_what_the_team_denies_is_not_delegated(lead: Player, use: Use) -> None:
    lead.profile = msgspec.structs.replace(lead.profile, permissions={"delegate:alpha": "deny"})
    lead.model(
        use("a", "delegate", specialist="alpha", objective="pay"),
        use("b", "delegate_each", specialist="alpha", objective="pay {item}", output="o.jsonl", items=["x"]),
    )
    assert isinstance(lead.go_on(), AskModel)
    denied = "the team's permissions deny delegations to alpha to lead"
    assert [lead.state.calls[each].content for each in "ab"] == [denied, denied]


def test_a_quorum_is_no_more_than_the_threads_there_are_once_a_delegation_was_denied(lead: Player, use: Use) -> None:
    lead.model(
        use("a", "delegate", specialist="alpha", objective="pay"),
        use("b", "delegate", specialist="beta", objective="count", input={"n": 1}),
        use("c", "wait_for_replies", mode="quorum", quorum=2),
    )
    lead.go_on()
    person_says(lead, requests(lead)[0], "deny")
    assert isinstance(lead.go_on(), Park)
    assert lead.state.waits["c"].needed == 1
