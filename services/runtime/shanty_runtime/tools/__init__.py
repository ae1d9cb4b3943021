"""Tools: what an agent can do besides talking. `base` says what a tool is; the built-in ones stand beside it."""

from shanty_runtime.tools.base import Tool, ToolContext, ToolResult, tool
from shanty_runtime.tools.workspace import FileStore, Workspace

__all__ = ["FileStore", "Tool", "ToolContext", "ToolResult", "Workspace", "tool"]
