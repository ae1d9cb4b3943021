"""Stamps a number, without a step in between."""

from __future__ import annotations

import asyncio

import msgspec

from shanty_runtime import Context


class Order(msgspec.Struct, frozen=True, kw_only=True):
    n: int
    fails: bool = False
    seconds: float = 0.0


class Stamped(msgspec.Struct, frozen=True, kw_only=True):
    square: int


async def handle(order: Order, context: Context) -> Stamped:
    await asyncio.sleep(order.seconds)
    if order.fails:
        raise ValueError(f"{order.n} cannot be stamped")
    return Stamped(square=order.n * order.n)
