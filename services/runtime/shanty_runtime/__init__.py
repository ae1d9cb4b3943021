"""What a specialist is written with, and what every Shanty service runs on."""

from shanty_runtime.agent.handler import Context
from shanty_runtime.errors import ToolError
from shanty_runtime.models.rehearsal import Call, Move, Turn, call
from shanty_runtime.tools.base import Tool, ToolContext, ToolResult, tool

__all__ = ["Call", "Context", "Move", "Tool", "ToolContext", "ToolError", "ToolResult", "Turn", "call", "tool"]
