"""The tools of the incident team. They only read: each streams a file of the workspace and returns what stands out.

Results name file and line for everything they claim, and stay small however long the file is. Moments are ISO 8601
in UTC. `year` is for notations that do not say it, such as syslog's; without it, the year in which the file was
put into the workspace is taken.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec

from shanty_runtime.errors import ToolError
from shanty_runtime.tools.base import ToolContext, tool
from shanty_runtime.tools.workspace import Workspace

from .analysis.changes import Aligned, aligned, read_changes
from .analysis.lexicon import ERROR, WARN, symptoms
from .analysis.mentions import Mentions
from .analysis.mining import MAX_TEXT, LogMiner, LogReport, service_of, wanted_lines, with_texts
from .analysis.records import RecordReader
from .analysis.series import Change, changes_of, read_series, with_text
from .analysis.tickets import TicketReport, complaints_between, read_tickets, report_of
from .analysis.times import parse_time, written, year_of

LINES_BETWEEN_YIELDS = 512
"""At some 10 microseconds a line the event loop waits about 5 ms: heartbeats run on time."""
HEAD_LINES = 300
MOST_ROWS = 200_000
MOST_CHANGES = 60
OWN_OUTPUT = frozenset({"memo.md", "result.json", "truth.json"})
"""Files that are results, not input."""


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    "Nothing to say: everything in the workspace is looked at."


class LogFile(msgspec.Struct, frozen=True, kw_only=True):
    "Which log to mine."

    path: str
    names: tuple[str, ...] = ()
    "Names of all services known so far: messages are searched for them, to see who blames whom."
    year: int = 0
    "The year, for notations without one; 0 if not known."
    begin: str = ""
    "The earliest moment of all logs. A log of errors only may begin with the incident: this says it was calm before."


class Window(msgspec.Struct, frozen=True, kw_only=True):
    "Which lines of a log to show."

    path: str
    line: int
    before: int = 5
    after: int = 10


class ErrorsBetween(msgspec.Struct, frozen=True, kw_only=True):
    "Which stretch of a log to count errors in."

    path: str
    begin: str
    end: str
    names: tuple[str, ...] = ()
    contains: str = ""
    "A regular expression; only lines it matches are counted. Empty: all lines of level warn and above."
    year: int = 0


class DataFile(msgspec.Struct, frozen=True, kw_only=True):
    "Which file to read."

    path: str
    names: tuple[str, ...] = ()
    year: int = 0


class Align(msgspec.Struct, frozen=True, kw_only=True):
    "Which changes to compare with which onset."

    path: str
    onset: str
    service: str = ""
    year: int = 0


class SeriesWindow(msgspec.Struct, frozen=True, kw_only=True):
    "Which values of which series to show."

    path: str
    service: str = ""
    metric: str = ""
    begin: str
    end: str
    year: int = 0


class TicketWindow(msgspec.Struct, frozen=True, kw_only=True):
    "Which tickets to look at."

    path: str
    begin: str
    end: str
    year: int = 0


@tool(effect="read")
async def survey_inputs(args: Survey, context: ToolContext) -> dict[str, Any]:
    """What there is to analyse: files by role (logs, metrics, deploys, tickets), the names of services found in any
    of them, the year, and what is missing. Call it first; hand `services` and `year` on to the specialists."""
    roles = await files_by_role(context.workspace)
    names: Counter[str] = Counter()
    years: Counter[int] = Counter()
    for path in roles["logs"]:
        for service, moment in await log_head(context.workspace, path):
            names[service] += 1
            if moment is not None:
                years[year_of(moment)] += 1
    for path in roles["metrics"]:
        series, _ = read_series(path, await head(context.workspace, path, HEAD_LINES))
        names.update({each.service: 1 for each in series if each.service and each.service != service_of(path)})
        years.update(year_of(point.at) for each in series for point in each.points[:1])
    for path in roles["deploys"]:
        changes, _ = read_changes(path, await whole_text(context.workspace, path))
        names.update(part.strip() for change in changes for part in change.service.split(",") if part.strip())
        years.update(year_of(parse_time(change.at) or 0.0) for change in changes)
    years.pop(1970, None)
    return {
        **roles,
        "services": sorted(names)[:200],
        "year": years.most_common(1)[0][0] if years else 0,
        "missing": [role for role in ("logs", "metrics", "deploys", "tickets") if not roles[role]],
    }


@tool(effect="read")
async def survey_logs(args: Survey, context: ToolContext) -> dict[str, Any]:
    """Every log with its size, notation, services and first moment, from its first lines. Call it before mining."""
    logs: list[dict[str, Any]] = []
    for path in (await files_by_role(context.workspace))["logs"]:
        found = await context.workspace.stat(path)
        seen = await log_head(context.workspace, path)
        moments = [moment for _, moment in seen if moment is not None]
        logs.append(
            {
                "path": path,
                "size_bytes": found.size_bytes,
                "services": sorted({service for service, _ in seen})[:20],
                "at": written(moments[0]) if moments else "",
            }
        )
    return {"logs": logs, "begin": min((each["at"] for each in logs if each["at"]), default="")}


@tool(effect="read")
async def mine_log(args: LogFile, context: ToolContext) -> LogReport:
    """Read one whole log and say what stands out, for each service in it: rises of errors, templates that are new or
    burst, whom they name, rises and stops of ordinary traffic, restarts, latency. Every finding names a line."""
    year = args.year or await stored_year(context.workspace, args.path)
    miner = LogMiner(args.path, names=args.names, year=year, begin=parse_time(args.begin))
    async for number, line in paced(context.workspace.lines(args.path)):
        miner.add(number, line)
    report = miner.report()
    return with_texts(report, await texts_at(context.workspace, args.path, wanted_lines(report)))


@tool(effect="read")
async def log_window(args: Window, context: ToolContext) -> dict[str, Any]:
    """The lines around one line of a log, as they stand there. At most 80."""
    first, last = max(1, args.line - min(args.before, 40)), args.line + min(args.after, 40)
    shown = []
    async for number, line in paced(context.workspace.lines(args.path)):
        if number > last:
            break
        if number >= first:
            shown.append({"line": number, "text": line[: 2 * MAX_TEXT]})
    if not shown:
        raise ToolError(f"{args.path} has no line {args.line}; ask for an earlier one")
    return {"file": args.path, "lines": shown}


@tool(effect="read")
async def errors_between(args: ErrorsBetween, context: ToolContext) -> dict[str, Any]:
    """Errors and warnings of one log between two moments: how many, what they point at, whom they name, and the very
    first of each service. Use it to confirm or deny an idea about who was first and what went wrong."""
    begin, end = moment(args.begin, "begin"), moment(args.end, "end")
    pattern = compiled(args.contains)
    year = args.year or await stored_year(context.workspace, args.path)
    reader, mentions = RecordReader(service_of(args.path), year), Mentions(args.names)
    first: dict[str, dict[str, Any]] = {}
    counts: Counter[str] = Counter()
    hints: Counter[str] = Counter()
    named: Counter[str] = Counter()
    async for number, line in paced(context.workspace.lines(args.path)):
        record = reader.feed(number, line)
        if record is None or record.at is None or not begin <= record.at <= end:
            continue
        if (record.level < WARN) if pattern is None else not pattern.search(record.message[:500]):
            continue
        counts[record.service] += 1
        hints.update(symptoms(record.message))
        named.update(mentions.find(record.message, record.service))
        if record.service not in first and (record.level >= ERROR or pattern is not None):
            first[record.service] = {"at": written(record.at), "file": args.path, "line": record.line}
    texts = await texts_at(context.workspace, args.path, {each["line"] for each in first.values()})
    return {
        "file": args.path,
        "counts": dict(counts.most_common(20)),
        "symptoms": dict(hints),
        "mentions": dict(named.most_common(10)),
        "first": {
            service: {**place, "text": texts.get(place["line"], "")[:MAX_TEXT]} for service, place in first.items()
        },
    }


@tool(effect="read")
async def survey_metrics(args: Survey, context: ToolContext) -> dict[str, Any]:
    """Every file of metrics with the series it holds, read from its first lines."""
    found = []
    for path in (await files_by_role(context.workspace))["metrics"]:
        series, problems = read_series(path, await head(context.workspace, path, HEAD_LINES))
        names = [f"{each.service}: {each.metric}" for each in series]
        found.append({"path": path, "series": len(series), "examples": names[:12], "problems": problems})
    return {"metrics": found}


@tool(effect="read")
async def metric_changes(args: DataFile, context: ToolContext) -> dict[str, Any]:
    """Every series of one CSV file that stepped, ramped or was reset: when, from what to what, how clearly, and at
    which line. Series that only jitter are left out."""
    year = args.year or await stored_year(context.workspace, args.path)
    series, problems = read_series(args.path, await head(context.workspace, args.path, MOST_ROWS), year)
    found: list[Change] = []
    for each in series:
        found += changes_of(each)
        await asyncio.sleep(0)
    found.sort(key=lambda change: -change.score)
    texts = await texts_at(context.workspace, args.path, {change.first.line for change in found[:60]})
    return {
        "file": args.path,
        "series": len(series),
        "changes": [with_text(change, texts.get(change.first.line, "")) for change in found[:60]],
        "problems": problems,
    }


@tool(effect="read")
async def series_window(args: SeriesWindow, context: ToolContext) -> dict[str, Any]:
    """Values of the series of a service and metric between two moments, at most 60 points each, with line numbers."""
    begin, end = moment(args.begin, "begin"), moment(args.end, "end")
    series, _ = read_series(args.path, await head(context.workspace, args.path, MOST_ROWS), args.year or 1970)
    shown = []
    for each in series:
        if args.service in each.service and args.metric in each.metric:
            points = [point for point in each.points if begin <= point.at <= end]
            step = max(1, len(points) // 60)
            values = [{"at": written(p.at), "value": p.value, "line": p.line} for p in points[::step]]
            shown.append({"service": each.service, "metric": each.metric, "values": values})
    return {"file": args.path, "series": shown[:8]}


@tool(effect="read")
async def list_changes(args: DataFile, context: ToolContext) -> dict[str, Any]:
    """Every deploy, configuration change, flag and rollback of a JSON file, in order of time, each with its line."""
    changes, problems = read_changes(args.path, await whole_text(context.workspace, args.path), args.year or 1970)
    return {"file": args.path, "count": len(changes), "changes": changes[-MOST_CHANGES:], "problems": problems}


@tool(effect="read")
async def align_changes(args: Align, context: ToolContext) -> dict[str, list[Aligned]]:
    """The changes next to an onset, the nearest before it first, with the distance and whether they are of the
    service in question."""
    changes, _ = read_changes(args.path, await whole_text(context.workspace, args.path), args.year or 1970)
    return {"aligned": aligned(changes, moment(args.onset, "onset"), args.service)[:15]}


@tool(effect="read")
async def survey_tickets(args: Survey, context: ToolContext) -> dict[str, Any]:
    """Every file of tickets with its columns and size."""
    found = []
    for path in (await files_by_role(context.workspace))["tickets"]:
        lines = await head(context.workspace, path, 3)
        size_bytes = (await context.workspace.stat(path)).size_bytes
        found.append({"path": path, "size_bytes": size_bytes, "columns": lines[0][1][:300] if lines else ""})
    return {"tickets": found}


@tool(effect="read")
async def ticket_groups(args: DataFile, context: ToolContext) -> TicketReport:
    """Tickets grouped by similar words: which groups rose above their usual rate and when, how many customers wrote,
    how many speak of something not working, which services they name."""
    year = args.year or await stored_year(context.workspace, args.path)
    tickets, problems = read_tickets(args.path, await head(context.workspace, args.path, MOST_ROWS), year)
    await asyncio.sleep(0)
    return report_of(args.path, tickets, problems, args.names)


@tool(effect="read")
async def complaints(args: TicketWindow, context: ToolContext) -> dict[str, Any]:
    """Tickets between two moments that speak of something not working: how many, and from which customers."""
    tickets, _ = read_tickets(args.path, await head(context.workspace, args.path, MOST_ROWS), args.year or 1970)
    count, customers, examples = complaints_between(
        args.path, tickets, moment(args.begin, "begin"), moment(args.end, "end")
    )
    return {"tickets": count, "customers": customers[:200], "customer_count": len(customers), "examples": examples}


async def files_by_role(workspace: Workspace) -> dict[str, list[str]]:
    """Input files by what they are, judged by folder, name and ending."""
    roles: dict[str, list[str]] = {"logs": [], "metrics": [], "deploys": [], "tickets": [], "other": []}
    for version in await workspace.files():
        path = version.path
        if path not in OWN_OUTPUT:
            roles[role_of(path)].append(path)
    return roles


def role_of(path: str) -> str:
    name = path.rpartition("/")[2].lower()
    if re.search(r"ticket|support|complaint|case", name) and name.endswith((".csv", ".tsv")):
        return "tickets"
    if name.endswith((".csv", ".tsv")):
        return "metrics"
    if path.startswith("logs/") or re.search(r"\.(?:log|out|err)(?:\.\d+)?$|access|syslog", name):
        return "logs"
    if name.endswith((".json", ".jsonl")) and re.search(r"deploy|change|release|rollout|config", name):
        return "deploys"
    return "other"


async def paced(lines: AsyncIterator[tuple[int, str]]) -> AsyncIterator[tuple[int, str]]:
    """Lines as they are; other tasks of the process get their turn in between."""
    async for number, line in lines:
        if number % LINES_BETWEEN_YIELDS == 0:
            await asyncio.sleep(0)
        yield number, line


async def head(workspace: Workspace, path: str, most: int) -> list[tuple[int, str]]:
    lines = []
    async for number, line in paced(workspace.lines(path)):
        lines.append((number, line))
        if len(lines) >= most:
            break
    return lines


async def log_head(workspace: Workspace, path: str) -> list[tuple[str, float | None]]:
    """Service and moment of the first records; a moment without a year counts as none."""
    reader = RecordReader(service_of(path), year=1970)
    records = [reader.feed(number, line) for number, line in await head(workspace, path, HEAD_LINES)]
    return [
        (record.service, record.at if record.at is not None and year_of(record.at) != 1970 else None)
        for record in [*records, reader.flush()]
        if record is not None
    ]


async def texts_at(workspace: Workspace, path: str, numbers: Iterable[int]) -> dict[int, str]:
    wanted = set(numbers)
    last = max(wanted, default=0)
    texts: dict[int, str] = {}
    if last:
        async for number, line in paced(workspace.lines(path)):
            if number in wanted:
                texts[number] = line[: 2 * MAX_TEXT]
            if number >= last:
                break
    return texts


async def whole_text(workspace: Workspace, path: str) -> str:
    return (await workspace.read(path)).decode(errors="replace")


async def stored_year(workspace: Workspace, path: str) -> int:
    return year_of((await workspace.stat(path)).at_ms / 1000)


def moment(text: str, what: str) -> float:
    found = parse_time(text)
    if found is None:
        raise ToolError(f"{what} {text!r} is not a moment; give one such as 2026-01-31T12:00:00Z")
    return found


def compiled(pattern: str) -> re.Pattern[str] | None:
    try:
        return re.compile(pattern, re.IGNORECASE) if pattern else None
    except re.error as error:
        raise ToolError(f"contains: {error} in {pattern!r}") from error
