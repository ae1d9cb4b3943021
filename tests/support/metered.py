"""Every metric of this process, as its instruments have it: for what is counted without a service around it.

A process has one meter provider for good, and its counters never go back: a test names agents that no other names.
"""

from __future__ import annotations

import functools

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint

Point = NumberDataPoint | HistogramDataPoint


@functools.cache
def _reader() -> InMemoryMetricReader:
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader], shutdown_on_exit=False))
    return reader


def begin() -> None:
    """From now on metrics are recorded. What counters were told before is kept; what histograms were told is lost."""
    _reader()


def series(metric: str, **labels: str) -> dict[tuple[str, ...], Point]:
    """The points of a metric that have these attributes (dots written as underscores), by their other values."""
    found: dict[tuple[str, ...], Point] = {}
    data = _reader().get_metrics_data()
    for resource in [] if data is None else data.resource_metrics:
        for scope in resource.scope_metrics:
            for each in scope.metrics:
                if each.name != metric:
                    continue
                for point in each.data.data_points:
                    assert isinstance(point, NumberDataPoint | HistogramDataPoint)
                    has = {
                        str(name).replace(".", "_"): str(value) for name, value in (point.attributes or {}).items()
                    }
                    if labels.items() <= has.items():
                        found[tuple(value for name, value in has.items() if name not in labels)] = point
    return found


def values(metric: str, **labels: str) -> dict[tuple[str, ...], float]:
    """Counters and gauges."""
    return {key: point.value for key, point in series(metric, **labels).items() if isinstance(point, NumberDataPoint)}


def histogram(metric: str, **labels: str) -> HistogramDataPoint:
    (point,) = series(metric, **labels).values()
    assert isinstance(point, HistogramDataPoint)
    return point


def series_count() -> int:
    """How many there are, over all metrics."""
    data = _reader().get_metrics_data()
    return sum(
        len(each.data.data_points)
        for resource in ([] if data is None else data.resource_metrics)
        for scope in resource.scope_metrics
        for each in scope.metrics
    )
