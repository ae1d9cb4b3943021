"""What a call gave as it is journaled: in UTF-8, without secrets, and a large one as a file with its beginning."""

from __future__ import annotations

import logging

from shanty_runtime.errors import WorkspaceError
from shanty_runtime.redaction import redact
from shanty_runtime.tools.workspace import Workspace

logger = logging.getLogger("shanty.tools")

MAX_INLINE_CHARACTERS = 65_536
"""A longer result goes to a workspace file, and the model is told which."""
SHOWN_CHARACTERS = 4_000
"""How much of such a result it is shown."""


async def journaled(content: str, workspace: Workspace, path: str) -> str:
    """`workspace` has a key that follows from the call: made again after a crash it writes the same file."""
    content = redact(content.encode(errors="replace").decode())
    if len(content) <= MAX_INLINE_CHARACTERS:
        return content
    try:
        await workspace.write(path, content)
    except WorkspaceError as error:
        logger.warning("a result was cut: %s", error)
        return f"{content[:MAX_INLINE_CHARACTERS]}\n[cut here; the whole result has {len(content)} characters]"
    return f"{content[:SHOWN_CHARACTERS]}\n[The whole result has {len(content)} characters and is in {path}.]"


def result_path(thread: str, call_id: str) -> str:
    return f"results/{thread}-{call_id}.txt"
