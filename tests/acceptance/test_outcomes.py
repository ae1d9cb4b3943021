"""Deliverables that are judged and runs that go on, on real processes: whoever is killed, each is answered once."""

from __future__ import annotations

import asyncio
import io
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shanty_cli.lines import Lines
from shanty_cli.lookup import view_of
from shanty_cli.report import report
from shanty_cli.speak import say
from shanty_cli.view import RunView
from shanty_cli.watch import watch
from shanty_protocol import (
    DelegationSent,
    DeliverableGraded,
    Grade,
    ModelReplied,
    Outcome,
    ThreadReplied,
)
from support.audit import journals_have_no_gaps, taken_over
from support.crew import TEAMS, Crew, crew, until

SEEDS = range(20)
EVERYBODY = {"lead": 1, "clerk": 1, "grader": 1}
WORK = "clerk 3, wait, write the cause is a full disk, hand in"


@pytest.fixture
async def judged(tmp_path: Path) -> AsyncIterator[Crew]:
    async with crew("judged", tmp_path, EVERYBODY, {"LEDGER_FILE": str(tmp_path / "ledger.txt")}) as running:
        yield running


async def shown_of(running: Crew, run: str) -> dict[str, Any]:
    """What `shanty runs show` prints."""
    return report(await view_of(running.bus, run))


async def grades_of(running: Crew, run: str) -> list[Grade]:
    return [
        stored.entry.grade for stored in await running.entries(run) if isinstance(stored.entry, DeliverableGraded)
    ]


async def answers_of(running: Crew, run: str) -> dict[str, list[Outcome]]:
    found: dict[str, list[Outcome]] = {}
    for stored in await running.entries(run):
        if isinstance(stored.entry, ThreadReplied):
            found.setdefault(stored.address.thread, []).append(stored.entry.outcome)
    return found


async def lead_answers(running: Crew, run: str, times: int) -> Outcome:
    async def answered() -> bool:
        return len((await answers_of(running, run)).get("0", [])) == times

    await until(answered, 90, f"the lead answers {times} times")
    return (await answers_of(running, run))["0"][-1]


async def test_a_deliverable_is_sent_back_with_reasons_until_the_grader_is_satisfied(judged: Crew) -> None:
    await judged.start("0-r", f"{WORK} it broke|the proof is line 7")
    outcome = await judged.reply("0-r")
    assert (outcome.status, outcome.summary) == ("ok", "the proof is line 7")
    assert [grade.verdict for grade in await grades_of(judged, "0-r")] == ["needs_revision", "satisfied"]
    assert outcome.grade is not None and outcome.grade.round == 2
    sent_back = [
        block
        for stored in await judged.entries("0-r")
        if isinstance(stored.entry, ModelReplied) and stored.address.agent == "grader"
        for block in stored.entry.blocks
        if block["name"] == "read_file"
    ]
    assert len(sent_back) == 2, "each grader read the file for itself"
    shown = await shown_of(judged, "0-r")
    assert shown["status"] == "completed"
    assert [(each["thread"], each["agent"], each["status"]) for each in shown["threads"]] == [
        ("0", "lead", "ok"),
        ("0-1", "clerk", "ok"),
        ("0-2", "grader", "ok"),
        ("0-3", "grader", "ok"),
    ]
    first, last = shown["grades"]
    assert [(each["name"], each["met"]) for each in first["findings"]] == [("cause", True), ("proof", False)]
    assert last["verdict"] == "satisfied"


@pytest.mark.timeout(300)
async def test_a_run_that_never_satisfies_ends_partial_and_one_that_nobody_can_judge_keeps_its_deliverable(
    judged: Crew, tmp_path: Path
) -> None:
    rubric = tmp_path / "rubric.md"
    rubric.write_text("## short\nIt is short.\n")
    team, rounds = str(TEAMS / "judged"), "write cause and proof, hand in"
    shown, unreadable = await asyncio.gather(
        judged.told("run", team, "--goal", f"{rounds} one|two|three", "--rubric", str(rubric)),
        judged.told("run", team, "--goal", f"{rounds} it is unreadable"),
    )
    assert (shown["status"], shown["summary"]) == ("partial", "two")
    assert [grade["verdict"] for grade in shown["grades"]] == ["needs_revision", "needs_revision"]
    assert shown["replies"][0]["code"] == "not_satisfied"
    assert shown["replies"][0]["grade"]["findings"] == [
        {"name": "short", "met": False, "reason": "short is not there"}
    ]
    assert (unreadable["status"], unreadable["summary"]) == ("partial", "it is unreadable")
    assert unreadable["replies"][0]["code"] == "ungraded"
    assert unreadable["grades"][0]["reason"].startswith("model_failed: ")


async def test_a_run_that_is_over_is_given_a_further_goal_and_its_threads_remember(judged: Crew) -> None:
    await judged.start("0-r", f"{WORK} the proof is line 7")
    first = await judged.reply("0-r")
    assert first.result == {"heard": {"0-1": "booked 3"}}
    said = await say(judged.bus, "0-r", "0", "tell 0-1 book 4, wait, write cause and proof, hand in both", 60)
    assert said.agent == "lead" and said.read_at_entry
    watched = RunView(run="0-r")
    await watch(judged.bus, watched, Lines(io.StringIO()))
    assert [reply.outcome.status for reply in watched.replies] == ["ok", "ok"], "it is watched to its new end"
    second = await lead_answers(judged, "0-r", 2)
    assert second.result == {"heard": {"0-1": "booked 3 and 4"}}, "the clerk went on with what it knew"
    assert second.grade is not None and (second.grade.verdict, second.grade.round) == ("satisfied", 1)
    shown = await shown_of(judged, "0-r")
    assert shown["status"] == "completed" and shown["summary"] == "both"
    assert [(reply["status"], reply["summary"]) for reply in shown["replies"]] == [
        ("ok", "the proof is line 7"),
        ("ok", "both"),
    ]
    assert [grade["round"] for grade in shown["grades"]] == [1], "rounds are counted by goal"


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_what_is_left_of_a_budget_is_left_for_a_further_goal_and_people_may_add_to_it(judged: Crew) -> None:
    team = str(TEAMS / "judged")
    order = ("run", team, "--goal", "write cause and proof, hand in both", "--budget", "model_calls=6")
    first = await judged.told(*order)
    run = first["run"]
    assert (first["status"], first["spent"]["model_calls"], first["left"]["model_calls"]) == ("completed", 4, 2)
    await say(judged.bus, run, "0", "write one, write two, write three, hand in again", 60)

    async def rests() -> bool:
        return bool((await shown_of(judged, run))["out_of"])

    await until(rests, 90, "the run has spent its budget and asks for more")
    shown = await shown_of(judged, run)
    assert (shown["status"], shown["out_of"]) == ("waiting", "model_call_limit")
    await judged.told("runs", "budget", run, "model_calls=+20")
    second = await lead_answers(judged, run, 2)
    assert (second.status, second.summary) == ("ok", "again")


@pytest.mark.slow
async def test_a_grader_that_is_not_there_costs_its_deadline_and_nothing_else(tmp_path: Path) -> None:
    environment = {"LEDGER_FILE": str(tmp_path / "ledger.txt")}
    team = impatient(tmp_path / "team")
    async with crew(team, tmp_path, {"lead": 1}, environment) as running:
        await running.start("0-r", "write cause and proof, hand in both")
        outcome = await running.reply("0-r")
        assert (outcome.status, outcome.code, outcome.summary) == ("partial", "ungraded", "both")
        assert outcome.grade is not None and outcome.grade.reason.startswith("unreachable: ")
        # It comes back, and finds that nobody wants its judgement any more.
        running.add("grader")

        async def stopped() -> bool:
            return "cancelled" in [each.status for each in (await answers_of(running, "0-r")).get("0-1", [])]

        await until(stopped, 90, "the grader replies that it was stopped")
        assert not [
            stored
            for stored in await running.entries("0-r")
            if stored.address.agent == "grader" and isinstance(stored.entry, ModelReplied)
        ]
        assert len((await answers_of(running, "0-r"))["0"]) == 1


@pytest.mark.slow
async def test_in_zones_a_grader_judges_what_it_reads_in_an_account_of_its_own(tmp_path: Path) -> None:
    environment = {"LEDGER_FILE": str(tmp_path / "ledger.txt")}
    async with crew("judged", tmp_path, {"lead": 1, "grader": 1}, environment, zones=True) as running:
        await running.start("0-r", "write cause and proof, hand in both")
        outcome = await running.reply("0-r")
        assert outcome.status == "ok" and outcome.grade is not None and outcome.grade.verdict == "satisfied"


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_whoever_is_killed_while_a_deliverable_is_judged_each_round_has_one_verdict(tmp_path: Path) -> None:
    ledger, takeovers = tmp_path / "ledger.txt", 0
    environment = {"LEDGER_FILE": str(ledger), "SHANTY_REHEARSAL_PACE_S": "0.2"}
    async with crew("judged", tmp_path, EVERYBODY, environment) as running:
        for seed in SEEDS:
            chance, run = random.Random(seed), f"0-seed-{seed}"
            kills = [asyncio.create_task(running.kill_one(chance, 2, agent)) for agent in ("lead", "clerk", "grader")]
            await running.start(run, f"{WORK} it broke|the proof is line 7")
            outcome = await running.reply(run, 90)
            await asyncio.gather(*kills)
            assert (outcome.status, outcome.summary) == ("ok", "the proof is line 7"), outcome
            assert [grade.verdict for grade in await grades_of(running, run)] == ["needs_revision", "satisfied"]
            await each_delegation_is_answered_once(running, run)
            takeovers += await taken_over(running, run)
    assert takeovers > len(SEEDS) / 5, "the kills hit threads at work"
    effects_happened_once(ledger)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_whoever_is_killed_while_a_run_goes_on_with_a_further_goal_both_are_answered_once(
    tmp_path: Path,
) -> None:
    ledger, takeovers = tmp_path / "ledger.txt", 0
    environment = {"LEDGER_FILE": str(ledger), "SHANTY_REHEARSAL_PACE_S": "0.2"}
    async with crew("judged", tmp_path, EVERYBODY, environment) as running:
        for seed in SEEDS:
            chance, run = random.Random(seed), f"0-seed-{seed}"
            kills = [asyncio.create_task(running.kill_one(chance, 2, agent)) for agent in ("lead", "clerk")]
            await running.start(run, f"{WORK} the proof is line 7")
            await running.reply(run, 90)
            kills += [
                asyncio.create_task(running.kill_one(chance, 2, agent)) for agent in ("lead", "clerk", "grader")
            ]
            await say(running.bus, run, "0", "tell 0-1 book 4, wait, write cause and proof, hand in both", 0)
            second = await lead_answers(running, run, 2)
            await asyncio.gather(*kills)
            assert second.result == {"heard": {"0-1": "booked 3 and 4"}}, second
            answers = await answers_of(running, run)
            assert [each.status for each in answers["0-1"]] == ["ok", "ok"] and len(answers["0"]) == 2
            await each_delegation_is_answered_once(running, run)
            takeovers += await taken_over(running, run)
    assert takeovers > len(SEEDS) / 5, "the kills hit threads at work"
    effects_happened_once(ledger)


def impatient(folder: Path) -> Path:
    """The team, where nothing is waited for longer than two seconds."""
    for file in (TEAMS / "judged").rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            copy = folder / file.relative_to(TEAMS / "judged")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(file.read_text().replace("delegation_deadline_s: 300", "delegation_deadline_s: 2"))
    return folder


async def each_delegation_is_answered_once(running: Crew, run: str) -> None:
    """Each mail that asks for a reply has one reply that names it, and no journal has a gap."""
    entries = await running.entries(run)
    answers = Counter(stored.entry.answers for stored in entries if isinstance(stored.entry, ThreadReplied))
    assert set(answers.values()) == {1}, answers
    asked = {stored.address.subject for stored in entries if isinstance(stored.entry, DelegationSent)}
    assert asked <= set(answers), asked - set(answers)
    await journals_have_no_gaps(running, run)


def effects_happened_once(ledger: Path) -> None:
    """A call that a worker died in may be made again, under the key it had."""
    booked = {tuple(line.split()) for line in ledger.read_text().splitlines()}
    times = Counter((key.split(".")[0], cents) for key, cents in booked)
    assert times and set(times.values()) == {1}, times
