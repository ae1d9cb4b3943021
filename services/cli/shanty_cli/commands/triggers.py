"""`shanty triggers …`: what starts runs of a team by itself, when it will, and what came of it; try one."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

from shanty_cli.commands.options import NOTHING_SAID, Options

triggers = App(name="triggers", help="What starts runs of a team by itself: look at it, try it.")


@triggers.command(name="ls")
async def triggers_ls(team: Path, /, *, options: Options = NOTHING_SAID) -> int:
    """List the triggers of a team: what each waits for, when a schedule is next due, and the newest run of each.

    Parameters
    ----------
    team
        The team's folder.
    """
    from shanty_cli.dev_bus import Home, readable_bus
    from shanty_cli.triggers import lines, table
    from shanty_runtime.team import load_team

    out, loaded = options.out(), load_team(team)
    async with readable_bus(options.nats_url, Home()) as bus:
        listed = await lines(bus, loaded)
    if out.json:
        out.data(listed)
    elif listed:
        out.show(table(listed))
    else:
        out.say(f"team {loaded.name} has no triggers: `triggers:` in its team.yaml names them")
    return 0


@triggers.command(name="fire")
async def triggers_fire(
    team: Path, name: str, /, *, payload: str = "{}", key: str = "", options: Options = NOTHING_SAID
) -> int:
    """Start the run that a trigger would start, now, to try it.

    A message counts as if it had been sent: one with the same key starts no second run, whichever of the two comes
    first. What a schedule starts by itself is started all the same.

    Parameters
    ----------
    team
        The team's folder.
    name
        The trigger's name in team.yaml.
    payload
        What the message says, as JSON; `@FILE` reads it from a file.
    key
        Name of this try: the same key gives the same run. Without it a message has the key its payload says, and
        anything else one that was not used before.
    """
    from shanty_cli.dev_bus import Home, live_bus
    from shanty_cli.exits import NotRunning
    from shanty_cli.triggers import bytes_of, fire, firing_of, named, show
    from shanty_runtime.team import load_team

    out, loaded = options.out(), load_team(team)
    trigger = named(loaded, name)
    async with live_bus(options.nats_url, Home()) as bus:
        if bus is None:
            raise NotRunning(
                f"there is no bus: start `shanty dev {team}` in this directory, or name one with --nats-url"
            )
        tried = await fire(firing_of(bus, loaded), trigger, bytes_of(payload), key)
    show(tried, out)
    return 0
