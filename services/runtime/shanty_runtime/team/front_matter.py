"""An agent's file: settings between two lines of dashes, then the prompt."""

from __future__ import annotations

import msgspec

from shanty_runtime.team.positions import Document, NotYaml, parse

FENCE = "---"


class AgentFile(msgspec.Struct, frozen=True, kw_only=True):
    settings: Document
    """Places are those of the whole file."""
    prompt: str
    prompt_line: int


def read_agent_file(text: str) -> AgentFile:
    """Raises NotYaml where the front matter is missing, does not end or cannot be read."""
    lines = text.split("\n")
    if lines[0].rstrip() != FENCE:
        raise NotYaml(
            1, 1, "no front matter", f"begin the file with a line {FENCE}, the settings, and a line {FENCE}"
        )
    end = next((number for number, line in enumerate(lines[1:], 1) if line.rstrip() == FENCE), None)
    if end is None:
        raise NotYaml(
            1, 1, "the front matter does not end", f"add a line {FENCE} between the settings and the prompt"
        )
    # An empty line takes the place of the opening dashes, so that the parser counts lines as the file does.
    return AgentFile(
        settings=parse("\n".join(["", *lines[1:end], ""])),
        prompt="\n".join(lines[end + 1 :]).strip(),
        prompt_line=end + 2,
    )
