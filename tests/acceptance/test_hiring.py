"""Hired specialists on real processes: known by name to their lead, played by any replica of their host."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from shanty_protocol import (
    Brief,
    DelegationSent,
    EntryAddress,
    HiredSpecialist,
    SpecialistHired,
    ThreadOpened,
    ThreadReplied,
    ThreadTakenOver,
    ToolReturned,
)
from shanty_protocol.ids import HOST
from support.audit import journals_have_no_gaps
from support.crew import Crew, crew
from support.otlp import Receiver

SEEDS = range(20)
BOSUN = {"name": "bosun", "role": "Knows ropes.", "instructions": "You know ropes.", "tools": ["book"]}
COOK = {"name": "cook", "role": "Cooks.", "instructions": "You cook.", "tools": ["book"], "model": "rehearsal"}

Calls = list[tuple[str, dict[str, Any]]]


async def play(running: Crew, run: str, *turns: Calls, within_s: float = 60) -> dict[str, Any]:
    """Have the lead make these calls, a list of them a turn; what it was told."""
    await running.start(run, json.dumps(turns))
    outcome = await running.reply(run, within_s)
    assert outcome.status == "ok" and outcome.result is not None, outcome
    return outcome.result


def replies_in(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Thread, specialist and summary of each reply that the lead was shown, in order."""
    waits = [each["value"]["replies"] for each in result["told"] if each["name"] == "wait_for_replies"]
    return [(reply["thread"], reply["specialist"], reply["summary"]) for replies in waits for reply in replies]


async def shanty(running: Crew, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "shanty_cli", *arguments, "--nats-url", running.server.url),
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0, arguments
    return printed.decode()


def ledger_of(tmp_path: Path) -> dict[str, str]:
    return {"LEDGER_FILE": str(tmp_path / "ledger.txt")}


async def test_a_lead_works_with_whom_it_has_hired_as_with_any_other_and_people_see_who_that_is(
    tmp_path: Path,
) -> None:
    with Receiver() as receiver:
        environment = {**ledger_of(tmp_path), "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
        async with crew("hirers", tmp_path, {"lead": 1, HOST: 1}, environment) as running:
            result = await play(
                running,
                "0-r",
                [
                    ("hire_specialist", BOSUN),
                    ("hire_specialist", COOK),
                    ("delegate", {"specialist": "bosun", "objective": "ropes"}),
                    ("wait_for_replies", {}),
                ],
                [
                    ("send_to_specialist", {"thread": "0-1", "message": "and knots"}),
                    (
                        "delegate_each",
                        {"specialist": "cook", "objective": "{item}", "items": ["fish", "rice"]}
                        | {"output": "meals.jsonl"},
                    ),
                    ("list_specialists", {}),
                    ("wait_for_replies", {}),
                ],
                [("hire_specialist", {**COOK, "name": "mate"})],
                [("hire_specialist", {**COOK, "name": "mate", "tools": ["write_file"]})],
            )
            assert replies_in(result) == [
                ("0-1", "bosun", "bosun booked ropes"),
                ("0-1", "bosun", "bosun heard and knots"),
            ]
            assert result["roster"] == ["- bosun (hired by you): Knows ropes.", "- cook (hired by you): Cooks."]
            (roster,) = [each["value"] for each in result["told"] if each["name"] == "list_specialists"]
            assert [(card["specialist"], card["hired"], card["replicas"]) for card in roster] == [
                ("bosun", True, 1),
                ("cook", True, 1),
            ]
            refused = [each["value"] for each in result["told"] if each["error"]]
            assert all("2 are hired, which is all that this run may" in sentence for sentence in refused)
            assert len(refused) == 2
            hired = [one.entry for one in await running.entries("0-r") if isinstance(one.entry, SpecialistHired)]
            assert [each.specialist.name for each in hired] == ["bosun", "cook"]
            shown = json.loads(await shanty(running, "runs", "show", "0-r", "-o", "json"))
            assert [(each["thread"], each["agent"], each["hired"]) for each in shown["threads"]] == [
                ("0", "lead", ""),
                ("0-1", HOST, "bosun"),
                ("0-2", HOST, "cook"),
                ("0-3", HOST, "cook"),
            ]
            assert "bosun (hired)" in await shanty(running, "runs", "show", "0-r")
            for replica in running.replicas:
                assert replica.stop() == 0
    spans = {(span.service, span.agent, span.name) for span in receiver.spans.values()}
    assert {
        ("specialist", "bosun", "invoke_agent bosun"),
        ("specialist", "bosun", "chat rehearsal"),
        ("specialist", "cook", "execute_tool book"),
    } <= spans


async def test_in_zones_hired_ones_work_in_the_account_of_their_host(tmp_path: Path) -> None:
    async with crew("hirers", tmp_path, {"lead": 1, HOST: 1}, ledger_of(tmp_path), zones=True) as running:
        result = await play(
            running,
            "0-r",
            [("hire_specialist", BOSUN), ("delegate", {"specialist": "bosun", "objective": "ropes"})],
            [("wait_for_replies", {})],
        )
        assert replies_in(result) == [("0-1", "bosun", "bosun booked ropes")]


async def test_a_host_refuses_what_its_policy_does_not_allow_whoever_asks_for_it(tmp_path: Path) -> None:
    async with crew("hirers", tmp_path, {HOST: 1}, ledger_of(tmp_path)) as running:
        thief = HiredSpecialist(name="thief", role="Takes.", instructions="Take.", tools=("write_file",))
        order = DelegationSent(
            at_ms=int(time.time() * 1000), to_thread="0-1", brief=Brief(objective="go"), hired=thief
        )
        await running.bus.journals.append(EntryAddress(HOST, "0-r", "0", "lead", 0), order)
        async with asyncio.timeout(60):
            async for stored in running.bus.feed.follow("0-r"):
                if isinstance(reply := stored.entry, ThreadReplied):
                    break
        assert isinstance(reply, ThreadReplied)
        outcome = reply.outcome
        assert (outcome.status, outcome.code) == ("refused", "not_hired")
        assert "gives no hired specialist write_file; allowed: book" in outcome.summary


@pytest.mark.slow
async def test_twenty_delegations_of_one_turn_are_worked_on_at_once(tmp_path: Path) -> None:
    environment = {**ledger_of(tmp_path), "SHANTY_REHEARSAL_PACE_S": "0.5"}
    async with crew("hirers", tmp_path, {"lead": 1, HOST: 1}, environment) as running:
        orders: Calls = [
            ("delegate", {"specialist": who, "objective": f"{who} {n}"})
            for who in ("bosun", "cook")
            for n in range(10)
        ]
        result = await play(
            running,
            "0-r",
            [("hire_specialist", BOSUN), ("hire_specialist", COOK)],
            [*orders, ("wait_for_replies", {})],
        )
        assert len(replies_in(result)) == 20
        at_work = most = 0
        for one in await running.entries("0-r"):
            if one.address.agent == HOST:
                at_work += isinstance(one.entry, ThreadOpened) - isinstance(one.entry, ThreadReplied)
                most = max(most, at_work)
        assert most == 20


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_whoever_is_killed_while_hired_ones_work_each_replies_once_and_no_effect_is_repeated(
    tmp_path: Path,
) -> None:
    environment = {**ledger_of(tmp_path), "SHANTY_REHEARSAL_PACE_S": "0.05"}
    taken_over: set[str] = set()
    booked: set[str] = set()
    async with crew("hirers", tmp_path, {"lead": 2, HOST: 2}, environment) as running:
        for seed in SEEDS:
            chance, run = random.Random(seed), f"0-seed-{seed}"
            kills = [asyncio.create_task(running.kill_one(chance, 1.0, agent)) for agent in ("lead", HOST, HOST)]
            result = await play(
                running,
                run,
                [("hire_specialist", BOSUN), ("delegate", {"specialist": "bosun", "objective": "ropes"})],
                [("hire_specialist", COOK), ("delegate", {"specialist": "cook", "objective": "fish"})],
                [("delegate", {"specialist": "bosun", "objective": "knots"}), ("wait_for_replies", {})],
                [("send_to_specialist", {"thread": "0-2", "message": "more"}), ("wait_for_replies", {})],
                within_s=120,
            )
            await asyncio.gather(*kills)
            assert sorted(replies_in(result)) == [
                ("0-1", "bosun", "bosun booked ropes"),
                ("0-2", "cook", "cook booked fish"),
                ("0-2", "cook", "cook heard more"),
                ("0-3", "bosun", "bosun booked knots"),
            ]
            entries = await running.entries(run)
            hired = [one.entry.specialist.name for one in entries if isinstance(one.entry, SpecialistHired)]
            assert hired == ["bosun", "cook"]
            replied = [one.address.thread for one in entries if isinstance(one.entry, ThreadReplied)]
            assert sorted(replied) == ["0", "0-1", "0-2", "0-2", "0-3"]
            taken_over |= {one.address.agent for one in entries if isinstance(one.entry, ThreadTakenOver)}
            booked |= {
                f"{run}.{one.address.thread}.{one.entry.call_id}"
                for one in entries
                if isinstance(one.entry, ToolReturned) and one.entry.name == "book" and one.entry.status == "ok"
            }
            await journals_have_no_gaps(running, run)
        keys = [line.split()[0] for line in (tmp_path / "ledger.txt").read_text().splitlines()]
        assert len(keys) == len(set(keys)), "an effect was repeated"
        # One that was announced and never begun is nobody's to make again: its outcome is unknown.
        assert booked <= set(keys), f"nobody made what was said to be made: {booked - set(keys)}"
        assert taken_over == {"lead", HOST}, "the kills came when nobody was at work"
