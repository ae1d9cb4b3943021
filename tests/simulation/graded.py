"""What has to be true of a run whose deliverables are judged.

Each is judged once, by a grader that was given it. What becomes of it is what that grader has replied, or that it was
not judged; of one goal so many are judged at most; and the answer of the run says what the last of them was found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from shanty_protocol import (
    DelegationSent,
    DeliverableGraded,
    GradingStarted,
    ModelReplied,
    Outcome,
    ThreadReplied,
    TimerFired,
)
from shanty_runtime.agent.outcomes import GRADER
from simulation.kept import Kept
from simulation.team import CRITERIA, MOST_ROUNDS


def problems(journal: Sequence[Kept], by_subject: Mapping[str, Kept]) -> Iterator[str]:
    rounds, under_way, said = 0, False, ""
    handed_in: dict[str, object] = {}
    found: dict[str, Outcome | None] = {}
    late_at_ms: dict[str, float] = {}
    for each in journal:
        for subject in each.entry.consumed:
            mail = by_subject[subject]
            if isinstance(mail.entry, ThreadReplied) and mail.address.agent == GRADER:
                found.setdefault(mail.address.thread, mail.entry.outcome)
        match entry := each.entry:
            case ModelReplied():
                for block in entry.blocks:
                    if block["type"] == "tool_use" and block["name"] == "submit_result":
                        handed_in = block["input"]
            case GradingStarted():
                rounds += 1
                if under_way:
                    yield f"deliverable {rounds} was put to a grader before the one before it was judged"
                if entry.round != rounds or rounds > MOST_ROUNDS:
                    yield f"deliverable {rounds} was judged as number {entry.round} of at most {MOST_ROUNDS}"
                under_way = True
            case DelegationSent() if each.address.to == GRADER:
                given = entry.brief.input or {}
                late_at_ms[entry.to_thread] = entry.at_ms + 1000 * (entry.brief.deadline_s or 0)
                if given["deliverable"]["summary"] != handed_in["summary"]:
                    yield f"{entry.to_thread} was given something else to judge than was handed in"
            case TimerFired():  # what a grader says after its time counts no more
                for judge, at_ms in late_at_ms.items():
                    if at_ms <= entry.at_ms:
                        found.setdefault(judge, None)
            case DeliverableGraded():
                under_way, said = False, entry.grade.verdict
                if said != (fair := _verdict(found.get(entry.thread))):
                    yield f"{entry.thread} found deliverable {rounds} {fair}, and it was taken for {said}"
            case ThreadReplied():
                outcome = entry.outcome
                if outcome.status == "ok" and not _is_satisfying(outcome, said):
                    yield f"the run answers ok, and its deliverable was found {said or 'nothing'}"
                rounds, under_way, said = 0, False, ""
            case _:
                pass


def _verdict(outcome: Outcome | None) -> str:
    """What follows from what a grader has replied."""
    if outcome is None or outcome.status != "ok" or outcome.result is None:
        return "ungraded"
    met = {finding["name"]: finding["met"] for finding in outcome.result["findings"]}
    return "satisfied" if all(met.get(each.name) for each in CRITERIA) else "needs_revision"


def _is_satisfying(outcome: Outcome, said: str) -> bool:
    return said == "satisfied" and outcome.grade is not None and outcome.grade.verdict == "satisfied"
