"""`shanty dead …`: look at dead letters, and say what is to become of them."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from shanty_cli.commands.options import NOTHING_SAID, Options, login

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
    from shanty_cli.dead import table
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
    from shanty_cli.dead import lines
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
