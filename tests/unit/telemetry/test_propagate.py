from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shanty_runtime.telemetry import agent_span, extract, inject, span_context_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"


def test_without_a_span_there_are_no_headers() -> None:
    assert inject() == {}


def test_headers_lead_back_to_the_span_they_were_written_in(recorded: InMemorySpanExporter) -> None:
    with agent_span("lead", "0-r", "0"):
        headers = inject()
        current = trace.get_current_span().get_span_context()
    found = span_context_of(headers)
    assert found is not None
    assert (found.trace_id, found.span_id, found.is_remote) == (current.trace_id, current.span_id, True)


def test_tracestate_travels_on() -> None:
    received = {"traceparent": TRACEPARENT, "tracestate": "vendor=abc,other@x=1"}
    with trace.use_span(trace.get_current_span(extract(received))):
        assert inject() == received


def test_baggage_does_not_travel(recorded: InMemorySpanExporter) -> None:
    token = context.attach(baggage.set_baggage("secret", "canary"))
    try:
        with agent_span("lead", "0-r", "0"):
            assert set(inject()) == {"traceparent"}
    finally:
        context.detach(token)
    assert baggage.get_all(extract({"traceparent": TRACEPARENT, "baggage": "secret=canary"})) == {}


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        " ",
        TRACEPARENT + "\n",
        TRACEPARENT + "\r\nX: y",
        TRACEPARENT + "-more",
        TRACEPARENT.upper(),
        TRACEPARENT.replace("-", "_"),
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-zz",
        f"00-{TRACE}-{SPAN}",
        "０" + TRACEPARENT[1:],
        TRACEPARENT + "\x00",
        "\ud800" * 55,
        "0" * 1_000_000,
    ],
)
def test_what_is_not_a_traceparent_is_no_context(traceparent: str, caplog: pytest.LogCaptureFixture) -> None:
    assert span_context_of({"traceparent": traceparent}) is None
    assert caplog.records == []


@pytest.mark.parametrize(
    "tracestate",
    [
        "",
        "novalue",
        "a=b,a=c",
        "A=b",
        "a=b\nc=d",
        "a=\x1b[31mred",
        "a=b," * 40 + "a=b",
        "k=" + "v" * 5000,
        "\ud800=x",
        ",".join(f"k{i}=v" for i in range(33)),
    ],
)
def test_a_wrong_tracestate_is_left_out_and_the_traceparent_stays(
    tracestate: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = span_context_of({"traceparent": TRACEPARENT, "tracestate": tracestate})
    assert found is not None
    assert (found.trace_id, dict(found.trace_state)) == (int(TRACE, 16), {})
    assert caplog.records == []


def test_a_later_version_of_the_header_is_read_as_far_as_it_is_known() -> None:
    found = span_context_of({"traceparent": f"01-{TRACE}-{SPAN}-01-what-may-come"})
    assert found is not None
    assert found.span_id == int(SPAN, 16)


@given(
    headers=st.dictionaries(
        st.sampled_from(["traceparent", "tracestate", "baggage", "Traceparent"]),
        st.text() | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.*") | st.just(TRACEPARENT),
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_header_whatever_raises_or_logs(headers: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    found = span_context_of(headers)
    assert found is None or found.is_valid
    with trace.use_span(trace.get_current_span(extract(headers))):
        assert set(inject()) <= {"traceparent", "tracestate"}
    assert caplog.records == []
