"""The lead makes the calls its objective says, a list of them a turn; a hired one books what it is asked to."""

from __future__ import annotations

from typing import Any

import msgspec

from shanty_runtime import Move, Turn, call


def lead(turn: Turn) -> Move:
    """The objective is the calls of each turn, as JSON: `[[["hire_specialist", {...}]], [["delegate", {...}]]]`."""
    turns: list[list[tuple[str, dict[str, Any]]]] = msgspec.json.decode(turn.section("objective") or "[]")
    if turn.number < len(turns):
        return [call(name, **arguments) for name, arguments in turns[turn.number]]
    told = [{"name": result.name, "value": result.value, "error": result.is_error} for result in turn.results]
    roster = [line for line in turn.request.system.splitlines() if "(hired by you)" in line]
    return call("submit_result", summary="that is all", result={"told": told, "roster": roster})


def specialist(turn: Turn) -> Move:
    """Whoever is hired: it answers in the name that it was given, and waits where it is asked to."""
    who, asked = turn.request.agent, turn.section("objective") or ""
    if turn.follow_ups:
        return call("submit_result", summary=f"{who} heard {turn.follow_ups[-1]}")
    if not turn.results_of("book"):
        return call("book", what=asked)
    prompt = turn.request.system.splitlines()[0]
    return call("submit_result", summary=f"{who} booked {asked}", result={"prompt": prompt})
