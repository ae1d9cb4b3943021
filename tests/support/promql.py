"""Which metrics and labels an expression in PromQL uses, and which of them somebody measures.

Not a parser: what is valid PromQL is for promtool to say. This finds names in valid expressions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ruamel.yaml import YAML

from shanty_runtime.telemetry import names

RULES = Path(__file__).parents[2] / "deploy/prometheus/rules/shanty.yml"

TARGET_LABELS = frozenset({"job", "instance", "namespace", "pod", "team", "service"})
"""Of every series: whoever scrapes puts them on."""
ELSEWHERE: dict[str, frozenset[str]] = {
    "up": TARGET_LABELS,
    "process_start_time_seconds": TARGET_LABELS,
    "process_cpu_seconds_total": TARGET_LABELS,
    "process_resident_memory_bytes": TARGET_LABELS,
    "ALERTS": TARGET_LABELS | {"alertname", "alertstate", "severity"},
}
"""Series of Prometheus itself and of its client library."""

_WORDS = {"and", "or", "unless", "bool", "inf", "nan"}
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*(\{[^}]*\}|(?=\())?")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"[^"]*"')


class Use(NamedTuple):
    metrics: dict[str, set[str]]
    """Each metric, and the labels it is selected by."""
    grouped_by: set[str]


def uses(expr: str) -> Use:
    grouped_by = {label.strip() for found in _GROUPING.findall(expr) for label in found.split(",") if label.strip()}
    rest = _GROUPING.sub(" ", expr)
    rest = re.sub(r"\[[^\]]*\]|\boffset\s+\w+", " ", rest)
    metrics: dict[str, set[str]] = {}
    for selector in _SELECTOR.finditer(rest):
        name, matchers = selector.groups()
        if matchers == "" or name.lower() in _WORDS:  # a function, or an operator
            continue
        metrics.setdefault(name, set()).update(_MATCHER.findall(matchers or ""))
    return Use(metrics, grouped_by)


def measured() -> dict[str, frozenset[str]]:
    """Every series there is, with its labels: what services measure, what the rules record, and what comes along."""
    series = dict(ELSEWHERE)
    for metric, known in names.METRICS.items():
        name = names.prometheus_name(metric)
        labels = TARGET_LABELS | {attribute.replace(".", "_") for attribute in known.attributes}
        if known.kind == "histogram":
            series |= {f"{name}_bucket": labels | {"le"}, f"{name}_count": labels, f"{name}_sum": labels}
        else:
            series[name] = labels
    for group in YAML(typ="safe").load(RULES)["groups"]:
        for rule in group["rules"]:
            if "record" in rule:
                series[rule["record"]] = frozenset(uses(rule["expr"]).grouped_by - {"le"})
    return series


def unknown(expr: str, series: Mapping[str, frozenset[str]]) -> list[str]:
    """What an expression uses and nobody measures: metrics, and labels of those that are there."""
    found = uses(expr)
    problems = [metric for metric in found.metrics if metric not in series]
    known = {metric: series[metric] for metric in found.metrics if metric in series}
    problems += [
        f"{metric}{{{label}}}" for metric, labels in known.items() for label in found.metrics[metric] - labels
    ]
    every = frozenset[str]().union(*known.values())
    return problems + [f"by ({label})" for label in sorted(found.grouped_by - every)]
