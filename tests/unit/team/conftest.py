"""A right team to change: each test writes the files it is about, and the rest stays as it is here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

TEAM = """\
apiVersion: shanty/v1
name: harbour
goal: Load the ship
specialists:
  - stowage
  - price-check
limits:
  max_turns: 12
"""
LEAD = """\
---
description: Decides who does what
---
You lead the crew.
"""
STOWAGE = """\
---
name: stowage
description: Plans where cargo goes
tools: [read_file, weigh]
maxTurns: 7
output:
  type: object
  properties:
    tonnes: {type: number}
---

You plan the cargo.
Heavy things go low.
"""
PRICE_CHECK = '''\
"""Prices a shipment."""

import msgspec

from ..tariff.rates import RATE_CENTS


class Shipment(msgspec.Struct):
    tonnes: int


class Quote(msgspec.Struct):
    cents: int


async def handle(shipment: Shipment, context: object) -> Quote:
    return Quote(cents=shipment.tonnes * RATE_CENTS)
'''
TOOLS = '''\
import msgspec

from shanty_runtime.tools import ToolContext, tool

from .tariff.rates import RATE_CENTS


class Crate(msgspec.Struct):
    label: str


@tool(effect="read")
async def weigh(args: Crate, context: ToolContext) -> int:
    """How heavy a crate is."""
    return len(args.label) * RATE_CENTS
'''
REHEARSAL = """\
from shanty_runtime.models.rehearsal import Move, Turn, call


def lead(turn: Turn) -> Move:
    return call("submit_result", status="ok")


def price_check(turn: Turn) -> Move:
    return "nothing to say"
"""
FILES = {
    "team.yaml": TEAM,
    "agents/lead.md": LEAD,
    "agents/stowage.md": STOWAGE,
    "agents/price_check.py": PRICE_CHECK,
    "tools.py": TOOLS,
    "rehearsal.py": REHEARSAL,
    "tariff/rates.py": "RATE_CENTS = 250\n",
}

Write = Callable[[Mapping[str, str | bytes | None]], Path]


@pytest.fixture
def write_team(tmp_path: Path) -> Write:
    """Write the right team with some files changed, added, or left out where they are None."""

    def write(changes: Mapping[str, str | bytes | None]) -> Path:
        for path, content in {**FILES, **changes}.items():
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                file.unlink(missing_ok=True)
            elif isinstance(content, bytes):
                file.write_bytes(content)
            else:
                file.write_text(content, encoding="utf-8")
        return tmp_path

    return write
