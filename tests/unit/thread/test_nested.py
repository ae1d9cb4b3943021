"""A specialist that leads others: what it may begin, whom it hears, and what it is told."""

from __future__ import annotations

import msgspec
import pytest

from shanty_protocol import Brief, DelegationSent, ThreadReplied, Usage
from shanty_runtime.agent import Contract
from shanty_runtime.agent.context import system_prompt
from shanty_runtime.thread.decide import AskModel, Park, Reject
from shanty_runtime.thread.verbs import LEAD_VERBS, SPECIALIST_VERBS, verb_cards
from support.player import LEAD, Player, Use

FOREMAN = msgspec.structs.replace(
    LEAD,
    agent="foreman",
    role="specialist",
    verbs=verb_cards(tuple(dict.fromkeys((*LEAD_VERBS, *SPECIALIST_VERBS)))),
    contracts={"alpha": Contract(name="alpha", description="reads")},
    max_depth=3,
)


def foreman_at(thread: str) -> Player:
    player = Player(FOREMAN, thread)
    player.opened_by("lead", thread.rpartition("-")[0])
    player.go_on()
    return player


def test_a_nested_lead_delegates_from_its_own_place_in_the_tree_and_reports_to_whoever_opened_it(use: Use) -> None:
    foreman = foreman_at("0-1")
    foreman.model(use("a", "delegate", specialist="alpha", objective="x"), use("b", "report_progress", summary="on"))
    foreman.go_on()
    told = [(address.to, getattr(entry, "to_thread", "")) for address, entry in foreman.journal[2:]]
    assert told == [("alpha", "0-1-1"), ("lead", "0")]


def test_the_deepest_level_begins_nothing_below_itself_and_is_told_why(use: Use) -> None:
    foreman = foreman_at("0-1-1-1")
    foreman.model(use("a", "delegate", specialist="alpha", objective="x"))
    assert isinstance(foreman.go_on(), AskModel)
    assert foreman.state.calls["a"].content == (
        "thread 0-1-1-1 is 3 levels below the lead, and max_depth is 3: do this work yourself, "
        "or hand in what is missing"
    )
    assert not foreman.state.children
    above = foreman_at("0-1-1")
    above.model(use("a", "delegate", specialist="alpha", objective="x"))
    above.go_on()
    assert list(above.state.children) == ["0-1-1-1"]


def test_what_a_nested_lead_has_used_counts_all_that_is_below_it(use: Use) -> None:
    foreman = foreman_at("0-1")
    foreman.model(use("a", "delegate", specialist="alpha", objective="x"), use("b", "wait_for_replies"))
    foreman.go_on()
    below = Usage(input_tokens=70, output_tokens=7)
    subject = foreman.replied("alpha", "0-1-1", foreman.subject_of(2))
    mail = foreman.mail[subject]
    assert isinstance(mail.entry, ThreadReplied)
    spent = msgspec.structs.replace(mail.entry, usage=below, cost_microusd=5)
    foreman.mail[subject] = msgspec.structs.replace(mail, entry=spent)
    foreman.go_on()
    foreman.model(use("c", "submit_result", summary="done"))
    assert isinstance(foreman.go_on(), Park)
    assert foreman.reply().usage == below


@pytest.mark.parametrize(
    ("thread", "author", "from_thread"), [("0-1", "alpha", "0-1-1"), ("0-1", "alpha", "0"), ("0-1", "lead", "0-2")]
)
def test_a_nested_lead_takes_work_neither_from_its_own_specialists_nor_from_beside_it(
    thread: str, author: str, from_thread: str
) -> None:
    foreman = Player(FOREMAN, thread)
    brief = Brief(objective="x")
    foreman.receive(
        author,
        from_thread,
        lambda after: DelegationSent(at_ms=1, to_thread=thread, after=after, brief=brief),
    )
    step = foreman.step()
    assert isinstance(step, Reject) and step.code == "wrong_recipient"


def test_a_nested_lead_has_the_rules_of_a_lead_and_is_told_that_it_has_one_itself() -> None:
    nested, lead = system_prompt(FOREMAN), system_prompt(LEAD)
    assert nested.startswith("You are `foreman`, a specialist of the team")
    assert lead.startswith("You are `lead`, the lead of the team")
    assert "## Your own place" in nested and "## Your own place" not in lead
    for section in ("## What a brief holds", "- alpha: reads"):
        assert section in nested and section in lead
