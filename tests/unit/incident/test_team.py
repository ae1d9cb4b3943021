"""The whole team on folders: as generated, broken, and with parts missing."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy.teams.incident.analysis.mining import LogMiner
from deploy.teams.incident.evals.generate import KINDS, generate
from deploy.teams.incident.evals.offline import RUN, TEAM_FOLDER, FolderStore, analyse, contents
from deploy.teams.incident.evals.score import answer_of
from shanty_runtime.team import Team, load_team
from shanty_runtime.tools.base import ToolContext
from shanty_runtime.tools.workspace import Workspace

HOURS = 1.5
"""A short record keeps the tests fast."""


@pytest.fixture(scope="module")
def team() -> Team:
    return load_team(TEAM_FOLDER)


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    generate(11, tmp_path / "a", hours=HOURS)
    generate(11, tmp_path / "b", hours=HOURS)
    generate(12, tmp_path / "c", hours=HOURS)

    assert bytes_below(tmp_path / "a") == bytes_below(tmp_path / "b")
    assert bytes_below(tmp_path / "a") != bytes_below(tmp_path / "c")


@pytest.mark.parametrize("seed", [401, pytest.param(402, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_generated_incident_is_explained(kind: str, seed: int, team: Team, tmp_path: Path) -> None:
    generate(seed, tmp_path, kind, hours=HOURS)
    truth = json.loads((tmp_path / "truth.json").read_text(encoding="utf-8"))

    said, room = await analyse(tmp_path, team)

    assert answer_of(said["result"]) == (truth["kind"], truth["service"])
    assert json.loads(contents(room, "result.json")) == said["result"]
    assert said["result"]["summary"] in contents(room, "memo.md").decode()


async def test_the_lead_asks_again_and_the_specialist_builds_on_its_first_look(team: Team, tmp_path: Path) -> None:
    generate(5, tmp_path, "expired_certificate", hours=HOURS)

    _, room = await analyse(tmp_path, team)

    logs = next(thread for thread in room.threads.values() if thread.agent == "logs")
    again = logs.handed_in[1]["result"]["answers"]
    assert [reply["status"] for reply in logs.handed_in] == ["ok", "ok"]
    assert (again[0]["kind"], again[0]["answer"]) == ("expired_certificate", "confirmed")
    calls = [b["name"] for m in logs.messages if m.role == "assistant" for b in m.content if b["type"] == "tool_use"]
    assert calls.count("survey_logs") == 1
    assert "errors_between" in calls[calls.index("submit_result") :]
    assert "report_progress" in calls


async def test_every_piece_of_evidence_is_really_at_its_line(team: Team, tmp_path: Path) -> None:
    generate(6, tmp_path, "bad_deploy", hours=HOURS)

    said, _ = await analyse(tmp_path, team)

    evidence = [each for cause in said["result"]["causes"] for each in cause["evidence"]]
    assert len(evidence) >= 3
    for each in evidence:
        lines = (tmp_path / each["file"]).read_text(encoding="utf-8").split("\n")
        assert lines[each["line"] - 1].startswith(each["text"]) and each["text"]


async def test_the_truth_is_not_read(team: Team, tmp_path: Path) -> None:
    generate(8, tmp_path / "with", hours=HOURS)
    generate(8, tmp_path / "without", hours=HOURS)
    (tmp_path / "without" / "truth.json").unlink()
    (tmp_path / "with" / "truth.json").write_text('{"kind": "none", "service": null}', encoding="utf-8")

    first, _ = await analyse(tmp_path / "with", team)
    second, _ = await analyse(tmp_path / "without", team)

    assert first["result"] == second["result"]


@pytest.mark.parametrize("missing", ["tickets.csv", "deploys.json", "metrics", "logs"])
async def test_a_missing_input_is_said_and_the_rest_is_used(missing: str, team: Team, tmp_path: Path) -> None:
    generate(9, tmp_path, "dependency_outage", hours=HOURS)
    gone = tmp_path / missing
    for path in sorted(gone.rglob("*")) if gone.is_dir() else [gone]:
        path.unlink()

    said, room = await analyse(tmp_path, team)

    name = missing.partition(".")[0]
    replied = {thread.agent: thread.handed_in[0]["status"] for thread in room.threads.values()}
    assert replied[name] == "partial"
    assert said["status"] == "partial"
    assert f"There were no {name} to look at." in said["result"]["unknowns"]
    if missing != "logs":
        assert answer_of(said["result"])[0] == "dependency_outage"


async def test_an_empty_folder_gives_a_result_without_causes(team: Team, tmp_path: Path) -> None:
    said, _ = await analyse(tmp_path, team)

    assert said["result"]["causes"] == []
    assert len(said["result"]["unknowns"]) == 4


async def test_garbage_in_every_file_is_said_and_not_fatal(team: Team, tmp_path: Path) -> None:
    garbage = bytes(range(256)) * 400 + b"\n" + b"x" * 1_100_000 + b"\n{\n[\n,,,\n"
    for path in ("logs/a.log", "logs/empty.log", "metrics/m.csv", "deploys.json", "tickets.csv"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(b"" if "empty" in path else garbage)

    said, _ = await analyse(tmp_path, team)

    assert (said["status"], said["result"]["causes"]) == ("partial", [])
    assert any("metrics/m.csv" in each for each in said["result"]["unknowns"])


async def test_a_memo_that_is_there_already_gets_a_new_version(team: Team, tmp_path: Path) -> None:
    generate(10, tmp_path, "none", hours=HOURS)
    (tmp_path / "memo.md").write_text("mine", encoding="utf-8")

    said, room = await analyse(tmp_path, team)

    assert room.store.written["memo.md"][-1][0].version == 2
    assert "memo.md" in said["files"]


async def use(team: Team, folder: Path, name: str, **arguments: Any) -> Any:
    workspace = Workspace(FolderStore(folder), RUN, agent="logs", thread="0-1", key="k")
    context = ToolContext(key="k", run=RUN, thread="0-1", agent="logs", workspace=workspace)
    used = team.tools[name]
    value = await used.function(msgspec.convert(arguments, used.arguments), context)
    return msgspec.json.decode(msgspec.json.encode(value))


async def test_results_of_tools_stay_small_on_large_files(team: Team, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    lines = (
        f"2024-05-01T{n // 3600:02d}:{n // 60 % 60:02d}:{n % 60:02d}Z ERROR w{n % 997} x{chr(97 + n % 26)} failed"
        for n in range(40_000)
    )
    (tmp_path / "logs" / "big.log").write_text("\n".join(lines), encoding="utf-8")

    found = await use(team, tmp_path, "mine_log", path="logs/big.log")

    assert found["lines"] == 40_000
    assert len(json.dumps(found)) < 20_000


async def test_lines_around_a_line_are_shown_as_they_stand(team: Team, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.log").write_text("\n".join(f"line {n}" for n in range(1, 100)), encoding="utf-8")

    found = await use(team, tmp_path, "log_window", path="logs/a.log", line=50, before=1, after=1)

    assert found["lines"] == [{"line": n, "text": f"line {n}"} for n in (49, 50, 51)]


@pytest.mark.slow
def test_memory_stays_bounded_on_a_long_log() -> None:
    miner = LogMiner("logs/long.log", names=("ledger",))
    size = 0
    tracemalloc.start()
    try:
        for n in range(45_000):
            at = f"2024-05-{1 + n // 8640:02d}T{n // 360 % 24:02d}:{n // 6 % 60:02d}:{n % 6 * 10:02d}Z"
            line = f"{at} INFO request {n * 7919:x} of u{n} took {n % 977} ms trace={n:032x} {'padding ' * 48}"
            size += len(line) + 1
            miner.add(n + 1, line)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert size > 20_000_000
    assert peak_bytes < 25_000_000
    assert miner.report().lines == 45_000


async def test_other_tasks_get_their_turn_while_a_log_is_mined(team: Team, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    text = "\n".join(f"2024-05-01T10:{n // 600:02d}:{n // 10 % 60:02d}Z INFO request {n} ok" for n in range(30_000))
    (tmp_path / "logs" / "a.log").write_text(text, encoding="utf-8")
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(count())
    await use(team, tmp_path, "mine_log", path="logs/a.log")
    task.cancel()

    assert turns > 30
