"""Tools that go wrong."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import msgspec

from shanty_runtime import ToolContext, tool


class Nothing(msgspec.Struct, frozen=True, kw_only=True):
    pass


class Seconds(msgspec.Struct, frozen=True, kw_only=True):
    seconds: float


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def note(line: str) -> None:
    with Path(os.environ["LEDGER_FILE"]).open("a") as file:
        file.write(f"{line}\n")


@tool(effect="idempotent")
async def explode(args: Nothing, context: ToolContext) -> str:
    """Kills the process that calls it, unless that has been defused."""
    if "DEFUSED" in os.environ:
        return "it is defused"
    die()
    return "unreachable"


@tool(effect="irreversible")
async def bet(args: Nothing, context: ToolContext) -> str:
    """Bets, and dies before anybody hears whether it won."""
    note(f"{context.key} bet")
    die()
    return "won"


@tool(effect="read")
async def sleep(args: Seconds, context: ToolContext) -> str:
    """Sleeps, and tells when it began and ended."""
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(args.seconds)
    return f"{began} {asyncio.get_running_loop().time()}"
