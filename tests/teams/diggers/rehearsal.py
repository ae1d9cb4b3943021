"""The lead does what its objective says, an order a turn; a digger digs until it is told to stop."""

from __future__ import annotations

from shanty_runtime import Move, Turn, call


def lead(turn: Turn) -> Move:
    """The objective is a list of orders: `digger 0.2`, `stop 0-1 abort`, `dig 1.0`, `wait`."""
    if any(text.startswith("You are asked to stop") for text in turn.follow_ups):
        return call("submit_result", summary="the dig is broken off", status="partial")
    orders = [order.split() for order in (turn.section("objective") or "").split(", ")]
    if turn.number < len(orders):
        match orders[turn.number]:
            case ["stop", thread, mode]:
                return call("cancel", thread=thread, mode=mode, reason="the vein is empty", within_s=20.0)
            case ["tell", thread, *words]:
                return call("send_to_specialist", thread=thread, message=" ".join(words))
            case ["dig", seconds]:
                return call("dig", seconds=float(seconds))
            case ["wait", *threads]:
                return call("wait_for_replies", threads=threads)
            case ["driller", seconds]:
                order = {"seconds": float(seconds)}
                return call("delegate", specialist="driller", objective="drill", input=order)
            case [specialist, *objective]:
                return call("delegate", specialist=specialist, objective=" ".join(objective))
    waited = turn.results_of("wait_for_replies")
    replies = waited[-1].value["replies"] if waited else []
    told = {reply["thread"]: f"{reply['status']}: {reply['summary']}" for reply in replies}
    return call("submit_result", summary="the dig is over", result=told)


def digger(turn: Turn) -> Move:
    advice = [text for text in turn.follow_ups if not text.startswith("You are asked to stop")]
    dug = len(turn.results_of("dig"))
    if len(advice) < len(turn.follow_ups):
        return call("submit_result", summary=f"dug until told to stop{heard(advice)}", status="partial")
    if advice and advice[-1] == "that will do":
        return call("submit_result", summary=f"dug until told that will do{heard(advice[:-1])}")
    objective = turn.section("objective") or ""
    if objective.startswith("blast") and not turn.results_of("blast"):
        return call("blast", seconds=float(objective.split()[1]))
    if dug > 1000:
        return call("submit_result", summary="reached the other side")
    return call("dig", seconds=float(objective.split()[-1]))


def heard(advice: list[str]) -> str:
    return f" and heard {', '.join(advice)}" if advice else ""
