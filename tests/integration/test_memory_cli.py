"""`shanty memory …` against a real server: what people see of a team's memory, and what they may do with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shanty_cli.__main__ import main
from shanty_cli.exits import DONE, USAGE
from shanty_runtime.bus import Bus, EmbeddedServer

HELLO = str(Path(__file__).parents[1] / "teams" / "hello")

Shanty = Callable[..., Any]


@pytest.fixture
def shanty(server: EmbeddedServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shanty:
    """Run a command in a thread, as it has a loop of its own: its exit code, stdout and stderr."""
    monkeypatch.setenv("SHANTY_NATS_URL", server.url)

    async def run(*arguments: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(main, ["memory", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


async def write(bus: Bus, path: str, content: str, *, base: int = 0, quarantined: bool = False) -> None:
    await bus.memory.commit(
        "hello",
        path,
        content,
        base_version=base,
        agent="counter",
        run="0-one",
        thread="0-1",
        key=f"{path}.{base}.{content}",
        quarantined=quarantined,
    )


async def test_documents_are_listed_shown_and_searched_for_people_and_programs(bus: Bus, shanty: Shanty) -> None:
    await write(bus, "notes/a.md", "The needle.\n")
    await write(bus, "b.md", "Hay.")

    code, listed, _ = await shanty("ls", HELLO)
    assert code == DONE
    assert [line.split()[:2] for line in listed.splitlines()[1:]] == [["b.md", "1"], ["notes/a.md", "1"]]
    _, listed, _ = await shanty("ls", "hello", "--prefix", "notes/", "-o", "json")
    (row,) = msgspec.json.decode(listed)
    assert (row["path"], row["author"], row["run"], row["state"]) == ("notes/a.md", "counter", "0-one", "ok")
    assert (await shanty("show", "hello", "notes/a.md"))[1] == "The needle.\n"
    assert (await shanty("search", "hello", "needle"))[1] == "notes/a.md, version 1\n    The needle.\n"
    _, found, _ = await shanty("search", "hello", 'needle OR "', "-o", "json")
    assert [(each["path"], each["snippet"]) for each in msgspec.json.decode(found)] == [
        ("notes/a.md", "The needle.\n")
    ]


async def test_a_version_in_quarantine_is_read_and_released_by_a_person(bus: Bus, shanty: Shanty) -> None:
    await write(bus, "a.md", "doubtful", quarantined=True)

    assert "has no documents" in (await shanty("ls", "hello"))[2]
    assert (await shanty("ls", "hello", "--all"))[1].split()[-1] == "quarantined"
    assert (await shanty("show", "hello", "a.md"))[0] == USAGE
    assert (await shanty("show", "hello", "a.md", "--version", "1"))[1] == "doubtful"
    code, released, _ = await shanty("release", "hello", "a.md", "1", "--by", "ann", "-o", "json")

    assert (code, msgspec.json.decode(released)["released_by"]) == (DONE, "ann")
    assert (await shanty("show", "hello", "a.md"))[1] == "doubtful"


async def test_a_person_goes_back_to_a_version_or_to_a_time(bus: Bus, shanty: Shanty) -> None:
    await write(bus, "a.md", "good")
    await write(bus, "a.md", "bad", base=1)

    code, said, _ = await shanty("restore", "hello", "a.md", "--version", "1", "--by", "ann")
    assert (code, said) == (DONE, "a.md is at version 3: version 1 again\n")
    _, history, _ = await shanty("history", "hello", "a.md", "-o", "json")
    assert [(each["version"], each["restored_from"], each["by"]) for each in msgspec.json.decode(history)] == [
        (1, 0, ""),
        (2, 0, ""),
        (3, 1, "ann"),
    ]
    _, said, _ = await shanty("restore", "hello", "--all", "--at", "2020-01-01T00:00:00Z", "-o", "json")
    assert [(each["path"], each["deleted"]) for each in msgspec.json.decode(said)] == [("a.md", True)]
    assert "nothing to do" in (await shanty("restore", "hello", "--all", "--at", "2020-01-01"))[2]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ls", "No Team"], "'No Team' is neither a folder nor the name of a team"),
        (["show", "hello", "a.md"], "a.md is not in the memory"),
        (["history", "hello", "a.md"], "a.md is not in the memory"),
        (["release", "hello", "a.md", "1"], "a.md at version 1 is not in the memory"),
        (["restore", "hello", "a.md"], "say what to go back to: --version N or --at TIME"),
        (["restore", "hello", "--version", "1"], "name the document to restore, or give --all"),
        (["restore", "hello", "--all", "--version", "1"], "say what to go back to"),
        (["restore", "hello", "a.md", "--at", "yesterday"], "--at 'yesterday' is not a time"),
    ],
)
async def test_what_cannot_be_done_ends_with_2_and_says_why(
    bus: Bus, shanty: Shanty, arguments: list[str], says: str
) -> None:
    code, _, said = await shanty(*arguments)
    assert code == USAGE
    assert says in said


async def test_words_that_would_move_a_terminal_are_made_visible(bus: Bus, shanty: Shanty) -> None:
    await write(bus, "a.md", "needle \x1b]0;owned\x07")
    found = (await shanty("search", "hello", "needle"))[1]
    assert "\x1b" not in found and "\x07" not in found
