"""What a thread may spend: grants, what comes back of them, and what happens where nothing is left."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from shanty_protocol import (
    Brief,
    Budget,
    BudgetExhausted,
    BudgetGranted,
    BudgetRequested,
    CancelSent,
    DelegationSent,
    FanOutStarted,
    ModelReplied,
    Outcome,
    Spent,
    ThreadOpened,
    ThreadReplied,
    Usage,
)
from shanty_protocol.ids import LOG, OPERATORS
from shanty_runtime.agent import Contract, Profile
from shanty_runtime.models.rehearsal import RehearsalModel
from shanty_runtime.thread.decide import AskModel, Draft, FireTimer, Park, Reject, RunCalls, Write
from shanty_runtime.thread.plan import TOO_MANY_CALLS, refusals
from shanty_runtime.worker.asking import room_for_reply
from support.player import LEAD, SPECIALIST, Player, Use

CALL_TOKENS = 10


def opened(player: Player, budget: Budget | None, opener: tuple[str, str] = ("cli", "request-1")) -> Player:
    brief = Brief(objective="find out", budget=budget)
    player.receive(*opener, lambda after: DelegationSent(at_ms=0, to_thread=player.thread, after=after, brief=brief))
    player.go_on()
    return player


def a_lead(budget: Budget | None, profile: Profile = LEAD) -> Player:
    return opened(Player(profile, "0"), budget)


def a_specialist(budget: Budget) -> Player:
    return opened(Player(SPECIALIST, "0-1"), budget, ("lead", "0"))


def speaks(player: Player, *blocks: dict[str, Any], tokens: int = CALL_TOKENS, cost: int | None = 0) -> None:
    entry = ModelReplied(
        at_ms=player.now_ms,
        blocks=blocks,
        stop_reason="tool_use",
        model="test",
        usage=Usage(input_tokens=tokens),
        cost_microusd=cost,
        refused=refusals(player.state, blocks),
    )
    player.write(Draft(LOG, entry))


def replies(
    player: Player, thread: str, spent: Spent | None, cost: int | None = 0, answers: str | None = None
) -> None:
    child = player.state.children[thread]
    player.receive(
        child.specialist,
        thread,
        lambda after: ThreadReplied(
            at_ms=player.now_ms,
            to_thread=player.thread,
            after=after,
            outcome=Outcome(status="ok", summary="done"),
            answers=answers or child.last_sent,
            usage=Usage(input_tokens=40),
            cost_microusd=cost,
            spent=spent,
        ),
    )
    player.go_on()


def granted(player: Player) -> list[Budget | None]:
    return [entry.brief.budget for _, entry in player.journal if isinstance(entry, DelegationSent)]


def left(player: Player) -> dict[str, int]:
    return player.state.escrow.left


def grants_more(player: Player, budget: Budget, agent: str = OPERATORS) -> str:
    return player.receive(
        agent, "say-1", lambda after: BudgetGranted(at_ms=1, to_thread=player.thread, after=after, budget=budget)
    )


def said(player: Player, call_id: str) -> str:
    return player.state.calls[call_id].content


def test_a_grant_counts_as_spent_until_the_reply_says_what_was_and_the_rest_comes_back(use: Use) -> None:
    lead = a_lead(Budget(tokens=1_000))
    speaks(lead, use("a", "delegate", specialist="alpha", objective="dig", budget={"tokens": 300}))
    lead.go_on()
    assert granted(lead) == [Budget(tokens=300)] and left(lead) == {"tokens": 690}
    assert said(lead, "a") == '{"thread":"0-1","specialist":"alpha","granted":"300 tokens"}'
    replies(lead, "0-1", Spent(tokens=120))
    assert left(lead) == {"tokens": 870}


def test_who_names_no_budget_gets_the_same_part_of_what_is_left_as_the_others_of_the_turn_and_the_lead(
    use: Use,
) -> None:
    lead = a_lead(Budget(tokens=1_010, model_calls=41, cost_microusd=700))
    speaks(
        lead,
        use("a", "delegate", specialist="alpha", objective="dig", budget={"tokens": 400}),
        use("b", "delegate", specialist="alpha", objective="dig"),
        use("c", "delegate", specialist="alpha", objective="dig"),
        cost=100,
    )
    lead.go_on()
    share = Budget(tokens=200, cost_microusd=150, model_calls=10)
    assert granted(lead) == [msgspec.structs.replace(share, tokens=400), share, share]
    assert left(lead) == {"tokens": 200, "cost_microusd": 150, "model_calls": 10}


def test_what_a_specialist_is_usually_granted_is_cut_to_what_is_left(use: Use) -> None:
    contracts = {"alpha": Contract(name="alpha", description="reads", budget=Budget(tokens=500, model_calls=4))}
    lead = a_lead(Budget(tokens=310), msgspec.structs.replace(LEAD, contracts=contracts))
    speaks(lead, use("a", "delegate", specialist="alpha", objective="dig"))
    lead.go_on()
    assert granted(lead) == [Budget(tokens=300, model_calls=4)]


def test_a_run_without_limits_grants_nothing_and_limits_nobody(use: Use) -> None:
    lead = a_lead(None)
    speaks(lead, use("a", "delegate", specialist="alpha", objective="dig"), cost=None)
    lead.go_on()
    assert granted(lead) == [None] and said(lead, "a") == '{"thread":"0-1","specialist":"alpha"}'
    replies(lead, "0-1", None, cost=None)
    assert isinstance(lead.step(), AskModel)


def test_a_delegation_that_asks_for_more_than_is_left_is_told_what_is_left(use: Use) -> None:
    lead = a_lead(Budget(tokens=500, cost_microusd=2_000_000, threads=2))
    speaks(
        lead,
        use("a", "delegate", specialist="alpha", objective="dig", budget={"tokens": 450}),
        use("b", "delegate", specialist="alpha", objective="dig", budget={"tokens": 60, "usd": 1.5}),
        use("c", "delegate", specialist="alpha", objective="dig", budget={"threads": 1}),
    )
    lead.go_on()
    assert len(granted(lead)) == 1
    assert said(lead, "b") == "the grant is too large: 60 tokens asked for, 50 tokens left"
    assert said(lead, "c") == "1 thread may be opened yet, and this delegation needs more"


def test_more_delegations_than_there_are_parts_of_what_is_left_are_refused(use: Use) -> None:
    lead = a_lead(Budget(model_calls=5))
    speaks(lead, *(use(f"d{n}", "delegate", specialist="alpha", objective="dig") for n in range(5)))
    lead.go_on()
    assert granted(lead) == [Budget(model_calls=1)] * 3 and left(lead) == {"model_calls": 1}
    assert said(lead, "d3") == (
        "4 model calls left is too little to share among so many: open fewer, or wait for replies"
    )


def test_a_grant_that_the_reply_itself_made_too_large_is_cut_to_what_is_left(use: Use) -> None:
    lead = a_lead(Budget(tokens=500))
    speaks(lead, use("a", "delegate", specialist="alpha", objective="dig", budget={"tokens": 480}), tokens=100)
    lead.go_on()
    assert granted(lead) == [Budget(tokens=400)]
    assert isinstance(lead.step(), Park), "all is granted; what comes back is waited for"
    replies(lead, "0-1", Spent(tokens=390))
    assert left(lead) == {"tokens": 10} and isinstance(lead.step(), AskModel)


def test_a_thread_that_has_spent_its_grant_replies_with_what_it_has(use: Use) -> None:
    specialist = a_specialist(Budget(tokens=25))
    for turn in range(3):
        assert isinstance(specialist.go_on(), AskModel)
        speaks(specialist, use(f"c{turn}", "look", text="x"))
        specialist.returned(f"c{turn}", "look", "seen")
    assert isinstance(specialist.go_on(), Park)
    assert (specialist.outcome.status, specialist.outcome.code) == ("budget_exhausted", "token_limit")
    assert specialist.outcome.summary == (
        "the tokens that may be used are used: it was granted 25 tokens and has spent "
        "30 tokens, $0.000000, 3 model calls, 3 tool calls, 0 threads"
    )
    assert specialist.reply().spent == Spent(tokens=30, model_calls=3, tool_calls=3)
    exhausted = next(entry for _, entry in specialist.journal if isinstance(entry, BudgetExhausted))
    assert (exhausted.code, exhausted.limits) == ("token_limit", Budget(tokens=25))


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (Budget(model_calls=1), "model_call_limit"),
        (Budget(cost_microusd=7), "cost_limit"),
        (Budget(wall_s=0.9), "time_limit"),
    ],
)
def test_each_limit_ends_a_delegation_by_its_own_code(use: Use, limits: Budget, code: str) -> None:
    specialist = Player(SPECIALIST, "0-1")
    specialist.now_ms = 100
    opened(specialist, limits, ("lead", "0"))
    speaks(specialist, use("c", "look", text="x"), cost=7)
    specialist.returned("c", "look", "seen")
    specialist.now_ms = 1_000
    specialist.go_on()
    assert (specialist.outcome.status, specialist.outcome.code) == ("budget_exhausted", code)


def test_the_time_of_a_thread_ends_also_while_it_waits_and_ends_what_it_has_opened(use: Use) -> None:
    lead = opened(Player(LEAD, "0-1"), Budget(wall_s=100), ("chief", "0"))
    speaks(lead, use("a", "delegate", specialist="alpha", objective="dig"), use("b", "wait_for_replies"))
    lead.go_on()
    assert lead.state.next_wake_ms == 100_000
    lead.now_ms = 100_000
    assert isinstance(lead.go_on(), Park)
    assert (lead.outcome.status, lead.outcome.code) == ("budget_exhausted", "time_limit")
    assert isinstance(lead.journal[-2][1], CancelSent)


def test_tool_calls_beyond_the_limit_are_not_made_and_end_the_delegation(use: Use) -> None:
    specialist = a_specialist(Budget(tool_calls=2))
    speaks(specialist, *(use(f"c{n}", "look", text="x") for n in range(3)))
    assert specialist.open_calls() == ["c0", "c1"] and said(specialist, "c2") == TOO_MANY_CALLS
    for call_id in ("c0", "c1"):
        specialist.returned(call_id, "look", "seen")
    specialist.go_on()
    assert (specialist.outcome.status, specialist.outcome.code) == ("budget_exhausted", "tool_call_limit")


def test_who_has_made_all_tool_calls_it_may_can_still_hand_in(use: Use) -> None:
    specialist = a_specialist(Budget(tool_calls=1))
    speaks(specialist, use("c", "look", text="x"))
    specialist.returned("c", "look", "seen")
    assert isinstance(specialist.go_on(), AskModel)
    speaks(specialist, use("d", "submit_result", summary="seen it"))
    specialist.go_on()
    assert specialist.outcome.status == "ok"


def test_a_reply_may_be_no_longer_than_the_tokens_that_are_left(use: Use) -> None:
    specialist = a_specialist(Budget(tokens=2_000))
    assert room_for_reply(specialist.state, 16_000) == 2_000
    speaks(specialist, use("c", "look", text="x"), tokens=1_200)
    assert room_for_reply(specialist.state, 16_000) == 800
    assert room_for_reply(a_lead(None).state, 16_000) == 16_000


def test_what_a_lead_below_the_lead_spends_holds_what_its_own_specialists_spend(use: Use) -> None:
    nested = opened(Player(LEAD, "0-1"), Budget(tokens=500), ("chief", "0"))
    speaks(nested, use("a", "delegate", specialist="alpha", objective="dig"))
    nested.go_on()
    assert granted(nested) == [Budget(tokens=245)]
    replies(nested, "0-1-1", Spent(tokens=70, model_calls=5, tool_calls=2))
    speaks(nested, use("b", "submit_result", summary="dug"))
    nested.go_on()
    assert nested.reply().spent == Spent(tokens=90, model_calls=7, tool_calls=2, threads=1)


def test_a_run_that_has_spent_its_budget_asks_people_once_and_goes_on_with_what_they_grant(use: Use) -> None:
    lead = a_lead(Budget(tokens=20, model_calls=9))
    for turn in range(2):
        speaks(lead, use(f"c{turn}", "look", text="x"))
        lead.returned(f"c{turn}", "look", "seen")
    assert isinstance(lead.go_on(), Park)
    address, request = lead.journal[-1]
    assert address.to == OPERATORS and request == BudgetRequested(
        at_ms=lead.now_ms,
        by="worker-1",
        fence=7,
        code="token_limit",
        limits=Budget(tokens=20, model_calls=9),
        spent=Spent(tokens=20, model_calls=2, tool_calls=2),
    )
    grants_more(lead, Budget(tokens=15, tool_calls=3))
    assert isinstance(lead.go_on(), AskModel)
    assert left(lead) == {"tokens": 15, "model_calls": 7}, "what was not limited stays so"
    speaks(lead, use("c2", "look", text="x"), tokens=15)
    lead.returned("c2", "look", "seen")
    assert isinstance(lead.go_on(), Park)
    assert [type(entry) for _, entry in lead.journal].count(BudgetRequested) == 2


def test_time_that_people_grant_to_a_run_whose_time_is_over_counts_from_when_it_is_read(use: Use) -> None:
    lead = a_lead(Budget(wall_s=10))
    lead.now_ms = 3_600_000
    assert isinstance(lead.go_on(), Park)
    lead.now_ms = 7_200_000
    grants_more(lead, Budget(wall_s=60))
    assert isinstance(lead.go_on(), AskModel)
    lead.now_ms += 60_000
    assert isinstance(lead.step(), Write)


def test_a_model_is_told_what_it_may_spend(use: Use) -> None:
    lead = a_lead(Budget(tokens=20_000, wall_s=600))
    (text,) = lead.state.dialogue.next_messages()[0].content
    assert "<budget>\n20000 tokens, 600 s\n</budget>" in text["text"]


@pytest.mark.parametrize(("agent", "thread"), [("cli", "0"), ("alpha", "0"), (OPERATORS, "0-1")])
def test_only_people_grant_more_and_only_to_a_run_as_a_whole(agent: str, thread: str) -> None:
    player = a_lead(Budget(tokens=20)) if thread == "0" else a_specialist(Budget(tokens=20))
    forged = grants_more(player, Budget(tokens=1_000), agent)
    step = player.step()
    assert isinstance(step, Reject) and (step.mail.subject, step.code) == (forged, "wrong_recipient")


def test_a_run_that_waits_for_more_and_is_asked_to_wrap_up_replies_without_a_model_call(use: Use) -> None:
    lead = a_lead(Budget(model_calls=1))
    speaks(lead, use("c", "look", text="x"))
    lead.returned("c", "look", "seen")
    assert isinstance(lead.go_on(), Park)
    lead.cancel("cli", "request-1", "wrap_up")
    assert isinstance(lead.go_on(), Park)
    assert (lead.outcome.status, lead.outcome.code) == ("cancelled", "cancelled")


def test_a_thread_given_up_keeps_its_grant_and_a_late_reply_gives_the_rest_back(use: Use) -> None:
    lead = a_lead(Budget(tokens=1_000))
    order = {"specialist": "alpha", "objective": "dig", "deadline_s": 60, "budget": {"tokens": 300}}
    speaks(lead, use("a", "delegate", **order), use("b", "wait_for_replies"))
    lead.go_on()
    lead.now_ms += 61_000
    assert lead.step() == FireTimer(("0-1",))
    lead.timer_fired("0-1")
    assert isinstance(lead.go_on(), AskModel) and left(lead) == {"tokens": 690}
    replies(lead, "0-1", Spent(tokens=20))
    assert left(lead) == {"tokens": 970}


def test_a_run_with_nothing_left_but_grants_of_threads_given_up_asks_for_more(use: Use) -> None:
    lead = a_lead(Budget(tokens=100))
    order = {"specialist": "alpha", "objective": "dig", "deadline_s": 60, "budget": {"tokens": 100}}
    speaks(lead, use("a", "delegate", **order), use("b", "wait_for_replies"))
    lead.go_on()
    lead.now_ms += 61_000
    lead.timer_fired("0-1")
    assert isinstance(lead.go_on(), Park)
    assert isinstance(lead.journal[-1][1], BudgetRequested)
    assert lead.journal[-1][1].spent.tokens == 100


def test_a_specialist_cannot_give_back_more_than_it_was_granted(use: Use) -> None:
    lead = a_lead(Budget(tokens=1_000))
    speaks(lead, use("a", "delegate", specialist="alpha", objective="dig", budget={"tokens": 300}))
    lead.go_on()
    replies(lead, "0-1", Spent(tokens=-5_000))
    assert left(lead) == {"tokens": 990}


def test_what_a_reply_does_not_say_counts_as_spent(use: Use) -> None:
    lead = a_lead(Budget(tokens=1_000, cost_microusd=900, model_calls=50))
    budget = {"tokens": 300, "usd": 0.0003, "model_calls": 20}
    speaks(lead, use("a", "delegate", specialist="alpha", objective="dig", budget=budget))
    lead.go_on()
    replies(lead, "0-1", None, cost=None)
    assert left(lead) == {"tokens": 950, "cost_microusd": 600, "model_calls": 29}


def test_a_follow_up_gives_a_thread_the_rest_of_its_grant_once_more(use: Use) -> None:
    lead = a_lead(Budget(tokens=1_000))
    speaks(lead, use("a", "delegate", specialist="alpha", objective="dig", budget={"tokens": 300}))
    lead.go_on()
    replies(lead, "0-1", Spent(tokens=100))
    speaks(lead, use("b", "send_to_specialist", thread="0-1", message="and deeper"))
    lead.go_on()
    assert left(lead) == {"tokens": 680}
    replies(lead, "0-1", Spent(tokens=300))
    speaks(lead, use("c", "send_to_specialist", thread="0-1", message="and deeper"))
    assert said(lead, "c") == "thread 0-1 has spent its grant (0 tokens left): delegate the rest anew"


def test_a_reply_to_what_was_asked_before_the_newest_advice_gives_nothing_back_yet(use: Use) -> None:
    lead = a_lead(Budget(tokens=1_000))
    speaks(lead, use("a", "delegate", specialist="alpha", objective="dig", budget={"tokens": 300}))
    lead.go_on()
    asked_first = lead.state.children["0-1"].last_sent
    speaks(lead, use("b", "send_to_specialist", thread="0-1", message="and deeper"))
    lead.go_on()
    replies(lead, "0-1", Spent(tokens=100), answers=asked_first)
    assert left(lead) == {"tokens": 680}, "it goes on with the rest of its grant"
    replies(lead, "0-1", Spent(tokens=150))
    assert left(lead) == {"tokens": 830}


def test_a_follow_up_whose_rest_is_granted_to_others_by_now_is_refused(use: Use) -> None:
    lead = a_lead(Budget(tokens=1_000))
    speaks(lead, use("a", "delegate", specialist="alpha", objective="dig", budget={"tokens": 600}))
    lead.go_on()
    replies(lead, "0-1", Spent(tokens=100))
    speaks(
        lead,
        use("b", "delegate", specialist="alpha", objective="dig", budget={"tokens": 700}),
        use("c", "send_to_specialist", thread="0-1", message="and deeper"),
    )
    assert said(lead, "c") == (
        "thread 0-1 would go on with the rest of its grant, 500 tokens, and you have 190 tokens left"
    )


def test_time_is_not_shared_and_no_delegation_outlasts_its_lead(use: Use) -> None:
    lead = a_lead(Budget(wall_s=100))
    lead.now_ms = 30_000
    speaks(
        lead,
        use("a", "delegate", specialist="alpha", objective="dig"),
        use("b", "delegate", specialist="alpha", objective="dig", budget={"seconds": 5}, deadline_s=60),
    )
    lead.go_on()
    briefs = [entry.brief for _, entry in lead.journal if isinstance(entry, DelegationSent)]
    assert [(brief.budget, brief.deadline_s) for brief in briefs] == [
        (Budget(wall_s=70), 85),
        (Budget(wall_s=5), 20),
    ]


def test_money_is_not_limited_where_nobody_knows_what_the_model_costs() -> None:
    model = RehearsalModel(lambda turn: "done")
    lead = a_lead(Budget(cost_microusd=5_000_000), msgspec.structs.replace(LEAD, model=model))
    assert (lead.outcome.status, lead.outcome.code) == ("refused", "cost_unknown")
    assert "what rehearsal costs is not known" in lead.outcome.summary
    assert isinstance(a_lead(Budget(tokens=50), msgspec.structs.replace(LEAD, model=model)).step(), AskModel)


def test_after_a_call_of_unknown_price_a_limit_in_money_counts_as_reached(use: Use) -> None:
    specialist = a_specialist(Budget(cost_microusd=5_000_000))
    speaks(specialist, use("c", "look", text="x"), cost=None)
    specialist.returned("c", "look", "seen")
    specialist.go_on()
    assert specialist.outcome.code == "cost_limit" and specialist.reply().spent == Spent(
        tokens=10, cost_microusd=None, model_calls=1, tool_calls=1
    )


def test_a_team_limits_the_runs_nobody_else_limits_and_the_journal_says_so() -> None:
    profile = msgspec.structs.replace(LEAD, budget=Budget(tokens=500, model_calls=7))
    lead = a_lead(Budget(tokens=900), profile)
    opening = lead.journal[0][1]
    assert isinstance(opening, ThreadOpened) and opening.budget == Budget(tokens=900, model_calls=7)
    # Whatever the team says by then: a run keeps the limits it began with.
    lead.profile = LEAD
    assert left(lead) == {"tokens": 900, "model_calls": 7}


def test_nothing_is_lost_and_nothing_overspent_whatever_the_order_of_events(use: Use) -> None:
    """Ten specialists that never stop by themselves. Every state is folded anew, as after a crash."""
    for seed in range(3):
        chance = random.Random(seed)
        budget = chance.randint(200, 600)
        lead = a_lead(Budget(tokens=budget), msgspec.structs.replace(LEAD, max_turns=100))
        speaks(lead, *(use(f"d{n}", "delegate", specialist="alpha", objective="dig") for n in range(10)))
        lead.go_on()
        briefs = {entry.to_thread: entry.brief for _, entry in lead.journal if isinstance(entry, DelegationSent)}
        team = {
            thread: opened(Player(SPECIALIST, thread), brief.budget, ("lead", "0"))
            for thread, brief in briefs.items()
        }
        calls = dict.fromkeys(team, 0)
        at_work = list(team)
        while at_work:
            thread = chance.choice(at_work)
            player = team[thread]
            if isinstance(step := player.go_on(), RunCalls):
                player.returned(step.calls[0].id, "look", "seen")
            elif isinstance(step, AskModel):
                calls[thread] += 1
                speaks(player, use(f"c{calls[thread]}", "look", text="x"))
            else:
                at_work.remove(thread)
                replies(lead, thread, player.reply().spent)
        spent = CALL_TOKENS * (1 + sum(calls.values()))
        assert budget - CALL_TOKENS * len(team) < spent <= budget + CALL_TOKENS * len(team), seed
        assert lead.state.escrow.spent.tokens == spent, "nothing leaks"
        assert not any(account.open for account in lead.state.escrow.accounts.values())


def each(use: Use, items: int, **order: Any) -> dict[str, Any]:
    numbers = [f"item {number}" for number in range(items)]
    return use(
        "each", "delegate_each", specialist="alpha", objective="read {item}", output="o.jsonl", items=numbers, **order
    )


def begins(lead: Player, items: int, at_most: int) -> None:
    entry = FanOutStarted(
        at_ms=lead.now_ms, call_id="each", specialist="alpha", items=items, at_most=at_most, retries=0
    )
    lead.write(Draft(LOG, entry))
    lead.go_on()


def test_the_items_of_a_fan_out_share_what_is_left_and_what_one_did_not_spend_goes_to_those_to_come(use: Use) -> None:
    lead = a_lead(Budget(tokens=510, threads=7))
    speaks(lead, each(use, 4, at_most=2))
    begins(lead, 4, 2)
    assert granted(lead) == [Budget(tokens=100, threads=0)] * 2
    replies(lead, "0-1", Spent(tokens=40))
    assert granted(lead)[2:] == [Budget(tokens=120, threads=0)]
    replies(lead, "0-2", Spent(tokens=0))
    replies(lead, "0-3", Spent(tokens=120))
    assert granted(lead)[3:] == [Budget(tokens=170, threads=0)] and left(lead) == {"tokens": 170, "threads": 3}


def test_a_fan_out_may_name_what_each_item_is_granted(use: Use) -> None:
    lead = a_lead(Budget(tokens=510))
    speaks(lead, each(use, 3, budget={"tokens": 50}))
    begins(lead, 3, 16)
    assert granted(lead) == [Budget(tokens=50)] * 3 and left(lead) == {"tokens": 350}


def test_a_fan_out_of_more_items_than_may_be_opened_or_paid_for_is_refused(use: Use) -> None:
    lead = a_lead(Budget(tokens=510, threads=7))
    speaks(lead, each(use, 8))
    assert "this run may open 7 more threads" in said(lead, "each")
    lead = a_lead(Budget(model_calls=5))
    speaks(lead, each(use, 4))
    assert "4 model calls left is too little to share among so many" in said(lead, "each")


def test_a_step_is_a_write_where_a_grant_is_spent_and_the_thread_is_taken_over(use: Use) -> None:
    specialist = a_specialist(Budget(model_calls=1))
    speaks(specialist, use("c", "look", text="x"))
    specialist.returned("c", "look", "seen")
    step = specialist.step(abandoned=True)
    assert isinstance(step, Write)
    specialist.write(*step.drafts)
    assert isinstance(specialist.drafts()[0].entry, BudgetExhausted)
