"""Metrics: steps, ramps and resets in series of numbers.

A CSV file may be wide (a column for each series) or long (a column with the metric's name and one with its value).
Counters that only grow are turned into rates first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import PurePosixPath
from statistics import median

import msgspec

from .lexicon import family
from .mining import MAX_TEXT, Place
from .segments import Segment, jitter, split_values
from .tables import Row, column, number_of, read_rows, time_column
from .times import parse_time, written

MOST_SERIES = 400
MOST_POINTS = 1200
SERVICE_COLUMN = r"^(?:service\w*|svc|app\w*|component|job|host\w*|pod|container|instance|node|target|name)$"
METRIC_COLUMN = r"^(?:metric\w*|series|measure\w*|kpi|field|key|indicator|stat)$"
VALUE_COLUMN = r"^(?:value|val|reading|v|y|measurement|amount)$"
COUNTER = re.compile(r"(?:_total|_count|_sum|_counter)$", re.IGNORECASE)


class Point(msgspec.Struct, frozen=True):
    at: float
    value: float
    line: int


class Series(msgspec.Struct, kw_only=True):
    file: str
    service: str
    metric: str
    points: list[Point] = []


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change of one series. `shape`: step, ramp, spike or reset."""

    service: str
    metric: str
    family: str
    shape: str
    at: str
    until: str
    before: float
    after: float
    resets: tuple[str, ...] = ()
    score: float
    """How far it stands out: for a step the distance in noise scales, for a ramp its growth over its noise."""
    first: Place


def read_series(path: str, lines: Iterable[tuple[int, str]], year: int = 1970) -> tuple[list[Series], list[str]]:
    """Every series of a CSV file, and what could not be read of it."""
    rows = read_rows(lines)
    header = next(rows, None)
    if header is None:
        return [], [f"{path} is empty"]
    sample: list[Row] = []
    for row in rows:
        sample.append(row)
        if len(sample) >= 20:
            break
    names = header.cells
    when = time_column(names, sample, year)
    if when is None:
        return [], [f"{path} has no column of times; its columns are {', '.join(names)[:200]}"]
    reader = SeriesReader(path, names, when, sample, year)
    for row in sample:
        reader.add(row)
    for row in rows:
        reader.add(row)
    return reader.finished(), reader.problems()


class SeriesReader:
    def __init__(self, path: str, names: Sequence[str], when: int, sample: Sequence[Row], year: int) -> None:
        self.path, self.names, self.when, self.year = path, names, when, year
        self.service_column = column(names, SERVICE_COLUMN)
        self.metric_column = column(names, METRIC_COLUMN)
        self.value_column = column(names, VALUE_COLUMN)
        if self.metric_column is None and self.value_column is not None and self.service_column is not None:
            # A column called `name` names the metric where nothing else does.
            if names[self.service_column].lower() == "name":
                self.metric_column, self.service_column = self.service_column, None
        numeric = [
            position
            for position in range(len(names))
            if sum(position < len(row.cells) and number_of(row.cells[position]) is not None for row in sample)
            >= max(1, len(sample) // 2)
        ]
        keys = {when, self.service_column, self.metric_column}
        self.values = [self.value_column] if self.value_column is not None else [p for p in numeric if p not in keys]
        self.labels = [p for p in range(len(names)) if p not in keys and p not in self.values and p not in numeric]
        self.series: dict[tuple[str, str], Series] = {}
        self.skipped = 0

    def add(self, row: Row) -> None:
        cells = row.cells
        at = parse_time(cells[self.when], self.year) if self.when < len(cells) else None
        if at is None or len(cells) > len(self.names):
            self.skipped += 1
            return
        for position in self.values:
            value = number_of(cells[position]) if position < len(cells) else None
            if value is not None:
                self._series(cells, position).points.append(Point(at, value, row.line))

    def _series(self, cells: Sequence[str], position: int) -> Series:
        name = self.names[position]
        if self.metric_column is not None and self.metric_column < len(cells):
            name = cells[self.metric_column]
            if self.value_column is None:
                name = f"{name}.{self.names[position]}"
        service = (
            cells[self.service_column] if self.service_column is not None and self.service_column < len(cells) else ""
        )
        key = (service, name)
        found = self.series.get(key)
        if found is None:
            if len(self.series) >= MOST_SERIES:
                return Series(file=self.path, service="", metric="")
            split_service, metric = (service, name) if service else split_name(name, self.path)
            found = self.series[key] = Series(file=self.path, service=split_service, metric=metric, points=[])
        return found

    def finished(self) -> list[Series]:
        for each in self.series.values():
            each.points.sort(key=lambda point: point.at)
        return [each for each in self.series.values() if len(each.points) >= 2]

    def problems(self) -> list[str]:
        found = [f"{self.skipped} rows of {self.path} could not be read"] if self.skipped else []
        if not self.series:
            found.append(f"{self.path} has no column of numbers")
        elif len(self.series) >= MOST_SERIES:
            found.append(f"{self.path} has more than {MOST_SERIES} series; the others were left out")
        return found


def split_name(name: str, path: str) -> tuple[str, str]:
    """`orders.cpu`, `orders:cpu`, `cpu{service="orders"}` carry their service; otherwise the file's stem is it."""
    labelled = re.search(r"(?:service|app|job|pod|instance|svc)=\"?([\w.-]+)", name)
    if labelled:
        return labelled[1], name.partition("{")[0]
    for separator in (":", "/", ".", "|", "__"):
        left, found, right = name.partition(separator)
        if found and left and right:
            return left, right
    return PurePosixPath(path).stem, name


def changes_of(series: Series) -> list[Change]:
    """What stands out of one series, the strongest first."""
    points = thinned(as_rate(series))
    if len(points) < 12:
        return []
    values = [point.value for point in points]
    kind = family(series.metric)
    found = ramp(series, points, values, kind)
    if found is None:
        found = steps(series, points, values, kind)
    return sorted(found, key=lambda change: -change.score)[:3]


def as_rate(series: Series) -> list[Point]:
    """A counter's growth for each interval; any other series as it is."""
    points = series.points
    if not COUNTER.search(series.metric) or family(series.metric) == "memory":
        return points
    falls = sum(after.value < before.value for before, after in pairwise(points))
    if falls > max(3, len(points) // 50):
        return points
    return [Point(after.at, max(after.value - before.value, 0.0), after.line) for before, after in pairwise(points)]


def thinned(points: list[Point]) -> list[Point]:
    """At most MOST_POINTS, each the median of its neighbours."""
    factor = -(-len(points) // MOST_POINTS)
    if factor <= 1:
        return points
    groups = [points[index : index + factor] for index in range(0, len(points), factor)]
    return [Point(group[0].at, median(point.value for point in group), group[0].line) for group in groups]


def ramp(series: Series, points: list[Point], values: list[float], kind: str) -> list[Change] | None:
    """Growth that goes on and on, with the falls where something was restarted; None where there is none."""
    resets = reset_positions(values)
    teeth = [
        (start, end) for start, end in pairwise([0, *resets, len(values)]) if end - start >= max(8, len(values) // 12)
    ]
    best: tuple[float, int, int, int, float, float] | None = None
    for start, end in teeth:
        bend, before, after, gain = hinge(values[start:end])
        score = gain / max(jitter(values[start:end]), 1e-9)
        if best is None or score > best[0]:
            best = (score, start, end, start + bend, before, after)
    if best is None:
        return None
    score, start, end, bend, before, after = best
    long_enough = (end - bend) >= max(8, len(values) // 12)
    if not (long_enough and after > before and score > 12 and growth_is_steady(values[bend:end])):
        return None
    return [
        Change(
            service=series.service,
            metric=series.metric,
            family=kind,
            shape="ramp",
            at=written(points[bend].at),
            until=written(points[end - 1].at),
            before=rounded(before),
            after=rounded(after),
            resets=tuple(written(points[position].at) for position in resets[:8] if position >= bend),
            score=round(min(score, 1e6), 1),
            first=place(series, points[min(bend + (end - bend) // 2, end - 1)]),
        )
    ]


def reset_positions(values: Sequence[float]) -> list[int]:
    """Where a series falls by a third of its whole range or more between neighbours."""
    low, high = min(values), max(values)
    if high <= low:
        return []
    threshold = max((high - low) * 0.4, 8 * jitter(values))
    return [index for index in range(1, len(values)) if values[index - 1] - values[index] > threshold]


def hinge(values: Sequence[float]) -> tuple[int, float, float, float]:
    """Flat up to a bend, then straight up: the bend, the levels at bend and end, and the growth in between."""
    best: tuple[float, int, float, float] | None = None
    length = len(values)
    for bend in sorted({int(length * share / 40) for share in range(36)}):
        level, slope, error = flat_then_line(values, bend)
        if best is None or error < best[0]:
            best = (error, bend, level, slope)
    assert best is not None
    _, bend, level, slope = best
    after = level + slope * (length - 1 - bend)
    return bend, level, after, after - level


def flat_then_line(values: Sequence[float], bend: int) -> tuple[float, float, float]:
    """Least squares of level + slope * max(0, position - bend): level, slope, squared error."""
    length = len(values)
    xs = [max(0, position - bend) for position in range(length)]
    mean_x, mean_y = sum(xs) / length, sum(values) / length
    spread = sum((x - mean_x) ** 2 for x in xs)
    together = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, values, strict=True))
    slope = together / spread if spread else 0.0
    level = mean_y - slope * mean_x
    error = sum((y - level - slope * x) ** 2 for x, y in zip(xs, values, strict=True))
    return level, slope, error


def growth_is_steady(values: Sequence[float]) -> bool:
    """Each sixth of the way is above the one before it, and no single one holds most of the growth."""
    size = len(values) // 6
    if size < 1:
        return False
    means = [sum(values[index * size : (index + 1) * size]) / size for index in range(6)]
    rises = [after - before for before, after in pairwise(means)]
    total = means[-1] - means[0]
    return total > 0 and sum(rise > 0 for rise in rises) >= 4 and max(rises) < 0.6 * total


def steps(series: Series, points: list[Point], values: list[float], kind: str) -> list[Change]:
    even = evened(values)
    scale = max(jitter(even), spread_within(even), 0.01)
    segments = [
        Segment(start=each.start, end=each.end, mean=median(values[each.start : each.end]))
        for each in split_values(even)
    ]
    usual = usual_level(segments)
    found = []
    for index, segment in enumerate(segments):
        before = segments[index - 1].mean if index else usual
        if index == 0 or abs(segment.mean - usual) <= abs(before - usual):
            continue
        levels = median(even[segment.start : segment.end]), median(even[segments[index - 1].start : segment.start])
        score = abs(levels[0] - levels[1]) / scale
        if score < 4 or abs(segment.mean - before) < 0.1 * max(abs(before), 1e-9):
            continue
        found.append(
            Change(
                service=series.service,
                metric=series.metric,
                family=kind,
                shape="spike" if segment.length <= 2 else "step",
                at=written(points[segment.start].at),
                until=written(points[min(segment.end, len(points) - 1)].at),
                before=rounded(before),
                after=rounded(segment.mean),
                score=round(min(score, 1e6), 1),
                first=place(series, points[segment.start]),
            )
        )
    return found


def evened(values: Sequence[float]) -> list[float]:
    """On a scale on which noise that grows with the level is the same everywhere: the logarithm, with an offset."""
    low = min(values)
    typical = median(abs(value) for value in values)
    largest = max(abs(value) for value in values)
    offset = max(0.2 * typical, 0.02 * largest, 1e-9)
    return [math.log((value - min(low, 0.0)) + offset) for value in values]


def usual_level(segments: Sequence[Segment]) -> float:
    """The usual level: the first long one, since what comes later may be the incident."""
    total = sum(segment.length for segment in segments)
    early = [segment for segment in segments if segment.length >= total * 0.12]
    return early[0].mean if early else segments[0].mean


def spread_within(values: Sequence[float]) -> float:
    """The usual distance from a moving median: waves and single spikes raise it, lasting steps do not."""
    window = 9
    if len(values) < 2 * window:
        return 0.0
    distances = [
        abs(values[index] - median(values[max(0, index - window) : index + window + 1]))
        for index in range(len(values))
    ]
    return median(distances) * 1.48


def place(series: Series, point: Point) -> Place:
    return Place(file=series.file, line=point.line, text="")


def rounded(value: float) -> float:
    return float(f"{value:.5g}")


def with_text(change: Change, text: str) -> Change:
    return msgspec.structs.replace(change, first=msgspec.structs.replace(change.first, text=text[:MAX_TEXT]))
