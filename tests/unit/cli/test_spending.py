"""What people are shown of a budget, and how they type one."""

from __future__ import annotations

import pytest

from shanty_cli.report import spending_of
from shanty_cli.spending import spending_line
from shanty_protocol import (
    Brief,
    Budget,
    BudgetExhausted,
    BudgetGranted,
    BudgetRequested,
    DelegationSent,
    MailReceived,
    ModelReplied,
    Spent,
    ThreadCompacted,
    ThreadOpened,
    Usage,
)
from shanty_protocol.ids import OPERATORS
from shanty_runtime.agent.budget import parse_allowance
from support.script import Script


def limited(script: Script, budget: Budget | None) -> None:
    brief = Brief(objective="find out", budget=budget)
    script.write("request-1", "cli", DelegationSent(at_ms=script.now_ms, to_thread="0", brief=brief), to="lead")


def paid(script: Script, thread: str, agent: str, tokens: int, cost_microusd: int | None) -> None:
    usage = Usage(input_tokens=tokens)
    entry = ModelReplied(
        at_ms=script.now_ms, blocks=(), stop_reason="end_turn", model="m", usage=usage, cost_microusd=cost_microusd
    )
    script.write(thread, agent, entry)


def test_what_was_spent_and_what_is_left_are_counted_entry_by_entry_over_all_threads(script: Script) -> None:
    limited(script, Budget(tokens=1_000, cost_microusd=5_000_000, threads=4, wall_s=60))
    paid(script, "0", "lead", 100, 1_000_000)
    script.delegate("0-1", "logs")
    paid(script, "0-1", "logs", 50, 250_000)
    cleared = ThreadCompacted(at_ms=script.now_ms, keep_messages=4)
    script.write("0-1", "logs", cleared)
    summed_up = ThreadCompacted(
        at_ms=script.now_ms, summary="so far", model="m", usage=Usage(output_tokens=50), cost_microusd=0
    )
    script.write("0-1", "logs", summed_up)
    script.returned("0-1", "logs", "mine")

    assert spending_line(script.view.spending) == (
        "spent 200 tokens, $1.25, 1 thread; left 800 tokens, $3.75, 3 threads; within 60 s"
    )
    assert spending_of(script.view) == {
        "spent": {"tokens": 200, "usd": 1.25, "model_calls": 3, "tool_calls": 1, "threads": 1},
        "limits": {"tokens": 1_000, "usd": 5.0, "model_calls": None, "tool_calls": None, "threads": 4, "seconds": 60},
        "left": {
            "tokens": 800,
            "usd": 3.75,
            "model_calls": None,
            "tool_calls": None,
            "threads": 3,
            "seconds": None,
        },
        "out_of": "",
    }


def test_where_nothing_is_limited_nothing_is_said_of_it(script: Script) -> None:
    limited(script, None)
    paid(script, "0", "lead", 100, None)
    assert spending_line(script.view.spending) == ""
    assert script.view.spending.spent == Spent(tokens=100, cost_microusd=None, model_calls=1)


def test_limits_of_the_team_are_those_the_lead_wrote_down(script: Script) -> None:
    limited(script, Budget(tokens=10))
    script.write("0", "lead", ThreadOpened(at_ms=script.now_ms, budget=Budget(tokens=10, model_calls=3)))
    assert script.view.spending.limits == Budget(tokens=10, model_calls=3)


def test_a_run_at_its_limit_waits_for_people_and_goes_on_once_the_lead_has_read_what_they_grant(
    script: Script,
) -> None:
    limits = Budget(tokens=100)
    limited(script, limits)
    paid(script, "0", "lead", 100, 0)
    request = BudgetRequested(at_ms=script.now_ms, code="token_limit", limits=limits, spent=Spent(tokens=100))
    script.write("0", "lead", request, to=OPERATORS)
    seen = [(script.view.status, script.view.threads["0"].doing, spending_of(script.view)["out_of"])]
    more = BudgetGranted(at_ms=script.now_ms, to_thread="0", budget=Budget(tokens=50), reason="go on")
    subject = script.write("say-1", OPERATORS, more, to="lead")
    seen.append((script.view.status, script.view.threads["0"].doing, spending_line(script.view.spending)[-40:]))
    script.write("0", "lead", MailReceived(at_ms=script.now_ms, consumed=(subject,)))
    seen.append((script.view.status, "", spending_line(script.view.spending)))

    assert seen == [
        ("waiting", "waits for more budget", "token_limit"),
        ("waiting", "waits for more budget", "more: the tokens that may be used are used"[-40:]),
        ("running", "", "spent 100 tokens; left 50 tokens"),
    ]
    assert script.told[-2:] == [
        (
            "0",
            "asked",
            "the tokens that may be used are used (100 tokens): it waits for more; shanty runs budget 0-r tokens=1M",
        ),
        ("0", "granted", "50 tokens more: go on"),
    ]


def test_only_people_raise_what_is_shown(script: Script) -> None:
    limited(script, Budget(tokens=100))
    more = BudgetGranted(at_ms=script.now_ms, to_thread="0", budget=Budget(tokens=50))
    script.write("say-1", "mallory", more, to="lead")
    assert script.view.spending.limits == Budget(tokens=100)


def test_a_delegation_at_its_limit_says_which(script: Script) -> None:
    script.start()
    script.delegate("0-1", "logs")
    entry = BudgetExhausted(
        at_ms=script.now_ms, code="cost_limit", limits=Budget(cost_microusd=20_000), spent=Spent(cost_microusd=21_000)
    )
    script.write("0-1", "logs", entry)
    assert script.told[-1] == ("0-1", "exhausted", "the money that may be spent is spent: $0.02")


def test_a_budget_is_typed_as_names_and_numbers() -> None:
    typed = parse_allowance("usd=+5, tokens=1.5M,model_calls=2k,seconds=0.5").budget
    assert typed == Budget(cost_microusd=5_000_000, tokens=1_500_000, model_calls=2_000, wall_s=0.5)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dollars=5", "'dollars=5' is no limit: write NAME=NUMBER with tokens, usd, model_calls"),
        ("usd", "'usd' is no limit"),
        ("usd=5,usd=6", "usd is given twice"),
        ("tokens=many", "tokens: 'many' is not a number; write one such as 500, 1.5 or 2M"),
        ("tokens=-5", "tokens: '-5' is not a number"),
        ("tokens=0", "Expected `int` >= 1"),
        ("model_calls=1.5", "Expected `int"),
    ],
)
def test_a_budget_typed_wrongly_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_allowance(text)
    assert says in str(caught.value)
