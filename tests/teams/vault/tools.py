"""Effects of every kind. Each leaves a line in a file when it happens: its key, what it was, and who did it.

The first replica of the agent in the file `before` that is about to act stops itself: its intent is in the journal by
then, and nothing has happened. That of the agent in the file `after` stops when it has acted.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import msgspec

from shanty_runtime import ToolContext, tool

PACE_S = 0.02
"""How long an effect takes: long enough to be killed in the middle."""


class Act(msgspec.Struct, frozen=True, kw_only=True):
    what: str

    def __post_init__(self) -> None:
        """Arguments are decoded when a model names them, and again just before the call is made or asked for."""
        freeze("before", passes=2)


class Said(msgspec.Struct, frozen=True, kw_only=True):
    what: str


@tool(effect="idempotent")
async def note(args: Said, context: ToolContext) -> str:
    """Notes what holds. To note it again changes nothing."""
    freeze("before")
    (folder() / f"{context.run}.state").write_text(args.what)
    return "noted"


@tool(effect="idempotent")
async def book(args: Said, context: ToolContext) -> str:
    """Books it. The book knows the key, so booking it again changes nothing."""
    return await happen(context, "book", once=True)


async def was_rung(args: Act, context: ToolContext) -> str | None:
    return "ring" if f"{context.key} " in ledger().read_text() else None


@tool(effect="irreversible", lookup=was_rung)
async def ring(args: Act, context: ToolContext) -> str:
    """Rings. Whether it rang can be looked up."""
    return await happen(context, "ring")


@tool(effect="irreversible")
async def post(args: Act, context: ToolContext) -> str:
    """Posts it. Nobody can tell afterwards whether it was."""
    return await happen(context, "post")


@tool(effect="irreversible", fenced=False)
async def shout(args: Said, context: ToolContext) -> str:
    """Shouts. The agent does so itself."""
    return await happen(context, "shout")


@tool(effect="read")
async def wink(args: Act, context: ToolContext) -> str:
    """Does nothing, and gives a test the time to stop whoever does it."""
    return "winked"


async def happen(context: ToolContext, what: str, *, once: bool = False) -> str:
    freeze("before")
    await asyncio.sleep(PACE_S)
    if not (once and f"{context.key} " in ledger().read_text()):
        with ledger().open("a") as file:
            file.write(f"{context.key} {what} {os.environ['SHANTY_REPLICA']}\n")
    freeze("after")
    await asyncio.sleep(PACE_S)
    return what


def freeze(where: str, *, passes: int = 1) -> None:
    """Stop when this is come by for the `passes`-th time."""
    order = folder() / where
    if not order.exists():
        return
    agent, *passed = order.read_text().split()
    if os.environ["SHANTY_REPLICA"].rpartition("-")[0] != agent:
        return
    if len(passed) + 1 < passes:
        order.write_text(" ".join([agent, *passed, "passed"]))
        return
    order.unlink()
    os.kill(os.getpid(), signal.SIGSTOP)


def folder() -> Path:
    return Path(os.environ["VAULT_FOLDER"])


def ledger() -> Path:
    return folder() / "ledger.txt"
