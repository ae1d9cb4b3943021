"""What people are shown of a run: its entries folded into a tree of threads. No clock, no bus, no terminal.

`apply` takes one stored entry into the view and tells what happened, in words. `note` takes in a live event, which
changes only what a thread does right now. Entries may come in any order that keeps each journal's own, and a view of
a run that is over is the same as one that was watched.

state         a run and its threads, as far as they are known
happenings    what is told to a person who watches
fold          each entry to what takes it in: those of threads, and through `outside` those of everybody else
work          a thread at work: it thinks, calls tools, gives many items away, and is taken over
mail          what threads send each other
people        what waits for people, and what they say
dead_letters  mail that was put away
"""

from __future__ import annotations

from shanty_cli.view.fold import apply, note, note_unreadable
from shanty_cli.view.happenings import Happening, HappeningKind
from shanty_cli.view.state import RUN_STATUS, RunStatus, RunView, Takeover, ThreadStatus, ThreadView

__all__ = [
    "RUN_STATUS",
    "Happening",
    "HappeningKind",
    "RunStatus",
    "RunView",
    "Takeover",
    "ThreadStatus",
    "ThreadView",
    "apply",
    "note",
    "note_unreadable",
]
