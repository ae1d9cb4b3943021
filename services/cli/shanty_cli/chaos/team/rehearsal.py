"""Plays the lead and the clerk, and notes each model call that was paid for. The run's id is its objective."""

from __future__ import annotations

from shanty_cli.chaos.ledgers import Ledgers
from shanty_runtime import Move, Turn, call

AMOUNTS = [3, 5, 8]


def lead(turn: Turn) -> Move:
    run = _paid(turn)
    waited = turn.results_of("wait_for_replies")
    if turn.number == 0:
        return [
            call("delegate", specialist=name, objective=run, input={"amounts": AMOUNTS})
            for name in ("clerk", "counter")
        ]
    if turn.number == 2:
        thread = next(reply["thread"] for reply in waited[0].value["replies"] if reply["specialist"] == "clerk")
        return call("send_to_specialist", thread=thread, message="and one more: 13")
    if turn.number < 4:
        return call("wait_for_replies")
    replies = {reply["specialist"]: reply for each in waited for reply in each.value["replies"]}
    counted = replies["counter"]["result"]["total"]
    return call("submit_result", summary=f"{replies['clerk']['summary']}; counted {counted}")


def clerk(turn: Turn) -> Move:
    _paid(turn)
    booked = [result.arguments["amount"] for result in turn.results_of("book") if not result.is_error]
    asked = [*turn.input["amounts"], *(int(text.rpartition(" ")[2]) for text in turn.follow_ups)]
    if missing := [amount for amount in asked if amount not in booked]:
        return [call("book", amount=amount) for amount in missing]
    if not turn.results_of("ring"):
        return [call("ring"), call("post")]
    unknown = [
        f", {name} unknown" for name in ("ring", "post") if any(each.is_error for each in turn.results_of(name))
    ]
    return call("submit_result", summary=f"booked {sum(booked)}{''.join(unknown)}")


def _paid(turn: Turn) -> str:
    run = turn.section("objective") or ""
    Ledgers.here().model_call(run, turn.request.agent, turn.number)
    return run
