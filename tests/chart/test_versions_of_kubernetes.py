from __future__ import annotations

from pathlib import Path

import kubernetes_validate  # type: ignore[import-untyped]  # it ships no types
import pytest

from support.charts import VALUE_SETS, lint, objects_of, yaml

OLDEST, NEWEST = 31, 37
OF_OTHERS = {
    "ScaledObject": "keda.sh/v1alpha1",
    "PodMonitor": "monitoring.coreos.com/v1",
    "PrometheusRule": "monitoring.coreos.com/v1",
}
"""Kinds Kubernetes itself does not have."""


def test_the_newest_kubernetes_takes_a_whole_team() -> None:
    assert wrong_objects(next(path for path in VALUE_SETS if path.stem == "everything"), NEWEST) == []


@pytest.mark.slow
@pytest.mark.parametrize("minor", range(OLDEST, NEWEST + 1))
@pytest.mark.parametrize("path", VALUE_SETS, ids=lambda path: path.stem)
def test_every_kubernetes_that_is_maintained_takes_every_object(path: Path, minor: int) -> None:
    assert wrong_objects(path, minor) == []
    assert lint(yaml(path.read_text()), f"1.{minor}") == []


def wrong_objects(path: Path, minor: int) -> list[str]:
    wrong = []
    for each in objects_of(yaml(path.read_text())):
        name = f"{each['kind']} {each['metadata']['name']}"
        if each["kind"] in OF_OTHERS:
            assert each["apiVersion"] == OF_OTHERS[each["kind"]]
            continue
        try:
            kubernetes_validate.validate(each, f"1.{minor}", strict=True)
        except kubernetes_validate.ValidationError as error:
            wrong.append(f"{name}: {error}")
    return wrong
