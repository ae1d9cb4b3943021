"""`shanty lint --accept-mcp` with a server that is a process."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from shanty_runtime.tools.mcp_pins import LOCK_FILE
from support.commands import HELLO, Shanty

SCRIPT = Path(__file__).parents[1] / "support" / "mcp_server.py"


@pytest.fixture
def team(tmp_path: Path) -> Path:
    """A team of a lead whose server offers many tools, of which two are allowed."""
    (tmp_path / "team.yaml").write_text("apiVersion: shanty/v1\nname: shop\nspecialists: []\n")
    (tmp_path / "agents").mkdir()
    front_matter = {
        "description": "leads",
        "mcpServers": {
            "till": {
                "command": sys.executable,
                "args": [str(SCRIPT), "stdio"],
                "env": {"LEDGER": "${LEDGER}"},
                "allow": ["pay", "echo"],
            }
        },
    }
    (tmp_path / "agents/lead.md").write_text(f"---\n{json.dumps(front_matter)}\n---\nLead.\n")
    return tmp_path


def test_accepting_pins_the_tools_and_doing_it_again_finds_nothing_new(team: Path) -> None:
    shanty, ledger = Shanty(team), str(team / "ledger")
    first = shanty("lint", str(team), "--accept-mcp", LEDGER=ledger)
    pinned = json.loads((team / LOCK_FILE).read_text())["mcp"]["lead"]["till"]["tools"]
    again = shanty("lint", str(team), "--accept-mcp", "-o", "json", LEDGER=ledger)

    assert first.code == 0, first.err
    assert first.out.splitlines()[1:] == [
        "till__echo of lead is new",
        "till__pay of lead is new",
        f"accepted in {team / LOCK_FILE}",
    ]
    assert sorted(pinned) == ["echo", "pay"]
    assert (again.code, again.json) == (0, []), again.err
    assert "there is nothing to accept" in again.err


def test_a_server_that_does_not_answer_ends_with_1_and_changes_nothing(team: Path) -> None:
    (team / "agents/lead.md").write_text(
        "---\ndescription: leads\n"
        "mcpServers: {till: {type: http, url: 'http://127.0.0.1:9/mcp', allow: [pay]}}\n---\nLead.\n"
    )
    done = Shanty(team)("lint", str(team), "--accept-mcp")

    assert (done.code, "the MCP server till cannot be used" in done.err) == (1, True), done.err
    assert len(done.err.splitlines()) == 1
    assert not (team / LOCK_FILE).exists()


def test_a_secret_that_is_not_set_is_a_mistake_of_whoever_calls(team: Path) -> None:
    done = Shanty(team)("lint", str(team), "--accept-mcp")

    assert (done.code, "${LEDGER}, which is not set" in done.err) == (2, True), done.err


def test_a_team_without_servers_has_nothing_to_accept(tmp_path: Path) -> None:
    done = Shanty(tmp_path)("lint", HELLO, "--accept-mcp")

    assert (done.code, done.out.splitlines()[1]) == (
        0,
        "team hello has no MCP servers: there is nothing to accept",
    )
    assert not (Path(HELLO) / LOCK_FILE).exists()


def test_a_lock_file_that_cannot_be_read_is_written_anew(team: Path) -> None:
    (team / LOCK_FILE).write_text("{ not json")
    done = Shanty(team)("lint", str(team), "--accept-mcp", LEDGER=str(team / "ledger"))
    assert done.code == 0, done.err
    assert sorted(json.loads((team / LOCK_FILE).read_text())["mcp"]["lead"]["till"]["tools"]) == ["echo", "pay"]
