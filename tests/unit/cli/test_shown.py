from __future__ import annotations

import io
import json
from typing import get_args

import pytest
from rich.console import Console, RenderableType

from shanty_cli.lines import Lines, line_of
from shanty_cli.output import Output
from shanty_cli.report import ending, report
from shanty_cli.text import at, clean, duration, one_line, plural, size
from shanty_cli.tree import GLYPHS, Tree, chosen, drawn
from shanty_cli.view import Happening, ThreadStatus
from shanty_protocol import FileRef, Outcome, Status, ThreadTakenOver
from support.script import Script

FILE = FileRef(path="memo.md", version=2, digest="ab" * 32, size_bytes=1_500)


def printed(what: RenderableType, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, markup=True)
    with console.capture() as captured:
        console.print(what)
    return captured.get()


def test_a_line_has_its_columns_where_they_are_expected() -> None:
    happening = Happening(at_ms=3_500, thread="0-2", agent="logs", kind="taken_over", text="taken over by b from a")

    assert line_of(happening, 1_000) == ("       2.5 s  0-2     logs         taken over  taken over by b from a")


def test_lines_leave_out_what_they_would_only_repeat(script: Script) -> None:
    script.start()
    script.model("0", "lead", "delegate")
    script.end(Outcome(status="ok", summary="done"))
    out = io.StringIO()
    with Lines(out) as lines:
        lines.happened(script.view, tuple(script.happenings))

    assert [line.split()[4] for line in out.getvalue().splitlines()] == ["started", "replied"]


def test_the_report_has_everything_a_program_needs(script: Script) -> None:
    script.start()
    script.delegate("0-1", "logs")
    script.open("0-1", "logs", by="logs-1")
    script.write("0-1", "logs", ThreadTakenOver(at_ms=script.now_ms, by="logs-2"))
    script.returned("0-1", "logs", "mine", by="logs-2")
    script.reply("0-1", "logs", Outcome(status="ok"), to=("lead", "0"), by="logs-2")
    script.end(Outcome(status="ok", summary="found", result={"n": 1}, files=(FILE,)))

    assert report(script.view) == {
        "run": "0-r",
        "status": "completed",
        "expired": False,
        "summary": "found",
        "result": {"n": 1},
        "files": [{"path": "memo.md", "version": 2, "digest": "ab" * 32, "size_bytes": 1_500}],
        "grades": [],
        "replies": [
            {
                "goal": "find out",
                "finished_at": "1970-01-01T00:00:07.000Z",
                "status": "ok",
                "summary": "found",
                "result": {"n": 1},
                "files": [{"path": "memo.md", "version": 2, "digest": "ab" * 32, "size_bytes": 1_500}],
            }
        ],
        "threads": [
            {
                "thread": "0",
                "agent": "lead",
                "hired": "",
                "hedges": "",
                "status": "ok",
                "turns": 0,
                "tool_calls": 0,
                "replicas": ["lead-1"],
            },
            {
                "thread": "0-1",
                "agent": "logs",
                "hired": "",
                "hedges": "",
                "status": "ok",
                "turns": 0,
                "tool_calls": 1,
                "replicas": ["logs-1", "logs-2"],
            },
        ],
        "waiting": [],
        "spent": {"tokens": 0, "usd": 0.0, "model_calls": 0, "tool_calls": 1, "threads": 1},
        "limits": None,
        "left": None,
        "out_of": "",
        "usage": {"input_tokens": 10, "output_tokens": 2, "cache_read_tokens": 0, "cache_write_tokens": 0},
        "started_at": "1970-01-01T00:00:01.000Z",
        "finished_at": "1970-01-01T00:00:07.000Z",
    }


def test_the_report_of_a_run_that_goes_on_says_so(script: Script) -> None:
    script.start()
    running = report(script.view)

    assert (running["status"], running["result"], running["finished_at"]) == ("running", None, "")
    assert json.loads(json.dumps(running)) == running


def test_the_ending_says_where_to_read_more(script: Script) -> None:
    script.start()
    script.end(Outcome(status="failed", summary="no [bold]luck[/bold]", code="turn_limit", files=(FILE,)))

    assert printed(ending(script.view)).splitlines() == [
        "failed in 1.0 s",
        "no [bold]luck[/bold]",
        "reason: turn_limit",
        "  memo.md  version 2, 1.5 kB",
        "1 thread, 10 tokens in, 2 tokens out",
        "read more: shanty files get 0-r memo.md",
        "every step: shanty runs journal 0-r",
    ]


def test_the_tree_shows_who_has_a_thread_and_from_whom(script: Script) -> None:
    script.start("[red]goal[/red] :smile:")
    script.delegate("0-1", "logs", "the logs")
    script.open("0-1", "logs", by="logs-1")
    script.write("0-1", "logs", ThreadTakenOver(at_ms=script.now_ms, by="logs-2"))
    shown = printed(drawn(script.view, script.now_ms, expand=True), width=140)

    assert "[red]goal[/red] :smile:" in shown
    (line,) = (line for line in shown.splitlines() if "0-1" in line)
    for part in ("●", "logs", "the logs", "goes on where it was left", "3.0 s", "logs-2, taken over from logs-1"):
        assert part in line


def test_every_status_has_a_glyph() -> None:
    statuses: set[ThreadStatus] = {"sent", "working", "waiting", *get_args(Status)}

    assert set(GLYPHS) == statuses


def test_where_there_is_no_room_the_threads_that_replied_go_first(script: Script) -> None:
    script.start()
    for number in range(1, 7):
        script.delegate(f"0-{number}", "logs")
    for number in (1, 2, 5):
        script.reply(f"0-{number}", "logs", Outcome(status="ok"), to=("lead", "0"))
    shown, left_out = chosen(script.view.in_order, 5)

    assert ([thread.thread for thread in shown], left_out) == (["0", "0-3", "0-4", "0-5", "0-6"], 2)
    assert "… and 2 threads that replied" in printed(drawn(script.view, 0, most_threads=5))


def test_the_tree_is_drawn_on_a_terminal_and_told_in_lines_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for variable in ("NO_COLOR", "CI", "TERM"):
        monkeypatch.delenv(variable, raising=False)
    on_terminal = Output("text", stdout=io.StringIO(), stderr=Terminal()).screen()
    elsewhere = Output("text", stdout=io.StringIO(), stderr=io.StringIO()).screen()
    monkeypatch.setenv("CI", "1")
    in_ci = Output("text", stdout=io.StringIO(), stderr=Terminal()).screen()

    assert isinstance(on_terminal, Tree)
    assert isinstance(elsewhere, Lines)
    assert isinstance(in_ci, Lines)


def test_what_goes_into_a_file_is_neither_folded_nor_padded() -> None:
    stdout = io.StringIO()
    Output("text", stdout=stdout, stderr=io.StringIO()).show("word " * 40)

    assert stdout.getvalue() == f"{'word ' * 40}".rstrip() + "\n"


@pytest.mark.parametrize("hostile", ["\x1b[31m", "\x9b31m", "\x07", "\u202e", "\u200b", "\r", "\x7f", "\ud800"])
def test_a_terminal_never_sees_a_character_it_would_obey(hostile: str) -> None:
    assert clean(f"a{hostile}b")[1] == "\N{REPLACEMENT CHARACTER}"


def test_words_and_figures_for_people() -> None:
    assert clean("a\r\nb\tc\n") == "a\nb\tc\n"
    assert one_line("a\n  b\t" + "c" * 10, 8) == "a b ccc…"
    assert [duration(ms) for ms in (-5, 12_340, 65_000, 7_800_000)] == ["0.0 s", "12.3 s", "1 min 05 s", "2 h 10 min"]
    assert [size(n) for n in (999, 1_500, 2_500_000, 3 * 10**9)] == ["999 B", "1.5 kB", "2.5 MB", "3.0 GB"]
    assert [plural(1, "entry", "entries"), plural(2, "entry", "entries"), plural(0, "run")] == [
        "1 entry",
        "2 entries",
        "0 runs",
    ]
    assert [at(0), at(1_500), at(10**17)] == ["", "1970-01-01T00:00:01.500Z", str(10**17)]
