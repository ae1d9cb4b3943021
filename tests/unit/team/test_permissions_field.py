"""`permissions:` of a team and of its agents, and `askHuman:`: what becomes of a call, and who may ask people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shanty_runtime.agent import Profile
from shanty_runtime.agent.context import model_request
from shanty_runtime.agent.permissions import Condition, Rule, Ruling, ruling_on
from shanty_runtime.config import read_settings
from shanty_runtime.profiles import profile_of
from shanty_runtime.team import load_team

Write = Callable[[Mapping[str, str | bytes | None]], Path]

TEAM = "apiVersion: shanty/v1\nname: harbour\nspecialists: [stowage, price-check]\n"


def stowage(*settings: str) -> str:
    return "\n".join(["---", "description: Plans where cargo goes", *settings, "---", "You plan the cargo."])


def profile(folder: Path, agent: str) -> Profile:
    team, nothing = load_team(folder), Any
    rehearsed = msgspec.structs.replace(read_settings(), model="rehearsal")
    played = msgspec.structs.replace(team, rehearsals={"stowage": lambda turn: "done", **team.rehearsals})
    return profile_of(played, team.agent(agent), rehearsed, nothing, nothing)  # type: ignore[arg-type]  # not called


def test_what_an_agent_says_of_a_tool_goes_before_what_its_team_says(write_team: Write) -> None:
    folder = write_team(
        {
            "team.yaml": TEAM + "permissions: {weigh: ask, write_file: deny}\nlimits: {decision_deadline_s: 60}\n",
            "agents/stowage.md": stowage("permissions: {weigh: allow}"),
        }
    )
    own = profile(folder, "stowage")
    assert own.permissions == {"weigh": "allow", "write_file": "deny"} and own.decision_deadline_s == 60.0
    assert profile(folder, "price-check").permissions == {"weigh": "ask", "write_file": "deny"}


def test_a_tool_that_is_denied_is_not_offered_to_a_model(write_team: Write) -> None:
    own = profile(write_team({"agents/stowage.md": stowage("permissions: {weigh: deny, Read: ask}")}), "stowage")
    offered = [card.name for card in model_request(own, "0-1", ()).tools]
    assert "weigh" not in offered and "read_file" in offered and own.permissions["read_file"] == "ask"


def test_the_tools_of_an_mcp_server_have_permissions_too(write_team: Write) -> None:
    server = "mcpServers: {hub: {command: hub, allow: [search]}}"
    folder = write_team(
        {
            "team.yaml": TEAM + "permissions: {hub__search: ask}\n",
            "agents/stowage.md": stowage(server, "permissions: {hub__search: deny}"),
        }
    )
    assert load_team(folder).permissions == {"hub__search": "ask"}
    assert profile(folder, "stowage").permissions == {"hub__search": "deny"}


def test_a_lead_may_ask_people_and_a_specialist_where_it_says_so(write_team: Write) -> None:
    def verbs(folder: Path, agent: str) -> list[str]:
        return [card.name for card in profile(folder, agent).verbs]

    folder = write_team({"agents/stowage.md": stowage()})
    assert "ask_human" in verbs(folder, "lead") and "ask_lead" not in verbs(folder, "lead")
    assert "ask_human" not in verbs(folder, "stowage") and "ask_lead" in verbs(folder, "stowage")
    assert "ask_human" in verbs(write_team({"agents/stowage.md": stowage("askHuman: true")}), "stowage")


def test_another_policy_is_another_version_of_the_agent(write_team: Write) -> None:
    before = profile(write_team({"agents/stowage.md": stowage()}), "stowage").version
    after = profile(write_team({"agents/stowage.md": stowage("permissions: {weigh: ask}")}), "stowage").version
    assert before != after


def test_a_rule_looks_at_the_arguments_of_a_call(write_team: Write) -> None:
    rule = "{auto: {allowIf: {label: {oneOf: [grain, salt]}}, else: deny}}"
    own = profile(write_team({"agents/stowage.md": stowage(f"permissions: {{weigh: {rule}}}")}), "stowage")
    weigh = own.permissions["weigh"]
    assert weigh == Rule((Condition("label", "one_of", ("grain", "salt")),), "deny")
    assert "weigh" in [card.name for card in model_request(own, "0-1", ()).tools]
    assert ruling_on(weigh, {"label": "salt"}) == Ruling("allow", 'label is one of "grain", "salt"')
    denied = ruling_on(weigh, {"label": "powder"})
    assert (denied.word, denied.because) == ("deny", 'label is "powder"')


@pytest.mark.parametrize(
    ("condition", "arguments", "holds"),
    [
        (Condition("cents", "at_most", 100), {"cents": 100}, True),
        (Condition("cents", "at_most", 100), {"cents": 100.5}, False),
        (Condition("cents", "less_than", 100), {"cents": 100}, False),
        (Condition("cents", "more_than", 100), {"cents": 101}, True),
        (Condition("cents", "at_least", 100), {"cents": 99}, False),
        (Condition("cents", "at_most", 100), {"cents": "5"}, False),
        (Condition("cents", "at_most", 100), {"cents": True}, False),
        (Condition("cents", "at_most", 100), {}, False),
        (Condition("order.cents", "at_most", 100), {"order": {"cents": 5}}, True),
        (Condition("order.cents", "at_most", 100), {"order": [5]}, False),
        (Condition("dry", "equals", True), {"dry": True}, True),
        (Condition("dry", "equals", True), {"dry": 1}, False),
        (Condition("to", "one_of", ("a", 2)), {"to": 2.0}, True),
        (Condition("to", "one_of", ("a", 2)), {"to": None}, False),
    ],
)
def test_a_condition_holds_only_for_what_it_can_be_compared_with(
    condition: Condition, arguments: dict[str, Any], holds: bool
) -> None:
    assert condition.holds(arguments) is holds


def test_delegations_to_a_specialist_have_permissions_and_an_agents_own_go_first(write_team: Write) -> None:
    folder = write_team({"team.yaml": TEAM + "permissions: {delegate: {stowage: ask, price-check: deny}}\n"})
    assert profile(folder, "lead").permissions == {"delegate:stowage": "ask", "delegate:price-check": "deny"}
