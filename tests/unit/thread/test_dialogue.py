"""What a model's replies and failures mean: one case for each stop reason, and for each kind of failure."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from shanty_protocol import ModelFailed, ModelReplied, ThreadCompacted, Usage
from shanty_protocol.ids import LOG
from shanty_runtime.thread.decide import AskModel, Compact, Draft, Park, RunCalls
from shanty_runtime.thread.dialogue import CLEARED, GO_ON, GO_ON_AFTER_CUT
from shanty_runtime.thread.retries import MAX_TRIES, retry_after_s
from support.player import SPECIALIST, Player, Use


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def reply(player: Player, stop_reason: str, *blocks: dict[str, Any], tokens: int = 0) -> None:
    usage = Usage(input_tokens=tokens)
    entry = ModelReplied(at_ms=player.now_ms, blocks=blocks, stop_reason=stop_reason, model="test", usage=usage)
    player.write(Draft(LOG, entry))


def fail(player: Player, kind: str, retry_at_ms: int | None = None) -> None:
    entry = ModelFailed(at_ms=player.now_ms, failure=kind, reason=f"it was {kind}", retry_at_ms=retry_at_ms)
    player.write(Draft(LOG, entry))


def said(player: Player) -> list[tuple[str, list[Any]]]:
    """Roles and texts of what the model is asked with next."""
    return [
        (message.role, [block.get("text", block.get("content", block.get("name", ""))) for block in message.content])
        for message in player.state.dialogue.next_messages()
    ]


@pytest.mark.parametrize("stop_reason", ["end_turn", "stop_sequence"])
def test_last_words_are_the_answer(specialist: Player, stop_reason: str) -> None:
    reply(specialist, stop_reason, text("it is 7"))
    assert isinstance(specialist.go_on(), Park)
    assert (specialist.outcome.status, specialist.outcome.summary) == ("ok", "it is 7")


def test_a_reply_with_calls_is_shown_verbatim_before_their_results(specialist: Player, use: Use) -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
    reply(specialist, "tool_use", thinking, text("let me see"), use("a", "look", text="x"))
    assert isinstance(specialist.step(), RunCalls)
    specialist.returned("a", "look", "seen")
    messages = specialist.state.dialogue.next_messages()
    assert messages[1].content == (thinking, text("let me see"), use("a", "look", text="x"))
    marked = '<data from="look">\nseen\n</data>'
    assert messages[2].content == ({"type": "tool_result", "tool_use_id": "a", "content": marked},)


def test_a_call_cut_off_at_the_length_limit_is_never_made_and_asked_again_with_more_room(
    specialist: Player, use: Use
) -> None:
    reply(specialist, "max_tokens", use("a", "pay", text="ever"))
    assert isinstance(specialist.step(), AskModel)
    assert specialist.state.calls == {} and specialist.state.dialogue.cut_turns == 1
    assert [role for role, _ in said(specialist)] == ["user"]
    reply(specialist, "max_tokens", use("b", "pay", text="ever"))
    specialist.go_on()
    assert (specialist.outcome.status, specialist.outcome.code) == ("failed", "model_failed")


def test_words_cut_off_at_the_length_limit_are_continued(specialist: Player) -> None:
    reply(specialist, "max_tokens", text("the first half"))
    assert isinstance(specialist.step(), AskModel)
    assert said(specialist)[1:] == [("assistant", ["the first half"]), ("user", [GO_ON_AFTER_CUT])]


def test_a_pause_is_asked_on_unchanged_and_not_for_ever(specialist: Player) -> None:
    for turn in range(10):
        reply(specialist, "pause_turn", text(f"searching {turn}"))
        assert isinstance(specialist.step(), AskModel)
        assert said(specialist)[-1] == ("assistant", [f"searching {turn}"])
    reply(specialist, "pause_turn", text("still searching"))
    specialist.go_on()
    assert specialist.outcome.status == "failed"


def test_a_refusal_is_told_and_its_turn_is_dropped(specialist: Player) -> None:
    reply(specialist, "refusal", text("I will n"))
    assert isinstance(specialist.go_on(), Park)
    assert (specialist.outcome.status, specialist.outcome.code) == ("refused", "model_refused")
    specialist.follow_up("lead", "0", "then do something else")
    assert isinstance(specialist.go_on(), AskModel)
    assert [role for role, _ in said(specialist)] == ["user"]


def test_a_full_context_window_is_made_smaller_before_the_model_is_asked_again(specialist: Player, use: Use) -> None:
    reply(specialist, "model_context_window_exceeded", use("a", "look", text="x"))
    assert isinstance(specialist.step(), Compact)


def test_an_empty_reply_is_nudged_once(specialist: Player) -> None:
    reply(specialist, "end_turn")
    assert isinstance(specialist.step(), AskModel)
    assert said(specialist)[-1] == ("user", [said(specialist)[0][1][0], GO_ON])
    reply(specialist, "end_turn", text("  "))
    specialist.go_on()
    assert specialist.outcome.status == "failed"


def test_a_stop_reason_nobody_knows_stops_the_thread(specialist: Player) -> None:
    reply(specialist, "moon_phase", text("hello"))
    specialist.go_on()
    assert specialist.outcome.status == "failed" and "moon_phase" in specialist.outcome.summary


@pytest.mark.parametrize("kind", ["rate_limited", "overloaded", "transient"])
def test_a_call_that_will_be_made_again_waits_by_a_timer_and_not_in_a_worker(specialist: Player, kind: str) -> None:
    fail(specialist, kind, retry_at_ms=31_000)
    assert isinstance(specialist.step(), Park)
    assert specialist.state.next_wake_ms == 31_000
    specialist.now_ms = 31_000
    assert isinstance(specialist.step(), AskModel)
    reply(specialist, "end_turn", text("there"))
    specialist.go_on()
    assert specialist.outcome.status == "ok" and specialist.state.next_wake_ms is None


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("spend_limit", "spend_limit"),
        ("configuration", "model_configuration"),
        ("invalid", "model_failed"),
        ("transient", "model_failed"),
    ],
)
def test_a_call_that_is_not_made_again_fails_the_thread_and_the_lead_is_told_why(
    specialist: Player, kind: str, code: str
) -> None:
    fail(specialist, kind)
    assert isinstance(specialist.go_on(), Park)
    assert (specialist.outcome.status, specialist.outcome.code) == ("failed", code)
    assert specialist.outcome.summary == f"it was {kind}"


def test_a_request_that_is_too_large_is_made_smaller_first(specialist: Player) -> None:
    fail(specialist, "too_large", retry_at_ms=specialist.now_ms)
    assert isinstance(specialist.step(), Compact)


def test_waiting_as_told_is_not_counted_as_a_failure(specialist: Player) -> None:
    for _ in range(20):
        fail(specialist, "rate_limited", retry_at_ms=specialist.now_ms)
    assert specialist.state.dialogue.failures == 0
    fail(specialist, "transient", retry_at_ms=specialist.now_ms)
    assert specialist.state.dialogue.failures == 1


def test_backing_off_doubles_with_full_jitter_and_ends() -> None:
    chance = random.Random(1)
    for failures in range(MAX_TRIES["transient"] - 1):
        waits = [retry_after_s("transient", failures, None, chance) for _ in range(200)]
        assert all(wait is not None and 0 <= wait <= 2**failures for wait in waits)
        assert max(wait for wait in waits if wait is not None) > 0.8 * 2**failures
    assert retry_after_s("transient", MAX_TRIES["transient"] - 1, None, chance) is None
    assert retry_after_s("overloaded", MAX_TRIES["overloaded"] - 1, 5.0, chance) is None


def test_what_the_provider_asks_for_is_waited_and_a_spending_cap_is_never_tried_again() -> None:
    chance = random.Random(1)
    wait = retry_after_s("rate_limited", 0, 12.0, chance)
    assert wait is not None and 12.0 <= wait <= 13.0
    for kind in ("spend_limit", "configuration", "invalid"):
        assert retry_after_s(kind, 0, 12.0, chance) is None


def long_thread(use: Use, turns: int) -> Player:
    profile = msgspec.structs.replace(SPECIALIST, compact_at_tokens=10_000)
    player = Player(profile, "0-1")
    player.opened_by("lead", "0", "remember the teapot")
    player.go_on()
    for turn in range(turns):
        thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
        reply(player, "tool_use", thinking, use(f"c{turn}", "look", text=str(turn)), tokens=900 * (turn + 1))
        player.returned(f"c{turn}", "look", f"result {turn} " + "x" * 3_000)
    return player


def test_a_long_conversation_is_compacted_before_the_request_is_too_large(use: Use) -> None:
    player = long_thread(use, 10)
    assert isinstance(player.step(), AskModel)
    player = long_thread(use, 12)
    assert isinstance(player.step(), Compact)


def test_clearing_drops_old_results_and_keeps_every_pair_of_call_and_result(use: Use) -> None:
    player = long_thread(use, 12)
    before = player.state.dialogue.expected_tokens()
    player.write(Draft(LOG, ThreadCompacted(at_ms=1, keep_messages=6)))
    dialogue = player.state.dialogue
    assert dialogue.expected_tokens() < before / 1.5
    called = [b["id"] for m in dialogue.next_messages() for b in m.content if b["type"] == "tool_use"]
    results = [b for m in dialogue.next_messages() for b in m.content if b["type"] == "tool_result"]
    assert [result["tool_use_id"] for result in results] == called
    assert [result["content"] == CLEARED for result in results] == [True] * 8 + [False] * 4
    assert not any(b["type"] == "thinking" for m in dialogue.next_messages() for b in m.content)


def test_a_summary_takes_the_place_of_all_but_the_last_turn_and_the_brief_is_never_lost(use: Use) -> None:
    player = long_thread(use, 12)
    player.write(Draft(LOG, ThreadCompacted(at_ms=1, summary="the teapot is blue", keep_messages=1)))
    messages = player.state.dialogue.next_messages()
    assert [message.role for message in messages] == ["user", "assistant", "user"]
    opening = " ".join(block["text"] for block in messages[0].content)
    assert "remember the teapot" in opening and "the teapot is blue" in opening
    assert [block["type"] for block in messages[1].content] == ["tool_use"]
    assert messages[2].content[0]["tool_use_id"] == "c11"
    assert isinstance(player.step(), AskModel)


def test_a_task_that_does_not_get_small_enough_fails_instead_of_compacting_for_ever(use: Use) -> None:
    player = long_thread(use, 12)
    for _ in range(3):
        player.write(Draft(LOG, ThreadCompacted(at_ms=1, summary="x" * 80_000, keep_messages=1)))
    assert isinstance(player.go_on(), Park)
    assert player.outcome.code == "model_failed"


def test_three_results_that_do_not_fit_fail_the_thread_with_the_last_problem(use: Use) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    player = Player(msgspec.structs.replace(SPECIALIST, output_schema=schema), "0-1")
    player.opened_by("lead", "0")
    player.go_on()
    for attempt in range(3):
        assert isinstance(player.go_on(), AskModel)
        player.model(use(f"s{attempt}", "submit_result", summary="done", result={"n": "many"}))
    assert isinstance(player.go_on(), Park)
    assert (player.outcome.status, player.outcome.code) == ("failed", "invalid_output")
    assert "$.n" in player.outcome.summary


def test_what_calls_cost_adds_up_and_is_unknown_as_soon_as_one_price_is(specialist: Player) -> None:
    for cost in (5, 7):
        specialist.write(Draft(LOG, ModelReplied(at_ms=1, blocks=(), stop_reason="x", model="m", cost_microusd=cost)))
    assert specialist.state.total_cost_microusd == 12
    specialist.write(Draft(LOG, ModelReplied(at_ms=1, blocks=(), stop_reason="x", model="m")))
    assert specialist.state.total_cost_microusd is None
