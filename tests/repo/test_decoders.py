"""Decoders are built once, when a module is imported, and not while it works.

That is quicker, and safe: msgspec looks at a type when it first has to decode one. Where several threads have it do
so at once it may take the process down with it: seen with 0.22, in a service that asked three servers how they are.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for member in ("protocol", "services/*") for path in ROOT.glob(f"{member}/shanty_*/**/*.py"))


def built_on_the_way(source: str) -> Iterator[int]:
    """Lines in which `msgspec.json.decode` is told a class."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "msgspec.json.decode":
            for keyword in node.keywords:
                if keyword.arg == "type" and isinstance(keyword.value, ast.Name):
                    yield node.lineno


def test_every_module_builds_its_decoders_when_it_is_imported() -> None:
    found = [f"{path.relative_to(ROOT)}:{line}" for path in SOURCES for line in built_on_the_way(path.read_text())]
    assert len(SOURCES) > 100 and not found


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("msgspec.json.decode(data, type=Answer)", [1]),
        ("msgspec.json.decode(data, type=dict[str, Any])", []),
        ("answers.decode(data)", []),
    ],
)
def test_one_that_does_not_is_found(source: str, lines: list[int]) -> None:
    assert list(built_on_the_way(source)) == lines
