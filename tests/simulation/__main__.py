"""Run the simulator: `PYTHONPATH=tests python -m simulation --schedules 100000`.

Every schedule follows from a number alone, so what is found can be looked at again:
`PYTHONPATH=tests python -m simulation --seed 4711 --trace`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from simulation.running import Played, Tally, play, simulate
from simulation.schedule import Schedule, from_seed
from simulation.shrinking import shrunk
from simulation.world import World

SHOWN = 5
"""How many failures are shrunk and told."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("--schedules", type=int, default=10_000, help="how many to play")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, help="play this one alone")
    parser.add_argument("--trace", action="store_true", help="with --seed: print all that happens")
    parser.add_argument("--shrink", action="store_true", help="with --seed: look for a smaller schedule that fails")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        return one(from_seed(arguments.seed), trace=arguments.trace, shrink=arguments.shrink)
    return many(arguments.first, arguments.schedules, arguments.processes)


def one(schedule: Schedule, *, trace: bool, shrink: bool) -> int:
    if shrink:
        schedule = shrunk(schedule)
    if trace:
        world = World(schedule, traced=True)
        world.play()
        print("\n".join(world.trace or ()))
    played = play(schedule)
    print(told(played))
    return 1 if played.found else 0


def many(first: int, schedules: int, processes: int) -> int:
    tally = simulate(first, schedules, processes=processes, progress=progress())
    for played in tally.failed[:SHOWN]:
        print(told(played))
        print(f"  shrunk: {shrunk(played.schedule)}")
    print(tally.richness)
    print(tally)
    return 1 if tally.failed else 0


def progress() -> Callable[[Tally], None]:
    """Shows how far it is: on a terminal in one line that changes, elsewhere in a new line now and then."""
    shown = -1

    def show(tally: Tally) -> None:
        nonlocal shown
        if sys.stderr.isatty():
            end = "\r\033[K" if tally.schedules == tally.wanted else ""
            print(f"\r{tally.progress}\033[K", end=end, file=sys.stderr, flush=True)
        elif (tenth := 10 * tally.schedules // tally.wanted) > shown:
            shown = tenth
            print(tally.progress, file=sys.stderr, flush=True)

    return show


def told(played: Played) -> str:
    found = "".join(f"\n  {violation}" for violation in played.found) or "\n  nothing is wrong"
    return f"{played.schedule}{found}"


if __name__ == "__main__":
    raise SystemExit(main())
