"""A lead that hands in until it is accepted; a clerk that remembers; a grader that looks for words."""

from __future__ import annotations

from shanty_runtime import Move, Turn, call
from shanty_runtime.models.rehearsal import Result


def lead(turn: Turn) -> Move:
    """A goal is a list of steps, such as `clerk 3, tell 0-1 how many, wait, write cause, hand in a cause|a proof`.

    Handing in gives the first text, and the next one each time it is sent back.
    """
    goals = [turn.section("objective") or "", *turn.follow_ups]
    answered = [place for place, result in enumerate(turn.results) if is_accepted(result)]
    since = turn.results[answered[-1] + 1 :] if answered else turn.results
    steps = goals[len(answered)].split(", ")
    sent_back = sum(result.name == "submit_result" for result in since)
    done = len(since) - sent_back
    match steps[min(done, len(steps) - 1)].split():
        case ["clerk", *amounts]:
            return call("delegate", specialist="clerk", objective=" ".join(amounts))
        case ["tell", thread, *words]:
            return call("send_to_specialist", thread=thread, message=" ".join(words))
        case ["wait"]:
            return call("wait_for_replies")
        case ["write", *words]:
            number = len(turn.results_of("write_file")) + 1
            return call("write_file", path=f"memo-{number}.md", content=" ".join(words))
    told = steps[-1].removeprefix("hand in ").split("|")
    return call("submit_result", summary=told[min(sent_back, len(told) - 1)], result={"heard": heard(since)})


def is_accepted(result: Result) -> bool:
    return result.name == "submit_result" and not result.is_error and "handed_in" in result.value


def heard(results: tuple[Result, ...]) -> dict[str, str]:
    waited = [result.value for result in results if result.name == "wait_for_replies"]
    return {reply["thread"]: reply["summary"] for wait in waited for reply in wait["replies"]}


def clerk(turn: Turn) -> Move:
    said = " ".join((turn.section("objective") or "", *turn.follow_ups))
    wanted = [int(word) for word in said.split() if word.isdigit()]
    booked = turn.results_of("book")
    if len(booked) < len(wanted):
        return call("book", cents=wanted[len(booked)])
    return call("submit_result", summary=f"booked {' and '.join(map(str, wanted))}")


def grader(turn: Turn) -> Move:
    deliverable = turn.input["deliverable"]
    read = turn.results_of("read_file")
    if len(read) < len(deliverable["files"]):
        return call("read_file", path=deliverable["files"][len(read)]["path"])
    seen = " ".join([deliverable["summary"], *(str(result.value) for result in read)])
    if "unreadable" in seen:
        raise ValueError("this cannot be judged")
    words = [criterion["name"] for criterion in turn.input["criteria"]]
    findings = [
        {"name": word, "met": word in seen, "reason": f"{word} is {'there' if word in seen else 'not there'}"}
        for word in words
    ]
    return call("submit_result", summary="judged", result={"findings": findings})
