"""Calls that end when a test opens their gate, and leave a line in a file when they begin and when they end."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import msgspec

from shanty_runtime import ToolContext, tool

LOOK_AGAIN_S = 0.05


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    gate: str


@tool(effect="read")
async def look(args: Wait, context: ToolContext) -> str:
    """Looks something up once its gate is open."""
    return await slowly("look", args, context)


@tool(effect="idempotent")
async def book(args: Wait, context: ToolContext) -> str:
    """Books something once its gate is open."""
    return await slowly("book", args, context)


@tool(effect="irreversible")
async def ring(args: Wait, context: ToolContext) -> str:
    """Rings a bell once its gate is open."""
    return await slowly("ring", args, context)


async def slowly(what: str, args: Wait, context: ToolContext) -> str:
    note(f"{context.key} {what} began {args.gate}")
    await opened(args.gate)
    note(f"{context.key} {what} ended {args.gate}")
    return f"{what} {args.gate}"


async def opened(gate: str) -> None:
    while not gates().joinpath(gate).exists():  # noqa: ASYNC110  # another process opens it
        await asyncio.sleep(LOOK_AGAIN_S)


def gates() -> Path:
    return Path(os.environ["GATES_FOLDER"])


def note(line: str) -> None:
    with gates().joinpath("ledger.txt").open("a") as file:
        file.write(f"{line} {os.getpid()} {time.time()}\n")
