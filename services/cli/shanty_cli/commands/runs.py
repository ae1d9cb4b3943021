"""`shanty runs …`: which runs there are, what happened in one; stop it, let it spend more, keep it as a file."""

from __future__ import annotations

from typing import Literal

from cyclopts import App

from shanty_cli.commands.options import NOTHING_SAID, Options, allowance

runs = App(name="runs", help="Look at runs: which there are, what happened, every entry.")


@runs.command(name="ls")
async def runs_ls(*, limit: int = 20, options: Options = NOTHING_SAID) -> int:
    """List the newest runs.

    Parameters
    ----------
    limit
        How many at most.
    """
    from shanty_cli.dev_bus import Home, readable_bus
    from shanty_cli.lookup import newest_runs
    from shanty_cli.tables import run_rows, runs_table
    from shanty_runtime.config import read_settings

    out = options.out()
    async with readable_bus(options.nats_url, Home()) as bus:
        lines = await newest_runs(bus, read_settings().lanes, limit)
    if out.json:
        out.data(run_rows(lines))
    elif lines:
        out.show(runs_table(lines))
    else:
        out.say("there are no runs yet")
    return 0


@runs.command(name="show")
async def runs_show(run: str, /, *, options: Options = NOTHING_SAID) -> int:
    """Show what has become of a run, without waiting for it.

    Parameters
    ----------
    run
        The run's id, or an archive of a run.
    """
    from shanty_cli.dev_bus import Home, readable_bus
    from shanty_cli.lookup import archive_named, archived_view, known_run, view_of
    from shanty_cli.report import ending, report
    from shanty_cli.tree import drawn
    from shanty_cli.watch import now_ms
    from shanty_runtime.config import read_settings

    out = options.out()
    if (file := archive_named(run)) is not None:
        view = archived_view(file)
    else:
        async with readable_bus(options.nats_url, Home()) as bus:
            view = await view_of(bus, await known_run(bus, run, read_settings().lanes))
    if out.json:
        out.data(report(view))
        return 0
    out.show(drawn(view, view.newest_at_ms if view.outcome else now_ms()))
    if view.outcome is not None:
        out.show(ending(view))
    return 0


@runs.command(name="journal")
async def runs_journal(run: str, /, *, thread: str = "", options: Options = NOTHING_SAID) -> int:
    """Show every entry of a run: its place, kind, writer and time. As JSON: the entries as they are stored.

    Parameters
    ----------
    run
        The run's id, or an archive of a run.
    thread
        Only this thread, such as 0-2.
    """
    from shanty_cli.dev_bus import Home, readable_bus
    from shanty_cli.lookup import archive_named, archived_entries, entries_of, known_run, raw
    from shanty_cli.tables import journal_line
    from shanty_runtime.config import read_settings

    out = options.out()
    if (file := archive_named(run)) is not None:
        entries = list(archived_entries(file, thread))
    else:
        async with readable_bus(options.nats_url, Home()) as bus:
            known = await known_run(bus, run, read_settings().lanes)
            entries = await entries_of(bus, known, thread)
    if out.json:
        out.data([raw(stored) for stored in entries])
        return 0
    for stored in entries:
        print(journal_line(stored), file=out.stdout)
    return 0


@runs.command(name="tail")
async def runs_tail(run: str, /, *, timeout: float | None = None, options: Options = NOTHING_SAID) -> int:
    """Watch a run to its end, whoever started it; one that is over is shown as it went.

    Parameters
    ----------
    run
        The run's id, or an archive of a run.
    timeout
        Seconds after which to stop watching.
    """
    from shanty_cli.archive import replay
    from shanty_cli.dev_bus import Found, Home, readable_bus
    from shanty_cli.interrupts import until_interrupted
    from shanty_cli.lookup import archive_named, known_run
    from shanty_cli.run import follow
    from shanty_runtime.config import read_settings

    out = options.out()
    if (file := archive_named(run)) is not None:
        return replay(file, out)
    async with readable_bus(options.nats_url, Home()) as bus:
        known = await known_run(bus, run, read_settings().lanes)
        found = Found(nats_url=bus.settings.url, monitor_url="", ours=False)
        return await until_interrupted(follow(bus, known, found, out, timeout_s=timeout))


@runs.command(name="cancel")
async def runs_cancel(
    run: str,
    /,
    *,
    thread: str = "0",
    abort: bool = False,
    reason: str = "",
    within: float = 60.0,
    wait: float = 5.0,
    options: Options = NOTHING_SAID,
) -> int:
    """Stop a run, or one of its threads with all it has opened. What they have found so far is handed in.

    Parameters
    ----------
    run
        The run's id.
    thread
        Only this thread, such as 0-2.
    abort
        Stop at once, instead of asking for what there is.
    reason
        Told to the agents, and kept in the journal.
    within
        Seconds they have to wrap up; then they are stopped.
    wait
        Seconds to wait for the thread to have read it.
    """
    from shanty_cli.dev_bus import Home, readable_bus
    from shanty_cli.lookup import known_run
    from shanty_cli.speak import show, stop
    from shanty_runtime.config import read_settings

    out = options.out()
    async with readable_bus(options.nats_url, Home()) as bus:
        known = await known_run(bus, run, read_settings().lanes)
        mode: Literal["wrap_up", "abort"] = "abort" if abort else "wrap_up"
        show(await stop(bus, known, thread, mode, reason, within, wait), out)
    return 0


@runs.command(name="budget")
async def runsallowance(
    run: str, more: str = "", /, *, reason: str = "", wait: float = 5.0, options: Options = NOTHING_SAID
) -> int:
    """Show what a run may spend and has spent, or let it spend more. One that rests at its limit goes on.

    Parameters
    ----------
    run
        The run's id.
    more
        What to add to its limits, such as usd=5,tokens=2M: any of tokens, usd, model_calls, tool_calls, threads and
        seconds, as far as the run is limited in it. Left out: nothing is changed.
    reason
        Kept in the journal.
    wait
        Seconds to wait for the lead to have read it.
    """
    from shanty_cli.dev_bus import Home, readable_bus
    from shanty_cli.lookup import known_run, view_of
    from shanty_cli.report import spending_of
    from shanty_cli.speak import grant, show
    from shanty_cli.spending import spending_line
    from shanty_runtime.config import read_settings

    out, granted = options.out(), allowance(more)
    async with readable_bus(options.nats_url, Home()) as bus:
        known = await known_run(bus, run, read_settings().lanes)
        if granted is not None:
            show(await grant(bus, known, granted, reason, wait), out)
            return 0
        view = await view_of(bus, known)
    if out.json:
        out.data(spending_of(view))
    else:
        print(spending_line(view.spending) or "nothing is limited", file=out.stdout)
    return 0
