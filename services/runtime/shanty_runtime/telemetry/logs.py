"""Log lines on stderr: one JSON object a line for machines, or a plain line for people.

Every line says which run and thread it is about, without being told each time:

    with log_context(run=run, thread=thread):
        log.info("taken over", extra={"attempt": 2})

A line is one line, whatever is logged: line breaks and control characters of others' text are escaped.
"""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import msgspec
from opentelemetry import trace

from shanty_runtime.errors import ConfigError
from shanty_runtime.redaction import redact

_context: ContextVar[dict[str, str]] = ContextVar("shanty_log_context")
_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_ESCAPES = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160), 0x2028, 0x2029)}


class log_context:  # it is used like a function
    """Add fields such as run and thread to every line logged inside, by tasks started inside as well."""

    def __init__(self, **fields: str) -> None:
        self._fields = fields

    def __enter__(self) -> None:
        self._token = _context.set({**_context.get({}), **self._fields})

    def __exit__(self, *exc: object) -> None:
        _context.reset(self._token)


def configure_logging(service: str, level: str = "info", json: bool = True, **about: str) -> None:
    """Send log lines of this process to stderr. Called again, it replaces what it set up before.

    `about` is the same in each line for machines: which agent this is, which replica.
    """
    known = logging.getLevelNamesMapping()
    if level.upper() not in known:
        raise ConfigError(f"log level {level!r} is not known; use debug, info, warning or error")
    handler = StderrHandler()
    handler.setFormatter(JsonLines(service, **about) if json else PlainLines(service))
    root = logging.getLogger()
    for earlier in [each for each in root.handlers if isinstance(each, StderrHandler)]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(known[level.upper()])


class StderrHandler(logging.StreamHandler[Any]):
    """A type of its own, so that it is known again."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)


class JsonLines(logging.Formatter):
    def __init__(self, service: str, **about: str) -> None:
        super().__init__()
        self.about = {"service": service, **about}

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            **self.about,
            "logger": record.name,
            "message": redact(record.getMessage()),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        return msgspec.json.encode(_encodable(line), enc_hook=str).decode()


class PlainLines(logging.Formatter):
    def __init__(self, service: str) -> None:
        super().__init__()
        self.service = service

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        line = f"{_time(record)} {record.levelname.lower():7} {self.service} {record.getMessage()}{fields}"
        if record.exc_info:
            line += " " + self.formatException(record.exc_info)
        return redact(_writable(line.translate(_ESCAPES)))


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What the context, the current span and `extra=` say about a line."""
    fields: dict[str, Any] = dict(_context.get({}))
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        fields["trace_id"] = trace.format_trace_id(span.trace_id)
        fields["span_id"] = trace.format_span_id(span.span_id)
    fields.update({name: value for name, value in vars(record).items() if name not in _STANDARD_FIELDS})
    return fields


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return _writable(value)
    if isinstance(value, dict):
        return {_writable(str(key)): _encodable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(each) for each in value]
    return value


def _writable(text: str) -> str:
    # A lone surrogate, as a file name may hold, has no UTF-8 form.
    return text.encode("utf-8", "backslashreplace").decode()
