"""Where words go: data to stdout, and what people watch while they wait to stderr.

`-o json` makes stdout one JSON document; stderr stays as it is.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Literal, TextIO

import msgspec
from rich.console import Console, RenderableType
from rich.text import Text

from shanty_cli.lines import Lines
from shanty_cli.text import clean

if TYPE_CHECKING:
    from shanty_cli.watch import Screen

Form = Literal["text", "json"]


FILE_WIDTH = 400
"""Columns of what goes into a file or a pipe: nothing is folded there, whatever the terminal's width."""


class Output:
    """One command's stdout and stderr."""

    def __init__(self, form: Form, *, stdout: TextIO | None = None, stderr: TextIO | None = None) -> None:
        self.form = form
        self.stdout = stdout or sys.stdout
        self.stderr = stderr or sys.stderr
        self._consoles: dict[TextIO, Console] = {}

    @property
    def json(self) -> bool:
        return self.form == "json"

    def data(self, value: object) -> None:
        """A JSON document, on a line of its own."""
        print(msgspec.json.encode(value).decode(), file=self.stdout, flush=True)

    def show(self, what: RenderableType) -> None:
        """What was asked for, in words."""
        console = self._console(self.stdout)
        if console.is_terminal:
            console.print(what)
            return
        # A table is padded to its width, which nobody wants in a file.
        with console.capture() as captured:
            console.print(what)
        print(*(line.rstrip() for line in captured.get().splitlines()), sep="\n", file=self.stdout, flush=True)

    def say(self, text: str) -> None:
        """Something about how it is going."""
        self._console(self.stderr).print(Text(clean(text)), soft_wrap=True)

    def screen(self) -> Screen:
        """A tree where stderr is a terminal that can draw, else lines."""
        if not self.draws_on(self.stderr):
            return Lines(self.stderr)
        from shanty_cli.tree import Tree

        return Tree(self._console(self.stderr))

    def draws_on(self, stream: TextIO) -> bool:
        plain = os.environ.get("NO_COLOR") or os.environ.get("CI") or os.environ.get("TERM") == "dumb"
        return stream.isatty() and not plain

    def _console(self, stream: TextIO) -> Console:
        """One for each stream, so that what is said while a tree is drawn appears above it."""
        if stream not in self._consoles:
            plain = not self.draws_on(stream)
            # What rich would find in text (markup, emoji codes, links) is not ours to find: it is an agent's.
            self._consoles[stream] = Console(
                file=stream,
                markup=False,
                emoji=False,
                highlight=False,
                no_color=plain,
                force_terminal=not plain,
                width=FILE_WIDTH if plain else None,
            )
        return self._consoles[stream]
