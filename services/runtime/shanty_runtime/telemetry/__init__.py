"""Traces, metrics and log lines: `spans` and `metrics` are what the runtime calls, `names` is the vocabulary, `setup`
turns it on."""

from shanty_runtime.telemetry import metrics
from shanty_runtime.telemetry.lag import watch_event_loop
from shanty_runtime.telemetry.logs import configure_logging, log_context
from shanty_runtime.telemetry.propagate import SpanContext, extract, inject, span_context_of
from shanty_runtime.telemetry.setup import Telemetry, configure
from shanty_runtime.telemetry.spans import (
    OpenSpan,
    agent_span,
    continued,
    model_span,
    process_span,
    publish_span,
    recording,
    tool_span,
    workflow_span,
)

__all__ = [
    "OpenSpan",
    "SpanContext",
    "Telemetry",
    "agent_span",
    "configure",
    "configure_logging",
    "continued",
    "extract",
    "inject",
    "log_context",
    "metrics",
    "model_span",
    "process_span",
    "publish_span",
    "recording",
    "span_context_of",
    "tool_span",
    "watch_event_loop",
    "workflow_span",
]
