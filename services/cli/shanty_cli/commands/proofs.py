"""`shanty demo` and `shanty chaos`: a team at work while processes are killed. They start all they need."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from shanty_cli.commands.options import NOTHING_SAID, Options


async def demo(
    *,
    seed: int = 7,
    keep: Path | None = None,
    model: str = "rehearsal",
    options: Options = NOTHING_SAID,
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


async def chaos(
    *,
    seed: int = 1,
    kills: int = 20,
    nodes: Literal[1, 3] = 1,
    lease: int = 2,
    keep: Path | None = None,
    options: Options = NOTHING_SAID,
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
