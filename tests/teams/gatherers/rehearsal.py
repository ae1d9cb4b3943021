"""The lead does what its objective says, an order a turn, and hands in what each of its waits gave."""

from __future__ import annotations

from typing import Any

from shanty_runtime import Move, Turn, call


def lead(turn: Turn) -> Move:
    """The objective is a list of orders.

    `racer 2` walks two times; `racer endless` until it is told `enough`; `racer endless in 1` has a second for it.
    `any`, `all`, `quorum 2`, each with threads behind it or none, and `within 1` for a deadline; `tell 0-1 enough`.
    """
    orders = (turn.section("objective") or "").split(", ")
    if turn.number < len(orders):
        order, _, seconds = orders[turn.number].partition(" within ")
        deadline = {"deadline_s": float(seconds)} if seconds else {}
        match order.split():
            case ["racer", *objective, "in", most]:
                brief = " ".join(objective)
                return call("delegate", specialist="racer", objective=brief, deadline_s=float(most))
            case ["racer", *objective]:
                return call("delegate", specialist="racer", objective=" ".join(objective))
            case ["tell", thread, *words]:
                return call("send_to_specialist", thread=thread, message=" ".join(words))
            case ["quorum", needed, *threads]:
                return call("wait_for_replies", mode="quorum", quorum=int(needed), threads=threads, **deadline)
            case [mode, *threads]:
                return call("wait_for_replies", mode=mode, threads=threads, **deadline)
    waits = [told(result.value) for result in turn.results_of("wait_for_replies")]
    return call("submit_result", summary="the race is over", result={"waits": waits})


def told(wait: dict[str, Any]) -> dict[str, Any]:
    return {
        "satisfied": wait["satisfied"],
        "replies": {reply["thread"]: f"{reply['status']}: {reply['summary']}" for reply in wait["replies"]},
        "late": {each["thread"]: each["progress"] for each in wait["waiting_for"]},
    }


def racer(turn: Turn) -> Move:
    """`2`, `2 partial`, or `endless`."""
    far, *how = (turn.section("objective") or "").split()
    walked = len(turn.results_of("walk"))
    if turn.number == 0:
        return call("report_progress", summary="on the way")
    if "enough" in turn.follow_ups or (far != "endless" and walked >= int(far)):
        heard = [text for text in turn.follow_ups if text != "enough"]
        said = f"walked{' and heard ' if heard else ''}{' and '.join(heard)}"
        return call("submit_result", summary=said, status="partial" if how else "ok")
    return call("walk", seconds=0.05)
