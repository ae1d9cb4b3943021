"""The lead makes the call its objective says and hands in what it was told; a reader books one item."""

from __future__ import annotations

import msgspec

from shanty_runtime import Move, Turn, call


def lead(turn: Turn) -> Move:
    """The objective is the arguments of the call, as JSON."""
    made = turn.results_of("delegate_each")
    if not made:
        return call("delegate_each", **msgspec.json.decode(turn.section("objective") or "{}"))
    told = made[-1].value
    if not isinstance(told, dict):
        return call("submit_result", summary=str(told), status="failed")
    return call("submit_result", summary="the list is done", result=told)


def reader(turn: Turn) -> Move:
    if not turn.results_of("book"):
        return call("book", what=turn.section("objective") or "")
    return call("submit_result", summary=f"read {turn.section('objective')}")
