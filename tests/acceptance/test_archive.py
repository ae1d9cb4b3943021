"""Threads that read more than a model can see, memory that outlives a run, and secrets that stay where they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest

from shanty_protocol import MailRejected, ModelReplied, ThreadCompacted, ToolReturned
from shanty_protocol.codec import encode
from support.crew import Crew, crew
from support.otlp import Receiver

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


async def test_planted_secrets_are_in_no_entry_no_span_no_log_line_and_no_dead_letter(tmp_path: Path) -> None:
    with Receiver() as receiver:
        environment = {"VAULT_TOKEN": VAULT_TOKEN, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
        async with crew("archive", tmp_path, {"lead": 1, "clerk": 1}, environment) as running:
            hostile = await nats.connect(running.server.url)
            await hostile.jetstream().publish(
                "shanty.0.clerk.0-r.0.mallory.0", f'{{"kind":"{VAULT_TOKEN}"}}'.encode()
            )
            await hostile.close()
            summary = await told(running, "0-r", "clerk: leak")
            assert (
                summary == "[redacted] and [redacted] | fail failed: ConnectionError: cannot log in with [redacted]"
            )
            entries = [one for one in await running.entries("0-r") if one.address.agent != "mallory"]
            (dead,) = [one.entry for one in entries if one.address.to == "dead"]
            assert isinstance(dead, MailRejected) and "[redacted]" in dead.reason
            for replica in running.replicas:
                assert replica.stop() == 0
        stored = [one.data for one in entries]
        logs = [replica.log.read_bytes() for replica in running.replicas]
    assert len(stored) > 10 and receiver.bodies
    for data in [*stored, *logs, *receiver.bodies]:
        assert VAULT_TOKEN.encode() not in data and b"ghp_abcdefghij" not in data
