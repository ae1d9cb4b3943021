"""`shanty dead …`: look at dead letters, and say what is to become of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from shanty_cli.app import Options

if TYPE_CHECKING:
    from rich.table import Table

    from shanty_cli.letters import Letter, Shown

NOTHING_SAID = Options()

dead = App(
    name="dead",
    help="Look at dead letters: mail that could not be processed, and threads given up. Retry or drop them.",
)


@dead.command(name="ls")
async def dead_ls(
    *, all: Annotated[bool, Parameter(negative="")] = False, limit: int = 50, options: Options = NOTHING_SAID
) -> int:
    """List the dead letters nobody has dealt with, the newest last.

    Parameters
    ----------
    all
        Also those that were retried or dropped.
    limit
        How many of the newest at most.
    """
    from shanty_cli.dev_bus import Home, readable_bus
    from shanty_cli.letters import letters
    from shanty_runtime.config import read_settings

    out = options.out()
    async with readable_bus(options.nats_url, Home()) as bus:
        found = await letters(bus, read_settings().lanes, all_of_them=all, limit=limit)
    listed = [each.letter for each in found[-limit:]]
    if out.json:
        out.data(listed)
    elif listed:
        out.show(table(listed))
    else:
        out.say("there are no dead letters" if all else "there are no dead letters that nobody has dealt with")
    return 0


@dead.command(name="show")
async def dead_show(letter: str, /, *, options: Options = NOTHING_SAID) -> int:
    """Show a dead letter: why it is one, the mail itself, its trace, and the end of the thread's journal.

    Parameters
    ----------
    letter
        The letter's name, as `shanty dead ls` has it.
    """
    from shanty_cli.dev_bus import Home, readable_bus
    from shanty_cli.letters import find, shown
    from shanty_cli.lookup import raw
    from shanty_runtime.config import read_settings

    out = options.out()
    async with readable_bus(options.nats_url, Home()) as bus:
        found = await shown(bus, await find(bus, read_settings().lanes, letter))
    if out.json:
        out.data({"letter": found.letter, "content": found.content, "journal": [raw(one) for one in found.journal]})
        return 0
    for line in lines(found):
        print(line, file=out.stdout)
    return 0


@dead.command(name="retry")
async def dead_retry(letter: str, /, *, by: str = "", wait: float = 5.0, options: Options = NOTHING_SAID) -> int:
    """Have a mail that could not be read processed as if it came now, such as after an upgrade; or have a thread that
    was given up go on from where it was.

    The mail is taken in by the thread it was meant for, at most once, however often it is retried; what nobody wants
    any more is not done. A thread that was given up has told its lead so: its answer now goes to the operators, see
    `shanty runs show`. A specialist that is Python code cannot be asked to go on: it refuses. A letter is retried or
    dropped once. Should a retry fail, that is another letter.

    Parameters
    ----------
    letter
        The letter's name, as `shanty dead ls` has it.
    by
        Who says so; the name you are logged in with where it is left out.
    wait
        Seconds to wait for it to have been read.
    """
    from shanty_cli.dev_bus import Home, readable_bus
    from shanty_cli.letters import find, retry, told
    from shanty_cli.memory import login
    from shanty_runtime.config import read_settings

    out = options.out()
    async with readable_bus(options.nats_url, Home()) as bus:
        found = await find(bus, read_settings().lanes, letter)
        retried = await retry(bus, found, by or login(), wait)
    if out.json:
        out.data(retried)
    else:
        print(told(retried), file=out.stdout)
    return 0


@dead.command(name="drop")
async def dead_drop(letter: str, /, *, reason: str = "", by: str = "", options: Options = NOTHING_SAID) -> int:
    """Note that nothing more is to be done about a dead letter: it is listed with --all only. It stays stored.

    Parameters
    ----------
    letter
        The letter's name, as `shanty dead ls` has it.
    reason
        Why.
    by
        Who says so; the name you are logged in with where it is left out.
    """
    from shanty_cli.dev_bus import Home, readable_bus
    from shanty_cli.letters import drop, find
    from shanty_cli.memory import login
    from shanty_runtime.config import read_settings

    out = options.out()
    async with readable_bus(options.nats_url, Home()) as bus:
        found = await find(bus, read_settings().lanes, letter)
        dropped = await drop(bus, found, by or login(), reason)
    if out.json:
        out.data(dropped)
    else:
        print(f"{dropped.letter} is dropped", file=out.stdout)
    return 0


def table(letters: list[Letter]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from shanty_cli.text import at, one_line

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
    from shanty_cli.tables import journal_line
    from shanty_cli.text import at, clean, one_line

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
