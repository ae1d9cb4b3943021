"""An OTLP/HTTP receiver, as a collector is one, and the spans and metrics it was sent."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

TRACE_ID, ROOT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Span(msgspec.Struct, frozen=True, kw_only=True):
    service: str
    agent: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[str, ...]
    kind: int
    scope: str
    schema_url: str
    attributes: dict[str, object]
    resource: dict[str, object]


class Receiver:
    """An OTLP/HTTP receiver: what a collector is to the services."""

    def __init__(self) -> None:
        self.spans: dict[str, Span] = {}
        self.bodies: list[bytes] = []
        """Requests with spans, as they came."""
        self.metrics: list[ExportMetricsServiceRequest] = []
        received = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/metrics":
                    received.metrics.append(ExportMetricsServiceRequest.FromString(body))
                else:
                    received.bodies.append(body)
                    received.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self._serving = threading.Thread(target=self.http.serve_forever)

    def __enter__(self) -> Receiver:
        self._serving.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.http.shutdown()
        self._serving.join()
        self.http.server_close()

    def take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            named = decoded(resource.resource.attributes)
            for scope in resource.scope_spans:
                for span in scope.spans:
                    attributes = decoded(span.attributes)
                    self.spans[span.span_id.hex()] = Span(
                        service=str(named["service.name"]),
                        # A workflow is nobody's: it is the team's, played by its lead.
                        agent=str(attributes.get("gen_ai.agent.name", "lead")),
                        name=span.name,
                        trace_id=span.trace_id.hex(),
                        span_id=span.span_id.hex(),
                        parent_id=span.parent_span_id.hex(),
                        links=tuple(link.span_id.hex() for link in span.links),
                        kind=span.kind,
                        scope=scope.scope.name,
                        schema_url=scope.schema_url,
                        attributes=attributes,
                        resource=named,
                    )

    def metric_names(self) -> set[str]:
        return {
            metric.name
            for request in self.metrics
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def edge(self, span: Span) -> tuple[tuple[str, str], tuple[str, str]]:
        parent = self.spans.get(span.parent_id)
        root = ("test", "root") if span.parent_id == ROOT_ID else ("nobody", span.parent_id)
        return (span.agent, span.name), (parent.agent, parent.name) if parent else root


def decoded(attributes: Iterable[KeyValue]) -> dict[str, object]:
    return {each.key: _decoded(each.value) for each in attributes}


def _decoded(value: AnyValue) -> object:
    which = value.WhichOneof("value")
    if which == "array_value":
        return tuple(_decoded(each) for each in value.array_value.values)
    return None if which is None else getattr(value, which)
