from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from shanty_runtime.config import Settings
from shanty_runtime.errors import ConfigError
from shanty_runtime.models.anthropic import ClaudeModel
from shanty_runtime.models.base import Message, ModelRequest
from shanty_runtime.models.rehearsal import RehearsalModel
from shanty_runtime.models.replay import RecordingModel, ReplayModel
from shanty_runtime.profiles import open_model
from shanty_runtime.team import Team, load_team
from support.crew import TEAMS

KEYS = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_PROFILE",
    "ANTHROPIC_FEDERATION_RULE_ID",
    "ANTHROPIC_BASE_URL",
)


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def team() -> Team:
    return load_team(TEAMS / "hello")


@pytest.mark.parametrize(("name", "meant"), [("haiku", "claude-haiku-5-5"), ("claude-opus-4-8", "claude-opus-4-8")])
@pytest.mark.parametrize("setting", ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"])
def test_a_claude_model_is_opened_with_a_key_or_an_address(
    team: Team, monkeypatch: pytest.MonkeyPatch, name: str, meant: str, setting: str
) -> None:
    monkeypatch.setenv(setting, "http://127.0.0.1:9" if setting.endswith("URL") else "k")
    model = open_model(team, team.lead, Settings(model=name))
    assert isinstance(model, ClaudeModel)
    assert model.name == meant


def test_without_key_and_address_it_says_how_to_get_one(team: Team) -> None:
    with pytest.raises(ConfigError, match="Claude needs a key: set ANTHROPIC_API_KEY"):
        open_model(team, team.lead, Settings(model="sonnet"))


@pytest.mark.parametrize(
    ("name", "said"), [("gpt", "the model 'gpt', which this version does not know"), ("", "no model")]
)
def test_a_name_nobody_knows_is_refused_with_those_that_are_known(team: Team, name: str, said: str) -> None:
    nameless = msgspec.structs.replace(team, model=name)
    with pytest.raises(ConfigError, match=f"agent lead has {said}: name a Claude model, .*opus"):
        open_model(nameless, msgspec.structs.replace(team.lead, model="inherit"), Settings())


async def test_what_is_recorded_is_replayed(team: Team, tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    recording = open_model(team, team.lead, Settings(model="rehearsal", record=str(file)))
    assert isinstance(recording, RecordingModel) and isinstance(recording.model, RehearsalModel)
    brief = Message("user", ({"type": "text", "text": "<objective>\ngreet\n</objective>"},))
    request = ModelRequest(agent="lead", system="s", messages=(brief,), tools=())
    reply = await recording.reply(request)
    replay = open_model(team, team.lead, Settings(model=f"replay:{file}"))
    assert isinstance(replay, ReplayModel)
    assert await replay.reply(request) == reply
