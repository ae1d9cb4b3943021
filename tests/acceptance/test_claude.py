"""Teams whose agents are Claude, through the real SDK, against a server that speaks Anthropic's protocol."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from shanty_protocol import ModelReplied
from shanty_runtime.team import load_team
from shanty_runtime.testing.claude import ClaudeServer, play
from support.audit import audit
from support.complete import assert_complete
from support.crew import TEAMS, crew
from support.otlp import ROOT_ID, TRACE_ID, Receiver

INCIDENT = Path(__file__).parents[2] / "deploy" / "teams" / "incident"
MODEL = "claude-sonnet-5-5"
SEEDS = range(30)
SECRET = "sk-ant-a-key-that-must-not-be-seen-anywhere"


def claude_environment(server: ClaudeServer, tmp_path: Path) -> dict[str, str]:
    return {
        "SHANTY_MODEL": MODEL,
        "ANTHROPIC_BASE_URL": server.url,
        "ANTHROPIC_API_KEY": SECRET,
        "LEDGER_FILE": str(tmp_path / "ledger.txt"),
        "MODEL_CALLS_FILE": str(tmp_path / "model-calls.txt"),
    }


@pytest.fixture
async def ledger_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ClaudeServer]:
    monkeypatch.setenv("MODEL_CALLS_FILE", str(tmp_path / "model-calls.txt"))
    async with ClaudeServer(play(load_team(TEAMS / "ledger"))) as server:
        yield server


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiving:
        yield receiving


def make_up_incident(folder: Path) -> dict[str, str]:
    """An incident in a folder, and the truth about it."""
    command: list[str | Path] = [sys.executable, INCIDENT / "evals" / "generate.py", "--seed", "7", "--out", folder]
    subprocess.run(command, check=True, capture_output=True)
    truth: dict[str, str] = json.loads((folder / "truth.json").read_text())
    return truth


async def test_the_incident_team_does_its_job_as_claude_in_processes_of_its_own(
    tmp_path: Path, receiver: Receiver
) -> None:
    folder = tmp_path / "incident"
    truth = make_up_incident(folder)
    agents = {"lead": 1, "deploys": 1, "logs": 1, "metrics": 1, "tickets": 1}
    async with ClaudeServer(play(load_team(INCIDENT))) as server:
        environment = {**claude_environment(server, tmp_path), "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
        async with crew(INCIDENT, tmp_path, agents, environment) as running:
            await running.put("0-r", folder)
            await running.start("0-r", running.team.goal, traceparent=f"00-{TRACE_ID}-{ROOT_ID}-01")
            outcome = await running.reply("0-r", within_s=100)
            assert outcome.result is not None
            first = outcome.result["causes"][0]
            assert (first["kind"], first["service"]) == (truth["kind"], truth["service"])
            entries = await running.entries("0-r")
            replies = [one.entry for one in entries if isinstance(one.entry, ModelReplied)]
            assert {reply.model for reply in replies} == {MODEL}
            assert all(reply.cost_microusd for reply in replies)
            for replica in running.replicas:
                assert replica.stop() == 0
            logs = [replica.log.read_bytes() for replica in running.replicas]
        server.assert_valid()
        assert len(server.bodies) == len(replies), "no call was made in vain"
    assert not any(SECRET.encode() in data for data in [*logs, *receiver.bodies, *(one.data for one in entries)])
    assert {span.trace_id for span in receiver.spans.values()} == {TRACE_ID}
    assert_complete(receiver, entries, "0-r", lead=running.team.lead.name)
    chats = [span for span in receiver.spans.values() if span.name == f"chat {MODEL}"]
    assert len(chats) == len(replies), "the SDK has no spans of its own"
    assert {span.attributes["gen_ai.provider.name"] for span in chats} == {"anthropic"}


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_whoever_is_killed_and_whenever_every_request_stays_valid_and_every_effect_happens_once(
    tmp_path: Path, ledger_server: ClaudeServer
) -> None:
    environment = claude_environment(ledger_server, tmp_path)
    async with crew("ledger", tmp_path, {"lead": 2, "clerk": 2, "counter": 1}, environment) as running:
        for seed in SEEDS:
            killing = asyncio.create_task(running.kill_one(random.Random(seed), 1.5, "lead", "clerk"))
            run = f"0-seed-{seed}"
            await running.start(run, objective=run)
            outcome = await running.reply(run)
            await killing
            await audit(running, run, outcome, tmp_path / "ledger.txt", tmp_path / "model-calls.txt")
    ledger_server.assert_valid()


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_the_incident_team_as_claude_finds_the_cause_while_thirty_of_its_processes_are_killed(
    tmp_path: Path,
) -> None:
    truth, chance, kills, runs = make_up_incident(tmp_path / "incident"), random.Random(1), 0, 0
    agents = {agent.name: 2 for agent in load_team(INCIDENT).agents}
    async with ClaudeServer(play(load_team(INCIDENT))) as server:
        async with crew(INCIDENT, tmp_path, agents, claude_environment(server, tmp_path)) as running:
            while kills < 30:
                run, runs = f"0-run-{runs}", runs + 1
                await running.put(run, tmp_path / "incident")
                await running.start(run, running.team.goal)
                replying = asyncio.create_task(running.reply(run, within_s=300))
                while kills < 30 and not (await asyncio.wait({replying}, timeout=chance.uniform(0.5, 5)))[0]:
                    replica = chance.choice(running.replicas)
                    replica.kill()
                    replica.respawn()
                    kills += 1
                result = (await replying).result
                assert result is not None
                assert (result["causes"][0]["kind"], result["causes"][0]["service"]) == (
                    truth["kind"],
                    truth["service"],
                )
    server.assert_valid()
