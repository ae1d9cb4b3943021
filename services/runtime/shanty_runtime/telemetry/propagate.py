"""Trace context in and out of message headers: W3C `traceparent` and `tracestate`, and nothing else.

Baggage is left out on purpose: it would travel on to every HTTP call a tool makes. Headers come from other
processes, so whatever they hold, nothing here raises or writes to the log: what is not valid is not there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shanty_protocol import headers

_propagator = TraceContextTextMapPropagator()

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?:-[\x21-\x7e]{0,200})?")
_KEY = r"(?:[a-z][_0-9a-z*/-]{0,255}|[a-z0-9][_0-9a-z*/-]{0,240}@[a-z][_0-9a-z*/-]{0,13})"
_VALUE = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_TRACESTATE = re.compile(rf"{_KEY}={_VALUE}(?:,{_KEY}={_VALUE}){{0,31}}")
_MAX_TRACESTATE_LENGTH = 512
"""As much as the specification asks everyone to carry: the header travels in every message of a run."""


__all__ = ["Context", "SpanContext", "extract", "inject", "span_context_of"]


def inject() -> dict[str, str]:
    """Headers that say which span a message comes from; empty where there is none."""
    carrier: dict[str, str] = {}
    if trace.get_current_span() is not trace.INVALID_SPAN:
        _propagator.inject(carrier)
    return carrier


def extract(received: Mapping[str, str]) -> Context:
    """The context a message was created in; empty where its headers do not say."""
    if headers.TRACEPARENT not in received:
        return Context()
    return _propagator.extract(_valid(received), Context())


def span_context_of(received: Mapping[str, str]) -> SpanContext | None:
    """The span a message comes from, for a link to it."""
    found = trace.get_current_span(extract(received)).get_span_context()
    return found if found.is_valid else None


def _valid(received: Mapping[str, str]) -> dict[str, str]:
    # The propagator logs the text of a header it cannot read: such headers do not get that far.
    traceparent, tracestate = received.get(headers.TRACEPARENT), received.get(headers.TRACESTATE)
    if not isinstance(traceparent, str) or not _TRACEPARENT.fullmatch(traceparent):
        return {}
    if not isinstance(tracestate, str) or len(tracestate) > _MAX_TRACESTATE_LENGTH:
        return {headers.TRACEPARENT: traceparent}
    if not _TRACESTATE.fullmatch(tracestate):
        return {headers.TRACEPARENT: traceparent}
    return {headers.TRACEPARENT: traceparent, headers.TRACESTATE: tracestate}
