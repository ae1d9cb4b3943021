"""The commands, as they are typed. Each reads its arguments and hands on; what it needs is imported when it is run,
so that `shanty --help` is there at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from shanty_cli.dev_bus import Found
    from shanty_cli.output import Output


@Parameter(name="*")
@dataclass(frozen=True)
class Options:
    """What every command takes."""

    nats_url: Annotated[str, Parameter(env_var="SHANTY_NATS_URL")] = ""
    """Address of the bus. Without it: the one of `shanty dev` in this directory, else one of its own."""
    output: Annotated[Literal["text", "json"], Parameter(name=["--output", "-o"])] = "text"
    """Form of what goes to stdout; progress and logs go to stderr."""

    def out(self) -> Output:
        from shanty_cli.output import Output

        return Output(self.output)


app = App(
    name="shanty",
    help="Runs teams of agents whose every step is a fact on NATS JetStream.",
    help_flags=["--help", "-h"],
)
runs = App(name="runs", help="Look at runs: which there are, what happened, every entry.")
files = App(name="files", help="Look at the files of a run's workspace.")
app.command(runs)
app.command(files)
app.command("shanty_cli.memory:memory", name="memory")


@app.command
async def lint(
    team: Path,
    /,
    *,
    accept_mcp: Annotated[bool, Parameter(negative="")] = False,
    options: Options = Options(),
) -> int:
    """Check a team's folder and say what is in it.

    Parameters
    ----------
    team
        The team's folder.
    accept_mcp
        Accept the tools of its MCP servers as they are now: they are pinned in team.lock.json.
    """
    from shanty_cli.interrupts import until_interrupted
    from shanty_cli.lint import lint

    return await until_interrupted(lint(team, options.out(), accept_mcp=accept_mcp))


@app.command
async def demo(
    *,
    seed: int = 7,
    keep: Path | None = None,
    model: str = "rehearsal",
    options: Options = Options(),
) -> int:
    """Watch a team analyse an incident and survive a kill -9. Needs no key, no Docker and no server.

    Parameters
    ----------
    seed
        Which incident is made up.
    keep
        Folder that gets the incident, the memo, the logs and everything that was stored.
    model
        What every agent speaks with: `claude`, or any model a team may name, needs a key and is paid for.
    """
    import sys

    from shanty_cli.demo import demo
    from shanty_cli.interrupts import until_interrupted
    from shanty_cli.output import Output

    out = options.out() if options.output == "json" else Output("text", stderr=sys.stdout)
    return await until_interrupted(demo(seed, keep, model, out))


@app.command
async def run(
    team: Path,
    /,
    *,
    goal: str = "",
    input: Path | None = None,
    model: str = "",
    record: Path | None = None,
    detach: Annotated[bool, Parameter(negative="")] = False,
    key: Annotated[str, Parameter(name=["--key", "--run-id"])] = "",
    label: str = "",
    timeout: float | None = None,
    pace: float | None = None,
    options: Options = Options(),
) -> int:
    """Give a goal to a team and watch it to the end.

    Parameters
    ----------
    team
        The team's folder.
    goal
        What is to be done; the team's own goal where it is left out.
    input
        Folder whose files are put into the run's workspace.
    model
        What every agent speaks with: `rehearsal` plays the team by its rehearsal.py, `replay:FILE` by a recording.
    record
        File to which every reply of a model is appended, in the clear.
    detach
        Start the run and do not watch it.
    key
        Name of this run for whoever starts it: the same key gives the same run, however often it is started.
    label
        A few words for people who watch.
    timeout
        Seconds after which to stop watching.
    pace
        Seconds a rehearsed model takes for a turn.
    """
    from shanty_cli.dev_bus import Home
    from shanty_cli.interrupts import until_interrupted
    from shanty_cli.run import Order, goal_of, run
    from shanty_cli.start import ids_from, input_files, new_ids
    from shanty_runtime.team import load_team

    out, loaded = options.out(), load_team(team)
    order = Order(
        team=loaded,
        goal=goal_of(loaded, goal),
        ids=ids_from(key) if key else new_ids(),
        files=() if input is None else input_files(input),
        model=model,
        record=record,
        label=label,
        detach=detach,
        timeout_s=timeout,
        pace_s=pace,
    )
    return await until_interrupted(run(order, options.nats_url, Home(), out))


@app.command
async def dev(
    team: Path,
    /,
    *,
    model: str = "",
    scale: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    pace: float | None = None,
    options: Options = Options(),
) -> int:
    """Serve a team on this machine until Ctrl-C: a bus, the lead, and a process for each specialist.

    Parameters
    ----------
    team
        The team's folder.
    model
        What every agent speaks with: `rehearsal` plays the team by its rehearsal.py.
    scale
        AGENT=NUMBER: how many processes play an agent. May be given several times.
    pace
        Seconds a rehearsed model takes for a turn.
    """
    from shanty_cli.dev import Stage, dev
    from shanty_cli.dev_bus import Home
    from shanty_cli.fleet import scale_of
    from shanty_runtime.team import load_team

    stage = Stage(team=load_team(team), model=model, scale=scale_of(scale), pace_s=pace)
    return await dev(stage, options.nats_url, Home(), options.out())


@app.command(name="init-bus")
async def init_bus(
    *,
    team: Path | None = None,
    agents: str = "",
    lanes: str = "0",
    replicas: int | None = None,
    options: Options = Options(),
) -> int:
    """Create what the bus needs, or bring it up to date. Doing it again changes nothing.

    Parameters
    ----------
    team
        The team's folder: its agents get their queues.
    agents
        Names of agents instead, separated by commas.
    lanes
        Numbers of the lanes, separated by commas.
    replicas
        Copies of every stream: 1 for one server, 3 for a cluster. Left out: 1, or what there is.
    """
    from shanty_cli.init_bus import init_bus

    found = _bus(options, "name a bus to set up with --nats-url")
    return await init_bus(found, team, _split(agents), _split(lanes), replicas, options.out())


@app.command(name="team-values")
async def team_values(team: Path, /, *, options: Options = Options()) -> int:
    """Print a team's folder as values of the Helm chart.

    Parameters
    ----------
    team
        The team's folder.
    """
    from shanty_cli.team_values import team_values

    return team_values(team, options.out())


@app.command(name="bus-auth")
def bus_auth(
    team: Path,
    /,
    *,
    out: Path,
    format: Literal["conf", "jwt"] | None = None,
    lanes: str = "",
    rotate: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    revoke: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    expires_in: str = "",
    options: Options = Options(),
) -> int:
    """Write accounts and keys, so that each agent of a team logs in to the bus as itself and can do nothing else.

    Doing it again keeps every key. It talks to no server: it says what to reload, and who gets which file.

    Parameters
    ----------
    team
        The team's folder.
    out
        Folder for the server's configuration and for the secrets of those who log in, each in a file of its own.
    format
        `conf`: accounts and public keys in the server's configuration. `jwt`: an operator, its accounts and
        credentials files. Left out: what is in the folder, else conf.
    lanes
        Numbers of the lanes, separated by commas. Left out: those of the last time, else 0.
    rotate
        Gives this user a new key; the old one is refused after a reload. May be given several times.
    revoke
        Lets this user in no more, until --rotate. May be given several times.
    expires_in
        How long credentials last (jwt only), such as 12h or 90d, or never. They are renewed when this is run in the
        second half of that time. Left out: as the last time, else never.
    """
    from shanty_cli.bus_auth import Order, bus_auth
    from shanty_runtime.team import load_team

    order = Order(
        team=load_team(team),
        folder=out,
        form=format,
        lanes=_split(lanes),
        rotate=rotate,
        revoke=revoke,
        expires_in=expires_in,
    )
    return bus_auth(order, options.out())


@app.command
async def doctor(*, team: Path | None = None, options: Options = Options()) -> int:
    """Look for what is wrong: the server, its settings, what is stored on it, and who is up.

    Parameters
    ----------
    team
        The team's folder: its agents are looked for.
    """
    from shanty_cli.dev_bus import Home, existing_bus
    from shanty_cli.doctor import examine
    from shanty_cli.exits import DONE, FAILED
    from shanty_runtime.config import read_settings
    from shanty_runtime.team import load_team

    loaded, out = None if team is None else load_team(team), options.out()
    checks = []
    async for check in examine(existing_bus(options.nats_url, Home()), loaded, read_settings().lanes):
        checks.append(check)
        if not out.json:
            mend = f"\n{'':25}-> {check.mend}" if check.mend and check.state != "ok" else ""
            print(f"{check.state:<8} {check.name:<15} {check.found}{mend}", file=out.stdout, flush=True)
    if out.json:
        out.data(checks)
    return FAILED if any(check.state == "bad" for check in checks) else DONE


@app.command
async def specialists(*, options: Options = Options()) -> int:
    """Show who is up: agents, their replicas, how busy they are, their models and tools."""
    from shanty_cli.dev_bus import Home, cards_of, live_bus
    from shanty_cli.roster import by_agent
    from shanty_cli.tables import roster_table

    out = options.out()
    async with live_bus(options.nats_url, Home()) as bus:
        lines = by_agent(() if bus is None else await cards_of(bus))
    if out.json:
        out.data(lines)
    elif lines:
        out.show(roster_table(lines))
    else:
        out.say("nobody is up; `shanty dev TEAM` starts a team here")
    return 0


@runs.command(name="ls")
async def runs_ls(*, limit: int = 20, options: Options = Options()) -> int:
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
async def runs_show(run: str, /, *, options: Options = Options()) -> int:
    """Show what has become of a run, without waiting for it.

    Parameters
    ----------
    run
        The run's id.
    """
    from shanty_cli.dev_bus import Home, readable_bus
    from shanty_cli.lookup import known_run, view_of
    from shanty_cli.report import ending, report
    from shanty_cli.tree import drawn
    from shanty_cli.watch import now_ms
    from shanty_runtime.config import read_settings

    out = options.out()
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
async def runs_journal(run: str, /, *, thread: str = "", options: Options = Options()) -> int:
    """Show every entry of a run: its place, kind, writer and time. As JSON: the entries as they are stored.

    Parameters
    ----------
    run
        The run's id.
    thread
        Only this thread, such as 0-2.
    """
    from shanty_cli.dev_bus import Home, readable_bus
    from shanty_cli.lookup import entries_of, known_run, raw
    from shanty_cli.tables import journal_line
    from shanty_runtime.config import read_settings

    out = options.out()
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
async def runs_tail(run: str, /, *, timeout: float | None = None, options: Options = Options()) -> int:
    """Watch a run to its end, whoever started it; one that is over is shown as it went.

    Parameters
    ----------
    run
        The run's id.
    timeout
        Seconds after which to stop watching.
    """
    from shanty_cli.dev_bus import Found, Home, readable_bus
    from shanty_cli.interrupts import until_interrupted
    from shanty_cli.lookup import known_run
    from shanty_cli.run import follow
    from shanty_runtime.config import read_settings

    out = options.out()
    async with readable_bus(options.nats_url, Home()) as bus:
        known = await known_run(bus, run, read_settings().lanes)
        found = Found(nats_url=bus.settings.url, monitor_url="", ours=False)
        return await until_interrupted(follow(bus, known, found, out, timeout_s=timeout))


@files.command(name="ls")
async def files_ls(run: str, /, *, options: Options = Options()) -> int:
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
    options: Options = Options(),
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


def _bus(options: Options, otherwise: str) -> Found:
    """The bus that is there already. Raises UsageError."""
    from shanty_cli.dev_bus import Home, existing_bus
    from shanty_cli.exits import UsageError

    found = existing_bus(options.nats_url, Home())
    if found is None:
        raise UsageError(f"no bus is named and no `shanty dev` runs in this directory: {otherwise}")
    return found


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
