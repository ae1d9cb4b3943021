"""The lead has the bell rung, and hands in what the ringer was told."""

from __future__ import annotations

from shanty_runtime import Move, Turn, call


def lead(turn: Turn) -> Move:
    if not turn.number:
        return [call("delegate", specialist="ringer", objective="Ring."), call("wait_for_replies")]
    (reply,) = turn.results_of("wait_for_replies")[-1].value["replies"]
    return call("submit_result", summary=reply["summary"])


def ringer(turn: Turn) -> Move:
    if not turn.number:
        return call("ring")
    (result,) = turn.results_of("ring")
    return call("submit_result", summary=str(result.value))
