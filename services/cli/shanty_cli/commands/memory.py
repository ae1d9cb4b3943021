"""`shanty memory …`: look at what a team has learnt, let versions out of quarantine, and go back in time.

What a person does here is written in the name of `operators`, with the person's own name beside it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from shanty_cli.commands.options import NOTHING_SAID, Options, login

if TYPE_CHECKING:
    from shanty_runtime.bus import Documents

memory = App(name="memory", help="Look at a team's memory: documents that outlive runs. Release and restore them.")


@memory.command(name="ls")
async def memory_ls(
    team: str,
    /,
    *,
    prefix: str = "",
    all: Annotated[bool, Parameter(negative="")] = False,
    options: Options = NOTHING_SAID,
) -> int:
    """List the documents of a team's memory, each in the version everybody sees.

    Parameters
    ----------
    team
        The team's name or folder.
    prefix
        Only paths that begin with this.
    all
        Also versions in quarantine, each on a line of its own.
    """
    from shanty_cli.memory import row, scope_of, table

    out = options.out()
    scope = scope_of(team)
    async with _documents(options) as documents:
        found = await documents.documents(scope, prefix)
        apart = await documents.quarantined(scope, prefix) if all else ()
    listed = sorted((*found, *apart), key=lambda each: (each.path, each.version))
    if out.json:
        out.data([row(each) for each in listed])
    elif listed:
        out.show(table(listed))
    else:
        out.say(f"the memory of {scope} has no documents{f' under {prefix}' if prefix else ''}")
    return 0


@memory.command(name="show")
async def memory_show(team: str, path: str, /, *, version: int | None = None, options: Options = NOTHING_SAID) -> int:
    """Write a document to stdout, as it is stored.

    Parameters
    ----------
    team
        The team's name or folder.
    path
        The document's path.
    version
        Which version, one in quarantine too; the one everybody sees where it is left out.
    """
    from shanty_cli.memory import chosen_version, row, scope_of
    from shanty_cli.text import clean

    out = options.out()
    scope = scope_of(team)
    async with _documents(options) as documents:
        document = chosen_version(await documents.history(scope, path), path, version)
        content = await documents.content(scope, document)
    if out.json:
        out.data({**row(document), "content": content})
    elif out.stdout.isatty():
        print(clean(content), file=out.stdout)
    else:
        out.stdout.buffer.write(content.encode())
        out.stdout.buffer.flush()
    return 0


@memory.command(name="history")
async def memory_history(team: str, path: str, /, *, options: Options = NOTHING_SAID) -> int:
    """List every version of a document: who wrote it, in which run, and what has become of it.

    Parameters
    ----------
    team
        The team's name or folder.
    path
        The document's path.
    """
    from shanty_cli.memory import row, scope_of, table
    from shanty_runtime.errors import DocumentMissing

    out = options.out()
    async with _documents(options) as documents:
        history = await documents.history(scope_of(team), path)
    if not history:
        raise DocumentMissing(path)
    if out.json:
        out.data([row(each) for each in history])
    else:
        out.show(table(history))
    return 0


@memory.command(name="search")
async def memory_search(team: str, query: str, /, *, limit: int = 10, options: Options = NOTHING_SAID) -> int:
    """Search a team's memory by words, as its agents do.

    Parameters
    ----------
    team
        The team's name or folder.
    query
        Words; the more of them a document has, the better.
    limit
        How many documents at most.
    """
    from shanty_cli.memory import row, scope_of
    from shanty_cli.text import one_line

    out = options.out()
    async with _documents(options) as documents:
        found = await documents.search(scope_of(team), query, limit)
    if out.json:
        out.data([{**row(each.document), "snippet": each.snippet} for each in found])
        return 0
    for each in found:
        place = f"{one_line(each.document.path)}, version {each.document.version}"
        print(f"{place}\n    {one_line(each.snippet)}", file=out.stdout)
    if not found:
        out.say("no document has any of these words")
    return 0


@memory.command(name="release")
async def memory_release(
    team: str, path: str, version: int, /, *, by: str = "", options: Options = NOTHING_SAID
) -> int:
    """Let a version out of quarantine: from now on every run sees it. Read it first.

    Parameters
    ----------
    team
        The team's name or folder.
    path
        The document's path.
    version
        The version, as `shanty memory history` shows it.
    by
        Who takes responsibility; the name of whoever is logged in where it is left out.
    """
    from shanty_cli.memory import row, scope_of, table

    out = options.out()
    async with _documents(options) as documents:
        released = await documents.release(scope_of(team), path, version, by=by or login())
    if out.json:
        out.data(row(released))
    else:
        out.show(table([released]))
    return 0


@memory.command(name="restore")
async def memory_restore(
    team: str,
    path: str = "",
    /,
    *,
    version: int | None = None,
    at: str = "",
    all: Annotated[bool, Parameter(negative="")] = False,
    by: str = "",
    options: Options = NOTHING_SAID,
) -> int:
    """Go back to an older version of a document, or of all of them, by writing it again.

    Parameters
    ----------
    team
        The team's name or folder.
    path
        The document's path.
    version
        The version to go back to.
    at
        The time to go back to instead, such as 2026-11-20T14:00:00Z; without a time zone it is UTC.
    all
        Every document of the team, to the time in --at.
    by
        Who does it; the name of whoever is logged in where it is left out.
    """
    from shanty_cli.exits import UsageError
    from shanty_cli.memory import milliseconds, restored_line, restored_row, scope_of

    out, who, scope = options.out(), by or login(), scope_of(team)
    if all == bool(path):
        raise UsageError("name the document to restore, or give --all and no document")
    if (version is None) == (not at) or (all and version is not None):
        raise UsageError("say what to go back to: --version N or --at TIME; --all takes --at")
    at_ms = milliseconds(at) if at else None
    async with _documents(options) as documents:
        if all:
            assert at_ms is not None
            restored = await documents.restore_all(scope, at_ms, by=who)
        else:
            restored = (await documents.restore(scope, path, by=who, at_version=version, at_ms=at_ms),)
    if out.json:
        out.data([restored_row(each) for each in restored])
        return 0
    for each in restored:
        print(restored_line(each), file=out.stdout)
    if not restored:
        out.say("nothing to do: the memory is as it was then")
    return 0


@contextlib.asynccontextmanager
async def _documents(options: Options) -> AsyncIterator[Documents]:
    from shanty_cli.dev_bus import Home, answering, readable_bus

    async with readable_bus(options.nats_url, Home()) as bus, answering("the memory"):
        yield bus.memory
