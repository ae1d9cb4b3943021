"""CSV and JSON files whose column names are not known in advance.

Which column is the time, which are values and which only name things is told by names first and by contents
where the names do not say.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from .times import parse_time

TIME_NAME = re.compile(
    (
        r"^@?(?:ts|time|timestamp|date|datetime|at|when|created\w*|opened\w*|started\w*|deployed\w*"
        r"|executed\w*|submitted\w*|reported\w*|\w+_(?:at|time|ts|date))$"
    ),
    re.IGNORECASE,
)
MAX_ROW_LENGTH = 100_000


class Row(msgspec.Struct, frozen=True, kw_only=True):
    line: int
    cells: tuple[str, ...]
    text: str


def read_rows(lines: Iterable[tuple[int, str]]) -> Iterator[Row]:
    """Rows of a CSV file with the line each begins at. A quoted cell may span lines; garbage gives odd rows."""
    opened: list[str] = []
    begin = 0
    for number, line in lines:
        line = line[:MAX_ROW_LENGTH].replace("\0", "")
        if not opened:
            begin = number
            if not line.strip():
                continue
        opened.append(line)
        if sum(part.count('"') for part in opened) % 2 and len(opened) < 50:
            continue
        whole, opened = "\n".join(opened), []
        yield Row(line=begin, cells=cells_of(whole), text=whole)
    if opened:
        whole = "\n".join(opened)
        yield Row(line=begin, cells=cells_of(whole), text=whole)


def cells_of(text: str) -> tuple[str, ...]:
    delimiter = "," if "," in text else ";" if ";" in text else "\t"
    try:
        return tuple(
            cell.strip() for cell in next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), ())
        )
    except csv.Error:
        return tuple(text.split(delimiter))


def column(header: Sequence[str], *patterns: str) -> int | None:
    """The first column whose name matches the first pattern that any name matches."""
    for pattern in patterns:
        for position, name in enumerate(header):
            if re.search(pattern, name.strip(), re.IGNORECASE):
                return position
    return None


def time_column(header: Sequence[str], sample: Sequence[Row], year: int = 1970) -> int | None:
    named = [position for position, name in enumerate(header) if TIME_NAME.match(name.strip())]
    candidates: list[int] = [*named, *range(len(header))]
    for position in candidates:
        cells = [row.cells[position] for row in sample[:20] if position < len(row.cells)]
        readable = sum(parse_time(cell, year) is not None for cell in cells)
        if cells and readable >= 0.7 * len(cells):
            return position
    return None


def number_of(cell: str) -> float | None:
    """A number with an optional unit behind it; None for anything else, also for NaN and infinity."""
    found = re.fullmatch(r"\s*(-?\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*(%|[kKMGT]?i?[bB]|ms|s|/s|rps)?\s*", cell)
    if not found:
        return None
    factor = {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}.get((found[2] or "")[:1], 1.0)
    return float(found[1]) * (factor if found[2] and found[2] not in ("ms",) else 1.0)


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One object of a JSON list, with the line that says most of it."""

    fields: dict[str, Any]
    line: int
    text: str


def read_items(text: str) -> list[Item]:
    """The objects of a JSON list, of a list inside an object, or of JSON lines. What cannot be read is left out."""
    decoder = json.JSONDecoder()
    best: list[Item] = []
    for start in list_starts(text):
        items = items_from(text, start, decoder)
        if len(items) > len(best):
            best = items
        if best:
            break
    return best or json_lines(text)


def list_starts(text: str) -> Iterator[int]:
    for count, found in enumerate(re.finditer(r"\[\s*\{", text)):
        if count > 50:
            return
        yield found.start()


def items_from(text: str, start: int, decoder: json.JSONDecoder) -> list[Item]:
    items: list[Item] = []
    position = start + 1
    while True:
        gap = re.compile(r"[\s,]*").match(text, position)
        position = gap.end() if gap else position
        if position >= len(text) or text[position] != "{":
            return items
        try:
            value, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            return items
        items.append(item(text, position, end, value))
        position = end


def json_lines(text: str) -> list[Item]:
    items = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            items.append(Item(fields=value, line=number, text=line))
    return items


def item(text: str, start: int, end: int, value: dict[str, Any]) -> Item:
    """The line of the longest text inside the object: it says more than the line with the brace."""
    first = text.count("\n", 0, start) + 1
    begin = text.rfind("\n", 0, start) + 1
    stop = text.find("\n", end)
    lines = text[begin : stop if stop >= 0 else len(text)].split("\n")
    texts = [each for each in value.values() if isinstance(each, str) and parse_time(each) is None]
    longest = max(texts, key=len, default="")
    needle = json.dumps(longest)[1:-1]
    raw = json.dumps(longest, ensure_ascii=False)[1:-1]
    offset = next((index for index, line in enumerate(lines) if longest and (needle in line or raw in line)), 0)
    return Item(fields=value, line=first + offset, text=lines[offset])
