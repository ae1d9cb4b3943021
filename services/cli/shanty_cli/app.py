"""The commands, as they are typed. Each reads its arguments and hands on; what it needs is imported when it is run,
so that `shanty --help` is there at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from shanty_cli.dev_bus import Found
    from shanty_cli.output import Output
    from shanty_protocol import Budget


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
inbox = App(name="inbox", help="What waits for a person: approvals to decide on, questions to answer.")
app.command(runs)
app.command(inbox)
app.command(files)
app.command("shanty_cli.memory:memory", name="memory", help="Look at documents that outlive runs, and mend them.")
app.command("shanty_cli.dead:dead", name="dead", help="Look at dead letters; retry or drop them.")
app.command("shanty_cli.verify:verify", name="verify", help="Audit a run from its journals alone.")
runs.command("shanty_cli.archive:archive", name="archive", help="Write runs to files, and take them off the bus.")
app.command(
    "shanty_cli.triggers:triggers", name="triggers", help="What starts runs of a team by itself: look at it, try it."
)


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
    budget: str = "",
    rubric: Path | None = None,
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
    budget
        What the run may spend, such as usd=5,tokens=2M: any of tokens, usd, model_calls, tool_calls, threads and
        seconds. What it does not name is limited as team.yaml says. A run that has spent it rests until people
        grant it more.
    rubric
        Markdown file with a heading `## name` for each criterion the deliverable is judged by, in place of those in
        team.yaml.
    timeout
        Seconds after which to stop watching.
    pace
        Seconds a rehearsed model takes for a turn.
    """
    from shanty_cli.dev_bus import Home
    from shanty_cli.interrupts import until_interrupted
    from shanty_cli.run import Order, goal_of, rubric_of, run
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
        budget=_budget(budget),
        rubric=rubric_of(loaded, rubric),
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
    starts_on: str = "",
    lanes: str = "0",
    replicas: int | None = None,
    max_bytes: str = "",
    keep_days: int | None = None,
    options: Options = Options(),
) -> int:
    """Create what the bus needs, or bring it up to date. Doing it again changes nothing.

    Parameters
    ----------
    team
        The team's folder: its agents get their queues, and the subjects its triggers name a stream.
    agents
        Names of agents instead, separated by commas.
    starts_on
        Those subjects instead, after the team's name, such as incident=alerts.>,orders.failed.
    lanes
        Numbers of the lanes, separated by commas.
    replicas
        Copies of every stream: 1 for one server, 3 for a cluster. Left out: 1, or what there is.
    max_bytes
        Most that each stream may hold, such as 8G. A full one refuses writes, and work waits for room. Left out: 4G,
        or what there is.
    keep_days
        Days after which what belongs to runs is dropped, of open runs too. Left out: 90, or what there is.
    """
    from shanty_cli.init_bus import init_bus

    found = _bus(options, "name a bus to set up with --nats-url")
    return await init_bus(
        found,
        team,
        _split(agents),
        starts_on,
        _split(lanes),
        replicas,
        options.out(),
        max_bytes=max_bytes,
        keep_days=keep_days,
    )


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
async def chaos(
    *,
    seed: int = 1,
    kills: int = 20,
    nodes: Literal[1, 3] = 1,
    lease: int = 2,
    keep: Path | None = None,
    options: Options = Options(),
) -> int:
    """Kill, pause and cut off a working team's processes, and audit what became of its runs.

    Needs no key, no Docker and no server. Exit code 1 where anything was lost, repeated or left unanswered.

    Parameters
    ----------
    seed
        What happens to whom follows from it.
    kills
        How often a process is killed with SIGKILL; pauses and partitions come besides.
    nodes
        Servers the bus consists of.
    lease
        Seconds a thread stays with a worker that has gone silent.
    keep
        Folder that gets the stores, the ledgers and the logs.
    """
    from shanty_cli.chaos.command import Weather, chaos
    from shanty_cli.interrupts import until_interrupted

    weather = Weather(seed=seed, kills=kills, nodes=nodes, lease_s=lease)
    return await until_interrupted(chaos(weather, keep, options.out()))


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
async def runs_journal(run: str, /, *, thread: str = "", options: Options = Options()) -> int:
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
async def runs_tail(run: str, /, *, timeout: float | None = None, options: Options = Options()) -> int:
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
    options: Options = Options(),
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
async def runs_budget(
    run: str, more: str = "", /, *, reason: str = "", wait: float = 5.0, options: Options = Options()
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

    out, granted = options.out(), _budget(more)
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


@app.command
async def say(run: str, text: str, /, *, thread: str = "0", wait: float = 5.0, options: Options = Options()) -> int:
    """Say something to a run's lead, or to one of its specialists. One at work reads it at its next step, and keeps
    what it has; one that has replied takes it as a further question, and replies again.

    Parameters
    ----------
    run
        The run's id.
    text
        What to say.
    thread
        To whom: a thread, such as 0-2.
    wait
        Seconds to wait for the thread to have read it.
    """
    from shanty_cli.dev_bus import Home, readable_bus
    from shanty_cli.lookup import known_run
    from shanty_cli.speak import say as say_it
    from shanty_cli.speak import show
    from shanty_runtime.config import read_settings

    out = options.out()
    async with readable_bus(options.nats_url, Home()) as bus:
        known = await known_run(bus, run, read_settings().lanes)
        show(await say_it(bus, known, thread, text, wait), out)
    return 0


@inbox.command(name="ls")
async def inbox_ls(*, options: Options = Options()) -> int:
    """List what waits for a person, in every run."""
    from shanty_cli.dev_bus import Home, readable_bus
    from shanty_cli.inbox import inbox_table, open_requests
    from shanty_runtime.config import read_settings

    out = options.out()
    async with readable_bus(options.nats_url, Home()) as bus:
        requests = await open_requests(bus, read_settings().lanes)
    if out.json:
        out.data(requests)
    elif requests:
        out.show(inbox_table(requests))
    else:
        out.say("nothing waits for a person")
    return 0


@inbox.command(name="show")
async def inbox_show(request: str, /, *, options: Options = Options()) -> int:
    """Show all of an approval or a question: who asks, what exactly, why, and until when.

    Parameters
    ----------
    request
        Its id, or the beginning of it.
    """
    from shanty_cli.dev_bus import Home, readable_bus
    from shanty_cli.inbox import find, open_requests, shown
    from shanty_runtime.config import read_settings

    out = options.out()
    async with readable_bus(options.nats_url, Home()) as bus:
        lanes = read_settings().lanes
        found = await find(bus, lanes, request)
        is_open = found in await open_requests(bus, lanes)
    if out.json:
        out.data(found)
    else:
        out.show(shown(found, is_open=is_open))
    return 0


@inbox.command(name="allow")
async def inbox_allow(
    request: str,
    /,
    *,
    for_thread: Annotated[bool, Parameter(negative="")] = False,
    for_run: Annotated[bool, Parameter(negative="")] = False,
    edit: str = "",
    message: str = "",
    wait: float = 5.0,
    options: Options = Options(),
) -> int:
    """Have a tool call made that waits for approval: once, and with exactly the arguments that are shown.

    Parameters
    ----------
    request
        Its id, or the beginning of it.
    for_thread
        Allow every later call of the same tool in the same thread too, whatever its arguments. Other threads of the
        run go on asking.
    for_run
        Allow every later call of the same tool in any thread of the run too, whatever its arguments. What waits
        already is decided by itself.
    edit
        Arguments to call it with instead, as a JSON object.
    message
        Told to the agent.
    wait
        Seconds to wait for the thread to have read it.
    """
    from shanty_cli.exits import UsageError
    from shanty_cli.inbox import arguments_from

    if edit and (for_thread or for_run):
        later = "--for-run" if for_run else "--for-thread"
        raise UsageError(f"--edit is about this one call and {later} about later ones: give one of them")
    arguments = arguments_from(edit) if edit else None
    decision: Literal["allow", "allow_for_thread", "edit"] = (
        "edit" if edit else "allow_for_thread" if for_thread or for_run else "allow"
    )
    return await _decide(request, decision, message, arguments, wait, options, for_run=for_run)


@inbox.command(name="deny")
async def inbox_deny(request: str, /, *, message: str = "", wait: float = 5.0, options: Options = Options()) -> int:
    """Have a tool call not made that waits for approval.

    Parameters
    ----------
    request
        Its id, or the beginning of it.
    message
        Told to the agent: why not, or what to do instead.
    wait
        Seconds to wait for the thread to have read it.
    """
    return await _decide(request, "deny", message, None, wait, options)


@inbox.command(name="answer")
async def inbox_answer(request: str, text: str, /, *, wait: float = 5.0, options: Options = Options()) -> int:
    """Answer a question.

    Parameters
    ----------
    request
        Its id, or the beginning of it.
    text
        The answer.
    wait
        Seconds to wait for the thread to have read it.
    """
    from shanty_cli.dev_bus import Home, readable_bus
    from shanty_cli.inbox import answer, show_given
    from shanty_runtime.config import read_settings

    out = options.out()
    async with readable_bus(options.nats_url, Home()) as bus:
        return show_given(await answer(bus, read_settings().lanes, request, text, wait), out)


async def _decide(
    request: str,
    decision: Literal["allow", "allow_for_thread", "edit", "deny"],
    message: str,
    arguments: dict[str, Any] | None,
    wait_s: float,
    options: Options,
    *,
    for_run: bool = False,
) -> int:
    from shanty_cli.dev_bus import Home, readable_bus
    from shanty_cli.inbox import decide, show_given
    from shanty_runtime.config import read_settings

    out = options.out()
    async with readable_bus(options.nats_url, Home()) as bus:
        given = await decide(
            bus,
            read_settings().lanes,
            request,
            decision,
            message=message,
            arguments=arguments,
            wait_s=wait_s,
            for_run=for_run,
        )
    return show_given(given, out)


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


def _budget(text: str) -> Budget | None:
    """Limits as they are typed. Raises UsageError."""
    from shanty_cli.exits import UsageError
    from shanty_runtime.agent.budget import parse_allowance

    if not text.strip():
        return None
    try:
        return parse_allowance(text).budget
    except ValueError as error:
        raise UsageError(str(error)) from error


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
