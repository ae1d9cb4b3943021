"""The objective says whom the lead asks, and for what: `writer: remember the teapot`."""

from __future__ import annotations

from shanty_runtime import Move, Turn, call

PAGES = 100


def lead(turn: Turn) -> Move:
    name, _, what = (turn.section("objective") or "").partition(": ")
    if turn.number == 0:
        return [call("delegate", specialist=name, objective=what), call("wait_for_replies")]
    reply = turn.result("wait_for_replies")["replies"][0]
    return call("submit_result", status=reply["status"], summary=reply["summary"])


def writer(turn: Turn) -> Move:
    written = turn.results_of("write_memory")
    if not written:
        return call("write_memory", path="notes.md", content=turn.section("objective") or "", base_version=0)
    return call("submit_result", summary="failed" if written[0].is_error else "remembered")


def reader(turn: Turn) -> Move:
    objective = turn.section("objective") or ""
    if objective.startswith("overwrite"):
        if not turn.results_of("write_memory"):
            return call("write_memory", path="notes.md", content="lies", base_version=1)
        return call("submit_result", summary=str(turn.results[0].value))
    if not turn.results:
        return call("search_memory", query=objective)
    return call("submit_result", summary=str(turn.results[0].value))


def clerk(turn: Turn) -> Move:
    if turn.section("objective") == "leak":
        if not turn.results:
            return [call("leak"), call("fail")]
        return call("submit_result", summary=" | ".join(str(result.value) for result in turn.results))
    pages = turn.results_of("page")
    number = pages[-1].arguments["number"] + 1 if pages else 0
    return call("page", number=number) if number < PAGES else call("submit_result", summary=f"read {number} pages")
