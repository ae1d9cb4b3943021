"""`shanty team-values`: a team's folder as values of the Helm chart, where its files become a ConfigMap.

The same folder gives the same bytes. What only people and tests need stays out: evals, caches, hidden files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

from shanty_cli.exits import DONE, UsageError
from shanty_cli.output import Output
from shanty_cli.text import one_line, size
from shanty_runtime.team import Team, load_team

MAX_BYTES = 1_000_000
"""A ConfigMap holds 1 MiB, and its metadata counts."""
LEFT_OUT = frozenset({"evals", "__pycache__"})
IN_AN_IMAGE = "put the team into images of its own (FROM shanty/specialist, COPY the folder to /team)"

# A slash is written as two dots in the ConfigMap, so a name may not have two of them, nor begin or end with one.
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


def team_values(folder: Path, out: Output) -> int:
    team = load_team(folder)
    values = values_of(team)
    if out.json:
        out.data(values)
    else:
        print(_yaml(values), end="", file=out.stdout)
    return DONE


def values_of(team: Team) -> dict[str, Any]:
    """Raises UsageError for files that no ConfigMap can hold."""
    files = {path: _text(team.folder / path, path) for path in _paths(team.folder, "")}
    total = sum(len(path) + len(content.encode()) for path, content in files.items())
    if total > MAX_BYTES:
        raise UsageError(f"team {team.name} has {size(total)}, and a ConfigMap holds 1 MiB: {IN_AN_IMAGE}")
    return {
        "lead": {"agent": team.lead.name},
        "specialists": [{"name": specialist.name} for specialist in team.specialists],
        **({"toolgateway": {"enabled": True}} if team.fenced else {}),
        **({"initBus": {"startsOn": _starts_on(team)}} if team.mapped else {}),
        "team": {"files": files},
    }


def _starts_on(team: Team) -> str:
    """As `shanty init-bus --starts-on` takes it."""
    return f"{team.name}={','.join(team.mapped[team.name])}"


def _paths(folder: Path, prefix: str) -> Iterator[str]:
    for item in sorted((folder / prefix).iterdir(), key=lambda item: item.name):
        if item.name in LEFT_OUT or item.name.startswith("."):
            continue
        path = f"{prefix}{item.name}"
        if not _NAME.fullmatch(item.name):
            raise UsageError(f"{one_line(path)} has a name that no ConfigMap can hold: rename it, or {IN_AN_IMAGE}")
        if item.is_dir():
            yield from _paths(folder, f"{path}/")
        else:
            yield path


def _text(file: Path, path: str) -> str:
    try:
        return file.read_bytes().decode()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text: leave it out, or {IN_AN_IMAGE}") from error


def _yaml(values: dict[str, Any]) -> str:
    from ruamel.yaml import YAML
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

    def written(content: str) -> str:
        # A block shows the file as it is; what a block would change is quoted instead.
        plain = all(line.isprintable() and line == line.rstrip() for line in content.split("\n"))
        text: str = (LiteralScalarString if plain and content.strip() else DoubleQuotedScalarString)(content)
        return text

    files = {path: written(content) for path, content in values["team"]["files"].items()}
    writer, text = YAML(), StringIO()
    writer.default_flow_style = False
    writer.width = 1 << 20
    writer.indent(mapping=2, sequence=4, offset=2)
    writer.dump({**values, "team": {"files": files}}, text)
    return text.getvalue()
