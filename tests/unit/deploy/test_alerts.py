"""The alerts: what they are about is measured, each has a runbook, each is tested, and promtool agrees."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from ruamel.yaml import YAML

from shanty_cli.app import app
from shanty_runtime.config import PREFIX, Settings
from shanty_runtime.team import load_team
from shanty_runtime.telemetry import names
from support.promql import measured, unknown, uses

ROOT = Path(__file__).parents[3]
PROMETHEUS = ROOT / "deploy/prometheus"
SERIES = measured()
RUNBOOKS = (PROMETHEUS / "runbooks.md").read_text()


def load(path: Path) -> Any:
    return YAML(typ="safe").load(path)


RULES: list[dict[str, Any]] = [
    rule for group in load(PROMETHEUS / "rules/shanty.yml")["groups"] for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}

each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
each_alert = pytest.mark.parametrize("name", ALERTS)


@each_rule
def test_a_rule_is_about_what_is_measured(rule: dict[str, Any]) -> None:
    assert unknown(rule["expr"], SERIES) == []


def test_a_name_that_nobody_measures_is_noticed() -> None:
    assert unknown('sum by (team, who) (rate(shanty_threads{team="a"}[5m]))', SERIES) == [
        "shanty_threads",
        "by (team)",
        "by (who)",
    ]
    assert unknown('shanty_threads_active{gen_ai_agent="logs"} offset 5m > 1', SERIES) == [
        "shanty_threads_active{gen_ai_agent}"
    ]
    assert unknown("max by (shanty_lane) (shanty_threads_active)", SERIES) == ["by (shanty_lane)"]


@each_alert
def test_an_alert_says_what_is_wrong_and_where_to_read_on(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in ("info", "warning", "critical")
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"runbooks.md#{name.lower()}"
    assert name.startswith("Shanty")


@each_alert
def test_an_alert_names_only_labels_it_has(name: str) -> None:
    alert = ALERTS[name]
    named = set(re.findall(r"\$labels\.(\w+)", " ".join(alert["annotations"].values())))
    assert named <= labels_of(alert["expr"])


def labels_of(expr: str) -> frozenset[str]:
    """Those that every aggregation of an expression keeps, or those of its metrics where nothing is aggregated."""
    kept = re.findall(r"(?:sum|max|min) by \(([^)]*)\)", expr)
    if kept:
        return frozenset.intersection(*(frozenset(labels.replace(" ", "").split(",")) for labels in kept)) - {"le"}
    return frozenset[str]().union(*(SERIES[metric] for metric in uses(expr).metrics))


def test_every_alert_has_a_heading_in_the_runbooks_and_every_heading_an_alert() -> None:
    assert sorted(re.findall(r"(?m)^## (\S+)$", RUNBOOKS)) == sorted(ALERTS)


def test_every_alert_fires_in_a_test() -> None:
    fired: set[str] = set()
    for path in PROMETHEUS.glob("tests/*.yml"):
        for case in load(path)["tests"]:
            for expected in case["promql_expr_test"]:
                for sample in expected.get("exp_samples") or []:
                    fired |= set(re.findall(r'alertname="(\w+)"', sample["labels"]))
    assert fired == set(ALERTS)


def test_every_command_in_the_runbooks_is_one_of_ours() -> None:
    commands = {found.strip() for found in re.findall(r"`shanty ([^`]+)`", RUNBOOKS)}
    assert len(commands) >= 8
    for command in commands:
        app.parse_args(shlex.split(command), print_error=False, exit_on_error=False)


def test_every_setting_metric_and_label_in_the_runbooks_is_one_of_ours() -> None:
    settings = {PREFIX + field.encode_name.upper() for field in msgspec.structs.fields(Settings)}
    named = set(re.findall(r"\bSHANTY_[A-Z_]+\b(?!<)", RUNBOOKS))
    assert named and named <= settings
    labels = frozenset[str]().union(*SERIES.values())
    assert set(re.findall(r"`(shanty_\w+)`", RUNBOOKS)) <= SERIES.keys() | labels


def test_the_list_of_metrics_is_the_vocabulary() -> None:
    listed = (PROMETHEUS / "metrics.md").read_text().partition("|---|---|---|---|---|\n")[2]
    assert listed.splitlines() == [row(metric) for metric in names.METRICS]


def row(metric: str) -> str:
    known = names.METRICS[metric]
    labels = ", ".join(f"`{attribute.replace('.', '_')}`" for attribute in known.attributes)
    return f"| `{names.prometheus_name(metric)}` | {known.kind} | {known.unit} | {labels} | {known.sentence} |"


def test_prometheus_looks_for_every_agent_of_the_team_that_compose_runs() -> None:
    config = load(PROMETHEUS / "prometheus.yml")
    (job,) = [each for each in config["scrape_configs"] if each["job_name"] == "shanty"]
    (discovery,) = job["dns_sd_configs"]
    team = load_team(ROOT / "deploy/teams/incident")
    assert sorted(discovery["names"]) == sorted(agent.name for agent in team.agents)
    assert discovery["port"] == Settings().http_port
    services = load(ROOT / "docker-compose.yml")["services"]
    assert set(discovery["names"]) <= set(services)
    given = {each["target_label"]: each.get("replacement") for each in job["relabel_configs"]}
    assert given == {"service": None, "team": team.name}


def promtool(*arguments: str, stdin: str = "") -> str:
    done = subprocess.run(
        [PROMETHEUS / "promtool.sh", *arguments], input=stdin, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_promtool_agrees_with_the_configuration_the_rules_and_their_tests() -> None:
    done = subprocess.run([PROMETHEUS / "check.sh"], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    for path in PROMETHEUS.glob("tests/*.yml"):
        assert f"Unit Testing:  tests/{path.name}\n  SUCCESS" in done.stdout


@pytest.mark.slow
def test_promtool_notices_an_alert_that_no_longer_fires(tmp_path: Path) -> None:
    rules = (PROMETHEUS / "rules/shanty.yml").read_text()
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules/shanty.yml").write_text(rules.replace("shanty_leases_lost_total[30m])) > 2", "up[30m])) > 2"))
    (tmp_path / "tests").mkdir()
    case = tmp_path / "tests/work.yml"
    case.write_text((PROMETHEUS / "tests/work.yml").read_text())
    with pytest.raises(AssertionError, match="ShantyLeasesLost"):
        promtool("test", "rules", os.fspath(case))
