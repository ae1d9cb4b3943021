"""Lists of runs, files, agents and entries, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from shanty_cli.lookup import RunLine, told
from shanty_cli.roster import AgentLine
from shanty_cli.text import at, duration, one_line, size
from shanty_cli.tree import STYLES
from shanty_protocol import FileVersion
from shanty_runtime.bus import Stored


def run_rows(lines: Sequence[RunLine]) -> list[dict[str, Any]]:
    """The runs for programs."""
    return [
        {
            "run": line.run,
            "status": line.status,
            "started_at": at(line.started_at_ms),
            "finished_at": at(line.ended_at_ms),
            "goal": line.goal,
        }
        for line in lines
    ]


def runs_table(lines: Sequence[RunLine]) -> Table:
    table = _table("run", "status", "started", "took", "goal")
    for line in lines:
        took = duration(line.ended_at_ms - line.started_at_ms) if line.ended_at_ms else ""
        status = Text(line.status, style=STYLES[line.status])
        table.add_row(Text(line.run), status, Text(at(line.started_at_ms)), Text(took), Text(one_line(line.goal, 60)))
    return table


def files_table(versions: Sequence[FileVersion]) -> Table:
    table = _table("path", "version", "size", "written by", "at", "SHA-256")
    for each in versions:
        author = f"{each.agent} {each.thread}"
        cells = (
            one_line(each.path),
            str(each.version),
            size(each.size_bytes),
            author,
            at(each.at_ms),
            each.digest[:12],
        )
        table.add_row(*map(Text, cells))
    return table


def roster_table(lines: Sequence[AgentLine]) -> Table:
    waits = any(line.waits_for for line in lines)
    table = _table("agent", "role", "team", "replicas", "busy", "model", "leads", "tools", *(["waits for"] * waits))
    for line in lines:
        cells = (
            line.agent,
            line.role,
            line.team,
            ", ".join(line.replicas),
            f"{line.threads_active} of {line.threads_max}",
            ", ".join(line.models),
            ", ".join(line.specialists),
            ", ".join(line.tools),
            *([line.waits_for] * waits),
        )
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    return table


def journal_line(stored: Stored) -> str:
    """An entry on one line, in columns that stay where they are."""
    kind, by, words, at_ms = told(stored)
    address = stored.address
    place = f"{address.thread} {address.agent} {address.n}"
    return (
        f"{stored.seq:>7}  {at(at_ms):<24}  {place:<28} {kind:<16} to {address.to:<10} by {by:<16}  {words}".rstrip()
    )


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
