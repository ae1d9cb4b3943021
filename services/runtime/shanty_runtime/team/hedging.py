"""`hedge:` of an agent's front matter: after which time a second thread gets the same brief.

    hedge: {afterS: 60}

Both threads work at the same time, so what they do must be harmless when it is done twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shanty_runtime.team.fields import Fields, both_spellings
from shanty_runtime.team.problems import Problems
from shanty_runtime.tools.base import Tool
from shanty_runtime.tools.mcp_server import McpServer

DAY_S = 24 * 3600.0


def read_hedge(
    fields: Fields,
    problems: Problems,
    path: str,
    *,
    tools: Iterable[str],
    own: Mapping[str, Tool] | None,
    servers: Iterable[McpServer],
    leads: bool,
) -> float | None:
    """Seconds until the second thread; None where there is none. `own` is None where nobody knows its tools."""
    given = fields.located("hedge")
    if given is None:
        return None
    inner = Fields(problems, path, given, both_spellings(("after_s",)))
    inner.require("after_s", "write hedge: {afterS: 60}")
    harmful = [name for name in tools if own and name in own and own[name].effect == "irreversible"]
    harmful += [f"those of {server.name}" for server in servers if _may_do_harm(server)]
    if leads:
        fields.report(
            given, "hedge: it leads others, and what they do is done twice", "hedge those, and not this one"
        )
    if harmful:
        message = f"hedge: what it does must be harmless when it is done twice, and {', '.join(harmful)} may not be"
        fields.report(given, message, "take them off `tools`, or declare the effect of each read or idempotent")
    return inner.amount("after_s", "seconds", high=DAY_S)


def _may_do_harm(server: McpServer) -> bool:
    """What is not said of a server's tool is taken for irreversible."""
    return server.allow is None or any(server.effect_of(tool) == "irreversible" for tool in server.allow)
