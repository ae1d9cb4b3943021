"""The lead makes the calls its objective says, a list of them a turn; a looker looks up what it is asked for."""

from __future__ import annotations

from typing import Any

import msgspec

from shanty_runtime import Move, Turn, call


def lead(turn: Turn) -> Move:
    """The objective is the calls of each turn, as JSON: `[[["delegate", {...}], ["wait_for_replies", {}]]]`."""
    turns: list[list[tuple[str, dict[str, Any]]]] = msgspec.json.decode(turn.section("objective") or "[]")
    if turn.number < len(turns):
        return [call(name, **arguments) for name, arguments in turns[turn.number]]
    told = [{"name": result.name, "value": result.value, "error": result.is_error} for result in turn.results]
    return call("submit_result", summary="that is all", result={"told": told})


def looker(turn: Turn) -> Move:
    if turn.follow_ups:
        return call("submit_result", summary=f"{turn.result('look_up')}, and heard {turn.follow_ups[-1]}")
    if not turn.results_of("look_up"):
        return call("look_up", what=turn.section("objective") or "")
    return call("submit_result", summary=str(turn.result("look_up")))
