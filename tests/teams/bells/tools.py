"""One effect, outside of everything a test can stop: the bell at BELL_URL notes each ring."""

from __future__ import annotations

import asyncio
import os
from urllib.request import Request, urlopen

import msgspec

from shanty_runtime import ToolContext, tool

ANSWER_DEADLINE_S = 600
"""Longer than a test: whoever waits for the bell is killed, and does not give up."""


class Ring(msgspec.Struct, frozen=True, kw_only=True):
    pass


async def was_rung(args: Ring, context: ToolContext) -> str | None:
    return await asyncio.to_thread(told, "GET", context.key) or None


@tool(effect="irreversible", lookup=was_rung)
async def ring(args: Ring, context: ToolContext) -> str:
    """Rings the bell. The bell can be asked whether it was rung."""
    return await asyncio.to_thread(told, "POST", context.key)


def told(method: str, key: str) -> str:
    with urlopen(Request(f"{os.environ['BELL_URL']}/{key}", method=method), timeout=ANSWER_DEADLINE_S) as answer:
        return str(answer.read().decode())
