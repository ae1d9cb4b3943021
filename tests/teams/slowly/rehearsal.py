"""Makes the call its objective names, `book GATE`, and hands in."""

from __future__ import annotations

from shanty_runtime import Move, Turn, call


def slow(turn: Turn) -> Move:
    what, _, gate = (turn.section("objective") or "").partition(" ")
    if turn.number or what == "nothing":
        return call("submit_result", summary="done")
    return call(what, gate=gate)
