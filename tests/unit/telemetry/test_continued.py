from __future__ import annotations

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shanty_protocol import EntryAddress
from shanty_runtime.telemetry import continued, inject, publish_span

PLACE = EntryAddress("lead", "0-r", "on-alert-1", "trigger", 0)
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_message_that_carries_a_trace_is_part_of_it_and_one_that_does_not_begins_one(
    recorded: InMemorySpanExporter,
) -> None:
    with continued({"traceparent": TRACE}), publish_span(PLACE):
        assert inject()["traceparent"].split("-")[1] == TRACE.split("-")[1]
    with continued({"traceparent": "nonsense"}), publish_span(PLACE):
        pass
    first, second = recorded.get_finished_spans()
    assert first.parent is not None and f"{first.parent.span_id:016x}" == TRACE.split("-")[2]
    assert second.parent is None


def test_where_nothing_records_spans_a_trace_is_handed_on_as_it_came() -> None:
    with continued({"traceparent": TRACE}), publish_span(PLACE):
        assert inject() == {"traceparent": TRACE}
    with continued({}), publish_span(PLACE):
        assert inject() == {}
