"""A team of processes that speak with Claude through the real client, and the same run again without it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from shanty_protocol import MailReceived, ModelReplied, ReplyReceived
from shanty_runtime.archive import SUFFIX, write_archive
from shanty_runtime.models.replay import read_recording
from shanty_runtime.team import load_team
from shanty_runtime.testing.claude import ClaudeServer, play
from support.crew import TEAMS, Crew, crew

HELLO = load_team(TEAMS / "hello")


@asynccontextmanager
async def hello(folder: Path, **environment: str) -> AsyncIterator[Crew]:
    """The team, every agent a process with these settings."""
    async with crew("hello", folder, {}) as running:
        # One after the other: the client takes seconds to import, and the machine may have few cores.
        for agent in HELLO.agents:
            running.add(agent.name, **environment)
            await running.ready()
        yield running


async def model_replies(running: Crew, run: str) -> list[ModelReplied]:
    return [stored.entry for stored in await running.entries(run) if isinstance(stored.entry, ModelReplied)]


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    made = [tmp_path / name for name in ("paid", "recording", "archive")]
    for folder in made:
        folder.mkdir()
    return made


async def test_a_run_is_played_again_without_claude_from_a_recording_and_from_its_archive(
    tmp_path: Path, folders: list[Path]
) -> None:
    recording, archive = tmp_path / "run.jsonl", tmp_path / f"run{SUFFIX}"
    async with ClaudeServer(play(HELLO)) as claude:
        settings = {"SHANTY_MODEL": "sonnet", "ANTHROPIC_BASE_URL": claude.url, "ANTHROPIC_API_KEY": "sk-test"}
        async with hello(folders[0], **settings, SHANTY_RECORD=str(recording)) as running:
            await running.start("0-r")
            first = await running.reply("0-r")
            paid = await model_replies(running, "0-r")
            paid_journal = await journal(running, "0-r")
            await write_archive(running.bus, "0-r", archive)
    claude.assert_valid()
    assert (first.status, first.result) == ("ok", {"greeted": 2, "letters": 8})
    assert len(paid) == len(claude.bodies) == len(list(read_recording(recording)))
    # Every reply had its thinking, and every later turn of a thread gave it back.
    assert all(reply.blocks[0]["type"] == "thinking" for reply in paid)
    returned = [message for body in claude.bodies for message in body["messages"] if message["role"] == "assistant"]
    assert returned and all(message["content"][0]["signature"] == "c2lnbmVk" for message in returned)

    for folder, source in zip(folders[1:], (recording, archive), strict=True):
        async with hello(folder, SHANTY_MODEL=f"replay:{source}") as running:
            await running.start("0-again")
            second = await running.reply("0-again")
            played = await model_replies(running, "0-again")
            played_journal = await journal(running, "0-again")
        assert (second.status, second.summary, second.result) == (first.status, first.summary, first.result)
        assert sorted(map(said, played)) == sorted(map(said, paid))
        assert played_journal == paid_journal
        assert {reply.model for reply in played} == {"claude-sonnet-5-5"}


async def journal(running: Crew, run: str) -> list[str]:
    """Every entry of a run but for ids, times and prices, thread by thread in the order of its journal.

    Replies that arrive together are one entry and otherwise two, so only what was taken in counts there.
    """
    told = []
    for stored in sorted(await running.entries(run), key=lambda one: (one.address.thread, one.address.n)):
        entry = msgspec.json.decode(stored.data.decode().replace(run, "RUN"))
        if isinstance(stored.entry, ReplyReceived | MailReceived):
            told += [f"{stored.address.thread} took in a mail" for _ in entry["consumed"]]
            continue
        for varying in ("at_ms", "by", "fence", "cost_microusd", "consumed", "after", "answers"):
            entry.pop(varying, None)
        entry.get("spent", {}).pop("cost_microusd", None)
        for file in [*entry.get("files", ()), *entry.get("outcome", {}).get("files", ())]:
            file.pop("digest")
        told.append(f"{stored.address.thread} {stored.address.agent} to {stored.address.to}: {entry}")
    return sorted(told)


def said(reply: ModelReplied) -> str:
    return repr(reply.blocks)


async def test_without_a_key_an_agent_does_not_start_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    async with crew("hello", tmp_path, {}) as running:
        replica = running.add("greeter", SHANTY_MODEL="opus")
        code, told = replica.process.wait(60), replica.log.read_text()
    assert code != 0
    assert "Claude needs a key: set ANTHROPIC_API_KEY" in told
