"""A tool whose effects can be counted."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec

from shanty_runtime import ToolContext, tool


class Booking(msgspec.Struct, frozen=True, kw_only=True):
    what: str


def note(line: str) -> None:
    with Path(os.environ["LEDGER_FILE"]).open("a") as file:
        file.write(f"{line}\n")


@tool(effect="irreversible")
async def book(args: Booking, context: ToolContext) -> str:
    """Books something, and says so in a file outside the bus."""
    note(f"{context.key} {args.what}")
    await asyncio.sleep(0.01)
    return "booked"
