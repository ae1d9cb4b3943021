"""A tool that takes a while, and one whose effect can be counted."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec

from shanty_runtime import ToolContext, tool


class Dig(msgspec.Struct, frozen=True, kw_only=True):
    seconds: float


@tool(effect="read")
async def dig(args: Dig, context: ToolContext) -> str:
    """Digs for a while."""
    await asyncio.sleep(args.seconds)
    return "earth"


def note(line: str) -> None:
    with Path(os.environ["LEDGER_FILE"]).open("a") as file:
        file.write(f"{line}\n")


@tool(effect="irreversible")
async def blast(args: Dig, context: ToolContext) -> str:
    """Blasts, once, and waits for the dust to settle."""
    note(f"{context.key} blast")
    await asyncio.sleep(args.seconds)
    return "rubble"
