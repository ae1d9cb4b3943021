"""The dashboards: what they show is measured, every panel says what it shows, and they fit the data sources."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ruamel.yaml import YAML

from shanty_runtime.telemetry import names
from support.promql import RULES, measured, unknown, uses

ROOT = Path(__file__).parents[3]
GRAFANA = ROOT / "deploy/grafana"
FILES = sorted(GRAFANA.glob("dashboards/*.json"))
DASHBOARDS: dict[str, Any] = {path.stem: json.loads(path.read_text()) for path in FILES}
SERIES = measured()
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


class Query(NamedTuple):
    dashboard: str
    panel: dict[str, Any]
    expr: str
    legend: str


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (panel for panel in dashboard["panels"] if panel["type"] != "row")


QUERIES = [
    Query(uid, panel, target["expr"], target["legendFormat"])
    for uid, dashboard in DASHBOARDS.items()
    for panel in panels(dashboard)
    for target in panel["targets"]
]

each_dashboard = pytest.mark.parametrize("uid", DASHBOARDS)


def test_there_are_four_dashboards() -> None:
    assert set(DASHBOARDS) == {"shanty-team", "shanty-agent", "shanty-models", "shanty-bus"}


@each_dashboard
def test_a_dashboard_keeps_its_address_and_points_at_nobody(uid: str) -> None:
    dashboard = DASHBOARDS[uid]
    assert dashboard["uid"] == uid
    assert dashboard["title"].startswith("Shanty: ")
    assert dashboard["description"]
    assert "id" not in dashboard
    assert "://" not in json.dumps(dashboard)


@each_dashboard
def test_panels_have_numbers_of_their_own_and_do_not_cover_one_another(uid: str) -> None:
    numbers = [panel["id"] for panel in DASHBOARDS[uid]["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARDS[uid]["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells


@each_dashboard
def test_every_panel_says_what_it_shows_and_in_which_unit(uid: str) -> None:
    for panel in panels(DASHBOARDS[uid]):
        assert panel["title"] and panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
        assert panel["datasource"] == SOURCE
        assert all(target["datasource"] == SOURCE and target["expr"] for target in panel["targets"])


@each_dashboard
def test_every_variable_that_is_used_is_there_and_the_other_way_round(uid: str) -> None:
    dashboard = DASHBOARDS[uid]
    there = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps([dashboard["panels"], dashboard["templating"]])))
    assert {name for name in used if not name.startswith("__")} == set(there)
    for variable in there.values():
        if variable["type"] == "query":
            selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"]).groups()  # type: ignore[union-attr]  # no match fails the test
            assert unknown(selector, SERIES) == []
            assert {label} <= set().union(*(SERIES[metric] for metric in uses(selector).metrics))
            # Where nobody puts such a label on, everything is shown.
            assert (variable["includeAll"], variable["allValue"]) == (True, ".*")


def test_every_query_is_about_what_is_measured() -> None:
    assert len(QUERIES) > 50
    wrong = {
        (each.dashboard, each.panel["title"]): found for each in QUERIES if (found := unknown(each.expr, SERIES))
    }
    assert wrong == {}


def test_every_legend_names_labels_of_its_query() -> None:
    for each in QUERIES:
        found = uses(each.expr)
        has = found.grouped_by | (set() if found.grouped_by else set().union(*map(SERIES.__getitem__, found.metrics)))
        assert set(re.findall(r"{{(\w+)}}", each.legend)) <= has, each.panel["title"]


def test_every_query_keeps_to_the_chosen_team() -> None:
    for each in QUERIES:
        matched = uses(each.expr).metrics
        assert all({"namespace", "team"} <= labels for labels in matched.values()), each.panel["title"]


def test_everything_that_is_measured_is_shown_or_alerted_on() -> None:
    rules = YAML(typ="safe").load(RULES)["groups"]
    expressions = [each.expr for each in QUERIES] + [rule["expr"] for group in rules for rule in group["rules"]]
    seen = {metric for expr in expressions for metric in uses(expr).metrics}
    unseen = {
        metric for metric in names.METRICS if not any(name.startswith(names.prometheus_name(metric)) for name in seen)
    }
    assert unseen == set()


def test_grafana_finds_the_dashboards_and_prometheus_where_compose_puts_them() -> None:
    (provider,) = YAML(typ="safe").load(GRAFANA / "provisioning/dashboards/shanty.yml")["providers"]
    sources = YAML(typ="safe").load(GRAFANA / "provisioning/datasources/shanty.yml")["datasources"]
    services = YAML(typ="safe").load(ROOT / "docker-compose.yml")["services"]
    mounts = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    assert [source["type"] for source in sources if source.get("isDefault")] == ["prometheus"]
    for source in sources:
        assert re.fullmatch(r"http://(\w+):\d+", source["url"]).group(1) in services  # type: ignore[union-attr]  # no match fails the test


@pytest.mark.slow
def test_promtool_can_parse_every_query(tmp_path: Path) -> None:
    rules = [
        {"record": f"query:{number}", "expr": each.expr.replace("$__rate_interval", "5m")}
        for number, each in enumerate(QUERIES)
    ]
    path = tmp_path / "queries.yml"
    path.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    script = ROOT / "deploy/prometheus/promtool.sh"
    done = subprocess.run([script, "check", "rules", os.fspath(path)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(QUERIES)} rules found" in done.stdout
