"""Reads a moment out of nearly any notation a log, a table or a JSON file uses.

Everything is seconds since 1970 in UTC. A notation without a zone is taken as UTC; one without a year gets the
year its reader was made with.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from datetime import UTC, datetime

Fields = tuple[int, int, int, int, int, int]

MONTHS = {name: number for number, name in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
CLOCK = r"\d\d:\d\d:\d\d"
FRACTION = r"(?:[.,](\d{1,9}))?"
ZONE = r"(?:\s?(Z|UTC|GMT|[+-]\d\d:?\d\d)(?![\w:]))?"
MEMO_SIZE = 4096


def year_first(stamp: str, year: int) -> Fields:
    return int(stamp[0:4]), int(stamp[5:7]), int(stamp[8:10]), int(stamp[11:13]), int(stamp[14:16]), int(stamp[17:19])


def month_name_first(stamp: str, year: int) -> Fields:
    month, day, clock = stamp.split()
    h, mi, s = clock.split(":")
    return year, MONTHS[month.lower()], int(day), int(h), int(mi), int(s)


def day_first(stamp: str, year: int) -> Fields:
    d, month, y, h, mi, s = re.split(r"[/: ]", stamp)
    number = MONTHS[month.lower()] if month.isalpha() else int(month)
    return int(y), number, int(d), int(h), int(mi), int(s)


def weekday_first(stamp: str, year: int) -> Fields:
    month, day, clock, y = re.sub(r"\.\d+", "", stamp).split()
    return month_name_first(f"{month} {day} {clock}", int(y))


def month_day_digits(stamp: str, year: int) -> Fields:
    h, mi, s = stamp[5:].split(":")
    return year, int(stamp[0:2]), int(stamp[2:4]), int(h), int(mi), int(s)


def two_digit_year(stamp: str, year: int) -> Fields:
    date, clock = stamp.split()
    h, mi, s = clock.split(":")
    return 2000 + int(date[:2]), int(date[2:4]), int(date[4:6]), int(h), int(mi), int(s)


Form = tuple[re.Pattern[str], Callable[[str, int], Fields]]

# Each pattern has three groups: the stamp down to the second, the fraction, the zone.
FORMS: tuple[Form, ...] = (
    (re.compile(rf"\s*[\[(]?(\d{{4}}[-/]\d\d[-/]\d\d[Tt ]{CLOCK}){FRACTION}{ZONE}[\])]?"), year_first),
    (re.compile(rf"(?:<\d+>)?({MONTH}\s+\d{{1,2}} {CLOCK}){FRACTION}()"), month_name_first),
    (re.compile(rf"[^\[]{{0,160}}\[(\d\d/{MONTH}/\d{{4}}:{CLOCK}){FRACTION}{ZONE}\]"), day_first),
    (re.compile(rf"\s*\[?\w{{3}},? ({MONTH}\s+\d{{1,2}} {CLOCK}(?:\.\d+)? \d{{4}})()()\]?"), weekday_first),
    (re.compile(rf"\s*\[?(?:\w{{3}}, )?(\d\d[/ ](?:{MONTH}|\d\d)[/ ]\d{{4}} {CLOCK}){FRACTION}{ZONE}\]?"), day_first),
    (re.compile(rf"[IWEF](\d{{4}} {CLOCK}){FRACTION}()"), month_day_digits),
    (re.compile(r"(\d{6} +\d{1,2}:\d\d:\d\d)()()"), two_digit_year),
    # A level, a host or `ts=` may stand before the moment.
    (
        re.compile(rf"[^\s\d{{][^{{}}]{{0,60}}?(\d{{4}}[-/]\d\d[-/]\d\d[Tt ]{CLOCK}){FRACTION}{ZONE}[\])\"]?"),
        year_first,
    ),
)
EPOCH = re.compile(r"\s*[\[(]?(\d{10}(?:\d{3}){0,3})(?:\.(\d{1,9}))?[\])]?(?=[\s,;:|\]]|$)")


class LineClock:
    """Reads the moment at the start of lines; remembers which notation the last line used."""

    def __init__(self, year: int = 1970) -> None:
        self.year = year
        self._forms = list(FORMS)
        self._minutes: dict[tuple[str, str | None], float] = {}

    def read(self, line: str) -> tuple[float, int] | None:
        """The moment, and where the text after it begins; None where a line does not begin with one."""
        for position, (pattern, fields) in enumerate(self._forms):
            found = pattern.match(line)
            if found is None:
                continue
            stamp, fraction, zone = found.groups()
            seconds = self._resolve(stamp, zone, fields)
            if seconds is None:
                continue
            if position:
                self._forms.insert(0, self._forms.pop(position))
            return (seconds + float(f"0.{fraction}") if fraction else seconds), found.end()
        found = EPOCH.match(line)
        if found is None:
            return None
        moment = from_number(float(found[1] + (f".{found[2]}" if found[2] else "")))
        return None if moment is None else (moment, found.end())

    def _resolve(self, stamp: str, zone: str | None, fields: Callable[[str, int], Fields]) -> float | None:
        """The moment of a stamp. The minute is remembered: neighbouring lines mostly share it."""
        try:
            if fields is weekday_first:
                return calendar.timegm(fields(stamp, self.year)) - zone_offset_s(zone)
            key = (stamp[:-2], zone)
            minute = self._minutes.get(key)
            if minute is None:
                minute = calendar.timegm(fields(f"{stamp[:-2]}00", self.year)) - zone_offset_s(zone)
                if len(self._minutes) >= MEMO_SIZE:
                    self._minutes.clear()
                self._minutes[key] = minute
            return minute + int(stamp[-2:])
        except (ValueError, KeyError, OverflowError):
            return None


def zone_offset_s(zone: str | None) -> float:
    if not zone or zone[0] not in "+-":
        return 0.0
    digits = zone[1:].replace(":", "")
    seconds = int(digits[:2]) * 3600 + int(digits[2:]) * 60
    return -seconds if zone[0] == "-" else seconds


def from_number(number: float) -> float | None:
    """An epoch in seconds, milliseconds, microseconds or nanoseconds; None where it is none of our times."""
    for scale in (1.0, 1e3, 1e6, 1e9):
        if 3e8 < number / scale < 4.2e9:
            return number / scale
    return None


def parse_time(value: object, year: int = 1970) -> float | None:
    """The moment a cell or a JSON value states, or None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return from_number(float(value))
    if not isinstance(value, str) or not value.strip():
        return None
    text = value.strip()
    try:
        return from_number(float(text))
    except ValueError:
        pass
    found = LineClock(year).read(text)
    if found is None and re.fullmatch(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d)?(Z)?", text):
        padded = text.removesuffix("Z") + (":00" if len(text) > 11 else "T00:00:00")
        found = LineClock(year).read(padded)
    return None if found is None else found[0]


def written(moment: float) -> str:
    """A moment in ISO 8601, to the second, in UTC. Outside of what a calendar can say: the number itself."""
    try:
        return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return str(moment)


def year_of(moment: float) -> int:
    return datetime.fromtimestamp(moment, UTC).year
