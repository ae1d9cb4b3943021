from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from queue import SimpleQueue

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from shanty_runtime.telemetry import names, setup
from support.otlp import Receiver, decoded

ENDPOINT = "http://127.0.0.1:4318"


def run(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, because a tracer provider is set once in a process."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, "-c", code], env={**clean, **environ}, capture_output=True, text=True, timeout=60
    )


@contextmanager
def collector() -> Iterator[tuple[str, SimpleQueue[tuple[str, ExportTraceServiceRequest]]]]:
    """A real HTTP server that takes OTLP, and the requests it got."""
    requests: SimpleQueue[tuple[str, ExportTraceServiceRequest]] = SimpleQueue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            requests.put((self.path, ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Requests are looked at, not printed."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


UNCONFIGURED = """
import sys, threading
from shanty_protocol import EntryAddress
from shanty_runtime import telemetry
started = telemetry.configure("lead", "lead-1")
headers = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
address = EntryAddress("logs", "0-r7", "0", "lead", 4)
with telemetry.agent_span("lead", "0-r7", "0"), telemetry.publish_span(address) as span:
    span.stored(1)
    assert telemetry.inject() == {}
with telemetry.process_span(address, headers), telemetry.agent_span("logs", "0-r7", "0-1"):
    with telemetry.publish_span(address):
        assert telemetry.inject() == headers
with telemetry.process_span(address, {}):
    assert telemetry.inject() == {}
started.shutdown()
assert not started.enabled
assert threading.active_count() == 1, threading.enumerate()
heavy = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp", "google.protobuf", "requests")
loaded = [name for name in sys.modules if name.startswith(heavy)]
assert loaded == [], loaded
"""


def test_with_nothing_configured_nothing_is_sent_started_or_printed_and_traces_pass_through() -> None:
    done = run(UNCONFIGURED)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


CONFIGURED = """
from shanty_runtime import telemetry
started = telemetry.configure("lead", "lead-1")
with telemetry.agent_span("lead", "0-r7", "0"):
    pass
assert started.enabled
started.shutdown()
started.shutdown()
"""


def test_spans_reach_the_collector_the_environment_names() -> None:
    with collector() as (url, requests):
        done = run(
            CONFIGURED, OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=t"
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        path, request = requests.get(timeout=5)
    assert path == "/v1/traces"
    (resource_spans,) = request.resource_spans
    resource = {each.key: each.value.string_value for each in resource_spans.resource.attributes}
    assert resource["service.name"] == "lead"
    assert resource["service.instance.id"] == "lead-1"
    assert resource["service.version"]
    assert resource["deployment.environment.name"] == "t"
    (span,) = resource_spans.scope_spans[0].spans
    assert span.name == "invoke_agent lead"


def test_spans_leave_while_the_process_runs_so_that_a_killed_one_has_lost_next_to_nothing() -> None:
    waiting = CONFIGURED.replace("started.shutdown()\n", "") + "print('ended', flush=True)\ninput()\n"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    with (
        collector() as (url, requests),
        subprocess.Popen(
            [sys.executable, "-c", waiting],
            env={**clean, "OTEL_EXPORTER_OTLP_ENDPOINT": url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ended\n"
            # One second is ours; OpenTelemetry's own five would be too long.
            _, request = requests.get(timeout=4)
        finally:
            process.kill()
    assert request.resource_spans[0].scope_spans[0].spans[0].name == "invoke_agent lead"


def test_the_name_the_environment_gives_wins() -> None:
    with collector() as (url, requests):
        run(CONFIGURED, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{url}/custom", OTEL_SERVICE_NAME="blue-lead")
        path, request = requests.get(timeout=5)
    assert path == "/custom"
    resource = {each.key: each.value.string_value for each in request.resource_spans[0].resource.attributes}
    assert resource["service.name"] == "blue-lead"


METERED = """
import prometheus_client
from shanty_runtime import telemetry
started = telemetry.configure("lead", "lead-1", team="incident", agent="chief")
telemetry.metrics.bus_connected(True)
telemetry.metrics.event_loop_late(0.3)
print("shanty_bus_connected 1.0" in prometheus_client.generate_latest().decode())
print(started.enabled)
started.shutdown()
"""


def test_metrics_reach_the_collector_with_what_the_environment_says_of_this_process() -> None:
    with Receiver() as receiver:
        done = run(
            METERED,
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
            OTEL_RESOURCE_ATTRIBUTES="service.namespace=blue,k8s.pod.name=lead-0",
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\nTrue\n", "")
    bus = {"shanty.bus.connected", "shanty.bus.reconnects", "shanty.bus.waiting"}
    assert receiver.metric_names() == {*bus, "shanty.event_loop.lag"}
    (resource,) = receiver.metrics[-1].resource_metrics
    described = decoded(resource.resource.attributes)
    assert (described["service.name"], described["service.instance.id"]) == ("lead", "lead-1")
    assert (described["service.namespace"], described["k8s.pod.name"]) == ("blue", "lead-0")
    assert described["shanty.agent.name"] == "chief"
    (scope,) = resource.scope_metrics
    assert (scope.scope.name, scope.schema_url) == (names.SCOPE, names.SCHEMA_URL)
    assert receiver.spans == {}


def test_metrics_that_are_not_to_be_sent_are_shown_all_the_same() -> None:
    with Receiver() as receiver:
        done = run(METERED, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, OTEL_METRICS_EXPORTER="none")
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\nTrue\n", ""), "traces are still on"
    assert receiver.metrics == []
    done = run(METERED)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\nFalse\n", "")


SAME = """
import sys
from prometheus_client import generate_latest
from shanty_protocol import EntryAddress
from shanty_runtime import telemetry
from shanty_runtime.telemetry import metrics
telemetry.configure("lead", "lead-1")
for lasted_s in (0.0, 0.005, 0.0051, 3.0, 1e9):
    metrics.message_processed(EntryAddress("logs", "0-r7", "0", "lead", 4), "logs", lasted_s, "")
metrics.message_processed(EntryAddress("logs", "0-r7", "0", "lead", 4), "logs", 1.0, "Fenced")
metrics.delegation_replied("logs", "ok")
shown = [line for line in generate_latest().decode().splitlines() if "messaging_process_duration" in line]
assert len(shown) > 20, shown
sys.stdout.write("\\n".join(sorted(shown)))
"""


def test_a_histogram_that_is_kept_here_is_shown_as_opentelemetry_shows_it() -> None:
    with Receiver() as receiver:
        sent = run(SAME, OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=f"{receiver.url}/v1/metrics")
    kept = run(SAME)
    assert (kept.returncode, sent.returncode, kept.stderr, sent.stderr) == (0, 0, "", "")
    assert kept.stdout == sent.stdout


def test_a_disabled_sdk_counts_nothing() -> None:
    done = run(METERED, OTEL_EXPORTER_OTLP_ENDPOINT=ENDPOINT, OTEL_SDK_DISABLED="true")
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\nFalse\n", "")


HANGING = """
import time
from shanty_runtime import telemetry
telemetry.setup.SHUTDOWN_S = 0.2
started = telemetry.configure("lead", "lead-1")
with telemetry.agent_span("lead", "0-r7", "0"):
    pass
began = time.monotonic()
started.shutdown()
assert time.monotonic() - began < 2
"""


def test_a_collector_that_does_not_answer_does_not_hold_a_service_up() -> None:
    done = run(HANGING, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    assert done.returncode == 0, done.stderr
    assert "did not reach the collector" in done.stderr


EMBEDDED = """
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
provider = TracerProvider()
trace.set_tracer_provider(provider)
from shanty_runtime import telemetry
meters = MeterProvider()
metrics.set_meter_provider(meters)
assert not telemetry.configure("lead", "lead-1").enabled
assert trace.get_tracer_provider() is provider
assert metrics.get_meter_provider() is meters
"""


def test_a_provider_that_is_there_already_is_kept() -> None:
    done = run(EMBEDDED, OTEL_EXPORTER_OTLP_ENDPOINT=ENDPOINT)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": ENDPOINT}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": ENDPOINT}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT, "OTEL_SDK_DISABLED": "True"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT, "OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
    ],
)
def test_the_standard_variables_say_whether_there_are_traces(environ: dict[str, str], wanted: bool) -> None:
    assert setup.wanted(environ) is wanted


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT}, True),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": ENDPOINT}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": ENDPOINT}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT, "OTEL_METRICS_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT, "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, True),
    ],
)
def test_the_standard_variables_say_whether_metrics_are_sent(environ: dict[str, str], wanted: bool) -> None:
    assert setup.wanted(environ, "metrics") is wanted


def test_a_protocol_we_do_not_speak_is_said_aloud(caplog: pytest.LogCaptureFixture) -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    assert not setup.wanted(environ)
    assert [record.getMessage() for record in caplog.records] == [
        "traces are off: OTLP over grpc is not supported, use http/protobuf (port 4318)"
    ]
