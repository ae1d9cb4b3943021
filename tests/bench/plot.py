"""A picture of what was measured: `python plot.py bench.json bench.svg`, where there is matplotlib."""

from __future__ import annotations

import json
import sys

from matplotlib import pyplot


def draw(found: dict, path: str) -> None:
    ways = found["ways"] + [{"name": name, "sync": "", **peer} for name, peer in found["peers"].items()]
    names = [" ".join(filter(None, (way["name"], way["sync"]))) for way in ways]
    figure, sides = pyplot.subplots(1, 2, figsize=(12, 0.4 * len(ways) + 1.5), sharey=True)
    for side, key, title in (
        (sides[0], "p50_ms", "one after the other: median, ms"),
        (sides[1], "per_second", "many at once: a second"),
    ):
        values = [way[key] for way in ways]
        side.barh(names, values, color=["#1f6f8b" if "delegation" in name else "#b8c4cc" for name in names])
        side.set_xscale("log")
        side.set_title(title, fontsize=10)
        for place, value in enumerate(values):
            side.text(value, place, f" {value:,.2f}" if value < 100 else f" {value:,.0f}", va="center", fontsize=8)
    sides[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        draw(json.load(file), sys.argv[2])
