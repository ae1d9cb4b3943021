"""Whole teams that speak with Claude: each agent a process with the real client, and a script on the other side."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shanty_protocol import ModelReplied, Outcome
from shanty_runtime.models.replay import read_recording
from shanty_runtime.team import load_team
from shanty_runtime.testing.claude import ClaudeServer, play
from support.crew import TEAMS, Crew, crew

HELLO = load_team(TEAMS / "hello")
GREETED = Outcome(status="ok", summary="2 people were greeted", result={"greeted": 2, "letters": 8})


@asynccontextmanager
async def hello(folder: Path, **environment: str) -> AsyncIterator[Crew]:
    """The team, every agent a process with these settings."""
    async with crew("hello", folder, {}) as running:
        # One after the other: the client takes seconds to import, and the machine may have few cores.
        for agent in HELLO.agents:
            running.add(agent.name, **environment)
            await running.ready()
        yield running


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def as_claude(server: ClaudeServer) -> dict[str, str]:
    return {"SHANTY_MODEL": "sonnet", "ANTHROPIC_BASE_URL": server.url, "ANTHROPIC_API_KEY": "sk-test"}


async def model_replies(running: Crew, run: str) -> list[ModelReplied]:
    return [stored.entry for stored in await running.entries(run) if isinstance(stored.entry, ModelReplied)]


async def test_a_team_runs_with_claude_as_it_is_rehearsed(tmp_path: Path) -> None:
    async with ClaudeServer(play(HELLO)) as claude, hello(tmp_path, **as_claude(claude)) as running:
        await running.start("0-r")
        outcome = await running.reply("0-r")
        replies = await model_replies(running, "0-r")
    assert (outcome.status, outcome.summary, outcome.result) == (GREETED.status, GREETED.summary, GREETED.result)
    claude.assert_valid()
    assert len(claude.bodies) == len(replies)
    assert {reply.model for reply in replies} == {"claude-sonnet-5-5"}
    # Every reply had its thinking, and every later turn of a thread gave it back.
    assert all(reply.blocks[0]["type"] == "thinking" for reply in replies)
    returned = [message for body in claude.bodies for message in body["messages"] if message["role"] == "assistant"]
    assert returned and all(message["content"][0]["signature"] == "c2lnbmVk" for message in returned)


async def test_a_recorded_run_is_played_again_without_claude(tmp_path: Path) -> None:
    recording = tmp_path / "run.jsonl"
    first_folder, second_folder = (made(tmp_path / name) for name in ("first", "second"))
    async with ClaudeServer(play(HELLO)) as claude:
        async with hello(first_folder, **as_claude(claude), SHANTY_RECORD=str(recording)) as running:
            await running.start("0-r")
            first = await running.reply("0-r")
        asked = len(claude.requests)
    assert len(list(read_recording(recording))) == asked
    async with hello(second_folder, SHANTY_MODEL=f"replay:{recording}") as running:
        await running.start("0-again")
        second = await running.reply("0-again")
        replies = await model_replies(running, "0-again")
    assert (second.status, second.summary, second.result) == (first.status, first.summary, first.result)
    assert {reply.model for reply in replies} == {"claude-sonnet-5-5"}
    assert len(replies) == asked


async def test_without_a_key_an_agent_does_not_start_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    async with crew("hello", tmp_path, {}) as running:
        replica = running.add("greeter", SHANTY_MODEL="opus")
        code, said = replica.process.wait(60), replica.log.read_text()
    assert code == 2, said
    assert "Claude needs a key: set ANTHROPIC_API_KEY" in said
