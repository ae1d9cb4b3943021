"""A tool that does nothing, as often as somebody likes."""

from __future__ import annotations

import msgspec

from shanty_runtime import ToolContext, tool


class Look(msgspec.Struct, frozen=True, kw_only=True):
    pass


@tool(effect="read")
async def look(args: Look, context: ToolContext) -> str:
    """Looks around."""
    return "nothing to be seen"
