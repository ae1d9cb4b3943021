"""Looks a hundred times, one look after the other."""

from __future__ import annotations

import msgspec

from shanty_runtime import Context

from ..tools import Look, look


class Order(msgspec.Struct, frozen=True, kw_only=True):
    times: int = 100


async def handle(order: Order, context: Context) -> None:
    for _ in range(order.times):
        await context.call(look, Look())
