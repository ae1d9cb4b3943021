from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from support.crew import crew, until

TRACE_ID, ROOT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ENTRY = "shanty.{lane}.{to}.{run}.{thread}.{agent}.{n}"

PARENTS = {
    ("lead", f"process {ENTRY}"): {("test", "root"), ("clerk", f"publish {ENTRY}"), ("counter", f"publish {ENTRY}")},
    ("lead", "invoke_workflow ledger"): {("lead", f"process {ENTRY}")},
    ("lead", "invoke_agent lead"): {("lead", "invoke_workflow ledger")},
    ("lead", "chat rehearsal"): {("lead", "invoke_agent lead")},
    ("lead", f"publish {ENTRY}"): {("lead", "invoke_agent lead")},
    ("clerk", f"process {ENTRY}"): {("lead", f"publish {ENTRY}")},
    ("clerk", "invoke_agent clerk"): {("clerk", f"process {ENTRY}")},
    ("clerk", "chat rehearsal"): {("clerk", "invoke_agent clerk")},
    ("clerk", "execute_tool book"): {("clerk", "invoke_agent clerk")},
    ("clerk", "execute_tool ring"): {("clerk", "invoke_agent clerk")},
    ("clerk", f"publish {ENTRY}"): {("clerk", "invoke_agent clerk")},
    ("counter", f"process {ENTRY}"): {("lead", f"publish {ENTRY}")},
    ("counter", "invoke_agent counter"): {("counter", f"process {ENTRY}")},
    ("counter", "execute_tool book"): {("counter", "invoke_agent counter")},
    ("counter", f"publish {ENTRY}"): {("counter", "invoke_agent counter")},
}
"""Every kind of span a run of the ledger team has, by agent, and whose child it may be."""


class Span(msgspec.Struct, frozen=True, kw_only=True):
    service: str
    agent: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[str, ...]


class Receiver:
    """An OTLP/HTTP receiver: what a collector is to the services."""

    def __init__(self) -> None:
        self.spans: dict[str, Span] = {}
        received = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            named = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    attributes = {each.key: each.value.string_value for each in span.attributes}
                    self.spans[span.span_id.hex()] = Span(
                        service=named["service.name"],
                        # A workflow is nobody's: it is the team's, played by its lead.
                        agent=attributes.get("gen_ai.agent.name", "lead"),
                        name=span.name,
                        trace_id=span.trace_id.hex(),
                        span_id=span.span_id.hex(),
                        parent_id=span.parent_span_id.hex(),
                        links=tuple(link.span_id.hex() for link in span.links),
                    )

    def edge(self, span: Span) -> tuple[tuple[str, str], tuple[str, str]]:
        parent = self.spans.get(span.parent_id)
        root = ("test", "root") if span.parent_id == ROOT_ID else ("nobody", span.parent_id)
        return (span.agent, span.name), (parent.agent, parent.name) if parent else root


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    serving = threading.Thread(target=receiver.http.serve_forever)
    serving.start()
    yield receiver
    receiver.http.shutdown()
    serving.join()
    receiver.http.server_close()


def environment_of(tmp_path: Path, receiver: Receiver) -> dict[str, str]:
    return {
        "LEDGER_FILE": str(tmp_path / "ledger.txt"),
        "MODEL_CALLS_FILE": str(tmp_path / "model-calls.txt"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }


async def test_a_run_over_three_processes_is_one_trace_with_the_right_parent_everywhere(
    tmp_path: Path, receiver: Receiver
) -> None:
    agents = {"lead": 1, "clerk": 1, "counter": 1}
    async with crew("ledger", tmp_path, agents, environment_of(tmp_path, receiver)) as running:
        await running.start("0-r", traceparent=f"00-{TRACE_ID}-{ROOT_ID}-01")
        await running.reply("0-r")
        for replica in running.replicas:
            assert replica.stop() == 0
    assert {span.trace_id for span in receiver.spans.values()} == {TRACE_ID}
    assert {(span.service, span.agent) for span in receiver.spans.values()} == {
        ("lead", "lead"),
        ("specialist", "clerk"),
        ("specialist", "counter"),
    }
    edges = {receiver.edge(span) for span in receiver.spans.values()}
    assert edges == {(child, parent) for child, parents in PARENTS.items() for parent in parents}


async def test_after_a_kill_the_trace_goes_on_and_links_to_where_it_broke_off(
    tmp_path: Path, receiver: Receiver
) -> None:
    environment = {**environment_of(tmp_path, receiver), "SHANTY_REHEARSAL_PACE_S": "0.3"}
    async with crew("ledger", tmp_path, {"lead": 1, "clerk": 2, "counter": 1}, environment) as running:
        await running.start("0-r", traceparent=f"00-{TRACE_ID}-{ROOT_ID}-01")
        async for stored in running.bus.feed.follow("0-r"):
            if stored.address.agent == "clerk" and stored.address.to == "log" and stored.address.n == 1:
                break
        broken_off = stored.headers["traceparent"].split("-")[2]
        next(each for each in running.replicas if each.name == stored.entry.by).kill()
        await running.reply("0-r")

        async def linked() -> bool:
            return any(broken_off in span.links for span in receiver.spans.values())

        await until(linked, 10, "a span that links to the one the kill broke off")
    assert {span.trace_id for span in receiver.spans.values()} == {TRACE_ID}
