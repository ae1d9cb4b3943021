"""What is said before anything is started: usage, exit codes, and how long it takes to say."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from shanty_cli.__main__ import main
from shanty_cli.app import app
from shanty_cli.exits import FAILED, INTERRUPTED, USAGE, Interrupted, NotRunning, UsageError, exit_code, sentence
from shanty_runtime.errors import BusUnavailable, ConfigError, FileMissing, LayoutDrift, ShantyError, TeamError

ROOT = Path(__file__).parents[3]
HELLO = str(Path(__file__).parents[2] / "teams" / "hello")
HEAVY = ("nats", "rich.live", "shanty_runtime", "shanty_protocol", "opentelemetry", "asyncio.subprocess", "ruamel")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), USAGE),
        (ConfigError("x"), USAGE),
        (TeamError("x", ()), USAGE),
        (FileMissing("x"), USAGE),
        (NotRunning("x"), FAILED),
        (BusUnavailable("x"), FAILED),
        (LayoutDrift("x", ()), FAILED),
        (Interrupted("x"), INTERRUPTED),
    ],
)
def test_every_kind_of_error_has_its_exit_code(error: ShantyError, code: int) -> None:
    assert exit_code(error) == code


def test_a_bus_that_does_not_answer_is_told_with_its_address_and_what_to_do() -> None:
    said = sentence(BusUnavailable("nobody answers"), "nats://a:4222")

    assert "nats://a:4222" in said and "shanty doctor" in said


def test_help_needs_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from shanty_cli.__main__ import main\n"
        "main(['--help'])\n"
        f"print(*(name for name in sys.modules if name.startswith({HEAVY!r})), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "Usage: shanty" in done.stdout
    assert done.stderr.strip() == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["bogus"],
        ["run"],
        ["run", HELLO, "--bogus"],
        ["run", HELLO, "-o", "xml"],
        ["run", HELLO, "--timeout", "soon"],
        ["files", "get", "0-r"],
    ],
)
def test_a_command_used_wrongly_ends_with_2_and_says_why(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == USAGE
    assert capsys.readouterr().err.strip()


def test_a_right_team_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["lint", HELLO])

    assert (code, capsys.readouterr().out) == (
        0,
        "team hello is right: lead lead; 2 specialists: greeter, counter (Python); 1 tool of its own; a rehearsal\n",
    )


def test_each_problem_of_a_wrong_team_is_a_line_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "team.yaml").write_text("apiVersion: shanty/v1\nname: t\nspecialists: [a]\nmaxTurns: 3\n")
    code = main(["lint", str(tmp_path)])
    captured = capsys.readouterr()

    assert (code, captured.out) == (USAGE, "")
    assert any(line.startswith("team.yaml:4:1: ") for line in captured.err.splitlines())


def test_problems_as_json_have_file_line_and_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "team.yaml").write_text("apiVersion: shanty/v1\nname: t\nmaxTurns: 3\n")
    code = main(["lint", str(tmp_path), "-o", "json"])
    problems = msgspec.json.decode(capsys.readouterr().out)

    assert code == USAGE
    assert ("team.yaml", 3, 1) in [(each["path"], each["line"], each["column"]) for each in problems]


COMMAND = re.compile(r"`shanty ([a-z][^`]*)`")


@pytest.mark.parametrize("page", ["README.md", "deploy/prometheus/runbooks.md"])
def test_the_pages_name_commands_there_are(page: str) -> None:
    named = COMMAND.findall((ROOT / page).read_text())
    assert named
    for words in named:
        command = list(itertools.takewhile(re.compile(r"[a-z][a-z-]*").fullmatch, words.split()))
        found, _, left = app.parse_commands(command)
        assert found and (not left or found[0] in TAKES_A_WORD), f"{page}: shanty {words}"


TAKES_A_WORD = {"run", "lint", "dev", "demo", "team-values", "bus-auth"}
"""Commands whose first argument may look like a command of their own."""
