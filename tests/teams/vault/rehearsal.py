"""The lead passes its objective on; the keeper calls the tools that are named there, all of them in one turn."""

from __future__ import annotations

from typing import Any

from shanty_runtime import Move, Turn, call


def lead(turn: Turn) -> Move:
    """The objective is names of tools: `ring post`."""
    if not turn.number:
        return [
            call("delegate", specialist="keeper", objective=turn.section("objective") or ""),
            call("wait_for_replies"),
        ]
    (reply,) = turn.results_of("wait_for_replies")[-1].value["replies"]
    return call("submit_result", summary=reply["summary"])


def keeper(turn: Turn) -> Move:
    if not turn.number:
        return [call(name, **arguments(name)) for name in (turn.section("objective") or "").split()]
    return call("submit_result", summary=" ".join(map(said, turn.results)))


def arguments(name: str) -> dict[str, Any]:
    return {} if name.endswith("__pay") else {"what": name}


def said(result: Any) -> str:
    text = str(result.value)
    return "unknown" if text.startswith("The outcome of this call is unknown") else text
