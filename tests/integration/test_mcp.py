from __future__ import annotations

import asyncio
import logging
import os
import resource
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from opentelemetry import trace

from shanty_protocol import ModelReplied, ToolReturned
from shanty_runtime.errors import ConfigError, OutcomeUnknown, ToolError
from shanty_runtime.tools.base import ToolContext, ToolResult
from shanty_runtime.tools.mcp import McpServer, McpServers, accept
from shanty_runtime.tools.mcp_pins import LOCK_FILE
from support.crew import crew

SCRIPT = Path(__file__).parents[1] / "support" / "mcp_server.py"
TOKEN = "a-very-secret-token"
READS = {name: "read" for name in ("echo", "meta", "environment", "fail", "change", "dotted.name")}

Open = Callable[..., AbstractAsyncContextManager[McpServers]]


def spec(**changes: Any) -> McpServer:
    usual: dict[str, Any] = {
        "name": "shop",
        "command": sys.executable,
        "args": (str(SCRIPT), "stdio"),
        "env": {"LEDGER": "${LEDGER}", "TOKEN": "${TOKEN}"},
        "allow": None,
        "effects": READS,
        "timeout_s": 30.0,
    }
    return McpServer(**{**usual, **changes})


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    file = tmp_path / "ledger"
    file.touch()
    return file


@pytest.fixture
def open_servers(tmp_path: Path, ledger: Path) -> Open:
    """The servers of an agent, started and stopped."""

    def opened(*servers: McpServer, **options: Any) -> McpServers:
        environment = {"LEDGER": str(ledger), "TOKEN": TOKEN}
        return McpServers("clerk", servers or (spec(),), tmp_path, environment=environment, **options)

    return opened


def done(ledger: Path) -> list[str]:
    """What the tools of the server did."""
    return ledger.read_text().split()


async def call(servers: McpServers, tool: str, key: str = "0-r.0.c1", **arguments: Any) -> ToolResult:
    found = servers.tools[tool]
    workspace: Any = None
    context = ToolContext(key=key, run="0-r", thread="0", agent="clerk", workspace=workspace)
    result = await found(found.decode(arguments), context)
    assert isinstance(result, ToolResult)
    return result


@asynccontextmanager
async def http_server(ledger: Path, mode: str) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SCRIPT), mode, stdout=asyncio.subprocess.PIPE, env={**os.environ, "LEDGER": str(ledger)}
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            port = int(await process.stdout.readline())
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def peak_memory_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def test_a_tool_of_a_process_is_called_with_its_key_its_trace_and_without_our_environment(
    open_servers: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHANTY_NATS_PASSWORD", "hunter22")
    parent = trace.SpanContext(trace_id=0xABC, span_id=0xDEF, is_remote=False, trace_flags=trace.TraceFlags(1))
    async with open_servers() as servers:
        assert (await call(servers, "shop__echo", text="ahoy")) == ToolResult(content="ahoy")
        assert (await call(servers, "shop__dotted_name")).content == "dotted"
        with trace.use_span(trace.NonRecordingSpan(parent)):
            key, traceparent = (await call(servers, "shop__meta", key="0-r.0-1.c7")).content.split()
        other = await call(servers, "shop__environment", name="SHANTY_NATS_PASSWORD")

    assert key == "0-r.0-1.c7"
    assert f"{0xABC:032x}" in traceparent
    assert other.content == "SHANTY_NATS_PASSWORD="


async def test_a_secret_reaches_the_server_and_is_struck_out_of_what_comes_back(open_servers: Open) -> None:
    async with open_servers() as servers:
        told = await call(servers, "shop__environment", name="TOKEN")

    assert told.content == "TOKEN=[secret]"


async def test_an_error_of_the_tool_is_an_answer(open_servers: Open) -> None:
    async with open_servers() as servers:
        result = await call(servers, "shop__fail")

    assert result == ToolResult(content="Error executing tool fail", is_error=True)


async def test_only_allowed_tools_are_there_and_each_has_the_effect_the_team_says(open_servers: Open) -> None:
    async with open_servers(spec(allow=("pay", "echo"))) as servers:
        effects = {name: tool.effect for name, tool in servers.tools.items()}
        pay = servers.tools["shop__pay"]

    assert effects == {"shop__pay": "irreversible", "shop__echo": "read"}
    assert (pay.description, pay.input_schema["required"], pay.untrusted) == ("Pays.", ["cents"], True)


@pytest.mark.parametrize(
    ("server", "taken", "says"),
    [
        (spec(allow=("pya",)), (), "the MCP server shop has no tool pya; there are change, crash"),
        (spec(effects={"ehco": "read"}), (), "effect: shop has no tool ehco; there are change, crash"),
        (spec(allow=("echo",)), ("shop__echo",), "would make a second tool shop__echo"),
        (spec(env={"LEDGER": "${LEGDER}"}), (), r"refers to \$\{LEGDER\}, which is not set"),
        (spec(command="/nowhere/at-all"), (), "the command '/nowhere/at-all' does not exist"),
        (spec(command=sys.executable, args=("-c", "raise SystemExit(3)")), (), "cannot be used"),
        (spec(command="", url="http://127.0.0.1:9/mcp", env={}), (), "cannot be used"),
    ],
)
async def test_a_server_that_cannot_be_used_is_refused_at_the_start(
    open_servers: Open, server: McpServer, taken: tuple[str, ...], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        async with open_servers(server, taken=taken):
            pass


async def test_no_answer_in_time_is_an_error_for_a_read_and_unknown_for_what_cannot_be_repeated(
    open_servers: Open, ledger: Path
) -> None:
    reading = spec(name="reader", allow=("hang",), effects={"hang": "read"}, timeout_s=0.4)
    async with open_servers(spec(allow=("hang", "echo"), timeout_s=0.4), reading) as servers:
        with pytest.raises(ToolError, match=r"reader__hang did not answer within 0.4 s") as late:
            await call(servers, "reader__hang")
        with pytest.raises(OutcomeUnknown, match=r"shop__hang did not answer within 0.4 s"):
            await call(servers, "shop__hang")
        after = await call(servers, "shop__echo", text="still here")

    assert not isinstance(late.value, OutcomeUnknown)
    assert done(ledger) == ["hang", "hang"]
    assert after.content == "still here"


async def test_a_server_that_dies_in_a_call_leaves_its_outcome_unknown_and_is_started_again(
    open_servers: Open, ledger: Path
) -> None:
    async with open_servers() as servers:
        with pytest.raises(OutcomeUnknown, match=r"broke before shop__crash answered"):
            await call(servers, "shop__crash")
        after = await call(servers, "shop__echo", text="up again")

    assert done(ledger) == ["crash"]
    assert after.content == "up again"


@pytest.mark.parametrize("effect", ["read", "idempotent"])
async def test_a_call_that_may_be_repeated_is_made_once_more_when_its_server_dies(
    open_servers: Open, ledger: Path, effect: str
) -> None:
    async with open_servers(spec(effects={"crash_once": effect, "crash": effect})) as servers:
        assert (await call(servers, "shop__crash_once")).content == "survived"
        with pytest.raises(ToolError, match=r"broke before shop__crash answered") as broken:
            await call(servers, "shop__crash")

    assert not isinstance(broken.value, OutcomeUnknown)
    assert done(ledger) == ["crash_once", "crash_once", "crash", "crash"]


async def test_a_result_of_100_mb_is_dropped_in_bounded_memory_and_the_call_beside_it_is_answered(
    open_servers: Open, ledger: Path
) -> None:
    async with open_servers(spec(effects={**READS, "huge": "read"}, timeout_s=60.0)) as servers:
        await call(servers, "shop__echo", text="warm")
        before_bytes = peak_memory_bytes()
        huge, beside = await asyncio.gather(
            call(servers, "shop__huge", size_bytes=100_000_000),
            call(servers, "shop__echo", text="beside"),
            return_exceptions=True,
        )

    assert isinstance(huge, ToolError)
    assert "was carried out, but its result has more than 1048576 bytes" in str(huge)
    assert beside == ToolResult(content="beside")
    assert done(ledger) == ["huge"]
    assert peak_memory_bytes() - before_bytes < 40_000_000


@pytest.mark.parametrize("mode", ["http", "http-json"])
async def test_a_server_behind_a_url_keeps_the_same_rules(
    open_servers: Open, ledger: Path, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with http_server(ledger, mode) as url:
        far = spec(
            command="",
            args=(),
            env={},
            url=f"{url}?key=${{TOKEN}}",
            timeout_s=10.0,
            headers={"Authorization": "Bearer ${TOKEN}"},
        )
        short = msgspec.structs.replace(far, name="hasty", allow=("hang",), timeout_s=0.4)
        async with open_servers(far, short) as servers:
            assert (await call(servers, "shop__meta", key="0-r.0.k")).content.startswith("0-r.0.k ")
            with pytest.raises(OutcomeUnknown, match=r"did not answer within 0.4 s"):
                await call(servers, "hasty__hang")
            before_bytes = peak_memory_bytes()
            with pytest.raises(ToolError, match="was carried out, but its result has more than"):
                await call(servers, "shop__huge", size_bytes=30_000_000)
            assert peak_memory_bytes() - before_bytes < 20_000_000
            assert (await call(servers, "shop__echo", text="still here")).content == "still here"
            with pytest.raises(OutcomeUnknown, match=r"broke before shop__crash answered"):
                await call(servers, "shop__crash")
            with pytest.raises(ToolError, match=r"shop__pay was not called: .*cannot be reached") as unreached:
                await call(servers, "shop__pay", cents=1)

    assert not isinstance(unreached.value, OutcomeUnknown)
    assert done(ledger) == ["hang", "huge", "crash"]
    assert TOKEN not in caplog.text and "still here" not in caplog.text


async def test_a_tool_that_changes_what_it_says_is_frozen_and_the_others_are_not(
    open_servers: Open, ledger: Path
) -> None:
    async with open_servers() as servers:
        assert (await call(servers, "shop__pay", cents=1)).content == "paid, the 1. time"
        await call(servers, "shop__change")
        with pytest.raises(ToolError, match=r"shop__pay is frozen: since it was accepted it has another description"):
            await call(servers, "shop__pay", cents=1)
        assert (await call(servers, "shop__echo", text="goes on")).content == "goes on"
        assert servers.tools["shop__pay"].description == "Pays."

    assert done(ledger) == ["pay"]


async def test_accepted_tools_are_offered_without_a_connection_and_checked_against_the_lock_file(
    open_servers: Open, tmp_path: Path, ledger: Path
) -> None:
    server = spec(allow=("pay", "echo"))
    environment = {"LEDGER": str(ledger), "TOKEN": TOKEN}
    (tmp_path / LOCK_FILE).write_text('{"agents": "kept"}')

    assert await accept({"clerk": [server]}, tmp_path, environment) == (
        "shop__echo of clerk is new",
        "shop__pay of clerk is new",
    )
    locked = msgspec.json.decode((tmp_path / LOCK_FILE).read_bytes())
    assert (locked["agents"], list(locked["mcp"]["clerk"]["shop"]["tools"])) == ("kept", ["echo", "pay"])
    assert TOKEN not in (tmp_path / LOCK_FILE).read_text()
    assert await accept({"clerk": [server]}, tmp_path, environment) == ()

    nowhere = msgspec.structs.replace(server, command="/nowhere/at-all")
    async with open_servers(nowhere) as servers:
        assert list(servers.tools) == ["shop__echo", "shop__pay"]
        with pytest.raises(ToolError, match="shop__pay was not called: the command '/nowhere/at-all' does not exist"):
            await call(servers, "shop__pay", cents=1)

    changed = (tmp_path / LOCK_FILE).read_text().replace("Pays.", "Pays a lot.")
    (tmp_path / LOCK_FILE).write_text(changed)
    with pytest.raises(ConfigError, match="the hash of shop's tool pay for clerk is not that of its description"):
        await open_servers(server).__aenter__()


async def test_what_is_not_in_the_lock_file_is_not_offered(open_servers: Open, tmp_path: Path, ledger: Path) -> None:
    await accept({"clerk": [spec(allow=("echo",))]}, tmp_path, {"LEDGER": str(ledger), "TOKEN": TOKEN})

    async with open_servers(spec(effects={})) as servers:
        assert list(servers.tools) == ["shop__echo"]
    with pytest.raises(ConfigError, match=f"shop: pay is not in {LOCK_FILE}; .*--accept-mcp"):
        await open_servers(spec(allow=("echo", "pay"))).__aenter__()
    with pytest.raises(ConfigError, match=f"the MCP server store of clerk is not in {LOCK_FILE}"):
        await open_servers(spec(name="store")).__aenter__()


async def test_stopping_ends_the_process_of_a_server_that_does_not_listen(open_servers: Open, ledger: Path) -> None:
    async with open_servers() as servers:
        waiting = asyncio.create_task(call(servers, "shop__hang"))
        deadline_s = time.monotonic() + 10
        while "hang" not in done(ledger):
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.01)
        await servers.stop()
        with pytest.raises(OutcomeUnknown):
            await waiting
        await servers.stop()


TEAM = {
    "team.yaml": "apiVersion: shanty/v1\nname: shop\n",
    "agents/lead.md": f"""\
---
description: Minds the shop
mcpServers:
  shop:
    command: {sys.executable}
    args: [{SCRIPT}, stdio]
    env: {{LEDGER: "${{LEDGER}}", TOKEN: "${{TOKEN}}"}}
    allow: [hang, environment]
    effect: {{environment: read}}
    timeout_s: 0.5
skills: [manners]
---
You mind the shop.
""",
    "skills/manners/SKILL.md": "---\nname: manners\ndescription: How to behave\n---\nSay please.\n",
    "rehearsal.py": """\
from shanty_runtime.models.rehearsal import Move, Turn, call


def lead(turn: Turn) -> Move:
    if turn.result("load_skill") is None:
        return [
            call("load_skill", name="manners"),
            call("shop__hang"),
            call("shop__environment", name="TOKEN"),
            call("shop__environment", nmae="TOKEN"),
        ]
    return call("submit_result", summary="done")
""",
}


async def test_an_agent_uses_its_servers_and_skills_and_its_journal_says_what_is_not_known(
    tmp_path: Path, ledger: Path
) -> None:
    for path, text in TEAM.items():
        (tmp_path / "team" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "team" / path).write_text(text)
    environment = {"LEDGER": str(ledger), "TOKEN": TOKEN}
    async with crew(tmp_path / "team", tmp_path, {"lead": 1}, environment) as running:
        await running.start("0-r")
        outcome = await running.reply("0-r")
        entries = await running.journal("0-r", "0", "lead")
        (card,) = await running.bus.roster.cards()
        replica = running.replicas[0]
        assert await asyncio.to_thread(replica.stop) == 0

    returned = {entry.call_id: entry for entry in entries if isinstance(entry, ToolReturned)}
    (reply,) = [entry for entry in entries if isinstance(entry, ModelReplied) and len(entry.blocks) == 4]
    skill, hang, secret, _ = (returned.get(block["id"]) for block in reply.blocks)
    assert outcome.summary == "done"
    assert {"shop__hang", "shop__environment", "load_skill", "read_skill_file"} <= set(card.tools)
    assert skill is not None and skill.content == "Say please."
    assert hang is not None and hang.status == "unknown" and "its answer was not heard" in hang.content
    assert secret is not None and (secret.status, secret.content) == ("ok", "TOKEN=[secret]")
    assert list(reply.refused.values()) == ['shop__environment: $: "name" is a required property']
    assert done(ledger) == ["hang"]
    assert TOKEN not in replica.log.read_text()
