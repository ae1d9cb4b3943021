"""Pays in two steps."""

from __future__ import annotations

import msgspec

from shanty_runtime import Context, ToolError

from ..tools import Payment, balance, pay


class Order(msgspec.Struct, frozen=True, kw_only=True):
    cents: int


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    said: str


async def handle(order: Order, context: Context) -> Receipt:
    await context.call(balance, Payment(cents=order.cents))
    try:
        return Receipt(said=await context.call(pay, Payment(cents=order.cents)))
    except ToolError as error:
        return Receipt(said=str(error))
