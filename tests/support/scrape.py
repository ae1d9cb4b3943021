"""What a service shows at /metrics: fetched over HTTP, read as Prometheus reads it, and checked as promtool does."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from support.crew import Replica, until

ABBREVIATED_UNITS = frozenset({"s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"})
NOT_BASE_UNITS = frozenset(
    {"milliseconds", "microseconds", "nanoseconds", "minutes", "hours", "days", "kilobytes", "megabytes", "gigabytes"}
    | {"kibibytes", "mebibytes", "gibibytes", "bits", "kelvins", "fahrenheit", "percent"}
)
TYPE_NAMES = frozenset({"gauge", "counter", "histogram", "summary"})
_CAMEL_CASE = re.compile(r"[a-z][A-Z]")

Series = tuple[str, frozenset[tuple[str, str]]]
"""A sample's name and labels."""


async def http_port(replica: Replica) -> int:
    """The port a replica was given, from what it logs when it is ready."""
    found: list[int] = []

    async def logged() -> bool:
        found.extend(line["http_port"] for line in log_lines(replica) if "http_port" in line)
        return bool(found)

    await until(logged, 90, f"{replica.name} is ready")
    return found[-1]


def log_lines(replica: Replica) -> list[dict[str, Any]]:
    """What a replica has written to stderr: each line has to be a JSON object."""
    whole, _, _ = replica.log.read_text().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


async def exposition(replica: Replica) -> str:
    url = f"http://127.0.0.1:{await http_port(replica)}/metrics"

    def fetch() -> str:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return str(answer.read().decode())

    return await asyncio.to_thread(fetch)


async def scrape(replica: Replica) -> dict[Series, float]:
    return samples(await exposition(replica))


def samples(text: str) -> dict[Series, float]:
    """Every series and its value. A label without a value is none, to Prometheus as well."""
    return {
        (sample.name, frozenset((label, value) for label, value in sample.labels.items() if value)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(found: Mapping[Series, float], name: str, **labels: str) -> float:
    """The sum over every series of a name that has these labels."""
    wanted = set(labels.items())
    return sum(value for (one, has), value in found.items() if one == name and wanted <= has)


def label_values(found: Iterable[Series]) -> set[str]:
    return {value for name, labels in found if name != "target_info" for _, value in labels}


def problems(text: str) -> list[str]:
    """What `promtool check metrics` would complain of."""
    found = []
    described = set(re.findall(r"^# HELP (\S+) \S", text, re.MULTILINE))
    families = list(text_string_to_metric_families(text))
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found += [f"{name}: {problem}" for problem in _problems(family, name, described)]
    names = [family.name for family in families]
    found += [f"{name}: is there twice" for name in set(names) if names.count(name) > 1]
    return found


def _problems(family: Metric, name: str, described: set[str]) -> Iterable[str]:
    parts = name.lower().split("_")
    if name not in described:
        yield "no help text"
    if family.type != "counter" and name.endswith("_total"):
        yield "only a counter ends in _total"
    if any(not sample.name.endswith(("_total", "_created")) for sample in family.samples if family.type == "counter"):
        yield "a counter ends in _total"
    if ABBREVIATED_UNITS & set(parts[1:]):
        yield "an abbreviated unit"
    if NOT_BASE_UNITS & set(parts):
        yield "not a base unit"
    if TYPE_NAMES & set(parts):
        yield "the name of its type"
    if _CAMEL_CASE.search(name) or ":" in name:
        yield "not in snake_case"
    if family.type not in ("histogram", "summary") and name.endswith(("_count", "_sum", "_bucket")):
        yield "a suffix of histograms"
    labels = {label for sample in family.samples for label in sample.labels}
    if family.type != "histogram" and "le" in labels:
        yield "a label of histograms"
    if family.type != "summary" and "quantile" in labels:
        yield "a label of summaries"
    if any(_CAMEL_CASE.search(label) for label in labels):
        yield "a label that is not in snake_case"
    seen = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in family.samples]
    if len(seen) != len(set(seen)):
        yield "the same series twice"
