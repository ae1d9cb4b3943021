"""The lead does what its objective says in one turn, waits and hands in; a spender never stops by itself."""

from __future__ import annotations

from shanty_runtime import Move, Turn, call


def lead(turn: Turn) -> Move:
    """The objective is `spender 20`, `counter 3` or `look 5`: how many to ask, calls to grant, or calls to make."""
    what, number = (turn.section("objective") or "").split()
    if what == "look" and len(turn.results_of("look")) < int(number):
        return call("look")
    if what == "spender" and turn.number == 0:
        orders = [call("delegate", specialist="spender", objective="spend") for _ in range(int(number))]
        return [*orders, call("wait_for_replies")]
    if what == "counter" and turn.number == 0:
        order = call(
            "delegate", specialist="counter", objective="count", input={}, budget={"tool_calls": int(number)}
        )
        return [order, call("wait_for_replies")]
    waited = turn.results_of("wait_for_replies")
    replies = waited[-1].value["replies"] if waited else []
    told = {reply["thread"]: reply["status"] for reply in replies}
    return call("submit_result", summary="all is spent", result=told)


def spender(turn: Turn) -> Move:
    return call("look")
