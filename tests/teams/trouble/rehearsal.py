"""The lead delegates to whom its objective names, with a deadline; each specialist walks into its own trouble."""

from __future__ import annotations

from shanty_runtime import Move, Turn, call


def lead(turn: Turn) -> Move:
    names, _, deadline = (turn.section("objective") or "").partition(" within ")
    patient = names.startswith("patient ")
    if turn.number == 0:
        deadline_s = float(deadline) if deadline else None
        return [
            call("delegate", specialist=name, objective="go", input={}, deadline_s=deadline_s)
            for name in names.removeprefix("patient ").split()
        ]
    if "listener" in names and turn.number == 1:
        return call("sleep", seconds=1.0)
    if "listener" in names and turn.number == 2:
        return call("send_to_specialist", thread="0-1", message="that will do")
    waited = turn.results_of("wait_for_replies")
    if not waited:
        return call("wait_for_replies")
    if patient and turn.number == 2:
        return call("send_to_specialist", thread="0-1", message="are you there?")
    if patient and turn.number == 3:
        return call("wait_for_replies")
    told = {reply["specialist"]: [reply["status"], reply["summary"]] for reply in waited[-1].value["replies"]}
    return call("submit_result", summary="told", result=told)


def bomber(turn: Turn) -> Move:
    if turn.result("explode") == "it is defused":
        return call("submit_result", summary=f"defused after {len(turn.follow_ups)} requests to go on")
    return call("explode")


def gambler(turn: Turn) -> Move:
    if not turn.results:
        return call("bet")
    return call("submit_result", summary=str(turn.results[0].value))


def sleeper(turn: Turn) -> Move:
    if not turn.results:
        return [call("sleep", seconds=0.5), call("sleep", seconds=0.5)]
    return call("submit_result", summary=" ".join(str(result.value) for result in turn.results))


def nobody(turn: Turn) -> Move:
    return call("submit_result", summary="I am here after all")


def listener(turn: Turn) -> Move:
    if turn.follow_ups:
        return call("submit_result", summary=f"told {turn.follow_ups[0]!r} after {turn.number} turns")
    return call("sleep", seconds=0.3)
