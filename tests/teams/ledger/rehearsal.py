"""Plays the lead and the clerk, and notes each model call that was paid for."""

from __future__ import annotations

import os
import time

from shanty_runtime import Move, Turn, call

AMOUNTS = [3, 5, 8]


def lead(turn: Turn) -> Move:
    paid(turn)
    waited = turn.results_of("wait_for_replies")
    if turn.number == 0:
        return [
            call("delegate", specialist=name, objective=turn.section("objective") or "", input={"amounts": AMOUNTS})
            for name in ("clerk", "counter")
        ]
    if turn.number == 1:
        return call("wait_for_replies")
    if turn.number == 2:
        thread = next(reply["thread"] for reply in waited[0].value["replies"] if reply["specialist"] == "clerk")
        return call("send_to_specialist", thread=thread, message="and one more: 13")
    if turn.number == 3:
        return call("wait_for_replies", threads=["0-1"])
    replies = {reply["specialist"]: reply for each in waited for reply in each.value["replies"]}
    return call(
        "submit_result",
        summary=f"{replies['clerk']['summary']}; counted {replies['counter']['result']['total']}",
        result={"replies": sorted(replies)},
    )


def clerk(turn: Turn) -> Move:
    paid(turn)
    booked = [result.arguments["amount"] for result in turn.results_of("book") if not result.is_error]
    asked = [*turn.input["amounts"], *(int(text.rpartition(" ")[2]) for text in turn.follow_ups)]
    missing = [amount for amount in asked if amount not in booked]
    if missing:
        return [call("book", amount=amount) for amount in missing]
    if not turn.results_of("ring"):
        return call("ring")
    return call("submit_result", summary=f"booked {sum(booked)}")


def paid(turn: Turn) -> None:
    with open(os.environ["MODEL_CALLS_FILE"], "a") as file:
        file.write(f"{turn.section('objective')} {turn.request.agent} {turn.number} {time.time_ns() // 1_000_000}\n")
