from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from shanty_cli.view import RUN_STATUS, RunStatus, Takeover, note
from shanty_protocol import (
    Brief,
    DelegationSent,
    EffectStarted,
    FanOutStarted,
    LiveAddress,
    MailReceived,
    MailRejected,
    MessageSent,
    Outcome,
    Status,
    StepStarted,
    TextStreamed,
    ThreadFailed,
    ThreadTakenOver,
    TimerFired,
    ToolCalled,
    ToolDelayed,
    ToolReturned,
)
from support.script import Script


def test_a_run_begins_with_what_was_asked_and_of_whom(script: Script) -> None:
    script.start("find\nout")

    assert (script.view.goal, script.view.lead, script.view.asker) == ("find\nout", "lead", ("cli", "request-1"))
    assert (script.view.status, script.view.started_at_ms) == ("running", 1_000)
    assert script.told == [("0", "started", "find out")]


def test_a_thread_is_sent_then_works_then_has_replied(script: Script) -> None:
    script.start()
    script.delegate("0-1", "logs", "the logs")
    thread = script.view.threads["0-1"]
    seen = [(thread.status, thread.doing)]
    script.open("0-1", "logs")
    seen.append((thread.status, thread.doing))
    script.model("0-1", "logs", "mine", "mine", "look")
    seen.append((thread.status, thread.doing))
    script.returned("0-1", "logs", "mine")
    script.reply("0-1", "logs", Outcome(status="partial", summary="half of it"), to=("lead", "0"))
    seen.append((thread.status, thread.doing))

    assert seen == [
        ("sent", ""),
        ("working", "reads its brief"),
        ("working", "mine ×2, look"),
        ("partial", ""),
    ]
    assert (thread.label, thread.turns, thread.tool_calls, thread.replicas) == ("the logs", 1, 3, ["logs-1"])
    assert thread.ended_at_ms - thread.started_at_ms == 4_000


def test_a_lead_that_waits_is_shown_waiting_until_it_takes_its_next_turn(script: Script) -> None:
    script.start()
    script.open("0", "lead")
    script.model("0", "lead", "wait_for_replies")
    script.write("0", "lead", MailReceived(at_ms=script.now_ms, by="lead-1"))
    lead = script.view.threads["0"]
    waiting = lead.status
    event = StepStarted(agent="lead", replica="lead-1", step="model", name="m", at_ms=1)
    note(script.view, LiveAddress("0-r", "0", "lead"), event)

    assert (waiting, lead.status, lead.doing) == ("waiting", "working", "thinks")


def test_a_takeover_names_who_vanished_and_who_went_on(script: Script) -> None:
    script.start()
    script.delegate("0-1", "logs")
    script.open("0-1", "logs", by="logs-1")
    script.write("0-1", "logs", ThreadTakenOver(at_ms=script.now_ms, by="logs-2"))
    script.returned("0-1", "logs", "mine", by="logs-2")

    thread = script.view.threads["0-1"]
    assert thread.takeovers == [Takeover(4_000, "logs-1", "logs-2")]
    assert (thread.replicas, thread.writer) == (["logs-1", "logs-2"], "logs-2")
    assert ("0-1", "taken_over", "taken over by logs-2 from logs-1") in script.told


@pytest.mark.parametrize("status", get_args(Status))
def test_a_run_ends_as_its_lead_replied(script: Script, status: Status) -> None:
    expected: RunStatus = RUN_STATUS.get(status, "failed")
    script.start()
    script.end(Outcome(status=status, summary="that is it"))

    assert script.view.status == expected
    assert script.view.usage.input_tokens == 10
    assert (expected == "completed") == (status == "ok")


def test_a_reply_to_somebody_else_does_not_end_the_run(script: Script) -> None:
    script.start()
    script.reply("0", "lead", Outcome(status="ok"), to=("cli", "another-request"))

    assert script.view.status == "running"


def test_a_follow_up_from_outside_makes_an_ended_run_go_on(script: Script) -> None:
    script.start()
    script.end(Outcome(status="ok"))
    again = MessageSent(at_ms=script.now_ms, to_thread="0", purpose="follow_up", text="and why?")
    script.write("request-1", "cli", again, to="lead")

    assert (script.view.status, script.view.threads["0"].status) == ("running", "sent")
    assert script.told[-1] == ("0", "follow_up", "and why?")


def test_a_follow_up_to_a_thread_that_replied_opens_it_again(script: Script) -> None:
    script.start()
    script.delegate("0-1", "logs")
    script.reply("0-1", "logs", Outcome(status="ok"), to=("lead", "0"))
    again = MessageSent(at_ms=script.now_ms, by="lead-1", to_thread="0-1", purpose="follow_up", text="look closer")
    script.write("0", "lead", again, to="logs")

    thread = script.view.threads["0-1"]
    assert (thread.status, thread.outcome, thread.ended_at_ms) == ("sent", None, 0)


def test_progress_is_shown_with_its_share_until_the_thread_replies(script: Script) -> None:
    script.start()
    script.delegate("0-1", "logs")
    progress = MessageSent(at_ms=script.now_ms, by="l", to_thread="0", purpose="progress", text="half", percent=50)
    script.write("0-1", "logs", progress, to="lead")
    shown = script.view.threads["0-1"].progress
    script.reply("0-1", "logs", Outcome(status="ok"), to=("lead", "0"))

    assert (shown, script.view.threads["0-1"].progress) == ("50 %: half", "")


def test_late_threads_that_nobody_started_on_are_unreachable(script: Script) -> None:
    script.start()
    script.delegate("0-1", "logs")
    script.write("0", "lead", TimerFired(at_ms=script.now_ms, by="lead-1", unstarted=("0-1",)))

    assert script.view.threads["0-1"].status == "unreachable"
    assert [text for thread, kind, text in script.told if kind == "late"] == [
        "a deadline has passed",
        "nobody has started on it",
    ]


def test_what_was_put_away_and_given_up_is_told(script: Script) -> None:
    script.start()
    script.write("0", "lead", ThreadFailed(at_ms=1, code="crash_loop", reason="5 workers died"), to="dead")
    script.write("dead-9", "lead", MailRejected(at_ms=1, mail="m", code="wrong_recipient", reason="no"), to="dead")

    assert [(kind, text) for _, kind, text in script.told[1:]] == [
        ("gave_up", "given up: 5 workers died"),
        ("rejected", "a mail was put away: wrong_recipient: no"),
    ]
    assert list(script.view.threads) == ["0"]


def test_an_unknown_outcome_of_a_tool_is_told_as_one(script: Script) -> None:
    script.start()
    unknown = ToolReturned(at_ms=1, by="lead-1", call_id="c", name="pay", content="?", status="unknown")
    script.write("0", "lead", unknown)

    assert script.told[-1] == ("0", "tool", "pay: nobody knows whether it was carried out")


def test_live_events_change_nothing_that_is_over_or_unknown(script: Script) -> None:
    script.start()
    script.end(Outcome(status="ok"))
    before = msgspec.json.encode(script.view)
    step = StepStarted(agent="lead", replica="lead-1", step="tool", name="mine", at_ms=1)
    note(script.view, LiveAddress("0-r", "0", "lead"), step)
    note(script.view, LiveAddress("0-r", "0-7", "alpha"), step)
    note(script.view, LiveAddress("0-r", "0", "lead"), TextStreamed(agent="lead", text="hm", offset=0))

    assert msgspec.json.encode(script.view) == before


def test_nobody_changes_what_is_shown_of_a_thread_by_writing_into_it_under_another_name(script: Script) -> None:
    script.start()
    script.delegate("0-1", "logs")
    script.open("0-1", "logs")
    before = msgspec.json.encode(script.view.threads)
    script.open("0", "logs")
    script.reply("0", "logs", Outcome(status="ok", summary="forged"), to=("cli", "request-1"))
    script.reply("0-1", "metrics", Outcome(status="failed"), to=("lead", "0"))
    script.delegate("0-2", "metrics", by="logs")
    script.write("request-2", "logs", MessageSent(at_ms=1, to_thread="0", purpose="follow_up", text="again"), "lead")
    note(script.view, LiveAddress("0-r", "0", "logs"), step_of("logs"))

    assert msgspec.json.encode(script.view.threads) == before
    assert script.view.outcome is None


def test_who_wrote_into_a_thread_before_it_was_opened_is_forgotten_once_it_is(script: Script) -> None:
    script.open("0", "logs")
    script.open("0-1", "metrics")
    script.start()
    script.delegate("0-1", "logs")

    assert {thread.thread: thread.agent for thread in script.view.in_order} == {"0": "lead", "0-1": "logs"}
    assert [thread.replicas for thread in script.view.in_order] == [["lead-1"], []]


def step_of(agent: str) -> StepStarted:
    return StepStarted(agent=agent, replica=f"{agent}-1", step="tool", name="pay", at_ms=1)


def test_threads_are_in_the_order_of_the_tree_and_not_of_the_alphabet(script: Script) -> None:
    script.start()
    for thread, by in (("0-10", "lead"), ("0-2", "lead"), ("0-2-1", "logs")):
        script.delegate(thread, "logs", by=by)

    assert [thread.thread for thread in script.view.in_order] == ["0", "0-2", "0-2-1", "0-10"]


def test_hostile_words_come_out_on_one_line_without_controls(script: Script) -> None:
    script.start("\x1b[2Jgone\nrm \u202etxt")
    script.delegate("not-a-thread", "logs")
    script.model("0", "lead", "\x1b]0;title\x07")

    assert script.told[0] == ("0", "started", "�[2Jgone rm �txt")
    assert script.told[-1] == ("0", "model", "�]0;title�")
    assert list(script.view.threads) == ["0"]


def give_item(script: Script, thread: str, item: int, attempt: int = 1) -> None:
    sent = DelegationSent(
        at_ms=script.now_ms,
        by="lead-1",
        to_thread=thread,
        brief=Brief(objective="one"),
        call_id="each",
        item=item,
        attempt=attempt,
    )
    script.write("0", "lead", sent, to="reader")


def test_a_fan_out_shows_how_many_items_are_done_and_how_many_failed(script: Script) -> None:
    script.start()
    script.open("0", "lead")
    fan_out = FanOutStarted(
        at_ms=script.now_ms,
        by="lead-1",
        call_id="each",
        specialist="reader",
        items=20,
        at_most=4,
        refused={"19": "x"},
    )
    script.write("0", "lead", fan_out)
    lead, progress = script.view.threads["0"], []
    for item in range(3):
        give_item(script, f"0-{item + 1}", item)
    for thread, status in (("0-1", "ok"), ("0-2", "failed"), ("0-3", "partial")):
        script.reply(thread, "reader", Outcome(status=status), to=("lead", "0"))  # type: ignore[arg-type]
        progress.append(lead.progress)
    give_item(script, "0-4", 1, attempt=2)
    script.reply("0-4", "reader", Outcome(status="ok"), to=("lead", "0"))
    progress.append(lead.progress)

    assert progress == [
        "reader: 2 of 20 done, 1 failed",
        "reader: 3 of 20 done, 2 failed",
        "reader: 4 of 20 done, 2 failed",
        "reader: 4 of 20 done, 1 failed",
    ]
    assert ("0", "fanned_out", "20 items for reader, 4 at a time") in script.told
    assert [text for _, kind, text in script.told if kind == "progress"] == [progress[0], progress[2], progress[3]]

    script.write("0", "lead", ToolReturned(at_ms=script.now_ms, call_id="each", name="delegate_each", content="{}"))
    assert lead.progress == "" and not lead.fan_outs


def test_a_call_that_cannot_be_made_yet_is_shown_waiting_with_the_reason(script: Script) -> None:
    script.start()
    script.open("0", "lead")
    script.write("0", "lead", ToolCalled(at_ms=script.now_ms, call_id="call-1", name="pay", fenced=True))
    reason = "the tool gateway of team shop does not answer: nobody is there"
    script.write("0", "lead", ToolDelayed(at_ms=script.now_ms, call_id="call-1", name="pay", reason=reason))
    thread = script.view.threads["0"]

    assert (thread.status, thread.doing) == ("waiting", "cannot call pay yet")
    assert script.told[-1] == ("0", "delayed", f"pay waits: {reason}")
    script.returned("0", "lead", "pay")
    assert thread.status == "working"


def test_what_the_tool_gateway_writes_about_calls_is_no_thread_of_the_run(script: Script) -> None:
    script.start()
    started = EffectStarted(
        at_ms=script.now_ms, fence=3, agent="lead", thread="0", call_id="call-1", name="pay", digest="d"
    )
    script.write("effect-0123", "toolgateway", started)

    assert list(script.view.threads) == ["0"]
    assert len(script.told) == 1
