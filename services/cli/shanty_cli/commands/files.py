"""`shanty files …`: the files of a run's workspace."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

from shanty_cli.commands.options import NOTHING_SAID, Options

files = App(name="files", help="Look at the files of a run's workspace.")


@files.command(name="ls")
async def files_ls(run: str, /, *, options: Options = NOTHING_SAID) -> int:
    """List the files of a run's workspace, each in its newest version.

    Parameters
    ----------
    run
        The run's id.
    """
    from shanty_cli.dev_bus import Home, readable_bus
    from shanty_cli.lookup import known_run
    from shanty_cli.tables import files_table
    from shanty_cli.workspace import open_workspace
    from shanty_runtime.config import read_settings

    out = options.out()
    async with readable_bus(options.nats_url, Home()) as bus:
        known = await known_run(bus, run, read_settings().lanes)
        versions = await open_workspace(bus, known).files()
    if out.json:
        out.data(versions)
    elif versions:
        out.show(files_table(versions))
    else:
        out.say(f"run {known} has no files")
    return 0


@files.command(name="get")
async def files_get(
    run: str,
    path: str,
    /,
    *,
    version: int | None = None,
    to: Path | None = None,
    options: Options = NOTHING_SAID,
) -> int:
    """Write a file of a run's workspace to stdout, byte for byte.

    Parameters
    ----------
    run
        The run's id.
    path
        The file's place in the workspace.
    version
        Which version; the newest where it is left out.
    to
        File to write it to instead.
    """
    from shanty_cli.dev_bus import Home, readable_bus
    from shanty_cli.lookup import known_run
    from shanty_cli.workspace import copy_out
    from shanty_runtime.config import read_settings

    out = options.out()
    async with readable_bus(options.nats_url, Home()) as bus:
        known = await known_run(bus, run, read_settings().lanes)
        await copy_out(bus, known, path, version, to, out)
    return 0
