"""`shanty lint`, `run`, `dev` and `team-values`: a team's folder is checked, given a goal, served, deployed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from shanty_cli.commands.options import NOTHING_SAID, Options, allowance


async def lint(
    team: Path,
    /,
    *,
    accept_mcp: Annotated[bool, Parameter(negative="")] = False,
    options: Options = NOTHING_SAID,
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
    options: Options = NOTHING_SAID,
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
        What every agent speaks with: `rehearsal` plays the team by its rehearsal.py, `replay:FILE` by a recording or
        by an archive of a run.
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
        budget=allowance(budget),
        rubric=rubric_of(loaded, rubric),
        detach=detach,
        timeout_s=timeout,
        pace_s=pace,
    )
    return await until_interrupted(run(order, options.nats_url, Home(), out))


async def dev(
    team: Path,
    /,
    *,
    model: str = "",
    scale: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    pace: float | None = None,
    options: Options = NOTHING_SAID,
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


async def team_values(team: Path, /, *, options: Options = NOTHING_SAID) -> int:
    """Print a team's folder as values of the Helm chart.

    Parameters
    ----------
    team
        The team's folder.
    """
    from shanty_cli.team_values import team_values

    return team_values(team, options.out())
