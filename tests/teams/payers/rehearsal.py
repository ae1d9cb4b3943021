"""A lead gives out all orders of its objective at once, and answers what it is asked; a clerk pays, or asks."""

from __future__ import annotations

import json
from typing import Any

from shanty_runtime import Call, Move, Turn, call
from shanty_runtime.models.base import unmarked


def lead(turn: Turn) -> Move:
    """The objective is a list of orders: `clerk pay 100`, `office clerk ask which?`, `teller 5`, `person which?`."""
    if not turn.number:
        orders = (turn.section("objective") or "").split(", ")
        return [*map(given_out, orders), call("wait_for_replies")]
    waited = [result.value for result in turn.results_of("wait_for_replies")]
    if questions := unanswered(turn, waited):
        return [*map(answered, questions), call("wait_for_replies")]
    told = {each["thread"]: said(each) for wait in waited for each in wait["replies"]}
    people = [result.value["answer"] for result in turn.results_of("ask_human") if "answered_by" in result.value]
    return call("submit_result", summary=", ".join(people) or "all is paid", result=told)


def office(turn: Turn) -> Move:
    return lead(turn)


def unanswered(turn: Turn, waited: list[Any]) -> list[dict[str, Any]]:
    """What the newest wait ended with, and what was asked while nothing was waited for: that is told as a text."""
    told = [text.partition("\n")[2] for text in turn.follow_ups if text.startswith("A specialist waits")]
    asked = [*(json.loads(unmarked(each)) for each in told), *waited[-1].get("questions", ())]
    seen = [result.value for verb in ("answer_specialist", "ask_human") for result in turn.results_of(verb)]
    done = {value.get("answered") or value.get("passed_on") for value in seen if isinstance(value, dict)}
    return list({each["id"]: each for each in asked if each["id"] not in done}.values())


def given_out(order: str) -> Call:
    name, _, rest = order.partition(" ")
    match name:
        case "person":
            return call("ask_human", question=rest)
        case "teller":
            return call("delegate", specialist="teller", objective="pay", input={"cents": int(rest)})
        case _:
            return call("delegate", specialist=name, objective=rest)


def answered(question: dict[str, Any]) -> Call:
    if question["question"].startswith("tell a person"):
        return call("ask_human", question=question["question"], on_behalf_of=question["id"])
    return call("answer_specialist", question=question["id"], answer=f"thread {question['thread']} it is")


def said(reply: dict[str, Any]) -> str:
    result = reply["result"] or {}
    return str(result.get("said", reply["summary"]))


def clerk(turn: Turn) -> Move:
    what, _, rest = (turn.section("objective") or "").partition(" ")
    if what == "pay":
        paid = turn.results_of("pay")
        amounts = rest.split()
        if len(paid) < len(amounts):
            return call("pay", cents=int(amounts[len(paid)]))
        return call("submit_result", summary=", ".join(str(result.value) for result in paid))
    verb = "ask_lead" if what == "ask" else "ask_human"
    asked = turn.results_of(verb)
    if not asked:
        return call(verb, question=rest, deadline_s=1.0 if what == "hurry" else None)
    heard = asked[0].value
    told = heard if isinstance(heard, str) else heard["answer"]
    return call("submit_result", summary=f"heard: {told}")
