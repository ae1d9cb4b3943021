"""Advice, wrapping up and aborting: what a thread does with mail that comes while it works."""

from __future__ import annotations

from typing import Any

import pytest

from shanty_protocol import CancelSent, MailReceived, ModelReplied, ThreadOpened, ThreadReplied, Usage
from shanty_runtime.thread.decide import (
    AskModel,
    Draft,
    FireTimer,
    Park,
    Reject,
    RunCalls,
    Stamp,
    asked_to_stop,
    interject,
)
from shanty_runtime.thread.state import NOTHING_NEW
from support.player import SPECIALIST, Player, Use


def interjected(player: Player) -> Draft | None:
    return interject(player.state, list(player.mail.values()), Stamp(player.now_ms, "worker-1", 7))


def asked_with(player: Player) -> list[Any]:
    """The last message of what the model is asked with next."""
    return [block["text"] for block in player.state.dialogue.next_messages()[-1].content]


def sent_to_children(player: Player) -> list[tuple[str, str, str]]:
    return [
        (address.to, entry.to_thread, entry.mode)
        for address, entry in player.journal
        if isinstance(entry, CancelSent)
    ]


def test_advice_that_comes_during_a_model_call_is_taken_in_at_once_and_shown_to_the_next(
    specialist: Player, use: Use
) -> None:
    shown = len(specialist.journal)
    advice = specialist.follow_up("lead", "0", "only the API logs")
    draft = interjected(specialist)
    assert draft is not None and isinstance(draft.entry, MailReceived) and draft.entry.consumed == (advice,)
    specialist.write(draft)
    assert interjected(specialist) is None
    specialist.model(use("a", "look", text="x"), shown=shown)
    specialist.returned("a", "look", "seen")
    assert isinstance(specialist.step(), AskModel)
    assert asked_with(specialist) == ["only the API logs"]


def test_an_answer_given_before_the_advice_was_shown_is_not_the_answer_to_it(specialist: Player, use: Use) -> None:
    shown = len(specialist.journal)
    specialist.follow_up("lead", "0", "only the API logs")
    draft = interjected(specialist)
    assert draft is not None
    specialist.write(draft)
    specialist.model(use("a", "submit_result", summary="done"), shown=shown)
    assert isinstance(specialist.go_on(), AskModel)
    first = specialist.reply()
    assert first.answers == "shanty.0.alpha.0-r.0.lead.0"
    assert specialist.state.owes_reply and asked_with(specialist) == ["only the API logs"]
    specialist.model(use("b", "submit_result", summary="done again"))
    assert isinstance(specialist.go_on(), Park)
    assert specialist.reply().answers == "shanty.0.alpha.0-r.0.lead.1"


def test_advice_that_comes_while_a_tool_runs_does_not_disturb_its_result(specialist: Player, use: Use) -> None:
    specialist.model(use("a", "look", text="x"))
    specialist.follow_up("lead", "0", "hurry")
    draft = interjected(specialist)
    assert draft is not None
    specialist.write(draft)
    assert isinstance(specialist.step(), RunCalls)
    specialist.returned("a", "look", "seen")
    messages = specialist.state.dialogue.next_messages()
    assert [block["type"] for block in messages[-2].content] == ["tool_result"]
    assert asked_with(specialist) == ["hurry"]


def test_a_thread_nobody_has_begun_is_stopped_without_a_model_call() -> None:
    specialist = Player(SPECIALIST, "0-1")
    opening = specialist.opened_by("lead", "0")
    cancel = specialist.cancel("lead", "0", "wrap_up")
    assert isinstance(specialist.go_on(), Park)
    _, opened = specialist.journal[0]
    assert isinstance(opened, ThreadOpened) and opened.consumed == (opening, cancel)
    assert (specialist.outcome.status, specialist.outcome.code) == ("cancelled", "cancelled")
    assert specialist.outcome.summary == "stopped before it began: it is late"
    assert not any(isinstance(entry, ModelReplied) for _, entry in specialist.journal)


def test_a_model_that_is_asked_to_wrap_up_hands_in_what_it_has(specialist: Player, use: Use) -> None:
    specialist.model(use("a", "look", text="x"))
    specialist.returned("a", "look", "seen")
    specialist.cancel("lead", "0", "wrap_up", within_s=30)
    assert isinstance(specialist.go_on(), AskModel)
    assert asked_with(specialist)[0].startswith(
        "You are asked to stop within 30 seconds. The reason given: it is late"
    )
    specialist.model(use("b", "submit_result", summary="half of it", status="partial"))
    assert isinstance(specialist.go_on(), Park)
    assert (specialist.outcome.status, specialist.outcome.code) == ("cancelled", "cancelled")
    assert specialist.outcome.summary == "half of it"


def test_a_model_that_does_not_wrap_up_in_time_is_stopped(specialist: Player, use: Use) -> None:
    specialist.model(use("a", "pay", text="x"))
    specialist.cancel("lead", "0", "wrap_up", within_s=30)
    draft = interjected(specialist)
    assert draft is not None
    specialist.write(draft)
    assert specialist.state.next_wake_ms == specialist.now_ms + 30_000
    specialist.now_ms += 30_000
    assert isinstance(specialist.step(), FireTimer)
    specialist.timer_fired()
    assert isinstance(specialist.go_on(), Park)
    assert (specialist.outcome.status, specialist.outcome.code) == ("cancelled", "aborted")
    assert specialist.state.calls["a"].status == "error"


def test_an_abort_ends_the_step_and_settles_what_was_open(specialist: Player, use: Use) -> None:
    specialist.model(use("a", "pay", text="x"), use("b", "look", text="y"))
    specialist.intends("a", "pay", text="x")
    specialist.cancel("lead", "0", "abort")
    assert asked_to_stop(specialist.state, list(specialist.mail.values())) == "abort"
    assert isinstance(specialist.go_on(), Park)
    assert specialist.outcome.code == "aborted" and specialist.outcome.summary == "stopped where it was: it is late"
    assert [call.status for call in specialist.state.calls.values()] == ["unknown", "error"]


def test_stopping_goes_down_the_tree_and_no_new_work_is_begun(lead: Player, use: Use) -> None:
    lead.model(use("a", "delegate", specialist="alpha", objective="x"), use("b", "wait_for_replies"))
    lead.go_on()
    lead.cancel("cli", "request-1", "wrap_up", within_s=40)
    lead.go_on()
    assert sent_to_children(lead) == [("alpha", "0-1", "wrap_up")]
    _, cancel = lead.journal[-1]
    assert isinstance(cancel, CancelSent) and cancel.within_s == 20 and cancel.after == lead.subject_of(2)
    lead.replied("alpha", "0-1", lead.subject_of(2), "a part of it")
    assert isinstance(lead.go_on(), AskModel)
    lead.model(
        use("c", "delegate", specialist="alpha", objective="y"), use("d", "submit_result", summary="all I have")
    )
    lead.go_on()
    assert lead.state.calls["c"].content == NOTHING_NEW
    assert list(lead.state.children) == ["0-1"]
    assert (lead.outcome.status, lead.outcome.summary) == ("cancelled", "all I have")


def test_work_begun_in_the_very_moment_of_the_request_to_stop_is_not_begun(lead: Player, use: Use) -> None:
    lead.model(use("a", "look", text="x"))
    lead.returned("a", "look", "seen")
    order = use("b", "delegate", specialist="alpha", objective="x")
    shown = len(lead.journal)
    entry = ModelReplied(at_ms=lead.now_ms, blocks=(order,), stop_reason="tool_use", model="test", shown=shown)
    lead.cancel("cli", "request-1", "wrap_up")
    draft = interjected(lead)
    assert draft is not None
    lead.write(draft, Draft("log", entry))
    assert isinstance(lead.go_on(), AskModel)
    assert lead.state.children == {} and lead.state.calls["b"].content == NOTHING_NEW


def test_what_a_model_says_after_its_thread_was_stopped_is_paid_for_and_not_done(lead: Player, use: Use) -> None:
    order, result = use("a", "delegate", specialist="alpha", objective="x"), use("b", "submit_result", summary="done")
    lead.cancel("cli", "request-1", "wrap_up")
    draft = interjected(lead)
    assert draft is not None
    lead.write(draft)
    assert isinstance(lead.go_on(), Park) and lead.outcome.code == "cancelled"
    usage = Usage(input_tokens=5)
    for block in (order, result):
        entry = ModelReplied(at_ms=1, blocks=(block,), stop_reason="tool_use", model="test", usage=usage, shown=1)
        lead.write(Draft("log", entry))
    assert isinstance(lead.go_on(), Park)
    assert lead.state.children == {} and lead.kinds.count("ThreadReplied") == 1
    assert lead.state.usage.input_tokens == 10


def test_an_abort_goes_down_the_tree_before_the_reply_goes_up(lead: Player, use: Use) -> None:
    lead.model(use("a", "delegate", specialist="alpha", objective="x"), use("b", "wait_for_replies"))
    lead.go_on()
    lead.cancel("cli", "request-1", "abort")
    assert isinstance(lead.go_on(), Park)
    assert lead.kinds[-3:] == ["MailReceived", "CancelSent", "ThreadReplied"]
    assert sent_to_children(lead) == [("alpha", "0-1", "abort")]
    lead.replied("alpha", "0-1", lead.subject_of(2))
    assert isinstance(lead.go_on(), Park) and lead.kinds[-1] == "ReplyReceived"


def test_threads_nobody_waits_for_any_more_are_stopped_before_the_reply(lead: Player, use: Use) -> None:
    lead.model(use("a", "delegate", specialist="alpha", objective="x"))
    assert isinstance(lead.go_on(), AskModel)
    lead.model(use("b", "submit_result", summary="without it"))
    lead.go_on()
    assert lead.kinds[-2:] == ["CancelSent", "ThreadReplied"]
    assert lead.outcome.status == "ok"


def test_a_lead_stops_one_of_its_threads_and_the_others_go_on(lead: Player, use: Use) -> None:
    lead.model(
        use("a", "delegate", specialist="alpha", objective="x"),
        use("b", "delegate", specialist="alpha", objective="y"),
    )
    lead.go_on()
    lead.model(use("c", "cancel", thread="0-2", mode="abort"), use("d", "cancel", thread="0-7"))
    lead.go_on()
    assert sent_to_children(lead) == [("alpha", "0-2", "abort")]
    assert lead.state.calls["c"].content == '{"thread":"0-2","asked_to":"abort"}'
    assert lead.state.calls["d"].content.startswith("you opened no thread 0-7; yours are: 0-1 (alpha), 0-2 (alpha)")
    assert [child.aborted for child in lead.state.children.values()] == [False, True]


def test_a_child_that_does_not_answer_a_cancel_is_late_soon(lead: Player, use: Use) -> None:
    lead.model(use("a", "delegate", specialist="alpha", objective="x"))
    lead.go_on()
    before_ms = lead.state.children["0-1"].deadline_ms
    lead.model(use("c", "cancel", thread="0-1", mode="abort"))
    lead.go_on()
    assert lead.state.children["0-1"].deadline_ms == lead.now_ms + 15_000 < before_ms


def test_people_advise_a_thread_at_work_and_its_answer_still_goes_to_its_lead(specialist: Player, use: Use) -> None:
    specialist.follow_up("operators", "say-1", "look at the gateway too")
    specialist.go_on()
    specialist.model(use("a", "submit_result", summary="done"))
    specialist.go_on()
    address, _ = specialist.journal[-1]
    assert address.to == "lead" and specialist.reply().answers == "shanty.0.alpha.0-r.0.lead.0"


def test_people_who_ask_a_thread_at_rest_get_the_answer_themselves(specialist: Player, use: Use) -> None:
    specialist.model(use("a", "submit_result", summary="done"))
    specialist.go_on()
    question = specialist.follow_up("operators", "say-1", "how sure are you?")
    assert isinstance(specialist.go_on(), AskModel)
    specialist.model(use("b", "submit_result", summary="quite"))
    specialist.go_on()
    address, _ = specialist.journal[-1]
    assert (address.to, specialist.reply().to_thread, specialist.reply().answers) == ("operators", "say-1", question)


@pytest.mark.parametrize(("agent", "thread"), [("beta", "0-2"), ("cli", "request-1")])
def test_whoever_did_not_open_a_thread_may_not_stop_it(specialist: Player, agent: str, thread: str) -> None:
    forged = specialist.cancel(agent, thread, "abort")
    step = specialist.step()
    assert isinstance(step, Reject) and step.mail.subject == forged and step.code == "wrong_recipient"
    assert asked_to_stop(specialist.state, list(specialist.mail.values())) == ""


def test_a_thread_that_was_stopped_takes_a_follow_up_and_answers_it_as_usual(specialist: Player, use: Use) -> None:
    specialist.cancel("lead", "0", "abort")
    specialist.go_on()
    specialist.follow_up("lead", "0", "go on after all")
    assert isinstance(specialist.go_on(), AskModel)
    specialist.model(use("a", "submit_result", summary="found it"))
    specialist.go_on()
    assert (specialist.outcome.status, specialist.outcome.summary) == ("ok", "found it")


def test_a_request_to_stop_a_thread_at_rest_changes_nothing(specialist: Player, use: Use) -> None:
    specialist.model(use("a", "submit_result", summary="done"))
    specialist.go_on()
    specialist.cancel("lead", "0", "abort")
    assert isinstance(specialist.go_on(), Park)
    assert isinstance(specialist.journal[-2][1], ThreadReplied) and specialist.outcome.status == "ok"
