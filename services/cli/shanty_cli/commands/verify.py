"""`shanty verify`: an audit of a run from what is stored of it, on the bus or in an archive."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from shanty_cli.commands.options import NOTHING_SAID, Options


async def verify(
    run: str,
    /,
    *,
    all: Annotated[bool, Parameter(negative="")] = False,
    contents: Annotated[bool, Parameter(negative="")] = False,
    options: Options = NOTHING_SAID,
) -> int:
    """Audit a run from its journals alone. Exit code 1 where something is wrong; the first wrong entry is named.

    Parameters
    ----------
    run
        The run's id, or an archive of a run.
    all
        Name every entry that is wrong, and what is remarkable besides.
    contents
        Read and hash the contents of all files too; those in an archive always are.
    """
    from shanty_cli.dev_bus import Home, readable_bus
    from shanty_cli.lookup import archive_named, known_run
    from shanty_cli.verify import show
    from shanty_runtime.config import read_settings
    from shanty_runtime.verify import audit_of_archive, audit_of_run

    out = options.out()
    if (file := archive_named(run)) is not None:
        return show(*audit_of_archive(file), out, all_of_it=all)
    async with readable_bus(options.nats_url, Home()) as bus:
        audit = await audit_of_run(bus, await known_run(bus, run, read_settings().lanes), contents=contents)
    return show(audit, None, out, all_of_it=all)
