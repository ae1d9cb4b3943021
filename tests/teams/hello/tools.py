"""What the greeter can do besides reading and writing files."""

from __future__ import annotations

import msgspec

from shanty_runtime.tools import ToolContext, tool


class Person(msgspec.Struct, frozen=True, kw_only=True):
    name: str


@tool(effect="read")
async def greeting_for(person: Person, context: ToolContext) -> dict[str, str]:
    """The greeting for one person."""
    return {"greeting": f"Ahoy, {person.name}!"}
