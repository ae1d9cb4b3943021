from __future__ import annotations

import json
import shutil
from pathlib import Path

import helm_python as helm
import pytest

from shanty_cli.__main__ import main
from shanty_cli.exits import DONE, USAGE
from shanty_cli.team_values import MAX_BYTES

ROOT = Path(__file__).parents[3]
INCIDENT = ROOT / "deploy" / "teams" / "incident"
HELLO = ROOT / "tests" / "teams" / "hello"


@pytest.fixture
def team(tmp_path: Path) -> Path:
    return Path(shutil.copytree(HELLO, tmp_path / "hello"))


def test_a_team_becomes_values_that_helm_reads_back_byte_for_byte(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["team-values", str(INCIDENT)]) == DONE
    values = helm.values_from_yaml(capsys.readouterr().out)

    assert values["lead"] == {"agent": "lead"}
    assert values["specialists"] == [{"name": name} for name in ("deploys", "logs", "metrics", "tickets")]
    files = values["team"]["files"]
    assert {"team.yaml", "agents/lead.md", "analysis/__init__.py", "tools.py"} <= files.keys()
    for path, content in files.items():
        assert content.encode() == (INCIDENT / path).read_bytes(), path


def test_the_same_folder_gives_the_same_bytes(team: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["team-values", str(team)])
    first = capsys.readouterr().out
    main(["team-values", str(team)])

    assert capsys.readouterr().out == first


def test_what_only_people_and_tests_need_stays_out(team: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in ("evals/one.yaml", "agents/__pycache__/counter.pyc", ".git/HEAD", ".env"):
        (team / path).parent.mkdir(parents=True, exist_ok=True)
        (team / path).write_text("x")
    main(["team-values", str(team), "-o", "json"])
    files = json.loads(capsys.readouterr().out)["team"]["files"]

    assert sorted(files) == [
        "agents/counter.py",
        "agents/greeter.md",
        "agents/lead.md",
        "rehearsal.py",
        "team.yaml",
        "tools.py",
    ]


@pytest.mark.parametrize(
    "content",
    ["", "\n", "a\n\n\n", "  indented first\nline\n", "no end", "tab\tand \r\n", "# ---\n---\n", "é ✓\n", " \n x"],
)
def test_any_text_is_the_same_after_helm_has_read_it(
    content: str, team: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (team / "notes.txt").write_bytes(content.encode())
    main(["team-values", str(team)])

    assert helm.values_from_yaml(capsys.readouterr().out)["team"]["files"]["notes.txt"] == content


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("logo.png", b"\x89PNG\xff", "logo.png is not UTF-8 text"),
        ("two..dots", b"x", "two..dots has a name that no ConfigMap can hold"),
        ("with space", b"x", "with space has a name that no ConfigMap can hold"),
        ("large.txt", b"x" * MAX_BYTES, "a ConfigMap holds 1 MiB"),
    ],
)
def test_what_no_configmap_can_hold_is_refused_with_what_to_do(
    name: str, content: bytes, reason: str, team: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (team / name).write_bytes(content)

    assert main(["team-values", str(team)]) == USAGE
    said = capsys.readouterr()
    assert said.out == "" and reason in said.err and "FROM shanty/specialist" in said.err


def test_a_team_with_irreversible_tools_is_deployed_with_a_tool_gateway(capsys: pytest.CaptureFixture[str]) -> None:
    def deployed(folder: Path) -> object:
        main(["team-values", str(folder), "-o", "json"])
        return json.loads(capsys.readouterr().out).get("toolgateway")

    teams = Path(__file__).parents[2] / "teams"
    assert deployed(teams / "vault") == {"enabled": True}
    assert deployed(teams / "hello") is None
