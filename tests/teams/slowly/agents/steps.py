"""Two slow steps, and something slow of its own between them."""

from __future__ import annotations

import msgspec

from shanty_runtime import Context

from ..tools import Wait, book, opened


class Gates(msgspec.Struct, frozen=True, kw_only=True):
    first: str
    between: str
    second: str


class Done(msgspec.Struct, frozen=True, kw_only=True):
    first: str
    second: str


async def handle(order: Gates, context: Context) -> Done:
    first = await context.call(book, Wait(gate=order.first))
    await opened(order.between)
    second = await context.call(book, Wait(gate=order.second))
    return Done(first=first, second=second)
