from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shanty_protocol import DelegationSent, ThreadReplied, ThreadTakenOver, TimerFired, codec
from shanty_protocol.ids import LOG
from shanty_runtime.agent.context import NUDGE
from shanty_runtime.models.base import unmarked
from shanty_runtime.thread.decide import (
    AskModel,
    Draft,
    FireTimer,
    Park,
    Reject,
    RunCalls,
    Stamp,
    Write,
    decide,
)
from support.player import LEAD, Player, Use


def last_user_texts(player: Player) -> list[Any]:
    """All that the user side has said since the model last spoke."""
    messages = player.state.dialogue.next_messages()
    spoken = max((n for n, message in enumerate(messages, 1) if message.role == "assistant"), default=0)
    blocks = [block for message in messages[spoken:] for block in message.content]
    return [block["text"] if block["type"] == "text" else unmarked(block["content"]) for block in blocks]


def test_a_delegation_opens_the_thread_and_its_brief_is_what_the_model_is_shown(specialist: Player) -> None:
    assert specialist.kinds == ["ThreadOpened"]
    assert isinstance(specialist.step(), AskModel)
    (text,) = last_user_texts(specialist)
    assert "<objective>\nfind out\n</objective>" in text


def test_one_model_reply_fixes_all_its_delegations(lead: Player, use: Use) -> None:
    lead.model(
        use("a", "delegate", specialist="alpha", objective="read"),
        use("b", "delegate", specialist="beta", objective="count", input={"n": 3}),
    )
    sent = [(draft.to, draft.entry) for draft in lead.drafts()]
    assert [(to, entry.to_thread) for to, entry in sent if isinstance(entry, DelegationSent)] == [
        ("alpha", "0-1"),
        ("beta", "0-2"),
    ]
    lead.go_on()
    assert isinstance(lead.step(), AskModel)
    assert last_user_texts(lead) == [
        '{"thread":"0-1","specialist":"alpha"}',
        '{"thread":"0-2","specialist":"beta"}',
    ]


@pytest.mark.parametrize("stored", [0, 1, 2])
def test_a_fan_out_broken_off_goes_on_at_its_end_with_the_same_bytes(lead: Player, use: Use, stored: int) -> None:
    lead.model(*(use(f"c{i}", "delegate", specialist="alpha", objective=f"part {i}") for i in range(3)))
    whole = [(draft.to, codec.encode(draft.entry)) for draft in lead.drafts()]
    lead.write(*lead.drafts()[:stored])
    lead.now_ms = 99_999
    rest = decide(lead.state, list(lead.mail.values()), Stamp(99_999, "worker-2", 8), abandoned=True)
    assert isinstance(rest, Write)
    assert [(draft.to, codec.encode(draft.entry)) for draft in rest.drafts] == whole[stored:]


def test_a_takeover_is_noted_after_the_fan_out_of_the_one_before(lead: Player, use: Use) -> None:
    lead.model(use("a", "delegate", specialist="alpha", objective="read"))
    assert not any(isinstance(draft.entry, ThreadTakenOver) for draft in lead.drafts(abandoned=True))
    lead.write(*lead.drafts())
    (draft,) = lead.drafts(abandoned=True)
    assert isinstance(draft.entry, ThreadTakenOver)


def test_a_thread_at_rest_is_not_taken_over(lead: Player, use: Use) -> None:
    lead.model(use("a", "submit_result", summary="done"))
    lead.go_on()
    assert isinstance(lead.step(abandoned=True), Park)


@pytest.mark.parametrize(
    ("arguments", "replies_needed"),
    [({"mode": "all"}, 3), ({"mode": "any"}, 1), ({"mode": "quorum", "quorum": 2}, 2), ({}, 3)],
)
def test_waiting_ends_with_the_reply_that_makes_it_enough(
    lead: Player, use: Use, arguments: dict[str, Any], replies_needed: int
) -> None:
    lead.model(*(use(f"c{i}", "delegate", specialist="alpha", objective="part") for i in range(3)))
    lead.go_on()
    lead.model(use("w", "wait_for_replies", **arguments))
    for i in range(1, replies_needed + 1):
        assert isinstance(lead.go_on(), Park)
        lead.replied("alpha", f"0-{i}", answers=lead.subject_of(1 + i), summary=f"reply {i}")
    assert isinstance(lead.go_on(), AskModel)
    waited = msgspec.json.decode(last_user_texts(lead)[0])
    assert waited["satisfied"] is True
    assert [reply["summary"] for reply in waited["replies"]] == [f"reply {i + 1}" for i in range(replies_needed)]
    assert len(waited["waiting_for"]) == 3 - replies_needed


def test_replies_that_are_in_together_are_one_entry(lead: Player, use: Use) -> None:
    lead.model(*(use(f"c{i}", "delegate", specialist="alpha", objective="part") for i in range(3)))
    lead.go_on()
    lead.model(use("w", "wait_for_replies"))
    for i in (3, 1, 2):
        lead.replied("alpha", f"0-{i}", answers=lead.subject_of(1 + i))
    lead.go_on()
    assert lead.kinds[-1] == "ReplyReceived"
    assert len(lead.journal[-1][1].consumed) == 3


def test_a_reply_that_comes_before_the_model_waits_is_given_once_with_the_others(lead: Player, use: Use) -> None:
    lead.model(*(use(f"c{i}", "delegate", specialist="alpha", objective="part") for i in range(2)))
    lead.go_on()
    lead.replied("alpha", "0-1", answers=lead.subject_of(2), summary="early")
    assert isinstance(lead.go_on(), AskModel)
    lead.model(use("w", "wait_for_replies"))
    assert isinstance(lead.go_on(), Park), "the other has not replied"
    lead.replied("alpha", "0-2", answers=lead.subject_of(3), summary="late")
    assert isinstance(lead.go_on(), AskModel)
    waited = msgspec.json.decode(last_user_texts(lead)[0])
    assert [reply["summary"] for reply in waited["replies"]] == ["early", "late"]
    lead.model(use("again", "wait_for_replies"))
    assert isinstance(lead.go_on(), AskModel)
    assert msgspec.json.decode(last_user_texts(lead)[0])["replies"] == []


def test_a_deadline_ends_the_wait_and_tells_who_is_late(lead: Player, use: Use) -> None:
    lead.model(*(use(f"c{i}", "delegate", specialist="alpha", objective="part") for i in range(2)))
    lead.go_on()
    lead.model(use("w", "wait_for_replies", deadline_s=10))
    lead.replied("alpha", "0-1", answers=lead.subject_of(2))
    assert isinstance(lead.go_on(), Park)
    assert lead.state.next_deadline_ms == 11_000
    lead.now_ms = 11_000
    assert lead.step() == FireTimer(())
    lead.write(Draft(LOG, TimerFired(at_ms=11_000)))
    assert isinstance(lead.go_on(), AskModel)
    waited = msgspec.json.decode(last_user_texts(lead)[0])
    assert waited["satisfied"] is False
    assert [each["thread"] for each in waited["replies"]] == ["0-1"]
    assert [each["thread"] for each in waited["waiting_for"]] == ["0-2"]


def test_a_specialist_that_never_answers_is_answered_for(lead: Player, use: Use) -> None:
    lead.model(
        use("a", "delegate", specialist="alpha", objective="part", deadline_s=5),
        use("b", "delegate", specialist="alpha", objective="part", deadline_s=5),
    )
    lead.go_on()
    lead.model(use("w", "wait_for_replies"))
    lead.now_ms = 6_000
    assert lead.step() == FireTimer(("0-1", "0-2"))
    lead.write(Draft(LOG, TimerFired(at_ms=6_000, unstarted=("0-2",))))
    assert isinstance(lead.go_on(), AskModel)
    waited = msgspec.json.decode(last_user_texts(lead)[0])
    assert [reply["status"] for reply in waited["replies"]] == ["timed_out", "unreachable"]


def test_a_follow_up_keeps_the_context_and_gets_a_reply_of_its_own(specialist: Player, use: Use) -> None:
    specialist.model(use("r", "submit_result", summary="first answer"))
    assert isinstance(specialist.go_on(), Park)
    first = specialist.reply()
    second_mail = specialist.follow_up("lead", "0", "and the second half?")
    assert isinstance(specialist.go_on(), AskModel)
    assert last_user_texts(specialist) == ['{"handed_in":true}', "and the second half?"]
    specialist.model(use("r", "submit_result", summary="second answer"))
    assert isinstance(specialist.go_on(), Park)
    second = specialist.reply()
    assert first.outcome.summary == "first answer"
    assert (second.answers, second.outcome.summary) == (second_mail, "second answer")
    assert second.after == specialist.subject_of(2)


def test_a_reply_does_not_claim_to_answer_what_its_model_had_not_seen(specialist: Player, use: Use) -> None:
    specialist.model(use("r", "look", text="x"), use("s", "submit_result", summary="answer"))
    late = specialist.follow_up("lead", "0", "one more thing")
    specialist.go_on()
    specialist.returned("r", "look", "x")
    specialist.go_on()
    replies = [entry for _, entry in specialist.journal if isinstance(entry, ThreadReplied)]
    assert len(replies) == 1 and replies[0].answers != late
    assert isinstance(specialist.step(), AskModel)
    assert last_user_texts(specialist)[-1] == "one more thing"


def test_mails_of_one_sender_are_taken_in_in_the_order_they_were_sent(specialist: Player, use: Use) -> None:
    specialist.model(use("r", "submit_result", summary="answer"))
    specialist.go_on()
    first = specialist.follow_up("lead", "0", "first")
    second = specialist.follow_up("lead", "0", "second")
    early = specialist.mail.pop(first)
    assert isinstance(specialist.step(), Park)
    specialist.mail[first] = early
    specialist.go_on()
    assert specialist.journal[-1][1].consumed == (first, second)
    assert last_user_texts(specialist)[-2:] == ["first", "second"]


def test_a_mail_delivered_twice_is_taken_in_once(specialist: Player) -> None:
    before = list(specialist.journal)
    specialist.go_on()
    assert specialist.journal == before


@pytest.mark.parametrize(("agent", "thread"), [("beta", "0"), ("lead", "0-9"), ("alpha", "0-1")])
def test_a_message_from_anybody_but_the_opener_is_rejected(specialist: Player, agent: str, thread: str) -> None:
    forged = specialist.follow_up(agent, thread, "do as I say")
    step = specialist.step()
    assert isinstance(step, Reject) and step.mail.subject == forged and step.code == "wrong_recipient"


@pytest.mark.parametrize(("agent", "thread"), [("beta", "0-1"), ("alpha", "0-2")])
def test_a_reply_from_anybody_but_the_one_asked_is_rejected(lead: Player, use: Use, agent: str, thread: str) -> None:
    lead.model(use("a", "delegate", specialist="alpha", objective="part"))
    lead.go_on()
    lead.replied(agent, thread, answers=lead.subject_of(2))
    step = lead.step()
    assert isinstance(step, Reject) and step.code == "wrong_recipient"


@pytest.mark.parametrize("thread", ["0-1", "request-2"])
def test_a_specialist_of_the_lead_starts_nothing_and_asks_nothing_of_it(thread: str) -> None:
    lead = Player(LEAD, "0")
    for forged in (lead.opened_by("alpha", thread), lead.follow_up("alpha", thread, "do as I say")):
        step = lead.step()
        assert isinstance(step, Reject) and step.mail.subject == forged and step.code == "wrong_recipient"
        del lead.mail[forged]


def test_a_thread_is_opened_by_its_parent_only(specialist: Player) -> None:
    player = type(specialist)(specialist.profile, "0-1")
    player.opened_by("mallory", "0-2")
    assert isinstance(player.step(), Reject)


def test_a_thread_is_opened_once(specialist: Player) -> None:
    specialist.opened_by("lead", "0")
    assert isinstance(specialist.step(), Reject)


def test_calls_of_one_turn_run_together_and_only_open_ones_run_again(specialist: Player, use: Use) -> None:
    specialist.model(use("a", "look", text="x"), use("b", "look", text="y"), use("c", "look", text="z"))
    assert specialist.open_calls() == ["a", "b", "c"]
    specialist.returned("b", "look", "y")
    assert specialist.open_calls() == ["a", "c"]
    specialist.returned("a", "look", "x")
    specialist.returned("c", "look", "z")
    assert isinstance(specialist.step(), AskModel)
    assert last_user_texts(specialist) == ["x", "y", "z"]


def test_what_the_model_got_wrong_is_told_to_it_and_nothing_else_is_lost(lead: Player, use: Use) -> None:
    lead.model(
        use("a", "delegate", specialist="alpah", objective="read"),
        use("b", "delegate", specialist="beta", objective="count", input={"n": "three"}),
        use("c", "loook", text="x"),
        use("d", "look", txt="x"),
        use("e", "delegate", specialist="alpha", objective="read"),
        use("f", "send_to_specialist", thread="0-7", message="hello"),
        use("g", "submit_result", summary="all done"),
    )
    lead.go_on()
    told = last_user_texts(lead)
    assert "did you mean 'alpha'" in told[0]
    assert "$.n" in told[1] and "integer" in told[1]
    assert "did you mean 'look'" in told[2]
    assert "txt" in told[3]
    assert told[4] == '{"thread":"0-1","specialist":"alpha"}'
    assert "you opened no thread 0-7" in told[5]
    assert "wait for the replies first" in told[6]
    assert [entry.to_thread for _, entry in lead.journal if isinstance(entry, DelegationSent)] == ["0-1"]


def test_a_typed_result_that_does_not_fit_is_answered_with_the_exact_problem(specialist: Player, use: Use) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    profile = msgspec.structs.replace(specialist.profile, output_schema=schema)
    player = type(specialist)(profile, "0-1")
    player.opened_by("lead", "0")
    player.go_on()
    player.model(use("a", "submit_result", summary="done", result={"n": "many"}))
    assert isinstance(player.go_on(), AskModel)
    assert '$.n: "many" is not of type "integer"' in last_user_texts(player)[0]
    player.model({"type": "text", "text": "I think I am done"})
    assert isinstance(player.go_on(), AskModel)
    assert last_user_texts(player) == [NUDGE]
    player.model(use("a", "submit_result", summary="done", result={"n": 3}))
    assert isinstance(player.go_on(), Park)
    assert player.outcome.result == {"n": 3}


def test_a_thread_that_kills_every_worker_is_given_up_and_its_lead_is_told(specialist: Player, use: Use) -> None:
    specialist.model(use("a", "look", text="x"))
    for _ in range(specialist.profile.max_attempts):
        (taken_over,) = specialist.drafts(abandoned=True)
        specialist.write(taken_over)
    specialist.go_on()
    assert specialist.kinds[-2:] == ["ThreadFailed", "ThreadReplied"]
    (dead, _), (address, _) = specialist.journal[-2:]
    assert dead.to == "dead" and address.to == "lead"
    assert (specialist.outcome.status, specialist.outcome.code) == ("failed", "crash_loop")
    assert isinstance(specialist.step(), Park)


def test_a_step_forward_between_two_deaths_starts_the_count_again(specialist: Player, use: Use) -> None:
    specialist.model(use("a", "look", text="x"), use("b", "look", text="y"))
    specialist.write(*specialist.drafts(abandoned=True))
    specialist.write(*specialist.drafts(abandoned=True))
    assert specialist.state.attempts == 2
    specialist.returned("a", "look", "x")
    assert specialist.state.attempts == 0
    assert isinstance(specialist.step(), RunCalls)


def test_a_thread_that_does_not_hand_in_stops_at_its_turn_limit_and_says_so(lead: Player, use: Use) -> None:
    for turn in range(lead.profile.max_turns):
        assert isinstance(lead.go_on(), AskModel)
        lead.model(use(f"c{turn}", "look", text="x"))
        lead.returned(f"c{turn}", "look", "x")
    assert isinstance(lead.go_on(), Park)
    assert (lead.outcome.status, lead.outcome.code) == ("budget_exhausted", "turn_limit")


def test_folding_a_journal_piece_by_piece_gives_what_folding_it_whole_gives(lead: Player, use: Use) -> None:
    lead.model(use("a", "delegate", specialist="alpha", objective="part"), use("b", "pay", text="x"))
    lead.go_on()
    lead.returned("b", "pay", "paid")
    lead.model(use("w", "wait_for_replies"))
    lead.replied("alpha", "0-1", answers=lead.subject_of(2))
    lead.go_on()
    lead.model(use("s", "submit_result", summary="done"))
    lead.go_on()
    whole = lead.state
    for places in range(len(lead.journal) + 1):
        state = lead.folded(places)
        assert state.next_n == places
    assert state.dialogue == whole.dialogue and state.outcome == whole.outcome and state.usage == whole.usage
