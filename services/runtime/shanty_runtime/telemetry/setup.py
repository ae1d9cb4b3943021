"""Turning tracing on: the only file that imports the OpenTelemetry SDK, and only where it is asked for.

    OTEL_EXPORTER_OTLP_ENDPOINT          where to send, such as http://collector:4318: this turns tracing on
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT   the same with its whole path, for traces alone
    OTEL_TRACES_EXPORTER                 `none` turns it off; `otlp` on, to localhost if no endpoint is given
    OTEL_SDK_DISABLED                    `true` turns it off
    OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, OTEL_BSP_*, OTEL_EXPORTER_OTLP_*
                                         mean what OpenTelemetry says they mean

Spans leave in the background, every second. A collector that does not answer costs log lines and spans, never
work: waiting for it ends with `SHUTDOWN_S`.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from importlib import metadata

from opentelemetry import trace

SHUTDOWN_S = 3.0
"""How long the last spans may take to leave when a service stops."""
SCHEDULE_DELAY_MS = 1_000
"""A killed process loses the spans of this long; OpenTelemetry's own default is five seconds."""

log = logging.getLogger("shanty.telemetry")


class Telemetry:
    """What `configure` started. `shutdown` sends what is left, and may be called twice."""

    def __init__(self, stop: Callable[[], None] | None = None) -> None:
        self.enabled = stop is not None
        self._stop = stop

    def shutdown(self) -> None:
        """Blocks for SHUTDOWN_S at most."""
        stop, self._stop = self._stop, None
        if stop is None:
            return
        # The SDK would wait for half a minute on a collector that hangs; nobody waits for this thread.
        last_spans = threading.Thread(target=stop, name="telemetry-shutdown", daemon=True)
        last_spans.start()
        last_spans.join(SHUTDOWN_S)
        if last_spans.is_alive():
            log.warning("the last spans did not reach the collector within %s s", SHUTDOWN_S)


def configure(service_name: str, replica: str) -> Telemetry:
    """Start recording and sending spans, if the environment says where to. One process is one service.

    A process that has a tracer provider already, set by whoever embeds us, keeps it.
    """
    if not wanted(os.environ):
        return Telemetry()
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return Telemetry()
    return Telemetry(_start(service_name, replica))


def wanted(environ: Mapping[str, str]) -> bool:
    """Whether the environment asks for traces."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporters = [each.strip().lower() for each in environ.get("OTEL_TRACES_EXPORTER", "").split(",")]
    if any(exporters) and "otlp" not in exporters:
        return False
    signal_endpoint = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
    if not ("otlp" in exporters or signal_endpoint or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")):
        return False
    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol and protocol != "http/protobuf":
        log.warning("traces are off: OTLP over %s is not supported, use http/protobuf (port 4318)", protocol)
        return False
    return True


def _start(service_name: str, replica: str) -> Callable[[], None]:
    # Imported here: together these take longer to import than the rest of a service.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    ours = {
        "service.name": service_name,
        "service.instance.id": replica,
        "service.version": metadata.version("shanty-runtime"),
    }
    # What the environment says about the resource is said by whoever runs us, and wins.
    resource = Resource.create(ours).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    delay_ms = None if os.environ.get("OTEL_BSP_SCHEDULE_DELAY") else SCHEDULE_DELAY_MS
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=delay_ms))
    trace.set_tracer_provider(provider)
    return provider.shutdown
