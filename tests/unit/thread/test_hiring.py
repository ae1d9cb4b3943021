"""Hiring: the lead's contract with whom it has made up, and what the host does by its own policy."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shanty_protocol import (
    Brief,
    DelegationSent,
    FanOutStarted,
    HiredSpecialist,
    Outcome,
    QuestionAsked,
    SpecialistHired,
    ThreadReplied,
)
from shanty_protocol.ids import HOST, LOG
from shanty_runtime.agent import HirePolicy, Profile
from shanty_runtime.agent.context import system_prompt
from shanty_runtime.models import RehearsalModel
from shanty_runtime.thread.decide import AskModel, Draft, Park, Reject
from shanty_runtime.thread.hiring import hire_card
from shanty_runtime.thread.verbs import SPECIALIST_VERBS, verb_cards
from support.player import LEAD, Player, Use, look, pay

POLICY = HirePolicy(at_most=2, tools=("look",), models=("small",))
HIRER = msgspec.structs.replace(LEAD, hire=POLICY, verbs=(*LEAD.verbs, hire_card(POLICY)))
SMALL, USUAL = RehearsalModel(lambda turn: "small"), RehearsalModel(lambda turn: "usual")
HOSTING = Profile(
    agent=HOST,
    role="specialist",
    verbs=verb_cards(SPECIALIST_VERBS),
    tools={"look": look, "pay": pay},
    model=USUAL,
    models={"small": SMALL},
    hire=POLICY,
)
BOSUN = {"name": "bosun", "role": "Knows ropes.", "instructions": "You know ropes.", "tools": ["look"]}
HIRED = HiredSpecialist(name="bosun", role="Knows ropes.", instructions="You know ropes.", tools=("look",))


@pytest.fixture
def hirer() -> Player:
    player = Player(HIRER, "0")
    player.opened_by("cli", "request-1")
    player.write(*player.drafts())
    return player


def error_of(player: Player, call_id: str) -> str:
    call = player.state.calls[call_id]
    assert call.status == "error", call
    return call.content


def test_whom_a_lead_hires_it_delegates_to_by_name_in_the_same_turn(hirer: Player, use: Use) -> None:
    hirer.model(
        use("c1", "hire_specialist", **BOSUN),
        use("c2", "delegate", specialist="bosun", objective="tie it"),
        use("c3", "wait_for_replies"),
    )
    hired, sent = hirer.drafts()
    assert hired == Draft(LOG, SpecialistHired(at_ms=1_000, by="worker-1", fence=7, specialist=HIRED, call_id="c1"))
    assert isinstance(sent.entry, DelegationSent)
    assert (sent.to, sent.entry.to_thread, sent.entry.hired) == (HOST, "0-1", HIRED)
    assert isinstance(hirer.go_on(), Park)
    assert hirer.state.calls["c2"].content == '{"thread":"0-1","specialist":"bosun"}'


def test_a_lead_that_is_taken_over_between_hiring_and_delegating_writes_the_same_entries(
    hirer: Player, use: Use
) -> None:
    hirer.model(use("c1", "hire_specialist", **BOSUN), use("c2", "delegate", specialist="bosun", objective="tie it"))
    both = hirer.drafts()
    hirer.write(both[0])
    assert hirer.drafts() == both[1:]


def test_the_reply_and_the_question_of_a_hired_one_are_told_in_its_name(hirer: Player, use: Use) -> None:
    hirer.model(
        use("c1", "hire_specialist", **BOSUN),
        use("c2", "delegate", specialist="bosun", objective="tie it"),
        use("c3", "wait_for_replies"),
    )
    hirer.go_on()
    delegated = hirer.subject_of(3)
    hirer.receive(
        HOST,
        "0-1",
        lambda after: QuestionAsked(at_ms=1, to_thread="0", after=after, question="How?", expires_at_ms=99_000),
    )
    hirer.go_on()
    assert '"specialist":"bosun","question":"How?"' in hirer.state.calls["c3"].content
    hirer.model(use("c4", "answer_specialist", question="q-0-1-0", answer="twice"), use("c5", "wait_for_replies"))
    answered = hirer.drafts()[0]
    assert (answered.to, answered.entry.to_thread) == (HOST, "0-1")  # type: ignore[union-attr]  # it is mail
    hirer.go_on()
    hirer.replied(HOST, "0-1", delegated)
    hirer.go_on()
    assert '"thread":"0-1","specialist":"bosun","status":"ok"' in hirer.state.calls["c5"].content


def test_further_mail_and_stops_go_to_the_host(hirer: Player, use: Use) -> None:
    hirer.model(use("c1", "hire_specialist", **BOSUN), use("c2", "delegate", specialist="bosun", objective="tie it"))
    hirer.go_on()
    hirer.model(use("c3", "send_to_specialist", thread="0-1", message="faster"), use("c4", "cancel", thread="0-1"))
    drafts = hirer.drafts()
    assert [(draft.to, draft.entry.to_thread) for draft in drafts] == [(HOST, "0-1")] * 2  # type: ignore[union-attr]
    assert drafts[0].entry.after == hirer.subject_of(3)  # type: ignore[union-attr]  # they are mail


def test_a_list_is_given_to_a_hired_one(hirer: Player, use: Use) -> None:
    hirer.model(use("c1", "hire_specialist", **BOSUN))
    hirer.go_on()
    hirer.model(
        use("c2", "delegate_each", specialist="bosun", objective="tie {item}", items=["a", "b"], output="out.jsonl")
    )
    started = FanOutStarted(at_ms=1_000, call_id="c2", specialist="bosun", items=2, at_most=2)
    hirer.write(Draft(LOG, started))
    sent = hirer.drafts()
    assert [draft.to for draft in sent] == [HOST, HOST]
    assert [draft.entry.hired for draft in sent] == [HIRED, HIRED]  # type: ignore[union-attr]  # delegations
    assert [draft.entry.brief.objective for draft in sent] == ["tie a", "tie b"]  # type: ignore[union-attr]


def test_hired_ones_stand_in_the_leads_prompt_and_are_marked(hirer: Player, use: Use) -> None:
    before = system_prompt(hirer.state.profile)
    hirer.model(use("c1", "hire_specialist", **BOSUN))
    hirer.go_on()
    assert "bosun" not in before
    assert "- bosun (hired by you): Knows ropes." in system_prompt(hirer.state.profile).splitlines()


def test_the_tool_is_offered_where_the_policy_says_so_and_names_what_may_be_given() -> None:
    card = hire_card(POLICY)
    assert card.input_schema["properties"]["tools"]["items"] == {"enum": ["look"]}
    assert card.input_schema["properties"]["model"]["enum"] == ["", "small"]
    assert "hire_specialist" not in [each.name for each in LEAD.verbs]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"name": "Bo Sun"}, "is not a name of lower-case letters"),
        ({"name": "specialist"}, "is somebody else's name"),
        ({"name": "operators"}, "is somebody else's name"),
        ({"name": "lead"}, "is somebody else's name"),
        ({"name": "alpha"}, "there is a specialist alpha already"),
        ({"role": " "}, "write both"),
        ({"instructions": ""}, "write both"),
        ({"instructions": "x" * 20_001}, "instructions of 20001 characters"),
        ({"tools": ["look", "pay"]}, "gives no hired specialist pay; allowed: look"),
        ({"model": "large"}, "gives no hired specialist the model large; allowed: small"),
    ],
)
def test_what_the_policy_does_not_allow_is_refused_with_a_sentence(
    hirer: Player, use: Use, changed: dict[str, Any], sentence: str
) -> None:
    hirer.model(use("c1", "hire_specialist", **{**BOSUN, **changed}))
    assert sentence in error_of(hirer, "c1")
    assert "bosun" not in hirer.state.profile.contracts


def test_no_more_are_hired_than_the_policy_allows_in_one_turn_or_in_several(hirer: Player, use: Use) -> None:
    hirer.model(
        use("c1", "hire_specialist", **BOSUN),
        use("c2", "hire_specialist", **BOSUN),
        use("c3", "hire_specialist", **{**BOSUN, "name": "cook"}),
        use("c4", "hire_specialist", **{**BOSUN, "name": "mate"}),
    )
    assert "there is a specialist bosun already" in error_of(hirer, "c2")
    assert "2 are hired, which is all that this run may" in error_of(hirer, "c4")
    hirer.go_on()
    hirer.model(use("c5", "hire_specialist", **{**BOSUN, "name": "mate"}))
    assert "2 are hired" in error_of(hirer, "c5")


def test_a_lead_that_is_to_stop_hires_nobody(hirer: Player, use: Use) -> None:
    hirer.model(use("c1", "look", text="a"))
    hirer.cancel("cli", "request-1", "wrap_up")
    hirer.write(*hirer.drafts())
    hirer.returned("c1", "look", "a")
    hirer.model(use("c2", "hire_specialist", **BOSUN))
    assert "begin nothing new" in error_of(hirer, "c2")


def test_a_host_starts_nothing_with_the_lead(hirer: Player) -> None:
    hirer.follow_up(HOST, "0-1", "let me in")
    step = hirer.step()
    assert isinstance(step, Reject) and step.code == "wrong_recipient"
    fresh = Player(HIRER, "0")
    fresh.opened_by(HOST, "request-9")
    step = fresh.step()
    assert isinstance(step, Reject) and "it answers, and starts nothing here" in step.reason


# The host


def host(hired: HiredSpecialist | None, **policy: Any) -> Player:
    player = Player(msgspec.structs.replace(HOSTING, **policy), "0-1")
    player.receive(
        "lead",
        "0",
        lambda after: DelegationSent(
            at_ms=1, to_thread="0-1", after=after, brief=Brief(objective="tie it"), hired=hired
        ),
    )
    player.write(*player.drafts())
    return player


def refusal_of(player: Player) -> Outcome:
    (draft,) = player.drafts()
    assert isinstance(draft.entry, ThreadReplied)
    return draft.entry.outcome


def test_the_host_plays_whom_the_delegation_names_by_its_journal_alone() -> None:
    player = host(msgspec.structs.replace(HIRED, model="small"))
    assert isinstance(player.step(), AskModel)
    profile = player.state.profile
    assert (profile.agent, profile.name, profile.prompt, profile.model) == (HOST, "bosun", "You know ropes.", SMALL)
    assert list(profile.tools) == ["look"]
    assert "You are `bosun`" in system_prompt(profile)


def test_without_a_model_of_its_own_a_hired_one_has_that_of_its_host() -> None:
    assert host(HIRED).state.profile.model is USUAL


def test_a_hired_one_has_no_tool_that_it_was_not_given(use: Use) -> None:
    player = host(HIRED)
    player.model(use("c1", "pay", text="all"))
    assert "there is no tool 'pay'" in error_of(player, "c1")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"tools": ("pay",)}, "gives no hired specialist pay"),
        ({"model": "large"}, "gives no hired specialist the model large"),
    ],
)
def test_the_host_refuses_what_its_own_policy_does_not_allow(changed: dict[str, Any], sentence: str) -> None:
    outcome = refusal_of(host(msgspec.structs.replace(HIRED, **changed)))
    assert (outcome.status, outcome.code) == ("refused", "not_hired") and sentence in outcome.summary


def test_the_host_refuses_a_delegation_that_names_nobody() -> None:
    outcome = refusal_of(host(None))
    assert (outcome.status, outcome.code) == ("refused", "not_hired")
