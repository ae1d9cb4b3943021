"""A run as plain lines, one for each thing worth knowing: for logs, pipes and terminals that cannot draw.

0.0 s  0        lead       started     Find out what happened
1.9 s  0-2      logs       progress    40 %: 3 bursts found
"""

from __future__ import annotations

from typing import TextIO

from shanty_cli.text import duration
from shanty_cli.view import Happening, RunView

QUIET = frozenset({"model"})
"""What the tree shows and a line would only repeat: a model's turn is followed by what it does."""


def line_of(happening: Happening, started_at_ms: int) -> str:
    """Elapsed time, thread, agent, what kind of thing, and the words: columns that stay where they are."""
    elapsed = duration(happening.at_ms - started_at_ms)
    kind = happening.kind.replace("_", " ")
    return f"{elapsed:>12}  {happening.thread:<7} {happening.agent:<12} {kind:<10}  {happening.text}"


class Lines:
    """Shows a run line by line. Implements `watch.Screen`."""

    def __init__(self, out: TextIO) -> None:
        self.out = out

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def happened(self, view: RunView, happenings: tuple[Happening, ...]) -> None:
        for happening in happenings:
            if happening.kind not in QUIET:
                print(line_of(happening, view.started_at_ms), file=self.out, flush=True)

    def refresh(self, view: RunView, now_ms: int) -> None:
        pass
