"""Words and figures for people. Whatever an agent wrote is hostile until it has gone through `clean`."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_NOT_SHOWN = re.compile(
    # C0 and C1 controls move the cursor or rename the window; the others hide text or turn it around.
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def clean(text: str) -> str:
    """The text with every character made visible that a terminal would obey. Keeps line ends and tabs."""
    return _NOT_SHOWN.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def one_line(text: str, limit: int = 200) -> str:
    """The text on one line, cut where it is longer than `limit` characters."""
    flat = " ".join(clean(text).split())
    return flat if len(flat) <= limit else f"{flat[: limit - 1]}…"


def duration(milliseconds: float) -> str:
    """12.3 s, 4 min 05 s, 2 h 10 min."""
    seconds = max(0.0, milliseconds / 1000)
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02} min"


def size(size_bytes: int) -> str:
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:.1f} {unit}"
    return f"{size_bytes} B"


def at(at_ms: int) -> str:
    """A time as everybody writes it: ISO 8601, in UTC, to the millisecond. Empty for 0, which is no time."""
    if not at_ms:
        return ""
    try:
        when = datetime.fromtimestamp(at_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return str(at_ms)  # a clock that is off by thousands of years
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plural(count: int, one: str, many: str = "") -> str:
    """1 thread, 2 threads. `many` is given where it is not `one` with an s."""
    return f"{count} {one}" if count == 1 else f"{count} {many or one + 's'}"
