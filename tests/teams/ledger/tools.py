"""Effects that leave a line in a file, so that a test can count them."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path

import msgspec

from shanty_runtime import ToolContext, tool

PACE_S = 0.02
"""How long an effect takes: long enough to be killed in the middle."""


class Booking(msgspec.Struct, frozen=True, kw_only=True):
    amount: int


class Bell(msgspec.Struct, frozen=True, kw_only=True):
    pass


@tool(effect="idempotent")
async def book(args: Booking, context: ToolContext) -> str:
    """Books an amount. The ledger knows the key, so booking it again changes nothing."""
    await asyncio.sleep(PACE_S)
    append_once(context.key, f"book {args.amount}")
    await asyncio.sleep(PACE_S)
    return f"booked {args.amount}"


async def was_rung(args: Bell, context: ToolContext) -> str:
    if not has_line(context.key):
        append_once(context.key, "ring")
    return "rung"


@tool(effect="irreversible", lookup=was_rung)
async def ring(args: Bell, context: ToolContext) -> str:
    """Rings the bell. Nobody hears that it was rung twice, so it is looked up first."""
    await asyncio.sleep(PACE_S)
    append(context.key, "ring")
    await asyncio.sleep(PACE_S)
    return "rung"


def append_once(key: str, what: str) -> None:
    with ledger().open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        if not any(line.startswith(f"{key} ") for line in file):
            file.write(f"{key} {what}\n")


def append(key: str, what: str) -> None:
    with ledger().open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(f"{key} {what}\n")


def has_line(key: str) -> bool:
    path = ledger()
    return path.exists() and any(line.startswith(f"{key} ") for line in path.read_text().splitlines())


def ledger() -> Path:
    return Path(os.environ["LEDGER_FILE"])
