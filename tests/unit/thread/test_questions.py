"""Questions to a lead and to people: who is told, whose answer counts, and what happens when nobody answers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shanty_protocol import MessageSent, QuestionAnswered, QuestionAsked
from shanty_protocol.subjects import decision_address, parse_entry
from shanty_runtime.thread.decide import AskModel, FireTimer, Park, Received, Reject
from shanty_runtime.thread.questions import NOT_ANSWERED, VOID
from shanty_runtime.thread.verbs import SPECIALIST_VERBS, verb_cards
from support.player import SPECIALIST, Player, Use

MAY_ASK_PEOPLE = msgspec.structs.replace(SPECIALIST, verbs=verb_cards((*SPECIALIST_VERBS, "ask_human")))


def asked_by(player: Player) -> list[tuple[str, QuestionAsked]]:
    return [(address.subject, entry) for address, entry in player.journal if isinstance(entry, QuestionAsked)]


def answered_by(player: Player) -> list[tuple[str, QuestionAnswered]]:
    return [(address.to, entry) for address, entry in player.journal if isinstance(entry, QuestionAnswered)]


def asks(player: Player, agent: str, thread: str, question: str = "which one?", expires_at_ms: int = 90_000) -> str:
    """A thread that the player opened asks it something."""
    return player.receive(
        agent,
        thread,
        lambda after: QuestionAsked(
            at_ms=1, to_thread=player.thread, after=after, question=question, expires_at_ms=expires_at_ms
        ),
    )


def answers(player: Player, question: str, agent: str, thread: str, at_ms: int = 0, place: int = 7) -> str:
    """Somebody answers a question of the player's. Returns the subject."""
    address = msgspec.structs.replace(
        parse_entry(question), to=player.profile.agent, agent=agent, thread=thread, n=place
    )
    entry = QuestionAnswered(
        at_ms=at_ms or player.now_ms, to_thread=player.thread, question=question, answer="the second", person=""
    )
    player.mail[address.subject] = Received(address, entry)
    return address.subject


def person_answers(player: Player, question: str) -> str:
    address = decision_address(parse_entry(question))
    entry = QuestionAnswered(
        at_ms=player.now_ms, to_thread=player.thread, question=question, answer="blue", person="mara"
    )
    player.mail[address.subject] = Received(address, entry)
    return address.subject


def result_of(player: Player, call_id: str) -> Any:
    return msgspec.json.decode(player.state.calls[call_id].content)


def leading(lead: Player, use: Use, *calls: dict[str, Any]) -> Player:
    """A lead that has opened two threads."""
    lead.model(
        use("a", "delegate", specialist="alpha", objective="x"),
        use("b", "delegate", specialist="alpha", objective="y"),
        *calls,
    )
    lead.go_on()
    return lead


def test_a_specialist_that_asks_rests_until_its_lead_has_answered(specialist: Player, use: Use) -> None:
    specialist.model(use("a", "ask_lead", question="which one?", options=["one", "two"]))
    assert isinstance(specialist.go_on(), Park)
    ((question, asked),) = asked_by(specialist)
    assert parse_entry(question).to == "lead" and (asked.to_thread, asked.options) == ("0", ("one", "two"))
    assert specialist.state.next_wake_ms == asked.expires_at_ms == specialist.now_ms + 86_400_000
    answers(specialist, question, "lead", "0")
    assert isinstance(specialist.go_on(), AskModel)
    assert result_of(specialist, "a") == {"answer": "the second", "answered_by": "lead"}


def test_two_equal_questions_are_two_and_each_has_its_own_answer(lead: Player, use: Use) -> None:
    leading(lead, use, use("w", "wait_for_replies"))
    first, second = asks(lead, "alpha", "0-1"), asks(lead, "alpha", "0-2")
    assert isinstance(lead.go_on(), AskModel)
    lead.model(
        use("c", "answer_specialist", question="q-0-2-0", answer="two"),
        use("d", "answer_specialist", question="q-0-1-0", answer="one"),
    )
    lead.go_on()
    assert [(to, entry.to_thread, entry.question, entry.answer) for to, entry in answered_by(lead)] == [
        ("alpha", "0-2", second, "two"),
        ("alpha", "0-1", first, "one"),
    ]
    assert lead.state.questions == {} and result_of(lead, "c") == {"answered": "q-0-2-0", "thread": "0-2"}


def test_a_lead_that_waits_for_replies_is_woken_by_a_question(lead: Player, use: Use) -> None:
    leading(lead, use, use("w", "wait_for_replies"))
    asks(lead, "alpha", "0-1", "which one?")
    assert isinstance(lead.go_on(), AskModel)
    waited = result_of(lead, "w")
    assert waited["satisfied"] is False and [each["thread"] for each in waited["waiting_for"]] == ["0-1", "0-2"]
    assert waited["questions"] == [
        {"id": "q-0-1-0", "thread": "0-1", "specialist": "alpha", "question": "which one?"}
    ]
    lead.model(use("v", "wait_for_replies"))
    assert isinstance(lead.go_on(), Park), "a question it was shown does not end its next wait"


def test_a_wait_ends_where_all_that_is_waited_for_waits_for_an_answer_itself(lead: Player, use: Use) -> None:
    leading(lead, use)
    asks(lead, "alpha", "0-1")
    lead.go_on()
    lead.model(use("w", "wait_for_replies"))
    assert isinstance(lead.go_on(), Park), "0-2 is at work"
    lead.replied("alpha", "0-2", lead.subject_of(3))
    assert isinstance(lead.go_on(), AskModel)
    waited = result_of(lead, "w")
    assert [each["id"] for each in waited["questions"]] == ["q-0-1-0"]
    assert [each["thread"] for each in waited["replies"]] == ["0-2"] and waited["satisfied"] is False
    lead.model(use("c", "ask_human", question="?", on_behalf_of="q-0-1-0"), use("v", "wait_for_replies"))
    assert isinstance(lead.go_on(), Park), "now it waits for a person"


def test_two_waits_of_one_turn_both_end_with_a_question(lead: Player, use: Use) -> None:
    leading(lead, use, use("w", "wait_for_replies", mode="any"), use("v", "wait_for_replies"))
    asks(lead, "alpha", "0-1")
    assert isinstance(lead.go_on(), AskModel)
    assert [each["id"] for call in ("w", "v") for each in result_of(lead, call)["questions"]] == ["q-0-1-0"] * 2


def test_what_a_lead_says_besides_its_answer_is_in_order_with_what_it_said_before(lead: Player, use: Use) -> None:
    leading(lead, use)
    asks(lead, "alpha", "0-1")
    lead.go_on()
    lead.model(
        use("c", "answer_specialist", question="q-0-1-0", answer="one"),
        use("d", "send_to_specialist", thread="0-1", message="and hurry"),
    )
    lead.go_on()
    _, said = lead.journal[-1]
    assert isinstance(said, MessageSent) and said.after == lead.subject_of(2)


def test_a_lead_at_work_reads_a_question_at_its_next_turn(lead: Player, use: Use) -> None:
    leading(lead, use)
    asks(lead, "alpha", "0-1", "which one?")
    assert isinstance(lead.go_on(), AskModel)
    (note,) = lead.state.dialogue.notes
    assert '"id":"q-0-1-0"' in note.text and "which one?" in note.text


def test_a_question_is_passed_on_and_the_answer_goes_down_as_the_leads(lead: Player, use: Use) -> None:
    leading(lead, use, use("w", "wait_for_replies"))
    question = asks(lead, "alpha", "0-1", expires_at_ms=50_000)
    lead.go_on()
    lead.model(use("c", "ask_human", question="which colour?", on_behalf_of="q-0-1-0"), use("v", "wait_for_replies"))
    assert isinstance(lead.go_on(), Park)
    ((passed_on, asked),) = asked_by(lead)
    assert parse_entry(passed_on).to == "operators" and (asked.on_behalf_of, asked.to_thread) == (question, "inbox")
    assert asked.expires_at_ms == 50_000 and result_of(lead, "c")["passed_on"] == "q-0-1-0"
    person_answers(lead, passed_on)
    assert isinstance(lead.go_on(), Park), "it is told when it is awake next"
    ((to, answer),) = answered_by(lead)
    assert (to, answer.to_thread, answer.question) == ("alpha", "0-1", question)
    assert (answer.answer, answer.person) == ("blue", "mara") and lead.state.questions == {}
    (note,) = lead.state.dialogue.notes
    assert note.text.startswith("To q-0-1-0, which you passed on, mara answered: blue")


def test_a_lead_asks_a_person_and_rests(lead: Player, use: Use) -> None:
    lead.model(use("a", "ask_human", question="which customer?", deadline_s=60))
    assert isinstance(lead.go_on(), Park)
    ((question, asked),) = asked_by(lead)
    assert asked.expires_at_ms == lead.now_ms + 60_000
    person_answers(lead, question)
    assert isinstance(lead.go_on(), AskModel)
    assert result_of(lead, "a") == {"answer": "blue", "answered_by": "mara"}


def test_a_specialist_asks_people_where_its_definition_lets_it(specialist: Player, use: Use) -> None:
    specialist.model(use("a", "ask_human", question="which one?"))
    assert "there is no tool 'ask_human'" in specialist.state.calls["a"].content
    player = Player(MAY_ASK_PEOPLE, "0-1")
    player.opened_by("lead", "0")
    player.go_on()
    player.model(use("a", "ask_human", question="which one?"))
    assert isinstance(player.go_on(), Park) and parse_entry(asked_by(player)[0][0]).to == "operators"


@pytest.mark.parametrize(("agent", "thread"), [("operators", "decide-0"), ("lead", "0-9"), ("beta", "0")])
def test_an_answer_from_whom_nobody_asked_is_put_away(specialist: Player, use: Use, agent: str, thread: str) -> None:
    specialist.model(use("a", "ask_lead", question="which one?"))
    specialist.go_on()
    answers(specialist, asked_by(specialist)[0][0], agent, thread)
    step = specialist.step()
    assert isinstance(step, Reject) and step.code == "stale"


def test_a_second_answer_is_put_away_and_what_the_lead_sends_next_is_read(specialist: Player, use: Use) -> None:
    specialist.model(use("a", "ask_lead", question="which one?"))
    specialist.go_on()
    question = asked_by(specialist)[0][0]
    answers(specialist, question, "lead", "0")
    specialist.go_on()
    second = answers(specialist, question, "lead", "0", place=8)
    step = specialist.step()
    assert isinstance(step, Reject) and step.mail.subject == second
    del specialist.mail[second]
    specialist.follow_up("lead", "0", "and hurry")
    specialist.go_on()
    assert [note.text for note in specialist.state.dialogue.notes] == ["and hurry"]


def test_an_answer_to_another_threads_question_is_put_away(specialist: Player, use: Use) -> None:
    specialist.model(use("a", "ask_lead", question="which one?"))
    specialist.go_on()
    answers(specialist, "shanty.0.lead.0-r.0-2.alpha.2", "lead", "0")
    step = specialist.step()
    assert isinstance(step, Reject) and step.code == "stale"


def test_a_question_that_nobody_answers_in_time_is_given_up(specialist: Player, use: Use) -> None:
    specialist.model(use("a", "ask_lead", question="which one?", deadline_s=30))
    specialist.go_on()
    question = asked_by(specialist)[0][0]
    specialist.now_ms += 30_000
    assert isinstance(specialist.step(), FireTimer)
    specialist.timer_fired()
    assert isinstance(specialist.go_on(), AskModel)
    assert (specialist.state.calls["a"].status, specialist.state.calls["a"].content) == ("error", NOT_ANSWERED)
    answers(specialist, question, "lead", "0")
    step = specialist.step()
    assert isinstance(step, Reject) and step.code == "stale"


def test_a_thread_that_is_to_stop_waits_for_no_answer(specialist: Player, use: Use) -> None:
    specialist.model(use("a", "ask_lead", question="which one?"))
    specialist.go_on()
    specialist.cancel("lead", "0", "wrap_up")
    assert isinstance(specialist.go_on(), AskModel)
    assert specialist.state.calls["a"].content == VOID and specialist.state.asking == {}


def test_a_lead_forgets_the_questions_of_a_thread_that_has_replied_and_of_one_that_gave_up(
    lead: Player, use: Use
) -> None:
    leading(lead, use)
    asks(lead, "alpha", "0-1")
    asks(lead, "alpha", "0-2", expires_at_ms=5_000)
    lead.go_on()
    lead.replied("alpha", "0-1", lead.subject_of(2))
    lead.go_on()
    assert list(lead.state.questions) == ["q-0-2-0"]
    lead.now_ms = 6_000
    lead.model(use("c", "look", text="x"))
    lead.returned("c", "look", "seen")
    lead.model(use("d", "answer_specialist", question="q-0-2-0", answer="two"))
    assert lead.state.calls["d"].content == "no question 'q-0-2-0' waits for you; open are: none"


def test_whoever_asks_does_not_hand_in_in_the_same_turn(specialist: Player, use: Use) -> None:
    specialist.model(use("a", "ask_lead", question="which one?"), use("b", "submit_result", summary="done"))
    assert specialist.state.calls["b"].content.endswith("wait for the answer first, then hand in")


def test_a_stranger_may_not_ask_a_lead(lead: Player, use: Use) -> None:
    leading(lead, use)
    asks(lead, "alpha", "0-7")
    step = lead.step()
    assert isinstance(step, Reject) and step.code == "wrong_recipient"
