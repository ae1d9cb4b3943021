"""Plays the team without a paid model. The goal `fail` makes the lead give up."""

from __future__ import annotations

from shanty_runtime.models.rehearsal import Move, Turn, call

NAMES = ("Ada", "Grace")


def lead(turn: Turn) -> Move:
    if turn.section("objective") == "fail":
        return call("submit_result", status="failed", summary="I was told to fail")
    replies = [reply for waited in turn.results_of("wait_for_replies") for reply in waited.value["replies"]]
    if not replies:
        return [
            call("delegate", specialist="greeter", objective="Greet everybody", label="greetings"),
            call("delegate", specialist="counter", objective="Count", input={"text": "".join(NAMES)}),
            call("wait_for_replies"),
        ]
    letters = next(reply["result"]["letters"] for reply in replies if reply["specialist"] == "counter")
    return call(
        "submit_result",
        summary=f"{len(NAMES)} people were greeted",
        result={"greeted": len(NAMES), "letters": letters},
        files=["greetings.txt"],
    )


def greeter(turn: Turn) -> Move:
    greeted = turn.results_of("greeting_for")
    if not greeted:
        return [call("greeting_for", name=name) for name in NAMES]
    if turn.result("report_progress") is None:
        return call("report_progress", summary=f"{len(greeted)} greetings are ready", percent=50)
    if turn.result("write_file") is None:
        text = "".join(f"{result.value['greeting']}\n" for result in greeted)
        return call("write_file", path="greetings.txt", content=text)
    return call("submit_result", summary="the greetings are in greetings.txt", files=["greetings.txt"])
