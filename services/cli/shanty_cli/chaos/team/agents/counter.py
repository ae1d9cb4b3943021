"""Counts amounts, and books the total."""

from __future__ import annotations

import msgspec

from shanty_runtime import Context

from ..tools import Booking, book


class Amounts(msgspec.Struct, frozen=True, kw_only=True):
    amounts: list[int]


class Total(msgspec.Struct, frozen=True, kw_only=True):
    total: int
    booked: str


async def handle(order: Amounts, context: Context) -> Total:
    total = sum(order.amounts)
    booked = await context.call(book, Booking(amount=total))
    return Total(total=total, booked=booked)
