"""`permissions:` of a front matter or of team.yaml: which tool calls are made, asked about first, or never made.

    permissions: {restart_host: ask, read_mail: deny}

What an agent says of a tool goes before what its team says of it. A tool nobody says anything about is allowed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import cast

from shanty_runtime.agent.profile import Permission
from shanty_runtime.team.fields import Fields
from shanty_runtime.team.problems import advice, described, nearest
from shanty_runtime.team.toolbox import BUILT_IN, CLAUDE_CODE, CONTROL_TOOLS, FIELD_TOOLS, MEMORY_TOOLS
from shanty_runtime.tools.base import Tool

PERMISSIONS = ("allow", "ask", "deny")
OF_A_SERVER = "__"
"""Stands between the name of an MCP server and that of its tool."""


def read_permissions(
    fields: Fields, own: Mapping[str, Tool] | None, servers: Collection[str]
) -> dict[str, Permission]:
    """What is said of each tool; what is wrong is reported and left out. `own` is None where nobody knows them."""
    given = fields.located("permissions")
    if given is None:
        return {}
    if not isinstance(given.value, dict):
        message = f"permissions: expected tools and words, got {described(given.value)}"
        fields.report(given, message, "write permissions: {send_mail: ask}")
        return {}
    known = (*BUILT_IN, *MEMORY_TOOLS, *FIELD_TOOLS, *(own or ()))
    found: dict[str, Permission] = {}
    for key, value in given.entries:
        name = CLAUDE_CODE.get(key.value, key.value)
        if value.value not in PERMISSIONS:
            message = f"permissions: expected one of {', '.join(PERMISSIONS)}, got {described(value.value)}"
            fields.report(value, message, nearest(str(value.value), PERMISSIONS))
        elif name in CONTROL_TOOLS:
            fields.report(
                key, f"{name} is a control tool", "leave it out: only tools that do something can be asked about"
            )
        elif own is not None and name not in known and name.partition(OF_A_SERVER)[0] not in servers:
            fields.report(key, f"permissions: there is no tool {described(key.value)}", advice(key.value, known))
        else:
            found[name] = cast(Permission, value.value)
    return found
