from __future__ import annotations

from pathlib import Path

import pytest

from shanty_cli.fleet import environment_for, members_of, scale_of
from shanty_runtime.errors import ConfigError
from shanty_runtime.team import load_team

VAULT = load_team(Path(__file__).parents[2] / "teams" / "vault")
HELLO = load_team(Path(__file__).parents[2] / "teams" / "hello")


def test_a_team_is_one_process_for_each_agent_unless_scaled() -> None:
    members = members_of(HELLO, {"greeter": 2})

    assert [(each.module, each.replica) for each in members] == [
        ("shanty_lead", "lead-1"),
        ("shanty_specialist", "greeter-1"),
        ("shanty_specialist", "greeter-2"),
        ("shanty_specialist", "counter-1"),
    ]


def test_a_team_with_fenced_tools_has_a_tool_gateway_that_can_be_scaled() -> None:
    members = members_of(VAULT, {"toolgateway": 2})

    assert [(each.module, each.replica) for each in members[-2:]] == [
        ("shanty_toolgateway", "toolgateway-1"),
        ("shanty_toolgateway", "toolgateway-2"),
    ]
    with pytest.raises(ConfigError, match="has no agent 'toolgateway'"):
        members_of(HELLO, {"toolgateway": 2})


def test_scaling_an_agent_the_team_has_not_names_those_it_has() -> None:
    with pytest.raises(ConfigError, match="there are lead, greeter, counter"):
        members_of(HELLO, {"greter": 2})


@pytest.mark.parametrize("wrong", ["logs", "logs=", "logs=0", "logs=-1", "logs=two"])
def test_a_wrong_scale_says_what_is_expected(wrong: str) -> None:
    with pytest.raises(ConfigError, match="expected AGENT=NUMBER"):
        scale_of([wrong])


def test_services_on_our_own_server_do_not_see_the_credentials_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHANTY_NATS_CREDS", "/secret")
    monkeypatch.setenv("SHANTY_LOG_LEVEL", "debug")
    ours = environment_for(HELLO, nats_url="nats://a:1", own_server=True)
    theirs = environment_for(HELLO, nats_url="nats://a:1", own_server=False)

    assert ("SHANTY_NATS_CREDS" in ours, "SHANTY_NATS_CREDS" in theirs) == (False, True)
    assert (ours["SHANTY_LOG_LEVEL"], ours["SHANTY_NATS_URL"], ours["SHANTY_HTTP_PORT"]) == (
        "debug",
        "nats://a:1",
        "0",
    )
    assert "SHANTY_MODEL" not in ours
