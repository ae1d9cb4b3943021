"""Every lead does what its objective says, an order a turn, and hands orders in brackets on to the next level."""

from __future__ import annotations

import re

from shanty_runtime import Move, Turn, call


def lead(turn: Turn) -> Move:
    """The objective is a list of orders, such as `foreman [gang [digger blast 0.1, wait], wait], wait`.

    `digger blast 0.1 in 2` has a deadline of 2 seconds; `who` asks who is up.
    """
    waited = turn.results_of("wait_for_replies")
    replies = waited[-1].value["replies"] if waited else []
    up = turn.result("list_specialists") or []
    told = "".join(f"{card['specialist']} has {card['replicas']} up: " for card in up)
    told += ", ".join(f"{reply['thread']} {reply['status']} ({reply['summary']})" for reply in replies)
    if any(text.startswith("You are asked to stop") for text in turn.follow_ups):
        return call("submit_result", summary=told, status="partial")
    orders = split(turn.section("objective") or "")
    if turn.number < len(orders):
        match orders[turn.number].split(" ", 1):
            case ["who"]:
                return call("list_specialists")
            case ["wait"]:
                return call("wait_for_replies")
            case [specialist, objective]:
                objective = objective.removeprefix("[").removesuffix("]")
                if found := re.fullmatch(r"(.*) in ([0-9.]+)", objective):
                    return call("delegate", specialist=specialist, objective=found[1], deadline_s=float(found[2]))
                return call("delegate", specialist=specialist, objective=objective)
    return call("submit_result", summary=told)


foreman = gang = lead


def digger(turn: Turn) -> Move:
    """The objective is `blast 0.1`, or `dig 0.1`, which has no end."""
    what, seconds = (turn.section("objective") or "").split()
    if any(text.startswith("You are asked to stop") for text in turn.follow_ups):
        return call("submit_result", summary=f"dug {min(1, len(turn.results_of('dig')))}", status="partial")
    if blasts := turn.results_of("blast"):
        return call("submit_result", summary=str(blasts[-1].value))
    return call(what, seconds=float(seconds))


def split(orders: str) -> list[str]:
    """The orders of one level: commas in brackets are for the levels below."""
    found, depth = [""], 0
    for letter in orders:
        depth += {"[": 1, "]": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return [order.strip() for order in found]
