from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shanty_runtime.errors import ConfigError
from shanty_runtime.telemetry import agent_span, configure_logging, log_context
from shanty_runtime.telemetry.logs import JsonLines, PlainLines

log = logging.getLogger("shanty.test")


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [msgspec.json.decode(line) for line in captured.err.splitlines()]


def test_a_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("lead")
    with log_context(run="0-r7", thread="0-1"):
        log.info("taken over from %s", "lead-2", extra={"attempt": 2})
    (line,) = lines(capsys)
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line == {
        "level": "info",
        "service": "lead",
        "logger": "shanty.test",
        "message": "taken over from lead-2",
        "run": "0-r7",
        "thread": "0-1",
        "attempt": 2,
    }


def test_every_line_says_which_agent_and_replica_it_is_of(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("specialist", agent="logs", replica="logs-1")
    log.info("ready")
    (line,) = lines(capsys)
    assert (line["service"], line["agent"], line["replica"]) == ("specialist", "logs", "logs-1")


def test_an_inner_context_adds_to_the_outer_one_and_ends(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("lead")
    with log_context(run="0-r7"):
        with log_context(thread="0-1"):
            log.info("inside")
        log.info("outside")
    log.info("beyond")
    seen = [(line.get("run"), line.get("thread")) for line in lines(capsys)]
    assert seen == [("0-r7", "0-1"), ("0-r7", None), (None, None)]


async def test_each_task_keeps_its_own_context(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("lead")
    both_inside = asyncio.Barrier(2)

    async def work(thread: str) -> None:
        with log_context(thread=thread):
            await both_inside.wait()
            log.info(thread)

    with log_context(run="0-r7"):
        await asyncio.gather(work("0-1"), work("0-2"))
    found = lines(capsys)
    assert sorted(line["message"] for line in found) == ["0-1", "0-2"]
    assert all(line["message"] == line["thread"] and line["run"] == "0-r7" for line in found)


def test_a_line_names_the_span_it_was_written_in(
    capsys: pytest.CaptureFixture[str], recorded: InMemorySpanExporter
) -> None:
    configure_logging("lead")
    with agent_span("lead", "0-r7", "0"):
        log.info("inside")
    (line,) = lines(capsys)
    (span,) = recorded.get_finished_spans()
    assert span.context is not None
    assert line["trace_id"] == trace.format_trace_id(span.context.trace_id)
    assert line["span_id"] == trace.format_span_id(span.context.span_id)


@pytest.mark.parametrize("json", [True, False])
@pytest.mark.parametrize("text", ["two\nlines", "a\x1b[31mcolour", "nul \x00", "\u2028", "\r\n{}", "\x85"])
def test_whatever_is_logged_makes_one_line(text: str, json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("lead", json=json)
    with log_context(label=text):
        log.info("said: %s", text, extra={"also": {"nested": [text, object()]}})
    written = capsys.readouterr().err
    assert written.endswith("\n")
    assert "\x1b" not in written
    assert "Logging error" not in written
    assert written.count("\n") == 1
    assert "said: " in written


@pytest.mark.parametrize("formatter", [JsonLines("lead"), PlainLines("lead")])
def test_text_that_has_no_utf8_form_is_escaped(formatter: logging.Formatter) -> None:
    # Formatted directly: what pytest itself captures of a log has to have a UTF-8 form.
    record = logging.makeLogRecord({"msg": "opened \udcff", "path": "a\ud800", "seen": {"\ud800": ["\udfff"]}})
    written = formatter.format(record).encode()
    assert rb"opened \udcff" in written.replace(rb"\\", b"\\")


@pytest.mark.parametrize("json", [True, False])
def test_an_exception_is_told_in_the_same_line(json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("lead", json=json)
    try:
        raise LookupError("no such thing")
    except LookupError:
        log.exception("failed")
    written = capsys.readouterr().err
    assert written.count("\n") == 1
    assert "LookupError: no such thing" in written


def test_lines_below_the_level_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("lead", level="warning")
    log.info("quiet")
    log.warning("loud")
    assert [line["message"] for line in lines(capsys)] == ["loud"]


def test_configured_twice_writes_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("lead")
    configure_logging("specialist")
    log.info("once")
    assert [line["service"] for line in lines(capsys)] == ["specialist"]


def test_an_unknown_level_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match="'loud' is not known"):
        configure_logging("lead", level="loud")
