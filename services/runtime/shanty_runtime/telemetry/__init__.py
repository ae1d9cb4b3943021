"""Traces and log lines: `spans` is what the runtime calls, `names` the vocabulary, `setup` turns it on."""

from shanty_runtime.telemetry.logs import configure_logging, log_context
from shanty_runtime.telemetry.propagate import SpanContext, extract, inject, span_context_of
from shanty_runtime.telemetry.setup import Telemetry, configure
from shanty_runtime.telemetry.spans import (
    OpenSpan,
    agent_span,
    model_span,
    process_span,
    publish_span,
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
    "extract",
    "inject",
    "log_context",
    "model_span",
    "process_span",
    "publish_span",
    "span_context_of",
    "tool_span",
    "workflow_span",
]
