"""A tool whose effect can be counted, by its keys."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from shanty_runtime import ToolContext, tool


def note(line: str) -> None:
    with Path(os.environ["LEDGER_FILE"]).open("a") as file:
        file.write(f"{line}\n")


class Amount(msgspec.Struct, frozen=True, kw_only=True):
    cents: int


@tool(effect="idempotent")
async def book(args: Amount, context: ToolContext) -> str:
    """Books an amount, once for each key."""
    note(f"{context.key} {args.cents}")
    return f"booked {args.cents}"
