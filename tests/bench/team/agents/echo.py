"""Gives back the text it is given."""

from __future__ import annotations

import msgspec

from shanty_runtime.agent.handler import Context


class Text(msgspec.Struct, frozen=True, kw_only=True):
    text: str


async def handle(given: Text, context: Context) -> Text:
    return given
