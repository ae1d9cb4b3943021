"""Threads that read more than a model can see, memory that outlives a run, and secrets that stay where they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shanty_protocol import ModelReplied, ThreadCompacted, ToolReturned
from shanty_protocol.codec import encode
from support.crew import Crew, crew

VAULT_TOKEN = "s.vault-token-of-the-test"
PAGES = 100


@pytest.fixture
async def archive(tmp_path: Path) -> AsyncIterator[Crew]:
    agents = {"lead": 1, "writer": 1, "reader": 1, "clerk": 1}
    async with crew("archive", tmp_path, agents, {"VAULT_TOKEN": VAULT_TOKEN}) as running:
        yield running


async def told(running: Crew, run: str, objective: str) -> str:
    await running.start(run, objective)
    outcome = await running.reply(run)
    assert outcome.status == "ok", outcome
    return outcome.summary


async def test_a_hundred_calls_and_200_000_tokens_are_compacted_and_stored_bytes_grow_evenly(archive: Crew) -> None:
    assert await told(archive, "0-r", "clerk: read all of it") == f"read {PAGES} pages"
    entries = await archive.journal("0-r", "0-1", "clerk")
    assert sum(isinstance(entry, ToolReturned) for entry in entries) == PAGES
    assert any(isinstance(entry, ThreadCompacted) for entry in entries)
    sizes, turn = [0] * (PAGES + 2), 0
    for entry in entries:
        turn += isinstance(entry, ModelReplied)
        sizes[turn] += len(encode(entry))
    steady = sizes[10:PAGES]
    assert max(steady) <= 1.2 * min(steady)
    asked = [entry.usage.input_tokens for entry in entries if isinstance(entry, ModelReplied)]
    assert 140_000 < max(asked) < 160_000, "no request was larger than a model takes"


async def test_what_one_run_writes_to_memory_another_finds_and_a_read_only_agent_cannot_change_it(
    archive: Crew,
) -> None:
    assert await told(archive, "0-first", "writer: the teapot is blue") == "remembered"
    assert "the teapot is blue" in await told(archive, "0-second", "reader: teapot")
    refused = await told(archive, "0-third", "reader: overwrite it")
    assert "there is no tool 'write_memory'" in refused
    assert "the teapot is blue" in await told(archive, "0-fourth", "reader: teapot")


async def test_secrets_of_the_environment_of_results_and_of_exceptions_are_stored_and_logged_nowhere(
    archive: Crew,
) -> None:
    summary = await told(archive, "0-r", "clerk: leak")
    assert summary == "[redacted] and [redacted] | fail failed: ConnectionError: cannot log in with [redacted]"
    stored = [one.data.decode() for one in await archive.entries("0-r")]
    logs = [replica.log.read_text() for replica in archive.replicas]
    assert len(stored) > 10
    for text in [*stored, *logs]:
        assert VAULT_TOKEN not in text and "ghp_abcdefghij" not in text
