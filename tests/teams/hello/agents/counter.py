"""Counts the letters of a text."""

from __future__ import annotations

import msgspec

from shanty_runtime.agent.handler import Context


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    text: str


class Count(msgspec.Struct, frozen=True, kw_only=True):
    letters: int


async def handle(counted: Counted, context: Context) -> Count:
    return Count(letters=sum(letter.isalpha() for letter in counted.text))
