"""The collector's configuration: its parts fit together, content stays out, and its names are ours.

What a component takes is written down here from its documentation, as of otelcol-contrib 0.160.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from shanty_runtime.redaction import REDACTED, redact
from shanty_runtime.telemetry import names

ROOT = Path(__file__).parents[3]
CONFIG: dict[str, Any] = YAML(typ="safe").load(ROOT / "deploy/otel/collector.yaml")
COMPOSE: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")["services"]
PIPELINES: dict[str, dict[str, list[str]]] = CONFIG["service"]["pipelines"]

KINDS = ("receivers", "processors", "exporters")
TAKES: dict[str, dict[str, set[str]]] = {
    "receivers": {"otlp": {"protocols"}},
    "processors": {
        "memory_limiter": {
            "check_interval",
            "limit_mib",
            "spike_limit_mib",
            "limit_percentage",
            "spike_limit_percentage",
        },
        "resource_detection": {"detectors", "timeout", "override"},
        "attributes": {"actions", "include", "exclude"},
        "redaction": {
            "allow_all_keys",
            "allowed_keys",
            "ignored_keys",
            "blocked_key_patterns",
            "blocked_values",
            "allowed_values",
            "hash_function",
            "redact_all_types",
            "summary",
        },
        "transform": {"error_mode", "trace_statements", "metric_statements", "log_statements"},
        "batch": {"timeout", "send_batch_size", "send_batch_max_size"},
    },
    "exporters": {
        "otlp_grpc": {"endpoint", "tls", "headers", "timeout", "retry_on_failure", "sending_queue", "compression"},
        "prometheus": {
            "endpoint",
            "tls",
            "const_labels",
            "send_timestamps",
            "metric_expiration",
            "without_scope_info",
            "translation_strategy",
            "resource_constant_labels",
            "enable_open_metrics",
        },
    },
    "extensions": {"health_check": {"endpoint", "path"}},
}
TRACE_PATHS = {"resource", "scope", "span", "spanevent"}
METRIC_PATHS = {"resource", "scope", "metric", "datapoint"}

SECRETS = (
    "sk-" + "a1B2" * 6,
    "ghp_0123456789abcdefghijklmn",
    "xoxb-0123456789-abc",
    "AKIAIOSFODNN7EXAMPLE",
    "AIzaSyA0123456789012345678901234567890",
    "eyJhbGciOiJFZERTQSJ9.eyJqdGkiOiJ0ZXN0In0x.c2lnbmF0dXJlX2J5dGVz",
    "SUAGC3EXAMPLEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
)

each_pipeline = pytest.mark.parametrize("signal", PIPELINES)


def defined(kind: str) -> dict[str, dict[str, Any]]:
    return {name: settings or {} for name, settings in CONFIG[kind].items()}


@pytest.mark.parametrize("kind", TAKES)
def test_a_component_is_one_there_is_and_is_set_by_what_it_takes(kind: str) -> None:
    for name, settings in defined(kind).items():
        component = name.partition("/")[0]
        assert component in TAKES[kind], name
        assert set(settings) <= TAKES[kind][component], name


def test_every_component_is_used_and_every_one_that_is_used_is_there() -> None:
    for kind in KINDS:
        used = {name for pipeline in PIPELINES.values() for name in pipeline[kind]}
        assert used == set(CONFIG[kind])
    assert set(CONFIG["service"]["extensions"]) == set(CONFIG["extensions"])


@each_pipeline
def test_a_pipeline_guards_its_memory_first_and_batches_last(signal: str) -> None:
    processors = PIPELINES[signal]["processors"]
    assert processors[0] == "memory_limiter"
    assert processors[-1] == "batch"
    assert len(set(processors)) == len(processors)
    assert all(PIPELINES[signal][kind] for kind in KINDS)


def test_traces_and_metrics_are_taken_and_nothing_else() -> None:
    assert set(PIPELINES) == {"traces", "metrics"}


def test_every_attribute_that_holds_content_is_deleted_from_traces() -> None:
    processor = CONFIG["processors"]["attributes/content"]
    assert "attributes/content" in PIPELINES["traces"]["processors"]
    assert {action["action"] for action in processor["actions"]} == {"delete"}
    assert {action["key"] for action in processor["actions"]} >= names.CONTENT
    assert names.CONTENT


@pytest.mark.parametrize("secret", SECRETS)
def test_what_services_cut_out_by_its_form_the_collector_masks_as_well(secret: str) -> None:
    assert redact(secret) == REDACTED
    patterns = CONFIG["processors"]["redaction/secrets"]["blocked_values"]
    assert any(re.fullmatch(pattern, secret) for pattern in patterns)
    assert "redaction/secrets" in PIPELINES["traces"]["processors"]


def test_an_address_of_a_span_is_no_secret() -> None:
    patterns = CONFIG["processors"]["redaction/secrets"]["blocked_values"]
    for ordinary in ("shanty.0.logs.0-7f3a.0-1.lead.12", "claude-sonnet-5", "chunk " + "0f" * 32, "task-ska-1"):
        assert not any(re.search(pattern, ordinary) for pattern in patterns)


def test_the_older_name_is_made_of_the_one_that_spans_have() -> None:
    (statement,) = CONFIG["processors"]["transform/older_viewers"]["trace_statements"]
    old, *new = re.findall(r'span\.attributes\["([^"]+)"\]', statement)
    assert old == "gen_ai.usage.cache_creation.input_tokens"
    assert set(new) == {names.GEN_AI_USAGE_CACHE_WRITE}
    assert old not in names.ATTRIBUTES


def test_statements_speak_of_what_their_signal_has() -> None:
    for name, settings in defined("processors").items():
        if not name.startswith("transform/"):
            continue
        for key, paths in (("trace_statements", TRACE_PATHS), ("metric_statements", METRIC_PATHS)):
            for group in settings.get(key, []):
                for statement in [group] if isinstance(group, str) else group["statements"]:
                    assert statement.startswith("set("), statement
                    unquoted = re.sub(r'"[^"]*"', '""', statement)
                    assert set(re.findall(r"\b(\w+)\.\w+", unquoted)) <= paths, statement
                    assert unquoted.count("(") == unquoted.count(")")


def test_metrics_that_are_sent_get_the_labels_of_those_that_are_scraped() -> None:
    groups = CONFIG["processors"]["transform/as_scraped"]["metric_statements"]
    statements = " ".join(statement for group in groups for statement in group["statements"])
    assert set(re.findall(r'datapoint\.attributes\["(\w+)"\]', statements)) == {"team", "service"}
    assert names.SHANTY_AGENT_NAME in statements
    units = {metric.unit for metric in names.METRICS.values() if metric.kind == "gauge"}
    assert "1" in units and 'metric.unit == "1"' in statements


def test_the_ports_are_those_that_services_and_prometheus_know() -> None:
    protocols = CONFIG["receivers"]["otlp"]["protocols"]
    assert protocols["grpc"]["endpoint"].endswith(":4317")
    assert protocols["http"]["endpoint"].endswith(":4318")
    (reader,) = CONFIG["service"]["telemetry"]["metrics"]["readers"]
    own = reader["pull"]["exporter"]["prometheus"]["port"]
    scraped = YAML(typ="safe").load(ROOT / "deploy/prometheus/prometheus.yml")["scrape_configs"]
    targets = [target for job in scraped for group in job.get("static_configs", []) for target in group["targets"]]
    assert f"collector:{own}" in targets
    # A service that is scraped and sends as well would count twice.
    sent = CONFIG["exporters"]["prometheus"]["endpoint"].rpartition(":")[2]
    assert f"collector:{sent}" not in targets


def test_compose_runs_what_the_traces_go_to() -> None:
    host, _, port = CONFIG["exporters"]["otlp_grpc/jaeger"]["endpoint"].partition(":")
    assert host in COMPOSE and port == "4317"
    assert re.fullmatch(r"otel/opentelemetry-collector-contrib:0\.(\d+)\.\d+", COMPOSE["collector"]["image"])
    minor = int(COMPOSE["collector"]["image"].split(".")[1])
    assert minor >= 153, "older ones do not know these names of components"
