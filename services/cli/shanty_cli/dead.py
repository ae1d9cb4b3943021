"""Dead letters, for people: a list of them, and all of one."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from shanty_cli.letters import Letter, Shown
from shanty_cli.tables import journal_line
from shanty_cli.text import at, clean, one_line


def table(letters: list[Letter]) -> Table:
    found = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("letter", "at", "run", "agent", "about", "code", "reason", "fate"):
        found.add_column(column, overflow="fold")
    for each in letters:
        about = f"thread {each.thread}" if each.thread else each.mail or each.message
        fate = f"{each.fate} by {each.dealt_with_by}" if each.dealt_with_by else each.fate
        cells = (each.letter, at(each.at_ms), each.run, each.agent, about, each.code, one_line(each.reason, 80), fate)
        found.add_row(*(Text(one_line(cell)) for cell in cells))
    return found


def lines(found: Shown) -> list[str]:
    """A letter for people, a fact a line."""
    letter = found.letter
    facts = {
        "letter": letter.letter,
        "fate": f"{letter.fate} by {letter.dealt_with_by}" if letter.dealt_with_by else letter.fate,
        "at": at(letter.at_ms),
        "run": letter.run,
        "agent": letter.agent,
        "thread": letter.thread,
        "mail": letter.mail,
        "message": letter.message,
        "trace": letter.trace,
        "code": letter.code,
        "reason": letter.reason,
    }
    told = [f"{name:<8}{one_line(fact, 1_000)}" for name, fact in facts.items() if fact]
    if found.content:
        told += ["", "the mail, as it is stored:", clean(found.content)]
    if found.journal:
        told += ["", "the end of the thread's journal:", *(journal_line(one) for one in found.journal)]
    return told
