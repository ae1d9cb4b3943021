from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shanty_runtime.errors import ConfigError, OutcomeUnknown, ToolError
from shanty_runtime.tools.base import ToolContext, ToolResult
from shanty_runtime.tools.mcp import McpServer, McpServers

SCRIPT = Path(__file__).parents[1] / "support" / "raw_mcp_server.py"
PLAIN = {"name": "act", "description": "Acts.", "inputSchema": {"type": "object"}}

Serving = Callable[..., McpServers]


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    """The servers of an agent: one, which offers and answers just this."""

    def opened(*tools: dict[str, Any], answers: dict[str, Any] | None = None, **changes: Any) -> McpServers:
        plan = tmp_path / "plan.json"
        plan.write_text(json.dumps({"tools": tools or [PLAIN], "answers": answers or {}}))
        spec: dict[str, Any] = {
            "name": "raw",
            "command": sys.executable,
            "args": (str(SCRIPT), str(plan)),
            "allow": None,
        }
        return McpServers("a", [McpServer(**{**spec, **changes})], tmp_path, environment={})

    return opened


async def act(servers: McpServers) -> ToolResult:
    workspace: Any = None
    context = ToolContext(key="k", run="0-r", thread="0", agent="a", workspace=workspace)
    result = await servers.tools["raw__act"]({}, context)
    assert isinstance(result, ToolResult)
    return result


@pytest.mark.parametrize(
    ("tool", "reason"),
    [
        ({"inputSchema": {"type": "object", "properties": {"a": {"$ref": "http://10.0.0.1/x"}}}}, "another document"),
        ({"inputSchema": {"type": "object", "$schema": "http://10.0.0.1/x"}}, "another document"),
        ({"inputSchema": {"type": "object", "properties": {"a": {"type": "strnig"}}}}, "not a valid JSON Schema"),
        ({"inputSchema": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}}}, "not a valid JSON Schema"),
        ({"inputSchema": {"type": "object", "title": "x" * 70_000}}, "more than 65536 bytes"),
        ({"description": "Obey. " * 2_000}, "more than 8000 characters"),
        ({"name": "a\nb"}, "characters other than"),
    ],
)
async def test_a_tool_no_model_should_see_is_left_out_and_refused_where_it_is_named(
    serving: Serving, caplog: pytest.LogCaptureFixture, tool: dict[str, Any], reason: str
) -> None:
    unfit = {**PLAIN, "name": "bad", **tool}

    async with serving(PLAIN, unfit) as servers:
        assert list(servers.tools) == ["raw__act"]
    assert reason in caplog.text
    with pytest.raises(ConfigError, match=reason):
        await serving(PLAIN, unfit, allow=("act", unfit["name"])).__aenter__()


async def test_two_tools_of_one_name_are_refused(serving: Serving) -> None:
    with pytest.raises(ConfigError, match="the MCP server raw has two tools act"):
        await serving(PLAIN, {**PLAIN, "description": "Acts otherwise."}).__aenter__()
    with pytest.raises(ConfigError, match="would make a second tool raw__a_b"):
        await serving({**PLAIN, "name": "a.b"}, {**PLAIN, "name": "a_b"}).__aenter__()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"error": {"code": -32603, "message": "broken"}}, "the connection to raw broke"),
        ({"result": {"content": "not a list"}}, "its answer cannot be read"),
    ],
)
async def test_an_answer_that_does_not_tell_leaves_the_outcome_unknown(
    serving: Serving, answer: Any, says: str
) -> None:
    async with serving(answers={"act": answer}) as servers:
        with pytest.raises(OutcomeUnknown, match=says):
            await act(servers)


async def test_an_answer_that_is_no_message_is_like_none(serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(answers={"act": "a private remark"}, timeout_s=0.5) as servers:
        with pytest.raises(OutcomeUnknown, match=r"raw__act did not answer within 0\.5 s"):
            await act(servers)

    assert "wrote a line of 17 bytes that is not a message" in caplog.text
    assert "private remark" not in caplog.text


async def test_a_refusal_of_the_server_is_an_answer(serving: Serving) -> None:
    async with serving(answers={"act": {"error": {"code": -32602, "message": "no such shelf"}}}) as servers:
        refused = await act(servers)

    assert refused == ToolResult(content="the server refused the call: no such shelf (-32602)", is_error=True)


async def test_a_line_too_long_that_does_not_say_whose_it_is_ends_the_server_and_the_call(serving: Serving) -> None:
    result = {"result": {"content": [{"type": "text", "text": "x" * 3_000_000}]}}
    async with serving(answers={"act": result}) as servers:
        with pytest.raises(ToolError, match="was carried out, but its result has more than"):
            await act(servers)
    async with serving(answers={"act": "x" * 3_000_000}) as servers:
        with pytest.raises(OutcomeUnknown, match="the connection to raw broke"):
            await act(servers)


async def test_content_that_is_not_text_is_named_and_left_out(serving: Serving) -> None:
    content = [
        {"type": "text", "text": "look:"},
        {"type": "image", "data": "aGFsbG8=", "mimeType": "image/png"},
        {"type": "resource", "resource": {"uri": "file:///a.txt", "text": "inside"}},
        {"type": "resource_link", "name": "b", "uri": "file:///b.txt"},
    ]
    async with serving(answers={"act": {"result": {"content": content}}}) as servers:
        told = await act(servers)

    assert told.content == (
        "look:\n[image/png, 6 bytes, left out: only text is taken]\n[file:///a.txt]\ninside\n[b: file:///b.txt]"
    )
