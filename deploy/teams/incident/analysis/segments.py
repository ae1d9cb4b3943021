"""Piecewise constant levels: where counts or values change for good, found by binary segmentation.

The best single split of a stretch is the one that raises its likelihood most; a split is made while that gain is
above a penalty, and both halves are looked at again. Counts are judged as Poisson, values as normal with a
noise scale taken from their own jitter, so that neither needs a threshold in units of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from statistics import median

import msgspec


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """Positions `start` up to, not including, `end`, and their mean."""

    start: int
    end: int
    mean: float

    @property
    def length(self) -> int:
        return self.end - self.start


Gain = Callable[[int, int, int], float]
"""How much a stretch [start, end) gains from a split at the middle position."""


def split_counts(counts: Sequence[float], *, penalty: float = 14.0, shortest: int = 1) -> list[Segment]:
    sums = [0.0, *accumulate(counts)]

    def gain(start: int, middle: int, end: int) -> float:
        left, right = sums[middle] - sums[start], sums[end] - sums[middle]
        return entropy(left, middle - start) + entropy(right, end - middle) - entropy(left + right, end - start)

    return segmented(sums, gain, penalty, shortest)


def split_values(values: Sequence[float], *, penalty: float = 30.0, shortest: int = 3) -> list[Segment]:
    scale = jitter(values)
    calm = [value / scale for value in clipped(values)] if scale > 0 else list(values)
    sums = [0.0, *accumulate(calm)]

    def gain(start: int, middle: int, end: int) -> float:
        before = (sums[middle] - sums[start]) / (middle - start)
        after = (sums[end] - sums[middle]) / (end - middle)
        return (before - after) ** 2 * (middle - start) * (end - middle) / (end - start) / 2

    found = segmented(sums, gain, penalty, shortest)
    raw = [0.0, *accumulate(values)]
    return [
        Segment(start=each.start, end=each.end, mean=(raw[each.end] - raw[each.start]) / each.length)
        for each in found
    ]


def segmented(sums: Sequence[float], gain: Gain, penalty: float, shortest: int) -> list[Segment]:
    edges, todo = {0, len(sums) - 1}, [(0, len(sums) - 1)]
    while todo:
        start, end = todo.pop()
        best, position = penalty, -1
        for middle in range(start + shortest, end - shortest + 1):
            gained = gain(start, middle, end)
            if gained > best:
                best, position = gained, middle
        if position > 0:
            edges.add(position)
            todo += [(start, position), (position, end)]
    ordered = sorted(edges)
    return [
        Segment(start=start, end=end, mean=(sums[end] - sums[start]) / (end - start))
        for start, end in pairwise(ordered)
        if end > start
    ]


def entropy(count: float, length: int) -> float:
    return count * math.log(count / length) if count > 0 else 0.0


def jitter(values: Sequence[float]) -> float:
    """The noise of a series, from the median step between neighbours: a level change does not raise it."""
    steps = [abs(after - before) for before, after in pairwise(values)]
    if not steps:
        return 0.0
    scale = median(steps) / 0.954
    if scale > 0:
        return scale
    # Mostly constant: the mean step says more than a median of nothing.
    mean = sum(steps) / len(steps)
    return mean or max(abs(values[0]), 1.0) * 1e-3


def clipped(values: Sequence[float]) -> list[float]:
    """Single outliers pulled to the neighbours' range, so that one spike is not a level."""
    if len(values) < 5:
        return list(values)
    return [
        median(values[max(0, index - 1) : index + 2]) if 0 < index < len(values) - 1 else values[index]
        for index in range(len(values))
    ]


def downsampled(counts: Sequence[float], most: int) -> tuple[list[float], int]:
    """Neighbours added up until at most `most` are left, and how many make one."""
    factor = max(1, math.ceil(len(counts) / most))
    if factor == 1:
        return list(counts), 1
    return [sum(counts[index : index + factor]) for index in range(0, len(counts), factor)], factor
