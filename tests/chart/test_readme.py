"""What the README says about the chart: its commands, as far as no cluster is needed, and its values."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

import pytest

from shanty_cli.team_values import values_of
from shanty_runtime.team import load_team
from support.charts import ROOT, files_of, merged, names, objects_of, yaml

README = (ROOT / "README.md").read_text()
BLOCK = README.split("```sh on kubernetes\n")[1].split("```")[0]
COMMANDS = [shlex.split(line) for line in BLOCK.splitlines()]
VALUES = README.split("```yaml values.yaml\n")[1].split("```")[0]


@pytest.fixture(scope="module")
def team() -> dict[str, Any]:
    """The values that `shanty team-values` prints for the team the README names."""
    (command,) = (command for command in COMMANDS if command[:2] == ["shanty", "team-values"])
    assert command[3:] == [">", "team.yaml"]
    return values_of(load_team(ROOT / command[2]))


def test_the_chart_takes_what_the_readme_gives_it(team: dict[str, Any]) -> None:
    (install,) = (command[3:] for command in COMMANDS if command[:3] == ["helm", "install", "incident"])
    options = argparse.ArgumentParser()
    options.add_argument("chart")
    options.add_argument("-f", dest="file")
    options.add_argument("--set", dest="given")
    given = options.parse_args(install)
    assert (ROOT / given.chart / "Chart.yaml").exists() and given.file == "team.yaml"
    values = team
    for setting in given.given.split(","):
        path, _, value = setting.partition("=")
        for key in reversed(path.split(".")):
            value = {key: value}
        values = merged(values, value)
    assert any("ANTHROPIC_API_KEY" in text for text in files_of(values, release="incident").values())


def test_the_chart_takes_the_values_the_readme_shows(team: dict[str, Any]) -> None:
    objects = objects_of(merged(team, yaml(VALUES)))
    scaled = [name for name in names(objects, "ScaledObject") if name.endswith("logs")]
    assert len(scaled) == 1
    deployed = {each["metadata"]["name"].rpartition("-")[2]: each for each in objects if each["kind"] == "Deployment"}
    assert sorted(deployed) == ["deploys", "lead", "logs", "metrics", "tickets"]
    assert deployed["metrics"]["spec"]["replicas"] == 2
