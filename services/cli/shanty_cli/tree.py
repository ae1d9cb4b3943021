"""A run as a tree that is drawn again and again: each thread, what it does now, and who has it."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from shanty_cli.spending import spending_line
from shanty_cli.text import duration, one_line, plural
from shanty_cli.view import Happening, RunStatus, RunView, ThreadStatus, ThreadView

GLYPHS: dict[ThreadStatus, tuple[str, str]] = {
    "sent": ("○", "dim"),
    "working": ("●", "cyan"),
    "waiting": ("◌", "yellow"),
    "ok": ("✔", "green"),
    "partial": ("◐", "yellow"),
    "failed": ("✘", "red"),
    "refused": ("✘", "red"),
    "cancelled": ("■", "magenta"),
    "budget_exhausted": ("✘", "red"),
    "timed_out": ("✘", "red"),
    "unreachable": ("✘", "red"),
}
STYLES: dict[RunStatus, str] = {
    "running": "cyan",
    "waiting": "bold yellow",
    "completed": "green",
    "partial": "yellow",
    "failed": "red",
    "cancelled": "magenta",
}
ROWS_BESIDES = 7
"""Lines of the screen that are not threads."""


class Tree:
    """Draws a run on a terminal. Implements `watch.Screen`."""

    def __init__(self, console: Console) -> None:
        self.console = console
        # Drawn only when asked to: a thread of rich's own would read the view while it changes.
        self._live = Live(console=console, auto_refresh=False, transient=False, vertical_overflow="crop")

    def __enter__(self) -> Tree:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def happened(self, view: RunView, happenings: tuple[Happening, ...]) -> None:
        for happening in happenings:
            if happening.kind in ("taken_over", "rejected", "gave_up", "asked", "answered", "judged", "delayed"):
                said = f"{duration(happening.at_ms - view.started_at_ms)}  {happening.thread} {happening.agent}: "
                self.console.print(Text(said + happening.text, style="bold yellow"))

    def refresh(self, view: RunView, now_ms: int) -> None:
        room = max(4, self.console.size.height - ROWS_BESIDES)
        self._live.update(drawn(view, now_ms, most_threads=room, expand=True), refresh=True)


def drawn(view: RunView, now_ms: int, *, most_threads: int = 1_000, expand: bool = False) -> RenderableType:
    """The whole picture. Text of agents goes into `Text`, where markup means nothing."""
    end_ms = view.ended_at_ms or now_ms
    head = Text.assemble(
        ("run ", "dim"),
        (view.run, "bold"),
        "  ",
        (view.status, STYLES[view.status]),
        f"  {duration(end_ms - view.started_at_ms)}" if view.started_at_ms else "",
        f"  {plural(view.entries, 'entry', 'entries')}",
        ("  its beginning is not stored any more", "yellow") if view.expired else "",
        no_wrap=True,
        overflow="ellipsis",
    )
    goal = Text(one_line(view.goal, 300), style="dim", no_wrap=True, overflow="ellipsis")
    shown, left_out = chosen(view.in_order, most_threads)
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1 if expand else None)
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.expand = expand
    for thread in shown:
        table.add_row(*row(thread, now_ms))
    rest = [Text(f"… and {plural(left_out, 'thread')} that replied", style="dim")] if left_out else []
    spent = spending_line(view.spending)
    limits = [Text(spent, style="dim", no_wrap=True, overflow="ellipsis")] if spent else []
    return Group(head, goal, *limits, table, *rest)


def chosen(threads: list[ThreadView], most: int) -> tuple[list[ThreadView], int]:
    """The threads there is room for, and how many are left out: those that replied go first."""
    left_out = max(0, len(threads) - most)
    droppable = [thread.thread for thread in threads if thread.over and thread.depth > 0][:left_out]
    kept = [thread for thread in threads if thread.thread not in set(droppable)]
    return kept[:most], len(threads) - len(kept[:most])


def row(thread: ThreadView, now_ms: int) -> tuple[Text, ...]:
    glyph, style = GLYPHS[thread.status]
    elapsed = duration((thread.ended_at_ms or now_ms) - thread.started_at_ms) if thread.started_at_ms else ""
    return (
        Text.assemble("  " * thread.depth, (glyph, style), f" {thread.thread}"),
        Text(thread.name, style="bold"),
        doing(thread),
        Text(elapsed, justify="right"),
        Text(f"{plural(thread.turns, 'turn')}, {plural(thread.tool_calls, 'call')}", style="dim"),
        who(thread),
    )


def doing(thread: ThreadView) -> Text:
    """What it is about, and what it does now or how it ended."""
    if thread.outcome is not None:
        return Text.assemble(
            (thread.outcome.status, GLYPHS[thread.status][1]), f"  {one_line(thread.outcome.summary)}"
        )
    now = (thread.progress and f"{thread.doing} · {thread.progress}") or thread.doing or thread.status
    return Text.assemble((f"{thread.label}  " if thread.label else "", "dim"), now)


def who(thread: ThreadView) -> Text:
    """The replica that has it, and after a takeover the one that had it."""
    if not thread.takeovers:
        return Text(thread.writer, style="dim")
    last = thread.takeovers[-1]
    return Text(f"{last.after}, taken over from {last.before or '?'}", style="bold yellow")
