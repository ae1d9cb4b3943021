"""Hedging: a second thread for a brief that takes long, and one reply whichever of the two is first."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shanty_protocol import (
    Brief,
    Budget,
    CancelSent,
    DelegationSent,
    FanOutStarted,
    MessageSent,
    Outcome,
    QuestionAnswered,
    QuestionAsked,
    ThreadReplied,
    ThreadResumed,
    ThreadWaiting,
    ToolReturned,
)
from shanty_protocol.ids import LOG
from shanty_runtime.agent import Contract
from shanty_runtime.thread.decide import Draft, FinishFanOut, FireTimer, Park, Write
from support.player import LEAD, Player, Use

AFTER_S = 60
CONTRACTS = {"alpha": Contract(name="alpha", description="reads", hedge_after_s=AFTER_S)}
HEDGING = msgspec.structs.replace(LEAD, contracts=CONTRACTS, max_turns=20)


def hedging(budget: Budget | None = None, **changes: Any) -> Player:
    player = Player(msgspec.structs.replace(HEDGING, **changes), "0")
    brief = Brief(objective="find out", budget=budget)
    player.receive("cli", "request-1", lambda after: DelegationSent(at_ms=1, to_thread="0", after=after, brief=brief))
    player.write(*player.drafts())
    return player


@pytest.fixture
def lead() -> Player:
    return hedging()


def delegate_and_wait(player: Player, use: Use, **arguments: Any) -> str:
    """Opens thread 0-1, and waits for it. Returns the subject of the delegation."""
    player.model(
        use("c1", "delegate", specialist="alpha", objective="look", **arguments), use("w1", "wait_for_replies")
    )
    assert isinstance(player.go_on(), Park)
    return player.subject_of(len(player.journal) - 1)


def after(player: Player, seconds: float) -> tuple[Draft, ...]:
    """What follows once that much time is over and the timer has fired."""
    player.now_ms += int(seconds * 1000)
    assert isinstance(player.step(), FireTimer)
    player.timer_fired()
    step = player.step()
    return step.drafts if isinstance(step, Write) else ()


def second_of(player: Player) -> str:
    """Has the second thread opened. Returns the subject of its delegation."""
    (draft,) = after(player, AFTER_S)
    player.write(draft)
    return player.subject_of(len(player.journal) - 1)


def sent(draft: Draft) -> DelegationSent:
    assert isinstance(draft.entry, DelegationSent), draft
    return draft.entry


def cancels(drafts: tuple[Draft, ...]) -> list[tuple[str, str]]:
    return [(each.entry.to_thread, each.entry.mode) for each in drafts if isinstance(each.entry, CancelSent)]


def take_in(player: Player) -> tuple[Draft, ...]:
    """Take the mail in. What becomes due by it."""
    player.write(*player.drafts())
    step = player.step()
    return step.drafts if isinstance(step, Write) else ()


def asks(player: Player, thread: str) -> None:
    player.receive(
        "alpha",
        thread,
        lambda before: QuestionAsked(
            at_ms=1, to_thread="0", after=before, question="Left?", expires_at_ms=10_000_000
        ),
    )


def content(player: Player, call_id: str) -> Any:
    return msgspec.json.decode(player.state.calls[call_id].content)


def test_what_takes_long_is_given_to_a_second_thread_with_the_same_brief(lead: Player, use: Use) -> None:
    delegate_and_wait(lead, use, guidance="left first", deadline_s=100)
    assert lead.state.next_wake_ms == lead.now_ms + AFTER_S * 1000
    (draft,) = after(lead, AFTER_S)
    second, first = sent(draft), sent(Draft("alpha", lead.journal[2][1]))
    assert (draft.to, second.to_thread, second.hedges, second.call_id) == ("alpha", "0-2", "0-1", "")
    assert second.brief == msgspec.structs.replace(first.brief, deadline_s=40.0)
    lead.write(draft)
    assert isinstance(lead.go_on(), Park)
    # From now on only the deadline of both is waited for.
    assert lead.state.next_wake_ms == lead.now_ms + 40_000


def test_a_specialist_whose_file_says_nothing_is_not_hedged(use: Use) -> None:
    player = hedging(contracts={"alpha": Contract(name="alpha", description="reads")})
    delegate_and_wait(player, use, deadline_s=100)
    assert player.state.next_wake_ms == player.now_ms + 100_000


def test_a_reply_in_time_leaves_nothing_to_hedge(lead: Player, use: Use) -> None:
    lead.replied("alpha", "0-1", delegate_and_wait(lead, use))
    lead.go_on()
    assert lead.state.next_wake_ms is None


def test_a_reply_that_waits_when_its_time_comes_is_taken_in_first(lead: Player, use: Use) -> None:
    delegated = delegate_and_wait(lead, use)
    lead.now_ms += AFTER_S * 1000
    lead.replied("alpha", "0-1", delegated)
    lead.go_on()
    assert lead.kinds.count("DelegationSent") == 1 and "TimerFired" not in lead.kinds


def test_the_first_thread_replies_first_and_the_second_is_stopped(lead: Player, use: Use) -> None:
    delegated = delegate_and_wait(lead, use)
    again = second_of(lead)
    lead.replied("alpha", "0-1", delegated, "found it")
    assert cancels(take_in(lead)) == [("0-2", "abort")]
    lead.go_on()
    (reply,) = content(lead, "w1")["replies"]
    assert (reply["thread"], reply["summary"]) == ("0-1", "found it")
    lead.model(use("c2", "look", text="x"))
    lead.replied("alpha", "0-2", again, "stopped")
    lead.write(*lead.drafts())
    lead.returned("c2", "look", "x")
    lead.model(use("w2", "wait_for_replies"))
    assert content(lead, "w2")["replies"] == [], "what the second one says is shown to nobody"


def test_the_second_thread_replies_first_and_stands_for_both(lead: Player, use: Use) -> None:
    delegated = delegate_and_wait(lead, use)
    lead.replied("alpha", "0-2", second_of(lead), "found it")
    assert cancels(take_in(lead)) == [("0-1", "abort")]
    lead.go_on()
    told = content(lead, "w1")
    assert told["satisfied"] and told["waiting_for"] == []
    assert lead.state.next_wake_ms is None, "the other one is waited for by nobody"
    assert [(reply["thread"], reply["in_place_of"], reply["summary"]) for reply in told["replies"]] == [
        ("0-2", "0-1", "found it")
    ]
    lead.replied("alpha", "0-1", delegated, "stopped")
    lead.go_on()
    # Whichever of the two ids is written to: it is the thread that did the work.
    lead.model(use("c2", "send_to_specialist", thread="0-1", message="and then?"), use("w2", "wait_for_replies"))
    (draft,) = lead.drafts()
    assert isinstance(draft.entry, MessageSent) and draft.entry.to_thread == "0-2"
    lead.go_on()
    lead.replied("alpha", "0-2", lead.subject_of(len(lead.journal) - 1), "nothing more")
    lead.go_on()
    (reply,) = content(lead, "w2")["replies"]
    assert reply["summary"] == "nothing more"


def test_both_reply_at_once_and_one_reply_is_shown(lead: Player, use: Use) -> None:
    delegated = delegate_and_wait(lead, use)
    again = second_of(lead)
    lead.replied("alpha", "0-2", again, "second")
    lead.replied("alpha", "0-1", delegated, "first")
    lead.go_on()
    (reply,) = content(lead, "w1")["replies"]
    assert (reply["thread"], reply["summary"]) == ("0-1", "first")
    assert lead.state.escrow.spent.threads == 2


def test_a_reply_before_the_model_waits_is_shown_once(lead: Player, use: Use) -> None:
    lead.model(use("c1", "delegate", specialist="alpha", objective="look"), use("c2", "look", text="x"))
    lead.write(*lead.drafts())
    again = second_of(lead)
    lead.replied("alpha", "0-2", again, "found it")
    lead.write(*lead.drafts())
    lead.write(*lead.drafts())
    lead.returned("c2", "look", "x")
    lead.model(use("w1", "wait_for_replies", threads=["0-1"]))
    (reply,) = content(lead, "w1")["replies"]
    assert (reply["thread"], reply["in_place_of"]) == ("0-2", "0-1")


def test_the_model_knows_nothing_of_the_second_thread(lead: Player, use: Use) -> None:
    lead.model(use("c1", "delegate", specialist="alpha", objective="look"), use("c2", "look", text="x"))
    lead.write(*lead.drafts())
    second_of(lead)
    lead.returned("c2", "look", "x")
    lead.model(use("c3", "cancel", thread="0-2"), use("w1", "wait_for_replies"))
    refused = lead.state.calls["c3"].content
    assert refused == "you opened no thread 0-2; yours are: 0-1 (alpha)"
    assert lead.state.waits["w1"].threads == ("0-1",)


@pytest.mark.parametrize("verb", ["send_to_specialist", "cancel"])
def test_whoever_writes_to_the_first_thread_or_stops_it_stops_the_second(lead: Player, use: Use, verb: str) -> None:
    lead.model(use("c1", "delegate", specialist="alpha", objective="look"), use("c2", "look", text="x"))
    lead.write(*lead.drafts())
    second_of(lead)
    lead.returned("c2", "look", "x")
    more = {"message": "deeper"} if verb == "send_to_specialist" else {"mode": "wrap_up"}
    lead.model(use("c3", verb, thread="0-1", **more))
    drafts = lead.drafts()
    assert [each.entry.to_thread for each in drafts] == ["0-2", "0-1"]  # type: ignore[union-attr]  # it is mail
    assert cancels(drafts)[0] == ("0-2", "abort")


def test_advice_before_its_time_means_that_there_is_no_second_thread(lead: Player, use: Use) -> None:
    lead.model(use("c1", "delegate", specialist="alpha", objective="look"), use("c2", "look", text="x"))
    lead.write(*lead.drafts())
    lead.returned("c2", "look", "x")
    lead.model(use("c3", "send_to_specialist", thread="0-1", message="deeper"))
    lead.write(*lead.drafts())
    assert lead.state.next_hedge_ms is None


def test_a_lead_that_is_to_stop_lets_the_first_thread_hand_in_what_it_has(lead: Player, use: Use) -> None:
    delegate_and_wait(lead, use)
    second_of(lead)
    lead.cancel("cli", "request-1", "wrap_up")
    assert sorted(cancels(take_in(lead))) == [("0-1", "wrap_up"), ("0-2", "abort")]


def test_a_lead_that_is_to_stop_opens_no_second_thread(lead: Player, use: Use) -> None:
    delegate_and_wait(lead, use)
    lead.cancel("cli", "request-1", "wrap_up", within_s=600)
    lead.go_on()
    assert lead.state.next_hedge_ms is None


def test_what_the_stopped_thread_asks_is_put_to_nobody(lead: Player, use: Use) -> None:
    delegated = delegate_and_wait(lead, use)
    second_of(lead)
    asks(lead, "0-2")
    lead.write(*lead.drafts())
    assert [question.thread for question in lead.state.questions.values()] == ["0-2"]
    lead.replied("alpha", "0-1", delegated)
    lead.write(*lead.drafts())
    assert lead.state.questions == {}
    lead.write(*lead.drafts())
    asks(lead, "0-2")
    lead.write(*lead.drafts())
    assert lead.state.questions == {}


def test_time_that_a_thread_waits_for_people_brings_its_second_thread_no_nearer(lead: Player, use: Use) -> None:
    delegate_and_wait(lead, use)
    before_ms, since_ms = lead.state.next_hedge_ms, lead.now_ms
    lead.receive(
        "alpha",
        "0-1",
        lambda before: ThreadWaiting(at_ms=since_ms, to_thread="0", since_ms=since_ms, until_ms=since_ms + 900_000),
    )
    lead.go_on()
    assert lead.state.next_hedge_ms is None
    lead.receive(
        "alpha",
        "0-1",
        lambda before: ThreadResumed(at_ms=since_ms + 30_000, to_thread="0", since_ms=since_ms),
    )
    lead.go_on()
    assert before_ms is not None and lead.state.next_hedge_ms == before_ms + 30_000


def test_a_deadline_ends_both_and_is_told_once(lead: Player, use: Use) -> None:
    delegate_and_wait(lead, use, deadline_s=100)
    second_of(lead)
    assert cancels(after(lead, 40)) == [("0-2", "abort")]
    lead.go_on()
    (reply,) = content(lead, "w1")["replies"]
    assert (reply["thread"], reply["status"]) == ("0-1", "timed_out")


def test_what_waits_for_an_answer_is_not_hedged_before_it_has_it(lead: Player, use: Use) -> None:
    delegate_and_wait(lead, use)
    asks(lead, "0-1")
    lead.go_on()
    assert lead.state.next_hedge_ms is None
    lead.model(use("c2", "answer_specialist", question="q-0-1-0", answer="right"), use("w2", "wait_for_replies"))
    lead.go_on()
    assert lead.state.next_hedge_ms is not None


def test_without_room_the_second_thread_waits_for_its_next_chance(use: Use) -> None:
    player = hedging(max_active_threads=1)
    delegate_and_wait(player, use)
    assert after(player, AFTER_S) == ()
    assert player.state.next_hedge_ms == player.now_ms + AFTER_S * 1000


def test_a_run_that_may_open_no_more_threads_opens_no_second_one(use: Use) -> None:
    player = hedging(max_threads=1)
    delegate_and_wait(player, use)
    assert after(player, AFTER_S) == ()


def test_the_second_thread_has_a_grant_of_its_own_or_is_not_opened(use: Use) -> None:
    player = hedging(Budget(tokens=1_000))
    delegate_and_wait(player, use, budget={"tokens": 400})
    (draft,) = after(player, AFTER_S)
    assert sent(draft).brief.budget == Budget(tokens=400)
    player = hedging(Budget(tokens=1_000))
    delegate_and_wait(player, use, budget={"tokens": 1_000})
    assert after(player, AFTER_S) == ()


def test_whoever_takes_over_opens_the_second_thread_once(lead: Player, use: Use) -> None:
    delegate_and_wait(lead, use)
    drafts = after(lead, AFTER_S)
    assert lead.drafts() == drafts
    lead.write(*drafts)
    assert isinstance(lead.step(), Park)
    # At no place of the journal is there anything but the next entry of it, or nothing.
    assert lead.folded(len(lead.journal) - 1).due[0].entry == drafts[0].entry


# Lists


def fan_out(player: Player, use: Use, items: int, at_most: int, retries: int = 0) -> list[str]:
    """Has a list worked on. Returns the subjects of its first delegations."""
    player.model(
        use(
            "c1",
            "delegate_each",
            specialist="alpha",
            objective="read {item}",
            items=[f"p{n}" for n in range(items)],
            output="out.jsonl",
            at_most=at_most,
            retries=retries,
        )
    )
    started = FanOutStarted(
        at_ms=player.now_ms, call_id="c1", specialist="alpha", items=items, at_most=at_most, retries=retries
    )
    player.write(Draft(LOG, started))
    player.go_on()
    return [address.subject for address, entry in player.journal if isinstance(entry, DelegationSent)]


def test_an_item_that_takes_long_gets_a_second_thread_whose_answer_is_its_line(lead: Player, use: Use) -> None:
    first, _ = fan_out(lead, use, 2, at_most=2)
    lead.replied("alpha", "0-1", first)
    lead.go_on()
    again = second_of(lead)
    delegation = sent(Draft("alpha", lead.journal[-1][1]))
    assert (delegation.item, delegation.hedges, delegation.brief.objective) == (1, "0-2", "read p1")
    assert delegation.brief.deadline_s == lead.profile.delegation_deadline_s - AFTER_S
    lead.replied("alpha", "0-3", again, "read it")
    assert isinstance(lead.go_on(), FinishFanOut)
    answer = lead.state.fan_outs["c1"].answers[1]
    assert (answer.thread, answer.outcome.summary, answer.attempts) == ("0-3", "read it", 1)
    assert cancels(tuple(Draft("", entry) for _, entry in lead.journal)) == [("0-2", "abort")]


def test_second_threads_count_among_those_that_are_at_work_at_once(lead: Player, use: Use) -> None:
    delegated = fan_out(lead, use, 3, at_most=2)
    assert after(lead, AFTER_S) == (), "both places are taken"
    lead.replied("alpha", "0-1", delegated[0])
    lead.go_on()
    lead.replied("alpha", "0-3", lead.subject_of(len(lead.journal) - 1))
    lead.go_on()
    second_of(lead)
    fan = lead.state.fan_outs["c1"]
    assert (len(fan.at_work), fan.beside) == (1, 1)


def test_an_item_whose_second_thread_fails_first_is_tried_again(lead: Player, use: Use) -> None:
    fan_out(lead, use, 1, at_most=2, retries=1)
    again = second_of(lead)
    failed = Outcome(status="failed", summary="no")
    lead.receive(
        "alpha",
        "0-2",
        lambda before: ThreadReplied(at_ms=1, to_thread="0", after=before, outcome=failed, answers=again),
    )
    drafts = take_in(lead)
    assert cancels(drafts) == [("0-1", "abort")]
    lead.go_on()
    retried = [entry for _, entry in lead.journal if isinstance(entry, DelegationSent)][-1]
    assert (retried.to_thread, retried.item, retried.attempt, retried.hedges) == ("0-3", 0, 2, "")
    # The place of the thread that was stopped is free: the new one can be hedged as well.
    (draft,) = after(lead, AFTER_S)
    assert (sent(draft).hedges, sent(draft).attempt) == ("0-3", 2)


def test_the_question_of_an_items_second_thread_is_answered_like_that_of_its_first(lead: Player, use: Use) -> None:
    fan_out(lead, use, 1, at_most=2)
    second_of(lead)
    asks(lead, "0-2")
    (draft,) = take_in(lead)
    assert isinstance(draft.entry, QuestionAnswered) and draft.entry.to_thread == "0-2"


def test_a_list_that_is_over_leaves_nothing_to_hedge(lead: Player, use: Use) -> None:
    (delegated,) = fan_out(lead, use, 1, at_most=2)
    lead.replied("alpha", "0-1", delegated)
    assert isinstance(lead.go_on(), FinishFanOut)
    lead.write(Draft(LOG, ToolReturned(at_ms=lead.now_ms, call_id="c1", name="delegate_each", content="{}")))
    assert lead.state.next_hedge_ms is None
