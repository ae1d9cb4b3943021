"""Histograms whose series are counted here: three of them take a value for every mail.

Handing a value to OpenTelemetry costs more than finding its bucket, twenty times over. So where nobody but /metrics
reads a process, `keep` has every histogram count for itself, and `points` gives what they have when somebody asks.
Where metrics are sent, or a provider of somebody else's reads them, values go to OpenTelemetry one by one.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence

import msgspec
from opentelemetry.metrics import Meter

from shanty_runtime.telemetry import names

_kept = False
_all: list[Histogram] = []


class Series(msgspec.Struct):
    """The values that came with the same attributes."""

    counts: list[int]
    """By bucket; the last one is for what is above every bound."""
    since_ns: int
    total: float = 0.0
    least: float = float("inf")
    most: float = float("-inf")


class Histogram:
    def __init__(self, meter: Meter, metric: str) -> None:
        known = names.METRICS[metric]
        self.metric, self.unit, self.sentence = metric, known.unit, known.sentence
        self.bounds = [*map(float, known.boundaries)]
        self.attributes = known.attributes
        self.series: dict[tuple[str, ...], Series] = {}
        self._instrument = meter.create_histogram(
            metric, known.unit, known.sentence, explicit_bucket_boundaries_advisory=self.bounds
        )
        _all.append(self)

    def record(self, value: float, *attributes: str) -> None:
        """Take a value, and its attributes in the order of `names.METRICS`: an empty one is none."""
        if not _kept:
            self._instrument.record(value, self.named(attributes))
            return
        series = self.series.get(attributes)
        if series is None:
            series = self.series[attributes] = Series([0] * (len(self.bounds) + 1), time.time_ns())
        series.counts[bisect_left(self.bounds, value)] += 1
        series.total += value
        if value < series.least:
            series.least = value
        if value > series.most:
            series.most = value

    def named(self, attributes: Sequence[str]) -> dict[str, str]:
        return {name: value for name, value in zip(self.attributes, attributes, strict=True) if value}


def keep() -> None:
    """From now on values are counted here, and whoever reads the metrics asks for them with `kept`."""
    global _kept
    _kept = True


def kept() -> Iterator[Histogram]:
    """Every histogram that has values here."""
    return (each for each in _all if each.series)
