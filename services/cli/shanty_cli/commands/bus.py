"""`shanty init-bus`, `bus-auth`, `doctor` and `specialists`: set a bus up, say who may log in, see what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from shanty_cli.commands.options import NOTHING_SAID, Options, split

if TYPE_CHECKING:
    from shanty_cli.dev_bus import Found


async def init_bus(
    *,
    team: Path | None = None,
    agents: str = "",
    starts_on: str = "",
    lanes: str = "0",
    replicas: int | None = None,
    max_bytes: str = "",
    keep_days: int | None = None,
    options: Options = NOTHING_SAID,
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
        split(agents),
        starts_on,
        split(lanes),
        replicas,
        options.out(),
        max_bytes=max_bytes,
        keep_days=keep_days,
    )


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
    options: Options = NOTHING_SAID,
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
        lanes=split(lanes),
        rotate=rotate,
        revoke=revoke,
        expires_in=expires_in,
    )
    return bus_auth(order, options.out())


async def doctor(*, team: Path | None = None, options: Options = NOTHING_SAID) -> int:
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


async def specialists(*, options: Options = NOTHING_SAID) -> int:
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


def _bus(options: Options, otherwise: str) -> Found:
    """The bus that is there already. Raises UsageError."""
    from shanty_cli.dev_bus import Home, existing_bus
    from shanty_cli.exits import UsageError

    found = existing_bus(options.nats_url, Home())
    if found is None:
        raise UsageError(f"no bus is named and no `shanty dev` runs in this directory: {otherwise}")
    return found
