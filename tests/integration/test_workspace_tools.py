from __future__ import annotations

import asyncio
import hashlib
import time
import tracemalloc
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import msgspec
import pytest

from shanty_runtime.bus import Bus
from shanty_runtime.errors import EditConflict, FileMissing, ToolError, WorkspaceError
from shanty_runtime.tools import files
from shanty_runtime.tools.base import Tool, ToolContext, ToolResult, failure, to_result
from shanty_runtime.tools.files import (
    MAX_RESULT_BYTES,
    MAX_SHOWN_CHARACTERS,
    edit_file,
    file_history,
    list_files,
    read_file,
    search_files,
    write_file,
)
from shanty_runtime.tools.workspace import Workspace

RUN = "0-voyage"


class Agent:
    """One agent that calls tools on the run's files. Every call has a key of its own, unless it is given one."""

    def __init__(self, bus: Bus, name: str, thread: str) -> None:
        self.bus, self.name, self.thread = bus, name, thread
        self._calls = 0

    async def call(self, tool: Tool, key: str = "", **arguments: object) -> Any:
        """What the tool returned, decoded where it is JSON; what it raises is raised."""
        result = await self.result(tool, key, **arguments)
        try:
            return msgspec.json.decode(result.content)
        except msgspec.DecodeError:
            return result.content

    async def result(self, tool: Tool, key: str = "", **arguments: object) -> ToolResult:
        self._calls += 1
        key = f"{RUN}.{self.thread}.{key or f'call-{self._calls}'}"
        workspace = Workspace(self.bus.files, RUN, agent=self.name, thread=self.thread, key=key)
        context = ToolContext(key=key, run=RUN, thread=self.thread, agent=self.name, workspace=workspace)
        return to_result(await tool(msgspec.convert(arguments, tool.arguments), context))


@pytest.fixture
def alpha(bus: Bus) -> Agent:
    return Agent(bus, "alpha", "0-1")


@pytest.fixture
def beta(bus: Bus) -> Agent:
    return Agent(bus, "beta", "0-2")


def digest_of(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


async def test_a_written_file_is_listed_with_its_version_size_and_author(alpha: Agent, beta: Agent) -> None:
    await alpha.call(write_file, path="notes/b.md", content="two")
    await beta.call(write_file, path="notes/a.md", content="one!")
    await beta.call(write_file, path="other.md", content="")

    assert await alpha.call(list_files, prefix="notes/") == {
        "files": [
            {"path": "notes/a.md", "version": 1, "size_bytes": 4, "author": "beta"},
            {"path": "notes/b.md", "version": 1, "size_bytes": 3, "author": "alpha"},
        ],
        "not_shown": 0,
    }
    assert len((await alpha.call(list_files))["files"]) == 3


async def test_a_write_gives_a_reference_to_the_version_it_made(alpha: Agent) -> None:
    result = await alpha.result(write_file, path="memo.md", content="It was the deploy.\n")

    (reference,) = result.files
    assert msgspec.to_builtins(reference) == {
        "path": "memo.md",
        "version": 1,
        "digest": digest_of("It was the deploy.\n"),
        "size_bytes": 19,
    }
    assert msgspec.json.decode(result.content) == msgspec.to_builtins(reference)


async def test_the_history_names_versions_authors_digests_and_times(alpha: Agent, beta: Agent) -> None:
    began_at_ms = int(time.time() * 1000)
    await alpha.call(write_file, path="memo.md", content="draft")
    await beta.call(write_file, path="memo.md", content="final", base_version=1)

    first, second = await alpha.call(file_history, path="memo.md")

    assert [first["author"], first["thread"], first["digest"]] == ["alpha", "0-1", digest_of("draft")]
    assert [second["author"], second["thread"], second["digest"]] == ["beta", "0-2", digest_of("final")]
    assert [first["version"], second["version"]] == [1, 2]
    times_ms = [datetime.fromisoformat(each["at"]).timestamp() * 1000 for each in (first, second)]
    assert began_at_ms <= times_ms[0] <= times_ms[1] <= time.time() * 1000


async def test_an_older_version_stays_readable(alpha: Agent) -> None:
    await alpha.call(write_file, path="memo.md", content="draft")
    await alpha.call(write_file, path="memo.md", content="final", base_version=1)

    assert await alpha.call(read_file, path="memo.md", version=1) == (
        "memo.md, version 1, 5 bytes\n     1\tdraft\n[end of the file, which has 1 lines]"
    )


async def test_of_two_agents_that_change_one_version_the_slower_is_refused(alpha: Agent, beta: Agent) -> None:
    await alpha.call(write_file, path="memo.md", content="one two three")
    await alpha.call(edit_file, path="memo.md", old_text="one", new_text="1", base_version=1)

    with pytest.raises(EditConflict) as refused:
        await beta.call(edit_file, path="memo.md", old_text="three", new_text="3", base_version=1)

    assert str(refused.value) == (
        "memo.md is at version 2, written by alpha, not 1: read it again and repeat the edit"
    )
    assert "     1\t1 two three" in await beta.call(read_file, path="memo.md")


async def test_of_many_that_write_at_once_one_is_first_and_nothing_is_lost(bus: Bus) -> None:
    agents = [Agent(bus, name, f"0-{number}") for number, name in enumerate(["alpha", "beta"] * 4, 1)]

    outcomes = await asyncio.gather(
        *(agent.call(write_file, path="memo.md", content=agent.thread) for agent in agents), return_exceptions=True
    )

    made = [outcome for outcome in outcomes if isinstance(outcome, dict)]
    assert len(made) == 1
    assert sum(isinstance(outcome, EditConflict) for outcome in outcomes) == len(agents) - 1
    (only,) = await agents[0].call(file_history, path="memo.md")
    assert only["digest"] == made[0]["digest"]


async def test_a_new_file_is_not_written_over_one_that_is_there(alpha: Agent, beta: Agent) -> None:
    await alpha.call(write_file, path="memo.md", content="mine")

    with pytest.raises(EditConflict, match=r"memo\.md is at version 1, written by alpha, not 0"):
        await beta.call(write_file, path="memo.md", content="yours")


async def test_a_version_that_was_never_made_cannot_be_changed(alpha: Agent) -> None:
    await alpha.call(write_file, path="memo.md", content="one")

    with pytest.raises(FileMissing, match=r"memo\.md at version 4 is not in the workspace"):
        await alpha.call(write_file, path="memo.md", content="two", base_version=4)
    with pytest.raises(FileMissing, match=r"nothing\.md at version 1 is not in the workspace"):
        await alpha.call(write_file, path="nothing.md", content="two", base_version=1)
    assert len(await alpha.call(file_history, path="memo.md")) == 1


async def test_a_write_tried_again_gives_the_version_it_made(alpha: Agent, beta: Agent) -> None:
    first = await alpha.call(write_file, key="call-w", path="memo.md", content="one")
    await beta.call(write_file, path="memo.md", content="two", base_version=1)

    assert await alpha.call(write_file, key="call-w", path="memo.md", content="one") == first
    assert len(await alpha.call(file_history, path="memo.md")) == 2


async def test_an_edit_tried_again_gives_the_version_it_made(alpha: Agent, beta: Agent) -> None:
    await alpha.call(write_file, path="memo.md", content="one two")
    edit = {"path": "memo.md", "old_text": "one", "new_text": "one one", "base_version": 1}
    first = await alpha.call(edit_file, key="call-e", **edit)
    await beta.call(edit_file, path="memo.md", old_text="two", new_text="2", base_version=2)

    assert await alpha.call(edit_file, key="call-e", **edit) == first
    assert first["version"] == 2
    assert "     1\tone one 2" in await alpha.call(read_file, path="memo.md")


async def test_the_same_edit_by_another_call_is_a_conflict(alpha: Agent) -> None:
    await alpha.call(write_file, path="memo.md", content="one two")
    edit = {"path": "memo.md", "old_text": "one", "new_text": "1", "base_version": 1}
    await alpha.call(edit_file, key="call-e", **edit)

    with pytest.raises(EditConflict, match=r"memo\.md is at version 2"):
        await alpha.call(edit_file, key="call-f", **edit)


@pytest.mark.parametrize(
    ("old_text", "says"),
    [
        ("three", "old_text is not in memo.md at version 1: copy it exactly"),
        ("one", "old_text occurs 2 times in memo.md at version 1: give more"),
    ],
)
async def test_an_edit_needs_a_text_that_occurs_once(alpha: Agent, old_text: str, says: str) -> None:
    await alpha.call(write_file, path="memo.md", content="one two one")

    with pytest.raises(ToolError, match=says):
        await alpha.call(edit_file, path="memo.md", old_text=old_text, new_text="x", base_version=1)


async def test_an_edit_of_several_lines_finds_them_whatever_ends_they_have(alpha: Agent) -> None:
    await alpha.call(write_file, path="memo.txt", content="one\r\ntwo\r\nthree\r\n")

    edited = await alpha.call(edit_file, path="memo.txt", old_text="one\ntwo", new_text="1\n2", base_version=1)

    assert edited["digest"] == digest_of("1\r\n2\r\nthree\r\n")


async def test_an_edit_of_what_is_not_text_is_refused(alpha: Agent, bus: Bus) -> None:
    workspace = Workspace(bus.files, RUN, agent="alpha", thread="0-1", key="image")
    await workspace.write("image.bin", b"\xff\xfe\x00abc")

    with pytest.raises(ToolError, match=r"image\.bin is not UTF-8 text: write it whole"):
        await alpha.call(edit_file, path="image.bin", old_text="abc", new_text="x", base_version=1)


TRAVERSAL = [
    "",
    ".",
    "..",
    "../memo.md",
    "notes/../../memo.md",
    "notes/..",
    "/etc/passwd",
    "//host/share",
    "a//b",
    "./memo.md",
    "notes/.",
    "notes/",
    "memo\0.md",
    "memo\n.md",
    "memo\x7f.md",
    "..\\memo.md",
    "C:\\memo.md",
    "\ud800.md",
    "a" * 4_096,
    "ä" * 201,
]


def on(tool: Tool, **arguments: object) -> tuple[Tool, dict[str, object]]:
    return tool, arguments


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        on(read_file),
        on(write_file, content="x"),
        on(edit_file, old_text="a", new_text="b", base_version=1),
        on(file_history),
    ],
    ids=["read_file", "write_file", "edit_file", "file_history"],
)
async def test_no_path_leads_out_of_the_workspace(alpha: Agent, tool: Tool, arguments: dict[str, Any]) -> None:
    for path in TRAVERSAL:
        with pytest.raises(WorkspaceError, match=r"give one such as reports/memo\.md"):
            await alpha.call(tool, path=path, **arguments)

    assert (await alpha.call(list_files))["files"] == []


async def test_a_path_inside_the_workspace_may_have_any_other_characters(alpha: Agent) -> None:
    paths = ["a", "a/b/c.d", ".hidden", "...", "a b", "ü/ñ.md", "a" * 400, "%2e%2e/x", "a.>*", "a?b=c&d"]
    for path in paths:
        await alpha.call(write_file, path=path, content=path)

    assert [file["path"] for file in (await alpha.call(list_files))["files"]] == sorted(paths)
    assert [f"     1\t{path}\n" in await alpha.call(read_file, path=path) for path in paths] == [True] * len(paths)


@pytest.mark.parametrize("tool", [read_file, file_history])
async def test_a_file_that_is_not_there_is_answered_with_what_shows_those_that_are(alpha: Agent, tool: Tool) -> None:
    with pytest.raises(FileMissing, match=r"memo\.md is not in the workspace; list_files shows what is"):
        await alpha.call(tool, path="memo.md")


async def test_reading_a_part_tells_where_to_go_on(alpha: Agent) -> None:
    await alpha.call(write_file, path="app.log", content="".join(f"line {number}\n" for number in range(1, 11)))

    assert await alpha.call(read_file, path="app.log", first_line=4, max_lines=2) == (
        "app.log, version 1, 71 bytes\n     4\tline 4\n     5\tline 5\n[there is more: read on with first_line=6]"
    )
    assert (await alpha.call(read_file, path="app.log", first_line=9)).endswith(
        "     9\tline 9\n    10\tline 10\n[end of the file, which has 10 lines]"
    )
    assert await alpha.call(read_file, path="app.log", first_line=50) == (
        "app.log, version 1, 71 bytes\n[end of the file, which has 10 lines]"
    )


async def test_an_empty_file_reads_as_one_without_lines(alpha: Agent) -> None:
    await alpha.call(write_file, path="empty", content="")

    assert await alpha.call(read_file, path="empty") == (
        "empty, version 1, 0 bytes\n[end of the file, which has 0 lines]"
    )


async def test_a_result_stays_small_and_reading_on_misses_no_line(alpha: Agent) -> None:
    lines = [f"{number} " + "x" * 500 for number in range(1, 301)]
    await alpha.call(write_file, path="app.log", content="\n".join(lines))

    read, first_line = [], 1
    for _ in range(10):
        page = await alpha.call(read_file, path="app.log", first_line=first_line)
        assert len(page.encode()) < MAX_RESULT_BYTES + 200
        read += [line.partition("\t")[2] for line in page.splitlines()[1:-1]]
        if "end of the file" in page:
            break
        first_line = int(page.rpartition("=")[2].rstrip("]"))

    assert read == lines


async def test_a_long_line_is_cut_where_it_is_shown(alpha: Agent) -> None:
    await alpha.call(write_file, path="app.log", content="x" * (MAX_SHOWN_CHARACTERS + 7))

    page = await alpha.call(read_file, path="app.log")

    assert page.splitlines()[1].endswith("xxx… [7 more characters]")


async def test_the_lines_after_a_very_long_one_keep_their_numbers(alpha: Agent) -> None:
    await alpha.call(write_file, path="app.log", content="first\n" + "x" * 3_000_000 + "\nlast\n")

    page = await alpha.call(read_file, path="app.log")

    assert [line.partition("\t")[0].strip() for line in page.splitlines()[1:-1]] == ["1", "2", "3"]
    assert await alpha.call(search_files, pattern="^last$") == "app.log:3: last"


async def test_a_binary_file_is_not_read_as_text(alpha: Agent, bus: Bus) -> None:
    workspace = Workspace(bus.files, RUN, agent="alpha", thread="0-1", key="image")
    await workspace.write("image.png", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR")

    with pytest.raises(ToolError, match=r"image\.png is a binary file of 16 bytes"):
        await alpha.call(read_file, path="image.png")


async def test_nul_bytes_further_on_do_not_make_a_log_binary(alpha: Agent) -> None:
    text = "ordinary line\n" * 1_000 + "cut off\0\0\0\n" + "after the crash\n"
    await alpha.call(write_file, path="app.log", content=text)

    page = await alpha.call(read_file, path="app.log", first_line=1_001)

    assert "\tcut off\ufffd\ufffd\ufffd\n" in page
    assert "\tafter the crash\n" in page


async def test_a_search_finds_lines_in_every_file_under_a_prefix(alpha: Agent) -> None:
    await alpha.call(write_file, path="logs/api.log", content="ok\nERROR refused by 10.0.0.7\nok\n")
    await alpha.call(write_file, path="logs/web.log", content="error: refused\n")
    await alpha.call(write_file, path="memo.md", content="ERROR refused\n")

    assert await alpha.call(search_files, pattern=r"(?i)error.*refused", prefix="logs/") == (
        "logs/api.log:2: ERROR refused by 10.0.0.7\nlogs/web.log:1: error: refused"
    )
    assert await alpha.call(search_files, pattern="^refused") == "no line matches"


async def test_a_search_reads_the_newest_version(alpha: Agent) -> None:
    await alpha.call(write_file, path="memo.md", content="draft")
    await alpha.call(write_file, path="memo.md", content="final", base_version=1)

    assert await alpha.call(search_files, pattern="draft|final") == "memo.md:1: final"


async def test_a_search_tells_that_there_are_more_matches(alpha: Agent) -> None:
    await alpha.call(write_file, path="app.log", content="error\n" * 5)

    assert (await alpha.call(search_files, pattern="error", max_matches=5)).count("\n") == 4
    assert await alpha.call(search_files, pattern="error", max_matches=2) == (
        "app.log:1: error\napp.log:2: error\n[there are more than 2 matches: narrow the pattern or the prefix]"
    )


async def test_a_search_passes_over_binary_files_and_says_so(alpha: Agent, bus: Bus) -> None:
    workspace = Workspace(bus.files, RUN, agent="alpha", thread="0-1", key="image")
    await workspace.write("image.bin", b"error\x00")
    await alpha.call(write_file, path="memo.md", content="error")

    assert await alpha.call(search_files, pattern="error") == (
        "memo.md:1: error\n[binary files not searched: image.bin]"
    )


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("refused (by", "missing ), unterminated subpattern at character 9"),
        ("*a", "nothing to repeat at character 1"),
        ("[a-", "unterminated character set at character 1"),
        (r"(?=a)b", "it looks around"),
        (r"(a)\1", "refers back to a group"),
    ],
)
async def test_a_pattern_that_cannot_be_used_is_refused_with_the_place(alpha: Agent, pattern: str, says: str) -> None:
    with pytest.raises(ToolError) as refused:
        await alpha.call(search_files, pattern=pattern)

    assert says in str(refused.value)


@pytest.mark.parametrize("pattern", ["(x+x+)+y", "(a|a)*b", "^(.*)*!$", "(x*)*(x*)*(x*)*y"])
async def test_no_pattern_holds_the_process(alpha: Agent, pattern: str) -> None:
    await alpha.call(write_file, path="app.log", content="x" * 100_000 + "\n" + "a" * 100_000)

    began = time.monotonic()
    assert await alpha.call(search_files, pattern=pattern) == "no line matches"

    # A backtracking engine needs longer than the universe has; the margin is for a busy machine.
    assert time.monotonic() - began < 10


async def test_a_file_larger_than_the_memory_for_it_is_searched_and_read(alpha: Agent, bus: Bus) -> None:
    part = b"an ordinary line of a log, without anything in it\n" * 5_000

    async def content() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield part
        yield b"the last line\n"

    await bus.files.commit(RUN, "app.log", content(), base_version=0, agent="alpha", thread="0-1", key="app.log")
    tracemalloc.start()
    found = await alpha.call(search_files, pattern="last")
    page = await alpha.call(read_file, path="app.log", first_line=150_001)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert found == "app.log:150001: the last line"
    assert page.splitlines()[0] == "app.log, version 1, 7500014 bytes"
    assert peak_bytes < 5_000_000


async def test_other_work_goes_on_during_a_long_search(alpha: Agent) -> None:
    await alpha.call(write_file, path="app.log", content="x\n" * 500_000)
    turns = 0

    async def beat() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    heart = asyncio.create_task(beat())
    await alpha.call(search_files, pattern="nothing like this")
    heart.cancel()

    assert turns >= 50


async def test_a_search_that_takes_too_long_says_how_far_it_came(
    alpha: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    await alpha.call(write_file, path="a.log", content="error\n" * 10)
    monkeypatch.setattr(files, "MAX_SEARCH_S", 0.0)

    assert await alpha.call(search_files, pattern="error") == (
        "a.log:1: error\n[it took 0 s to come to a.log line 1: narrow the pattern or the prefix]"
    )


@pytest.mark.parametrize(
    "error",
    [EditConflict("memo.md", 1, 2, "beta"), FileMissing("memo.md"), WorkspaceError("no"), ToolError("not today")],
    ids=lambda error: type(error).__name__,
)
def test_our_own_sentences_reach_the_model_whole(error: Exception) -> None:
    assert failure("edit_file", error) == ToolResult(content=str(error), is_error=True)


def test_other_errors_reach_the_model_with_the_tool_and_their_type() -> None:
    assert failure("weigh", KeyError("crate")).content == "weigh failed: KeyError: 'crate'"
