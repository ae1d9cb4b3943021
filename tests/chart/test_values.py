from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from shanty_cli.exits import UsageError
from shanty_cli.init_bus import bytes_of
from support.charts import CHART, VALUE_SETS, Refused, Values, files_of, lint, merged, value_set, yaml

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS = yaml((CHART / "values.yaml").read_text())

AS_KUBERNETES_WRITES_IT = {
    "affinity",
    "podSecurityContext",
    "securityContext",
    "strategy",
    "valueFrom",
    "global",
}
"""Objects whose fields are not ours to know."""

WRONG: list[tuple[Values, str, str]] = [
    ({"natz": {}}, "natz", "not allowed"),
    ({"specialist": []}, "specialist", "not allowed"),
    ({"nats": {"uri": "nats://nats"}}, "/nats", "'uri' not allowed"),
    ({"nats": {"url": "http://nats:4222"}}, "/nats/url", "does not match"),
    ({"nats": {"url": "nats:4222"}}, "/nats/url", "does not match"),
    ({"nats": {"monitorUrl": "nats:8222"}}, "/nats/monitorUrl", "does not match"),
    ({"nats": {"durability": "yes"}}, "/nats/durability", "must be one of 'required', 'relaxed'"),
    ({"nats": {"lanes": [0]}}, "/nats/lanes/0", "got number, want string"),
    ({"nats": {"lanes": []}}, "/nats/lanes", "minItems"),
    ({"nats": {"auth": {"kind": "password"}}}, "/nats/auth/kind", "must be one of"),
    ({"nats": {"auth": {"expirationSeconds": 60}}}, "/nats/auth/expirationSeconds", "got 60, want 600"),
    ({"lead": {"replicas": "two"}}, "/lead/replicas", "got string, want integer"),
    ({"lead": {"name": "boss"}}, "/lead", "'name' not allowed"),
    ({"specialists": {"logs": {}}}, "/specialists", "got object, want array"),
    ({"specialists": [{"replicas": 2}]}, "/specialists/0", "missing property 'name'"),
    ({"specialists": [{"name": "Logs"}]}, "/specialists/0/name", "does not match"),
    ({"specialists": [{"name": "logs", "replica": 2}]}, "/specialists/0", "'replica' not allowed"),
    ({"specialists": [{"name": "logs", "concurrency": 0}]}, "/specialists/0/concurrency", "got 0, want 1"),
    ({"specialists": [{"name": "logs", "drainS": -1}]}, "/specialists/0/drainS", "got -1, want 0"),
    (
        {"specialists": [{"name": "logs", "autoscaling": {"kind": "vpa"}}]},
        "/specialists/0/autoscaling/kind",
        "one of",
    ),
    (
        {"specialists": [{"name": "logs", "pdb": {"maxUnavailable": 0}}]},
        "/specialists/0/pdb/maxUnavailable",
        "want 1",
    ),
    ({"specialistDefaults": {"env": [{"value": "1"}]}}, "/specialistDefaults/env/0", "missing property 'name'"),
    ({"specialistDefaults": {"resources": {"limit": {}}}}, "/specialistDefaults/resources", "'limit' not allowed"),
    (
        {"specialistDefaults": {"resources": {"limits": {"memory": "1 GB"}}}},
        "/specialistDefaults/resources/limits/memory",
        "does not match",
    ),
    ({"specialistDefaults": {"graceMarginS": 5}}, "/specialistDefaults/graceMarginS", "got 5, want 11"),
    ({"image": {"pullPolicy": "always"}}, "/image/pullPolicy", "must be one of"),
    ({"image": {"tag": "a b"}}, "/image/tag", "does not match"),
    ({"team": {"files": {"../team.yaml": "x"}}}, "/team/files", "'../team.yaml' not allowed"),
    ({"team": {"files": {"a..b": "x"}}}, "/team/files", "'a..b' not allowed"),
    ({"team": {"files": {"team.yaml": {"name": "x"}}}}, "/team/files/team.yaml", "got object, want string"),
    ({"networkPolicy": {"modelApi": {"blocks": [{"cidr": "example.com"}]}}}, "/blocks/0/cidr", "does not match"),
    ({"telemetry": {"otlpEndpoint": "collector:4317"}}, "/telemetry/otlpEndpoint", "does not match"),
    ({"logLevel": "verbose"}, "/logLevel", "must be one of"),
    ({"leaseS": 0}, "/leaseS", "got 0, want 1"),
    ({"initBus": {"keepDays": 0}}, "/initBus/keepDays", "got 0, want 1"),
    ({"initBus": {"maxBytes": "8 GB"}}, "/initBus/maxBytes", "does not match"),
    ({"initBus": {"maxBytes": 8589934592}}, "/initBus/maxBytes", "want string"),
]

AT_ODDS: list[tuple[Values, str, str]] = [
    ({"specialists": [{"name": "logs"}, {"name": "logs"}]}, '"logs"', "taken already, by another specialist"),
    ({"specialists": [{"name": "lead"}]}, '"lead"', "taken already, by the lead (lead.agent)"),
    ({"specialists": [{"name": "init-bus"}]}, '"init-bus"', "taken already"),
    ({"specialists": [{"name": "logs", "lanes": ["3"]}]}, "agent logs: lanes", 'has "3", which nats.lanes does not'),
    (
        {"specialists": [{"name": "logs", "autoscaling": {"kind": "hpa", "minReplicas": 0}}]},
        "agent logs: autoscaling.minReplicas",
        "an HPA needs 1 or more",
    ),
    (
        {"specialists": [{"name": "logs", "autoscaling": {"kind": "keda", "minReplicas": 9}}]},
        "agent logs: autoscaling.minReplicas",
        "more than maxReplicas, which is 4",
    ),
    (
        {
            "nats": {"monitorUrl": "", "durability": "relaxed"},
            "specialists": [{"name": "logs", "autoscaling": {"kind": "keda"}}],
        },
        "agent logs: autoscaling.kind",
        "needs nats.monitorUrl",
    ),
    ({"nats": {"monitorUrl": ""}}, "nats.durability is required", "without nats.monitorUrl"),
    ({"nats": {"zones": True}}, "nats.zones is true", "set nats.auth.kind"),
    ({"nats": {"tls": {"mutual": True}}}, "nats.tls.mutual is true", "nats.tls.secretName"),
    ({"team": {"files": {"agents/lead.md": "x"}}}, "team.files has no team.yaml", "shanty team-values"),
    ({"team": {"files": {"team.yaml": "a: [b"}}}, "team.files: team.yaml", "is not YAML"),
    ({"team": {"files": {"team.yaml": "lead: boss"}}}, "lead.agent", 'the lead of the team in team.files is "boss"'),
    (
        {"team": {"files": {"team.yaml": "specialists: [logs, metrics]"}}, "specialists": [{"name": "loggs"}]},
        'no "loggs"',
        "there are logs, metrics",
    ),
    (
        {"team": {"files": {"team.yaml": "x" * 1_000_001}}},
        "team.files: the team has 10000",
        "a ConfigMap holds 1 MiB",
    ),
]


def named(case: tuple[Values, str, str]) -> str:
    return re.sub(r"[^a-zA-Z0-9]+", "-", str(case[0]))[:60].strip("-")


@pytest.mark.parametrize("case", WRONG, ids=named)
def test_a_wrong_value_is_refused_with_its_place_and_what_is_wrong(case: tuple[Values, str, str]) -> None:
    values, place, reason = case
    with pytest.raises(Refused) as raised:
        files_of(values)

    assert place in str(raised.value) and reason in str(raised.value)


@pytest.mark.parametrize("case", AT_ODDS, ids=named)
def test_values_that_do_not_go_together_are_refused_in_a_sentence(case: tuple[Values, str, str]) -> None:
    values, place, reason = case
    with pytest.raises(Refused) as raised:
        files_of(values)

    assert place in str(raised.value) and reason in str(raised.value)


@pytest.mark.parametrize("text", ["1", "512M", "8G", "8GB", "2TiB", "0", "08G", "8g", "8 G", "1.5G", "-1", "8P"])
def test_the_chart_takes_the_sizes_that_init_bus_takes(text: str) -> None:
    values: Values = {"initBus": {"maxBytes": text}}
    try:
        bytes_of(text)
    except UsageError:
        with pytest.raises(Refused):
            files_of(values)
    else:
        files_of(values)


def test_no_object_of_ours_takes_a_key_that_is_not_known() -> None:
    open_ones = {
        path.rpartition("/")[2]
        for path, schema in objects(SCHEMA, "")
        if schema.get("additionalProperties") is not False and "additionalProperties" not in schema
    }

    assert open_ones <= AS_KUBERNETES_WRITES_IT | {"items"}  # items: peers, rules, volumes, as Kubernetes has them


def test_every_value_is_described() -> None:
    for path, schema in objects(SCHEMA, ""):
        for name, value in schema.get("properties", {}).items():
            assert value.get("description"), f"{path}/{name}"


def test_the_manual_has_every_value_there_is() -> None:
    sections = {**SCHEMA["properties"]}
    missing = [
        path
        for path in leaves(sections, SCHEMA["$defs"], "")
        if not path.startswith(
            ("global", "lead.", "toolgateway.", "specialists", "image.", "initBus.image.", "test.image.")
        )
        and not has(DEFAULTS, path)
        and ".image." not in path
        and not path.endswith(".claims")
    ]

    assert missing == []


@pytest.mark.parametrize("path", VALUE_SETS, ids=lambda path: path.stem)
def test_the_strict_linter_has_nothing_to_say(path: Any) -> None:
    assert lint(yaml(path.read_text()), "1.37") == []


def test_the_files_of_two_teams_do_not_become_one_key() -> None:
    """The one place where two paths could meet in the ConfigMap is refused by the schema."""
    files = {"team": {"files": {"a/b": "1"}}}
    with pytest.raises(Refused, match=r"'a\.\.b' not allowed"):
        files_of(merged(value_set("team"), merged(files, {"team": {"files": {"a..b": "2"}}})))


def objects(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of an object, with its place."""
    if schema.get("type") == "object":
        yield path, schema
    for part in ("properties", "$defs", "patternProperties"):
        for name, inner in schema.get(part, {}).items():
            yield from objects(inner, f"{path}/{name}")
    for part in ("items", "additionalProperties"):
        if isinstance(schema.get(part), dict):
            yield from objects(schema[part], f"{path}/{part}")


def leaves(properties: dict[str, Any], defs: dict[str, Any], prefix: str) -> Iterator[str]:
    for name, schema in properties.items():
        found = defs[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        inner = found.get("properties")
        if inner:
            yield from leaves(inner, defs, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def has(values: Any, path: str) -> bool:
    for part in path.split("."):
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True
