"""Turning telemetry on: the only file that imports the OpenTelemetry SDK.

Metrics are always on for /metrics, and read when that is asked for. What is sent is sent only where it is asked for:

    OTEL_EXPORTER_OTLP_ENDPOINT          where to send, such as http://collector:4318: traces and metrics
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT   the same with its whole path, for traces alone
    OTEL_EXPORTER_OTLP_METRICS_ENDPOINT  the same for metrics alone
    OTEL_TRACES_EXPORTER                 `none` turns them off; `otlp` on, to localhost if no endpoint is given
    OTEL_METRICS_EXPORTER                the same for metrics
    OTEL_SDK_DISABLED                    `true`: nothing is sent, and /metrics is about the process alone
    OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, OTEL_BSP_*, OTEL_METRIC_EXPORT_*,
    OTEL_EXPORTER_OTLP_*                 mean what OpenTelemetry says they mean
    SHANTY_CAPTURE_CONTENT               `spans`: what models and tools are told and say is part of their spans

Spans leave in the background, every second; metrics every minute. A collector that does not answer costs log lines
and spans, never work: waiting for it ends with `SHUTDOWN_S`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal

from opentelemetry import metrics, trace

from shanty_runtime.telemetry import histograms, names
from shanty_runtime.telemetry.spans import capture_content, record_nothing

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricsData
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

SHUTDOWN_S = 3.0
"""How long the last spans may take to leave when a service stops."""
SCHEDULE_DELAY_MS = 1_000
"""A killed process loses the spans of this long; OpenTelemetry's own default is five seconds."""

Signal = Literal["traces", "metrics"]

log = logging.getLogger("shanty.telemetry")


class Telemetry:
    """What `configure` started. `shutdown` sends what is left, and may be called twice."""

    def __init__(self, stops: Sequence[Callable[[], None]] = ()) -> None:
        self.enabled = bool(stops)
        """Whether anything is sent."""
        self._stops = stops

    def shutdown(self) -> None:
        """Blocks for SHUTDOWN_S at most."""
        stops, self._stops = self._stops, ()
        if not stops:
            return
        # The SDK would wait for half a minute on a collector that hangs; nobody waits for these threads.
        leaving = [threading.Thread(target=stop, name="telemetry-shutdown", daemon=True) for stop in stops]
        for thread in leaving:
            thread.start()
        deadline_s = time.monotonic() + SHUTDOWN_S
        for thread in leaving:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        if any(thread.is_alive() for thread in leaving):
            log.warning("the last spans and metrics did not reach the collector within %s s", SHUTDOWN_S)


def configure(
    service_name: str, replica: str, *, team: str = "", agent: str = "", content_in_spans: bool = False
) -> Telemetry:
    """Count and measure, and send what the environment says where to send. One process is one service.

    A provider that the process has already, set by whoever embeds us, is kept.
    """
    capture_content(content_in_spans)
    resource = _resource(service_name, replica, team, agent)
    stops: list[Callable[[], None]] = []
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider) and wanted(os.environ):
        tracer_provider = _tracer_provider(resource)
        trace.set_tracer_provider(tracer_provider)
        stops.append(tracer_provider.shutdown)
    record_nothing(isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider))
    # The API has no public name for the class of the provider that stands for none.
    if type(metrics.get_meter_provider()).__module__.startswith("opentelemetry.metrics."):
        sending = wanted(os.environ, "metrics")
        meter_provider = _meter_provider(resource, sending=sending)
        metrics.set_meter_provider(meter_provider)
        if sending:
            stops.append(meter_provider.shutdown)
    return Telemetry(stops)


def wanted(environ: Mapping[str, str], signal: Signal = "traces") -> bool:
    """Whether the environment asks for a signal to be sent."""
    which = signal.upper()
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporters = [each.strip().lower() for each in environ.get(f"OTEL_{which}_EXPORTER", "").split(",")]
    if any(exporters) and "otlp" not in exporters:
        return False
    signal_endpoint = environ.get(f"OTEL_EXPORTER_OTLP_{which}_ENDPOINT", "")
    if not ("otlp" in exporters or signal_endpoint or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")):
        return False
    protocol = environ.get(f"OTEL_EXPORTER_OTLP_{which}_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol and protocol != "http/protobuf":
        log.warning("%s are off: OTLP over %s is not supported, use http/protobuf (port 4318)", signal, protocol)
        return False
    return True


# What follows imports the SDK where it is used: whoever embeds us, or only asks, does not pay for it.


def _resource(service_name: str, replica: str, team: str, agent: str) -> Resource:
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    ours = {
        "service.name": service_name,
        "service.namespace": team,
        "service.instance.id": replica,
        "service.version": metadata.version("shanty-runtime"),
        names.SHANTY_AGENT_NAME: agent,
    }
    known = Resource.create({name: value for name, value in ours.items() if value})
    # What the environment says about the resource is said by whoever runs us, and wins.
    return known.merge(OTELResourceDetector().detect())


def _tracer_provider(resource: Resource) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    delay_ms = None if os.environ.get("OTEL_BSP_SCHEDULE_DELAY") else SCHEDULE_DELAY_MS
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=delay_ms))
    return provider


def _meter_provider(resource: Resource, *, sending: bool) -> MeterProvider:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader

    class PageReader(PrometheusMetricReader):
        """What /metrics shows: what OpenTelemetry has counted, and the histograms that count for themselves."""

        def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
            super()._receive_metrics(_with_kept_histograms(metrics_data), timeout_millis, **kwargs)

    # There is one scope, so its labels would say the same on every series.
    readers: list[MetricReader] = [PageReader(scope_info_enabled=False)]
    if sending:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

        readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
    else:
        histograms.keep()
    # An exemplar is kept for each bucket and costs at each record; only OTLP could carry it.
    exemplars = None if sending else AlwaysOffExemplarFilter()
    return MeterProvider(readers, resource=resource, exemplar_filter=exemplars, shutdown_on_exit=False)


def _with_kept_histograms(read: MetricsData) -> MetricsData:
    """The same with our own histograms in it, in our scope. Nothing is read before there is a counter in that."""
    from opentelemetry.sdk.metrics import export

    now_ns = time.time_ns()
    ours = [
        export.Metric(
            each.metric,
            each.sentence,
            each.unit,
            export.Histogram(
                [
                    export.HistogramDataPoint(
                        attributes=each.named(attributes),
                        start_time_unix_nano=series.since_ns,
                        time_unix_nano=now_ns,
                        count=sum(series.counts),
                        sum=series.total,
                        bucket_counts=tuple(series.counts),
                        explicit_bounds=tuple(each.bounds),
                        min=series.least,
                        max=series.most,
                    )
                    for attributes, series in list(each.series.items())
                ],
                export.AggregationTemporality.CUMULATIVE,
            ),
        )
        for each in histograms.kept()
    ]

    def grown(scope: export.ScopeMetrics) -> export.ScopeMetrics:
        if scope.scope.name != names.SCOPE:
            return scope
        return export.ScopeMetrics(scope.scope, [*scope.metrics, *ours], scope.schema_url)

    return export.MetricsData(
        [
            export.ResourceMetrics(each.resource, [grown(scope) for scope in each.scope_metrics], each.schema_url)
            for each in read.resource_metrics
        ]
    )
