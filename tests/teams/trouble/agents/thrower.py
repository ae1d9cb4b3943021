"""Raises an exception."""

from __future__ import annotations

import msgspec

from shanty_runtime import Context


class Anything(msgspec.Struct, frozen=True, kw_only=True):
    divisor: int = 0


async def handle(order: Anything, context: Context) -> None:
    1 // order.divisor
