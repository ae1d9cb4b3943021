"""A tool that takes long in the threads that were opened first."""

from __future__ import annotations

import asyncio

import msgspec

from shanty_runtime import ToolContext, tool


class LookUp(msgspec.Struct, frozen=True, kw_only=True):
    what: str
    """`stuck 8 …` takes long in the first eight threads of the lead, and anything else in none."""


@tool(effect="read")
async def look_up(args: LookUp, context: ToolContext) -> str:
    """Looks something up."""
    ordinal = int(context.thread.rpartition("-")[2])
    match args.what.split():
        case ["stuck", first, *_] if ordinal <= int(first):
            await asyncio.sleep(60)
    return f"{context.thread} knows {args.what}"
