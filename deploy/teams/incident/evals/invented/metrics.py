"""Metrics, in one of three shapes: long, a file for each metric, or a file for each service."""

from __future__ import annotations

from pathlib import Path

from .notations import clock
from .tables import write_csv
from .world import World

METRIC_NAMES = (
    {
        "traffic": "requests_per_s",
        "latency": "latency_p95_ms",
        "errors": "errors_per_s",
        "memory": "memory_mb",
        "cpu": "cpu_cores",
        "disk": "disk_used_pct",
    },
    {
        "traffic": "rps",
        "latency": "p99",
        "errors": "error_rate",
        "memory": "rss_bytes",
        "cpu": "cpu",
        "disk": "fs_usage",
    },
    {
        "traffic": "http_requests_total",
        "latency": "response_time",
        "errors": "http_errors",
        "memory": "heap_used",
        "cpu": "load1",
        "disk": "disk",
    },
)


def write_metrics(world: World, folder: Path) -> None:
    rng = world.rng
    names, step = rng.choice(METRIC_NAMES), rng.choice([10, 15, 30, 60])
    shape = rng.choice(["long", "wide", "by-service"])
    style = rng.choice(["iso", "epoch", "iso"])
    series = {key: sampled(world, key, names[key[1]], step) for key in sorted(world.gauges)}
    moments = [world.start + step * index for index in range(int(world.duration_s // step))]
    stamps = [f"{int(m)}" if style == "epoch" else clock(m, "iso")[:19] + "Z" for m in moments]
    if shape == "long":
        rows = [
            [stamp, service, names[gauge], values[i]]
            for i, stamp in enumerate(stamps)
            for (service, gauge), values in series.items()
        ]
        write_csv(
            folder / "metrics.csv", [rng.choice(["timestamp", "time", "ts"]), "service", "metric", "value"], rows
        )
    elif shape == "wide":
        for gauge in sorted({gauge for _, gauge in series}):
            columns = {service: values for (service, each), values in series.items() if each == gauge}
            rows = [[stamp, *(values[i] for values in columns.values())] for i, stamp in enumerate(stamps)]
            header = ["time", *(f"{service}.{names[gauge]}" for service in columns)]
            write_csv(folder / f"{gauge}.csv", header, rows)
    else:
        for service in sorted({service for service, _ in series}):
            columns = {gauge: values for (each, gauge), values in series.items() if each == service}
            rows = [[stamp, *(values[i] for values in columns.values())] for i, stamp in enumerate(stamps)]
            write_csv(folder / f"{service}.csv", ["timestamp", *(names[gauge] for gauge in columns)], rows)


def sampled(world: World, key: tuple[str, str], name: str, step: int) -> list[str]:
    rng, gauge = world.rng, world.gauges[key]
    noise = {"memory": 0.01, "disk": 0.002, "traffic": 0.08, "latency": 0.12, "errors": 0.4, "cpu": 0.1}[key[1]]
    factor = 1e6 if name == "rss_bytes" else 1.0
    values, total = [], 0.0
    for index in range(int(world.duration_s // step)):
        value = max(0.0, gauge(index * step) * (1 + rng.gauss(0, noise)) * factor)
        total += value * step
        values.append(f"{total:.0f}" if name.endswith("_total") else f"{value:.3f}")
    return values
