"""Hedged delegations on real processes: a second thread after a time, and one reply, whoever is killed meanwhile."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from shanty_protocol import CancelSent, DelegationSent, ThreadReplied, ThreadTakenOver
from support.audit import journals_have_no_gaps
from support.crew import Crew, crew, until

SEEDS = range(20)

Calls = list[tuple[str, dict[str, Any]]]


async def play(running: Crew, run: str, *turns: Calls, within_s: float = 60) -> list[dict[str, Any]]:
    """Have the lead make these calls, a list of them a turn; what it was told."""
    await running.start(run, json.dumps(turns))
    outcome = await running.reply(run, within_s)
    assert outcome.status == "ok" and outcome.result is not None, outcome
    told: list[dict[str, Any]] = outcome.result["told"]
    return told


def replies_in(told: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Thread, the one it stands for and summary of each reply that the lead was shown, in order."""
    waits = [each["value"]["replies"] for each in told if each["name"] == "wait_for_replies"]
    return [(reply["thread"], reply.get("in_place_of", ""), reply["summary"]) for each in waits for reply in each]


async def replies_of(running: Crew, run: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for stored in await running.entries(run):
        if isinstance(stored.entry, ThreadReplied):
            found.setdefault(stored.address.thread, []).append(stored.entry.outcome.status)
    return found


async def all_replied(running: Crew, run: str, threads: set[str]) -> None:
    async def replied() -> bool:
        return set(await replies_of(running, run)) == threads

    await until(replied, 60, f"a reply of each of {sorted(threads)}")


async def test_a_second_thread_that_is_first_stands_for_both_and_the_other_is_stopped(tmp_path: Path) -> None:
    async with crew("doubles", tmp_path, {"lead": 1, "looker": 1}) as running:
        told = await play(
            running,
            "0-r",
            [
                ("delegate", {"specialist": "looker", "objective": "stuck 1"}),
                ("delegate", {"specialist": "looker", "objective": "quick"}),
                ("wait_for_replies", {}),
            ],
            [("send_to_specialist", {"thread": "0-1", "message": "thanks"}), ("wait_for_replies", {})],
        )
        assert sorted(replies_in(told)) == [
            ("0-2", "", "0-2 knows quick"),
            ("0-3", "0-1", "0-3 knows stuck 1"),
            ("0-3", "0-1", "0-3 knows stuck 1, and heard thanks"),
        ]
        await all_replied(running, "0-r", {"0", "0-1", "0-2", "0-3"})
        assert await replies_of(running, "0-r") == {
            "0": ["ok"],
            "0-1": ["cancelled"],
            "0-2": ["ok"],
            "0-3": ["ok", "ok"],
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "shanty_cli", "runs", "show", "0-r", "-o", "json"),
            *("--nats-url", running.server.url),
            stdout=asyncio.subprocess.PIPE,
        )
        printed, _ = await process.communicate()
        shown = json.loads(printed)["threads"]
        assert [(each["thread"], each["hedges"]) for each in shown] == [
            ("0", ""),
            ("0-1", ""),
            ("0-2", ""),
            ("0-3", "0-1"),
        ]


async def test_each_item_that_hangs_is_answered_by_its_second_thread(tmp_path: Path) -> None:
    async with crew("doubles", tmp_path, {"lead": 1, "looker": 1}) as running:
        await each_of(running, "0-r", items=6, stuck=4)
        await all_replied(running, "0-r", {"0", *(f"0-{n}" for n in range(1, 11))})
        assert await replies_of(running, "0-r") == {
            "0": ["ok"],
            **{f"0-{n}": ["cancelled"] for n in range(1, 5)},
            **{f"0-{n}": ["ok"] for n in range(5, 11)},
        }


async def each_of(running: Crew, run: str, *, items: int, stuck: int, within_s: float = 60) -> None:
    """Have a list worked on whose first threads hang, and see that each item has its line."""
    call = {"specialist": "looker", "objective": "{item}", "output": "out.jsonl", "at_most": 16, "retries": 0}
    wanted = [f"stuck {stuck} page {n}" for n in range(items)]
    told = await play(running, run, [("delegate_each", {**call, "items": wanted})], within_s=within_s)
    assert told[0]["value"]["replies"] == {"ok": items}, told
    version = await running.bus.files.latest(run, "out.jsonl")
    assert version is not None
    content = b"".join([part async for part in running.bus.files.content(run, version)])
    lines = [json.loads(line) for line in content.splitlines()]
    assert [line["item"] for line in lines] == wanted
    assert all(line["summary"] == f"{line['thread']} knows {line['item']}" for line in lines)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_whoever_is_killed_while_two_threads_race_one_reply_is_shown_and_each_thread_replies_once(
    tmp_path: Path,
) -> None:
    taken_over: set[str] = set()
    async with crew("doubles", tmp_path, {"lead": 2, "looker": 2}) as running:
        for seed in SEEDS:
            chance, run = random.Random(seed), f"0-seed-{seed}"
            kills = [
                asyncio.create_task(running.kill_one(chance, 2.5, agent)) for agent in ("lead", "lead", "looker")
            ]
            told = await play(
                running,
                run,
                [
                    ("delegate", {"specialist": "looker", "objective": "stuck 2"}),
                    ("delegate", {"specialist": "looker", "objective": "stuck 2 again"}),
                    ("wait_for_replies", {}),
                ],
                [("send_to_specialist", {"thread": "0-1", "message": "thanks"}), ("wait_for_replies", {})],
                within_s=120,
            )
            await asyncio.gather(*kills)
            entries = await running.entries(run)
            delegations = [one.entry for one in entries if isinstance(one.entry, DelegationSent)]
            second = {each.hedges: each.to_thread for each in delegations if each.hedges}
            assert sorted(second) == ["0-1", "0-2"] and len(delegations) == 5
            assert sorted(replies_in(told)) == sorted(
                [
                    (second["0-1"], "0-1", f"{second['0-1']} knows stuck 2"),
                    (second["0-2"], "0-2", f"{second['0-2']} knows stuck 2 again"),
                    (second["0-1"], "0-1", f"{second['0-1']} knows stuck 2, and heard thanks"),
                ]
            )
            await all_replied(running, run, {"0", "0-1", "0-2", *second.values()})
            assert await replies_of(running, run) == {
                "0": ["ok"],
                "0-1": ["cancelled"],
                "0-2": ["cancelled"],
                second["0-1"]: ["ok", "ok"],
                second["0-2"]: ["ok"],
            }
            stops = [one.entry.to_thread for one in entries if isinstance(one.entry, CancelSent)]
            assert sorted(stops) == ["0-1", "0-2"]
            taken_over |= {one.address.agent for one in entries if isinstance(one.entry, ThreadTakenOver)}
            await journals_have_no_gaps(running, run)
            await each_of(running, f"0-each-{seed}", items=4, stuck=2, within_s=120)
        # A lead rests most of the time: whether a kill finds it at work is chance.
        assert "looker" in taken_over, "the kills came when nobody was at work"
