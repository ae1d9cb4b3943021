"""A service whose machine's clock is wrong: `python skewed.py MODULE`.

The file that CLOCK_FILE names says by how many seconds, and may change at any time. Only the clock that people set is
wrong; the monotonic one, which nobody can set, is right.
"""

from __future__ import annotations

import os
import runpy
import sys
import time
from pathlib import Path

FILE = Path(os.environ["CLOCK_FILE"])
right = time.time


def wrong() -> float:
    return right() + float(FILE.read_text())


if __name__ == "__main__":
    time.time = wrong
    runpy.run_module(sys.argv[1], run_name="__main__")
