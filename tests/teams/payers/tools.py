"""A tool whose effect can be counted."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from shanty_runtime import ToolContext, tool


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    cents: int


def note(line: str) -> None:
    with Path(os.environ["LEDGER_FILE"]).open("a") as file:
        file.write(f"{line}\n")


@tool(effect="irreversible")
async def pay(args: Payment, context: ToolContext) -> str:
    """Pays somebody."""
    note(f"{context.key} {args.cents}")
    return f"paid {args.cents}"


@tool(effect="read")
async def balance(args: Payment, context: ToolContext) -> str:
    """Looks whether there is enough."""
    return "enough"
