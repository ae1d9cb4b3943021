"""Tools that give a lot, and tools that give what nobody should see."""

from __future__ import annotations

import os

import msgspec

from shanty_runtime import ToolContext, tool

PAGE_CHARACTERS = 8_000


class Page(msgspec.Struct, frozen=True, kw_only=True):
    number: int


class Nothing(msgspec.Struct, frozen=True, kw_only=True):
    pass


@tool(effect="read")
async def page(args: Page, context: ToolContext) -> str:
    """One page of a long document."""
    return f"page {args.number}: " + "lorem ipsum " * (PAGE_CHARACTERS // 12)


@tool(effect="read")
async def leak(args: Nothing, context: ToolContext) -> str:
    """Gives the environment away, and a key besides."""
    return f"{os.environ['VAULT_TOKEN']} and ghp_abcdefghijklmnopqrstuvwxyz0123456789"


@tool(effect="read")
async def fail(args: Nothing, context: ToolContext) -> str:
    """Fails with a secret in its exception."""
    raise ConnectionError(f"cannot log in with {os.environ['VAULT_TOKEN']}")
