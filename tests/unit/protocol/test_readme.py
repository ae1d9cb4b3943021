"""What README.md says of kinds, codes and subjects is what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from shanty_protocol import CODES, Status, codec, streams

README = (Path(__file__).parents[3] / "protocol" / "README.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """The cells of all tables under a heading, without their first rows."""
    section = README.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in cells] for cells in lines]


def test_every_kind_has_its_row() -> None:
    described = [cells[0].strip("`") for cells in rows("Kinds")]
    assert described == sorted(set(described), key=described.index)
    assert set(described) == {kind for channel in codec.CHANNELS.values() for kind in codec.kinds_of(channel)}


def test_the_table_of_codes_is_the_codes() -> None:
    assert {code.strip("`"): meaning for code, meaning in rows("Error codes")} == CODES


def test_every_status_is_named() -> None:
    sentence = README.split("A delegation ends in one of these:")[1].split(".\n")[0]
    assert tuple(re.findall(r"`(\w+)`", sentence)) == Status.__args__  # type: ignore[attr-defined]  # a Literal


def test_every_stream_is_named_with_the_subjects_it_takes() -> None:
    named = {cells[1].strip("`"): cells[0].strip("`") for cells in rows("Subjects")}
    for spec in (*streams.lane_streams("0"), streams.memory_stream()):
        documented = named[re.sub(r"_0$", "_<lane>", spec.name)]
        assert documented.startswith(spec.subjects[0].removesuffix(">").replace(".0.", ".<lane>."))


def test_the_code_in_it_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
