"""A run as one JSON object, and as the words that end a watched run."""

from __future__ import annotations

from typing import Any

import msgspec
from rich.console import Group, RenderableType
from rich.text import Text

from shanty_cli.grades import Reply, lines_of
from shanty_cli.spending import as_data, spending_line
from shanty_cli.text import at, clean, duration, one_line, plural, size
from shanty_cli.view import RunView
from shanty_protocol import Budget, Grade, Outcome


def report(view: RunView) -> dict[str, Any]:
    """What programs are given. Fields are only ever added."""
    outcome = view.outcome
    return {
        "run": view.run,
        "status": view.status,
        "expired": view.expired,
        "summary": "" if outcome is None else outcome.summary,
        "result": None if outcome is None else outcome.result,
        "files": [] if outcome is None else [msgspec.to_builtins(file) for file in outcome.files],
        "grades": [_plain(grade) for grade in view.grades],
        "replies": [
            {"goal": each.goal, "finished_at": at(each.at_ms), **_plain(each.outcome)} for each in view.replies
        ],
        "threads": [
            {
                "thread": thread.thread,
                "agent": thread.agent,
                "hired": thread.hired,
                "hedges": thread.hedges,
                "status": thread.status,
                "turns": thread.turns,
                "tool_calls": thread.tool_calls,
                "replicas": list(thread.replicas),
            }
            for thread in view.in_order
        ],
        "waiting": [msgspec.to_builtins(each) for each in view.waiting.values()],
        **spending_of(view),
        "usage": {field: getattr(view.usage, field) for field in view.usage.__struct_fields__},
        "started_at": at(view.started_at_ms),
        "finished_at": at(view.ended_at_ms),
    }


def spending_of(view: RunView) -> dict[str, Any]:
    """What a run has used, what it may use and what is left; none where nothing is limited."""
    spending = view.spending
    limited = spending.limits != Budget()
    return {
        "spent": as_data(spending.spent),
        "limits": as_data(spending.limits) if limited else None,
        "left": as_data(spending.left) if limited else None,
        "out_of": spending.out_of,
    }


def ending(view: RunView) -> RenderableType:
    """The last words about a run that has replied: what came out, and where to read more."""
    assert view.outcome is not None, "only a run that has replied has an ending"
    outcome, usage = view.outcome, view.usage
    parts = [
        Text(f"before, to {one_line(each.goal, 80)!r}: {_short(each)}", style="dim") for each in view.replies[:-1]
    ]
    parts += [
        Text(f"{view.status} in {duration(view.ended_at_ms - view.started_at_ms)}", style="bold"),
        Text(clean(outcome.summary)),
    ]
    if outcome.code:
        parts.append(Text(f"reason: {one_line(outcome.code)}"))
    parts += map(Text, lines_of(view.grades))
    parts += [
        Text(f"  {one_line(file.path)}  version {file.version}, {size(file.size_bytes)}") for file in outcome.files
    ]
    tokens_in = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    parts.append(
        Text(
            f"{plural(len(view.threads), 'thread')}, {tokens_in} tokens in, {usage.output_tokens} tokens out",
            style="dim",
        )
    )
    if spent := spending_line(view.spending):
        parts.append(Text(spent, style="dim"))
    if outcome.files:
        parts.append(Text(f"read more: shanty files get {view.run} {one_line(outcome.files[0].path)}"))
    parts.append(Text(f"every step: shanty runs journal {view.run}"))
    return Group(*parts)


def _plain(part: Grade | Outcome) -> dict[str, Any]:
    """As it stands in a journal: fields that say nothing are left out."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(part))
    return plain


def _short(reply: Reply) -> str:
    """An answer that others came after, on one line."""
    return f"{reply.outcome.status}: {one_line(reply.outcome.summary, 300)}"
