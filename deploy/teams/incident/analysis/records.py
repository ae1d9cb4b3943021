"""Lines of a log -> records: when, how severe, which service, what it says.

A record is one event. Lines without a moment of their own that follow it, such as a stack trace, belong to it: of
those, the line that names the exception is kept. Text, access logs, logfmt and JSON lines may be mixed in a file.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from .lexicon import DEBUG, ERROR, FATAL, FAULT_LINE, INFO, LEVELS, WARN
from .times import LineClock, parse_time

MAX_MESSAGE_LENGTH = 2000
MAX_DETAIL_LENGTH = 300

TIME_KEYS = (
    "ts",
    "time",
    "timestamp",
    "@timestamp",
    "at",
    "datetime",
    "date",
    "t",
    "asctime",
    "eventTime",
    "created",
)
LEVEL_KEYS = ("level", "severity", "lvl", "loglevel", "levelname", "log.level", "log_level", "priority", "sev")
MESSAGE_KEYS = ("message", "msg", "event", "text", "log", "body", "short_message", "description", "MESSAGE")
SERVICE_KEYS = ("service", "service_name", "service.name", "svc", "app", "application", "component", "source")
FAULT_KEYS = (
    "error",
    "err",
    "exception",
    "exc",
    "exc_info",
    "stack",
    "stack_trace",
    "stacktrace",
    "reason",
    "cause",
    "detail",
)
PEER_KEYS = (
    "upstream",
    "target",
    "peer",
    "dependency",
    "remote",
    "dest",
    "destination",
    "downstream",
    "host",
    "url",
    "addr",
    "endpoint",
    "server",
    "backend",
    "upstream_service",
    "callee",
)
STATUS_KEYS = frozenset(("status", "status_code", "statusCode", "http_status", "code", "response_code"))
LATENCY_KEYS = frozenset(
    (
        "latency_ms",
        "duration_ms",
        "elapsed_ms",
        "took_ms",
        "response_time_ms",
        "ms",
        "latency",
        "duration",
        "elapsed",
        "request_time",
        "rt",
        "took",
        "dur_ms",
    )
)
FLAT_KEYS = {"k8s", "kubernetes", "log", "http", "resource", "fields", "data"}

LEVEL = re.compile(
    r"\b(TRACE|DEBUG|FINE|INFO|NOTICE|WARN(?:ING)?|ERROR|ERR|SEVERE|CRIT(?:ICAL)?|FATAL|EMERG|ALERT|PANIC)\b"
    r"|[\[<(:](?:\w+:)?(trace|debug|info|notice|note|warn(?:ing)?|error|err|crit(?:ical)?|fatal|emerg"
    r"|alert|System|Warning|Note)[\]>)]"
    r"|\b(LOG|STATEMENT|HINT|DETAIL|CONTEXT|error|fatal|warning|Error|Fatal|Warning|panic):"
    r"|\b(?:level|lvl|severity)=\"?(\w+)"
)
LEVEL_REACH = 160
GLOG_LEVELS = {"I": INFO, "W": WARN, "E": ERROR, "F": FATAL}
PLAIN_LEVELS = {
    written.format(word): level
    for word, level in (
        ("TRACE", DEBUG),
        ("DEBUG", DEBUG),
        ("INFO", INFO),
        ("WARN", WARN),
        ("WARNING", WARN),
        ("ERROR", ERROR),
    )
    for written in ("{}", "[{}]", "{}:")
}
"""The usual case, a level right behind the moment, without a search."""
PAIR = re.compile(r'([A-Za-z_@][\w.@-]*)=("(?:[^"\\]|\\.)*"|[^\s",]+)')
ACCESS = re.compile(
    r'"(GET|POST|PUT|DELETE|PATCH|HEAD|OPTIONS|CONNECT|TRACE|PROPFIND) (\S{0,2000})(?: HTTP/[\d.]+)?" '
    r"(\d{3}) (?:\d+|-)(.*)"
)
ACCESS_LATENCY = re.compile(
    r'(?:\brt|request_time|duration|latency|time|took|upstream_response_time)[=:]"?(\d+(?:\.\d+)?)(ms'
    r'|s)?|(?:^|["\s])(\d+\.\d+)\s*(ms|s)?"?\s*$'
)
FAILURE_WORD = re.compile(r"\b(?:error|failed|failure|fatal|exception|panic|refused|denied)\b", re.IGNORECASE)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Record(msgspec.Struct, kw_only=True):
    line: int
    at: float | None
    level: int
    service: str
    message: str
    status: int = 0
    """HTTP status of an access record; 0 where there is none."""
    latency_ms: float = -1.0
    template: str = ""
    """Already known for access records; mined for all others."""


class RecordReader:
    """Feed it lines in order; it hands back each record once it is complete, and the last one on `flush`."""

    def __init__(self, service: str, year: int = 1970) -> None:
        self.service = service
        self.clock = LineClock(year)
        self.format = ""
        """Notation of the last record: json, access, logfmt or text."""
        self._open: Record | None = None
        self._details: list[str] = []
        self._dated = False

    def feed(self, number: int, line: str) -> Record | None:
        if len(line) > MAX_MESSAGE_LENGTH:
            line = line[:MAX_MESSAGE_LENGTH] if line[:1] != "{" else line
        if "\x1b" in line:
            line = COLOUR.sub("", line)
        record = self._read_json(number, line) if line[:1] == "{" else None
        if record is None:
            moment = self.clock.read(line)
            if moment is not None:
                record = self._read_text(number, line, *moment)
            elif self._dated or not line.strip():
                self._add_detail(line)
                return None
            else:
                record = Record(line=number, at=None, level=level_of(line), service=self.service, message=line)
        self._dated = self._dated or record.at is not None
        done, self._open = self.flush(), record
        return done

    def flush(self) -> Record | None:
        """The record that was still open for continuation lines."""
        done, self._open = self._open, None
        if done is not None and self._details:
            # The last exception named in a trace is the innermost one in Python and in Java's "Caused by".
            named = self._details[0] if len(self._details) == 1 else f"{self._details[0]} | {self._details[-1]}"
            done.message = f"{done.message} | {named}"
            if done.level < ERROR:
                done.level = max(done.level, WARN)
        self._details = []
        return done

    def _add_detail(self, line: str) -> None:
        if self._open is not None and FAULT_LINE.match(line[:MAX_DETAIL_LENGTH]):
            self._details = [*self._details[:1], line.strip()[:MAX_DETAIL_LENGTH]]

    def _read_text(self, number: int, line: str, at: float, end: int) -> Record:
        if '" ' in line:
            found = ACCESS.search(line)
            if found is not None:
                self.format = "access"
                return self._read_access(number, at, found)
        rest = line[end:].lstrip(" -|:\t")
        # glog writes the level as one letter before the moment.
        letter = GLOG_LEVELS.get(line[0]) if line[1:5].isdigit() else None
        level = level_of(rest) if letter is None else letter
        service, message = self.service, rest
        self.format = "text"
        if "=" in rest and ("msg=" in rest or "level=" in rest or "service=" in rest or "svc=" in rest):
            self.format = "logfmt"
            pairs = {key: value.strip('"') for key, value in PAIR.findall(rest)}
            service = first_text(pairs, SERVICE_KEYS[:5]) or service
        return Record(line=number, at=at, level=level, service=service, message=message)

    def _read_access(self, number: int, at: float, found: re.Match[str]) -> Record:
        method, target, status_text, tail = found.groups()
        status = int(status_text)
        return Record(
            line=number,
            at=at,
            level=level_of_status(status),
            service=self.service,
            message=f"{method} {target} {status}",
            status=status,
            latency_ms=access_latency_ms(tail),
            template=f"{method} {route(target)} -> {status}" if status < 500 else f"requests answered with {status}",
        )

    def _read_json(self, number: int, line: str) -> Record | None:
        try:
            fields = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            return None
        if not isinstance(fields, dict):
            return None
        for key, value in list(fields.items()):
            if isinstance(value, dict) and key in FLAT_KEYS:
                fields = {**value, **{k: v for k, v in fields.items() if k != key}}
        self.format = "json"
        status = status_of(fields)
        level = stated_level(fields)
        if level is None:
            level = level_of_status(status) if status else level_of(line)
        return Record(
            line=number,
            at=self._time_of(fields),
            level=level,
            service=first_text(fields, SERVICE_KEYS) or self.service,
            message=json_message(fields, status, level),
            status=status,
            latency_ms=json_latency_ms(fields),
        )

    def _time_of(self, fields: dict[str, Any]) -> float | None:
        for key in TIME_KEYS:
            value = fields.get(key)
            if isinstance(value, str):
                found = self.clock.read(value)
                if found is not None:
                    return found[0]
            if value is not None:
                moment = parse_time(value, self.clock.year)
                if moment is not None:
                    return moment
        return None


def level_of(text: str) -> int:
    first = text[:12].partition(" ")[0]
    plain = PLAIN_LEVELS.get(first)
    if plain is not None:
        return plain
    found = LEVEL.search(text, 0, LEVEL_REACH)
    if found is not None:
        word = found[1] or found[2] or found[3] or found[4]
        return LEVELS.get(word.lower(), INFO)
    return WARN if FAILURE_WORD.search(text, 0, LEVEL_REACH * 2) else INFO


def level_of_status(status: int) -> int:
    return ERROR if status >= 500 else WARN if status >= 400 else INFO


def first_text(fields: dict[str, Any], keys: tuple[str, ...]) -> str:
    for key in keys:
        value = fields.get(key)
        if isinstance(value, str) and value:
            return value
    return ""


def stated_level(fields: dict[str, Any]) -> int | None:
    for key in LEVEL_KEYS:
        value = fields.get(key)
        if isinstance(value, str) and value.lower() in LEVELS:
            return LEVELS[value.lower()]
    return None


def status_of(fields: dict[str, Any]) -> int:
    """The HTTP status of an event; 0 where there is none."""
    for key, value in fields.items():
        if key not in STATUS_KEYS:
            continue
        if isinstance(value, str) and value.isdigit():
            value = int(value)
        if isinstance(value, int) and 100 <= value < 600:
            return value
    return 0


def json_message(fields: dict[str, Any], status: int, level: int) -> str:
    """What the event says: its message; if it is about a problem, also its error and whom it talked to."""
    message = first_text(fields, MESSAGE_KEYS)
    if level < WARN:
        return message[:MAX_MESSAGE_LENGTH]
    parts = [message]
    for key in FAULT_KEYS:
        value = fields.get(key)
        if isinstance(value, dict):
            value = " ".join(str(each) for each in value.values() if isinstance(each, str))
        if isinstance(value, str) and value and value != message:
            lines = [each for each in value.splitlines() if FAULT_LINE.match(each[:MAX_DETAIL_LENGTH])]
            parts.append(f"{key}={(lines[-1] if lines else value)[:MAX_DETAIL_LENGTH].strip()}")
    for key in PEER_KEYS:
        value = fields.get(key)
        if isinstance(value, str) and value and len(value) < 120:
            parts.append(f"{key}={value}")
    if status:
        parts.append(f"status={status // 100}xx")
    return " ".join(part for part in parts if part)[:MAX_MESSAGE_LENGTH]


def json_latency_ms(fields: dict[str, Any]) -> float:
    for key, value in fields.items():
        if key not in LATENCY_KEYS:
            continue
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value) * (1000.0 if key in ("request_time", "rt") else 1.0)
    return -1.0


def access_latency_ms(tail: str) -> float:
    found = ACCESS_LATENCY.search(tail)
    if found is None:
        return -1.0
    number, unit = (found[1], found[2]) if found[1] else (found[3], found[4])
    return float(number) * (1.0 if unit == "ms" else 1000.0)


def route(target: str) -> str:
    """The path of a request without what varies: no query, no ids."""
    parts = target.partition("?")[0].split("/")[:5]
    return "/".join("<*>" if any(letter.isdigit() for letter in part) or len(part) > 24 else part for part in parts)


__all__ = ["DEBUG", "ERROR", "FATAL", "INFO", "WARN", "Record", "RecordReader", "level_of"]
