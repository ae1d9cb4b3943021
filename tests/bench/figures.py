"""What was measured, what follows from it, and how that is shown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

import msgspec

SYNCS = ("always", "default")


class Block(msgspec.Struct, kw_only=True):
    """One way of asking, in one round."""

    one_by_one_s: list[float] = []
    rate: float = 0.0
    """Operations a second, 256 in flight."""
    fan_out_s: float = 0.0
    cpu_us: dict[str, float] = {}
    """An operation, 256 in flight, by process."""

    @property
    def p50_s(self) -> float:
        return statistics.median(self.one_by_one_s)

    @property
    def p99_s(self) -> float:
        return statistics.quantiles(self.one_by_one_s, n=100)[98]


class Way(msgspec.Struct, kw_only=True):
    """One way of asking, over all rounds."""

    name: str
    sync: str
    rounds: list[Block] = []
    stored_bytes: float = 0.0
    stored_messages: float = 0.0

    def median(self, figure: str) -> float:
        found: Iterable[float] = (getattr(block, figure) for block in self.rounds)
        return statistics.median(found)

    @property
    def cpu_us(self) -> dict[str, float]:
        names = self.rounds[0].cpu_us
        return {name: round(statistics.median(each.cpu_us[name] for each in self.rounds), 1) for name in names}

    def row(self) -> tuple[str, ...]:
        cpu = self.cpu_us
        return (
            self.sync,
            self.name,
            f"{self.median('p50_s') * 1e3:.2f}",
            f"{self.median('p99_s') * 1e3:.2f}",
            f"{self.median('fan_out_s') * 1e3:.1f}",
            f"{self.median('rate'):,.0f}",
            f"{sum(cpu.values()):.0f}" if sum(cpu.values()) else "-",
            " + ".join(f"{name} {used_us:.0f}" for name, used_us in cpu.items()),
            f"{self.stored_bytes:,.0f}" if self.stored_bytes else "-",
        )


HEADINGS = ("sync", "what", "p50 ms", "p99 ms", "20 at once ms", "a second", "CPU us", "by process", "bytes")


def ratio(over: Way, under: Way, figure: str) -> float:
    """Of the same rounds: what disturbs the machine for a while disturbs both."""
    pairs = zip(over.rounds, under.rounds, strict=True)
    found: Iterable[float] = (getattr(one, figure) / getattr(other, figure) for one, other in pairs)
    return round(statistics.median(found), 3)


def cpu_ratio(over: Way, under: Way) -> float:
    return round(sum(over.cpu_us.values()) / sum(under.cpu_us.values()), 3)


def table(rows: list[tuple[str, ...]]) -> str:
    lines = [HEADINGS, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in (0, 1, 7) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
