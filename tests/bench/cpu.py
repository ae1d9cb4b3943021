"""CPU time of processes, as Linux counts it. Elsewhere there are no figures, and the table has none."""

from __future__ import annotations

import os
from pathlib import Path

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """User and system time of a process so far, all its threads together."""
    try:
        # The name of the program comes first and may hold anything but a last closing parenthesis.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


class CpuMeter:
    """`async with`-free: `begin` before the work, `end_us` after it."""

    def __init__(self, pids: dict[str, int]) -> None:
        self.pids = pids
        self._began_s = self._now_s()

    def _now_s(self) -> dict[str, float]:
        return {name: cpu_s(pid) for name, pid in self.pids.items()}

    def used_us(self, operations: int) -> dict[str, float]:
        """Microseconds an operation, by process, since this was made."""
        now_s = self._now_s()
        return {name: (now_s[name] - began_s) * 1e6 / operations for name, began_s in self._began_s.items()}
