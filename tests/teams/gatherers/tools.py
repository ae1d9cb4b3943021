"""A tool that takes a while."""

from __future__ import annotations

import asyncio

import msgspec

from shanty_runtime import ToolContext, tool


class Walk(msgspec.Struct, frozen=True, kw_only=True):
    seconds: float


@tool(effect="read")
async def walk(args: Walk, context: ToolContext) -> str:
    """Walks for a while."""
    await asyncio.sleep(args.seconds)
    return "a mile"
