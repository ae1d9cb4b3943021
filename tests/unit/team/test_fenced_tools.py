from __future__ import annotations

from pathlib import Path

import pytest

from shanty_runtime import tool
from shanty_runtime.errors import ConfigError
from shanty_runtime.team import load_team
from shanty_runtime.tools.base import Effect, ToolContext
from shanty_runtime.tools.mcp import McpServers
from shanty_runtime.tools.mcp_pins import LockFile, ServerPins, pin_of, write_lock
from shanty_runtime.tools.mcp_server import Listed, McpServer
from support.crew import TEAMS

VAULT = load_team(TEAMS / "vault")
PAY = Listed(name="pay", description="Pays.", input_schema={"type": "object"})


@pytest.mark.parametrize(
    ("effect", "said", "fenced"),
    [
        ("irreversible", None, True),
        ("irreversible", False, False),
        ("idempotent", None, False),
        ("idempotent", True, True),
        ("read", None, False),
    ],
)
def test_what_is_irreversible_is_fenced_unless_its_author_says_otherwise(
    effect: Effect, said: bool | None, fenced: bool
) -> None:
    async def act(args: McpServer, context: ToolContext) -> str:
        """Acts."""
        return ""

    act.__annotations__["args"] = McpServer
    assert tool(effect=effect, fenced=said)(act).fenced is fenced


def test_a_team_says_for_whom_it_needs_a_tool_gateway() -> None:
    keeper = VAULT.agent("keeper")

    assert VAULT.fenced == ("keeper",)
    assert VAULT.fenced_of(keeper) == ("ring", "post")
    assert [server.fenced for server in keeper.mcp_servers] == [True, False]
    assert load_team(TEAMS / "hello").fenced == ()


async def test_an_agent_knows_the_tools_of_a_fenced_server_from_the_lock_and_needs_none_of_its_secrets(
    tmp_path: Path,
) -> None:
    spec = McpServer(name="shop", command="${NOT_SET_HERE}", allow=("pay",), fenced=True)
    servers = McpServers("keeper", [spec], tmp_path, environment={}, elsewhere=True)
    with pytest.raises(ConfigError, match=r"the agent knows its tools from team.lock.json, which is not there"):
        await servers.start()
    write_lock(tmp_path, LockFile(mcp={"keeper": {"shop": ServerPins(tools={"pay": pin_of(PAY)})}}))
    await servers.start()

    pay = servers.tools["shop__pay"]
    assert (pay.fenced, pay.effect, pay.untrusted, pay.description) == (True, "irreversible", True, "Pays.")
    with pytest.raises(ConfigError, match="NOT_SET_HERE"):
        await McpServers("keeper", [spec], tmp_path, environment={}).start()
