"""`shanty runs archive`: runs as files, and off the bus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from shanty_cli.commands.options import NOTHING_SAID, Options


async def archive(
    run: str = "",
    /,
    *,
    to: Path,
    before: str = "",
    contents: Annotated[bool, Parameter(negative="")] = False,
    delete: Annotated[bool, Parameter(negative="")] = False,
    options: Options = NOTHING_SAID,
) -> int:
    """Write runs to files that `shanty verify` and `shanty runs show`, `journal` and `tail` read without a bus, and
    that `shanty run --model replay:FILE` plays again.

    Parameters
    ----------
    run
        The run's id; left out with --before.
    to
        File to write, such as 0-7f3a.jsonl.gz; with --before the folder for them. Nothing is overwritten.
    before
        Every run that has ended and that nothing was written to since this day began (UTC), such as 2026-10-01.
    contents
        The contents of files too, and not only their digests.
    delete
        Afterwards remove the run from the bus, if its archive is sound and holds all of it. Where the bus has logins
        this takes the installer's. An archive that is there already is used as it is.
    """
    from shanty_cli.archive import archive_one, day_ms, ended_before, is_there, make_folder
    from shanty_cli.dev_bus import Home, readable_bus
    from shanty_cli.exits import DONE, FAILED, UsageError
    from shanty_cli.lookup import known_run
    from shanty_runtime.archive import SUFFIX
    from shanty_runtime.config import read_settings

    out = options.out()
    if bool(run) == bool(before):
        raise UsageError("name one run, or a day with --before")
    lanes = read_settings().lanes
    done: list[dict[str, object]] = []
    async with readable_bus(options.nats_url, Home()) as bus:
        if before:
            make_folder(to)
            chosen = {each: to / f"{each}{SUFFIX}" for each in await ended_before(bus, lanes, day_ms(before))}
        else:
            known = run if delete and is_there(to) else await known_run(bus, run, lanes)
            chosen = {known: to}
        for each, file in chosen.items():
            done.append(await archive_one(bus, each, file, contents, delete, options.nats_url, out))
    if out.json:
        out.data(done)
    elif not done:
        out.say("there is no such run")
    return FAILED if any(each["problem"] for each in done) else DONE
