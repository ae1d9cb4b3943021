"""One case for each way a model call can end: what was sent, journaled and paid, and what the lead is told."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from shanty_protocol import ModelFailed, ModelReplied, ThreadCompacted, ThreadReplied, ToolReturned, Usage
from shanty_runtime.testing.claude import (
    Answer,
    ClaudeServer,
    Cut,
    ErrorEvent,
    Status,
    refusal,
    reply,
    text,
    tool_use,
)
from support.crew import Crew, crew

DONE = reply(tool_use("submit_result", summary="done"))
LOOK = reply(tool_use("page", number=1))
THREE_CALLS = reply(*(tool_use("page", number=n) for n in range(3)))
SEARCHING = {"type": "server_tool_use", "id": "srvtoolu_01", "name": "web_search", "input": {"query": "teapots"}}
COST_OF_ONE_MICROUSD = 70
"""Ten tokens in and five out, at the list price of the model."""


class Case(NamedTuple):
    answers: tuple[Answer, ...]
    failures: tuple[str, ...] = ()
    """Kinds of the failed calls in the journal."""
    replies: int = 1
    status: str = "ok"
    code: str = ""
    pages: int = 0
    """Tool calls that were really made."""


CASES = {
    "end_turn": Case((reply(text("done")),)),
    "stop_sequence": Case((reply(text("done"), stop_reason="stop_sequence"),)),
    "tool_use": Case((LOOK, DONE), replies=2, pages=1),
    "parallel tool_use": Case((THREE_CALLS, DONE), replies=2, pages=3),
    "max_tokens with a cut call": Case(
        (reply(tool_use("page", number=1), stop_reason="max_tokens"), DONE), replies=2, pages=0
    ),
    "max_tokens in words": Case((reply(text("half"), stop_reason="max_tokens"), DONE), replies=2),
    "pause_turn": Case((reply(SEARCHING, stop_reason="pause_turn"), DONE), replies=2),
    "refusal": Case((refusal("cyber", "no"),), status="refused", code="model_refused"),
    "model_context_window_exceeded": Case(
        (reply(text("h"), stop_reason="model_context_window_exceeded"), reply(text("a summary")), DONE), replies=2
    ),
    "empty end_turn": Case((reply(), DONE), replies=2),
    "unknown stop reason": Case((reply(text("x"), stop_reason="moon"),), status="failed", code="model_failed"),
    "cut stream": Case((Cut(THREE_CALLS, 900, clean=True), DONE), ("transient",)),
    "broken connection": Case((Cut(THREE_CALLS, 900), DONE), ("transient",)),
    "error event in a stream of 200": Case((ErrorEvent(THREE_CALLS, "overloaded_error"), DONE), ("overloaded",)),
    "429 with retry-after": Case(
        (Status(429, "rate_limit_error", headers={"retry-after": "0"}), DONE), ("rate_limited",)
    ),
    "429 of a spending cap": Case(
        (Status(429, "rate_limit_error", error_code="enforced_spend_limit_reached"),),
        ("spend_limit",),
        replies=0,
        status="failed",
        code="spend_limit",
    ),
    "500": Case((Status(500, "api_error"), DONE), ("transient",)),
    "504": Case((Status(504, "timeout_error"), DONE), ("transient",)),
    "529": Case((Status(529, "overloaded_error"), DONE), ("overloaded",)),
    **{
        str(code): Case(
            (Status(code, kind),), ("configuration",), replies=0, status="failed", code="model_configuration"
        )
        for code, kind in (
            (401, "authentication_error"),
            (402, "billing_error"),
            (403, "permission_error"),
            (404, "not_found_error"),
        )
    },
    "400": Case(
        (Status(400, "invalid_request_error"),), ("invalid",), replies=0, status="failed", code="model_failed"
    ),
    "413": Case((Status(413, "request_too_large"), reply(text("a summary")), DONE), ("too_large",)),
    "unknown tool and bad arguments": Case(
        (reply(tool_use("pgae", number=1), tool_use("page", nmuber=1)), DONE), replies=2
    ),
}


class Scripted:
    """A Claude that answers with what the case says."""

    def __init__(self) -> None:
        self.answers: deque[Answer] = deque()

    def __call__(self, body: dict[str, Any]) -> Answer:
        assert self.answers, "the case did not expect another request"
        return self.answers.popleft()


@pytest.fixture
async def clerk(tmp_path: Path) -> AsyncIterator[tuple[Crew, ClaudeServer, Scripted]]:
    """A lead that is rehearsed, and a clerk that is Claude."""
    scripted = Scripted()
    async with ClaudeServer(scripted) as server:
        async with crew("archive", tmp_path, {"lead": 1}) as running:
            running.add(
                "clerk",
                SHANTY_MODEL="claude-sonnet-5-5",
                ANTHROPIC_BASE_URL=server.url,
                ANTHROPIC_API_KEY="sk-test-key",
            )
            await running.ready()
            yield running, server, scripted


@pytest.mark.timeout(240)
async def test_every_way_a_model_call_can_end(clerk: tuple[Crew, ClaudeServer, Scripted]) -> None:
    running, server, scripted = clerk
    for number, (name, case) in enumerate(CASES.items()):
        run, before = f"0-case-{number}", len(server.requests)
        scripted.answers.extend(case.answers)
        await running.start(run, "clerk: go")
        outcome = await running.reply(run)
        assert not scripted.answers, f"{name}: {len(scripted.answers)} answers were not asked for"
        sent = server.bodies[before:]
        assert len(sent) == len(case.answers), name
        entries = await running.journal(run, "0-1", "clerk")
        assert tuple(e.failure for e in entries if isinstance(e, ModelFailed)) == case.failures, name
        replies = [entry for entry in entries if isinstance(entry, ModelReplied)]
        assert len(replies) == case.replies, name
        assert sum(isinstance(entry, ToolReturned) for entry in entries) == case.pages, name
        (told,) = [entry for entry in entries if isinstance(entry, ThreadReplied)]
        assert (told.outcome.status, told.outcome.code) == (case.status, case.code), name
        assert outcome.status == case.status, f"{name}: the lead passed on {outcome}"
        paid = case.replies + sum(isinstance(entry, ThreadCompacted) for entry in entries)
        assert told.usage == Usage(input_tokens=10 * paid, output_tokens=5 * paid), name
        assert told.cost_microusd == COST_OF_ONE_MICROUSD * paid, name
        assert "scripted" not in told.outcome.summary, f"{name}: the provider's own words were passed on"
    server.assert_valid()
