"""Writes an invented incident: logs, metrics, deploys and tickets of a small system, and the truth about them.

    python deploy/teams/incident/evals/generate.py --seed 7 --out DIR [--kind KIND] [--size-mb N]

The same seed gives the same bytes. Each system has services of random names that call one another, each with a
notation of its own. One of them fails in one of six ways, or none does; its callers fail with it, louder than it
does. Around that lie things that look like causes and are none: changes elsewhere, constant errors, slow growth,
nightly jobs, tickets about something else. `truth.json` is for `score.py` alone.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if not __package__:
    # Run as a script, this file does not have the repository on its path.
    sys.path.insert(0, str(Path(__file__).resolve().parents[4]))

from deploy.teams.incident.evals.invented.incident import KINDS, build, write

__all__ = ["KINDS", "generate"]


def generate(seed: int, out: Path, kind: str | None = None, size_mb: float = 0.0, hours: float | None = None) -> None:
    world = build(seed, kind, hours)
    if size_mb > 0:
        ordinary_bytes = (
            sum(service.load for service in world.services.values() if service.logs) * world.duration_s / 60 * 95
        )
        world.volume = max(1.0, size_mb * 1e6 / ordinary_bytes)
    write(world, out)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write an invented incident and the truth about it.")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--size-mb", type=float, default=0.0, help="make the logs about this large in total")
    parser.add_argument("--hours", type=float, help="how long the record is; 2 to 5 if not given")
    arguments = parser.parse_args()
    generate(arguments.seed, arguments.out, arguments.kind, arguments.size_mb, arguments.hours)


if __name__ == "__main__":
    main()
