"""One effect of each kind. Each leaves a line in the ledger when it happens, so that an audit can count."""

from __future__ import annotations

import asyncio

import msgspec

from shanty_cli.chaos.ledgers import Ledgers
from shanty_runtime import ToolContext, tool

PACE_S = 0.02
"""How long an effect takes before and after it happens: long enough to be killed in between."""


class Booking(msgspec.Struct, frozen=True, kw_only=True):
    amount: int


class Nothing(msgspec.Struct, frozen=True, kw_only=True):
    pass


@tool(effect="idempotent")
async def book(args: Booking, context: ToolContext) -> str:
    """Books an amount. The ledger knows the key, so booking it again changes nothing."""
    await asyncio.sleep(PACE_S)
    Ledgers.here().effect_once(context.key, f"book {args.amount}")
    await asyncio.sleep(PACE_S)
    return f"booked {args.amount}"


async def was_rung(args: Nothing, context: ToolContext) -> str | None:
    return "rung" if Ledgers.here().has_effect(context.key) else None


@tool(effect="irreversible", lookup=was_rung)
async def ring(args: Nothing, context: ToolContext) -> str:
    """Rings the bell. Nobody hears that it was rung twice, so it is looked up first."""
    await asyncio.sleep(PACE_S)
    Ledgers.here().effect(context.key, "ring")
    await asyncio.sleep(PACE_S)
    return "rung"


@tool(effect="irreversible")
async def post(args: Nothing, context: ToolContext) -> str:
    """Posts the letter. Nobody can tell afterwards whether it was."""
    await asyncio.sleep(PACE_S)
    Ledgers.here().effect(context.key, "post")
    await asyncio.sleep(PACE_S)
    return "posted"
