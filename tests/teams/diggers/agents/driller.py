"""Drills for a long time, a step at a time."""

from __future__ import annotations

import msgspec

from shanty_runtime import Context

from ..tools import Dig, dig


class Order(msgspec.Struct, frozen=True, kw_only=True):
    seconds: float


async def handle(order: Order, context: Context) -> None:
    for _ in range(1_000):
        await context.call(dig, Dig(seconds=order.seconds))
