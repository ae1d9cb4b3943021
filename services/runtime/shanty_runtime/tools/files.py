"""The built-in tools: the run's shared files, listed, read, written, edited and searched.

A file is never changed in place: each write makes a new version, and names the version it was made from. Whoever
writes from an old version is refused and told who was faster. All tools stream, so that a file of any size is read
and searched in the memory of a few of its parts.
"""

from __future__ import annotations

import asyncio
import re
import time
import warnings
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any

import jsonschema_rs
import msgspec

from shanty_protocol import FileVersion
from shanty_runtime.errors import ToolError
from shanty_runtime.tools.base import ToolContext, ToolResult, tool
from shanty_runtime.tools.workspace import Workspace

MAX_RESULT_BYTES = 60_000
MAX_SHOWN_CHARACTERS = 2_000
"""A longer line is cut where it is shown; it is still searched whole."""
MAX_LISTED_FILES = 500
MAX_SEARCH_S = 30.0
BINARY_CHECK_CHARACTERS = 8_192
BREATH_LINES = 5_000


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """Which files."""

    prefix: Annotated[str, msgspec.Meta(description="Only paths that begin with this; empty for all.")] = ""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What to read."""

    path: str
    version: Annotated[int, msgspec.Meta(ge=1, description="An older version; without it, the newest.")] | None = None
    first_line: Annotated[int, msgspec.Meta(ge=1)] = 1
    max_lines: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 400


class Writing(msgspec.Struct, frozen=True, kw_only=True):
    """What to write."""

    path: str
    content: Annotated[str, msgspec.Meta(description="The whole new content.")]
    base_version: Annotated[
        int,
        msgspec.Meta(ge=0, description="0 for a new file; otherwise the version you have read, which this replaces."),
    ] = 0


class Editing(msgspec.Struct, frozen=True, kw_only=True):
    """What to replace."""

    path: str
    old_text: Annotated[str, msgspec.Meta(min_length=1, description="Text that occurs exactly once in the file.")]
    new_text: str
    base_version: Annotated[int, msgspec.Meta(ge=1, description="The version you have read, and which this changes.")]


class Searching(msgspec.Struct, frozen=True, kw_only=True):
    """What to look for."""

    pattern: Annotated[
        str, msgspec.Meta(min_length=1, description="A regular expression; (?i) in front ignores case.")
    ]
    prefix: Annotated[str, msgspec.Meta(description="Only files whose path begins with this.")] = ""
    max_matches: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 100


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """Whose history."""

    path: str


@tool(effect="read")
async def list_files(args: Listing, context: ToolContext) -> dict[str, Any]:
    """List the files of the shared workspace: path, newest version, size, and who wrote it."""
    files = await context.workspace.files(args.prefix)
    return {
        "files": [
            {"path": file.path, "version": file.version, "size_bytes": file.size_bytes, "author": file.agent}
            for file in files[:MAX_LISTED_FILES]
        ],
        "not_shown": max(0, len(files) - MAX_LISTED_FILES),
    }


@tool(effect="read")
async def read_file(args: Reading, context: ToolContext) -> str:
    """Read a part of a text file, as numbered lines. The first line of the result tells the file's version."""
    file = await context.workspace.stat(args.path, args.version)
    page = Page()
    end_line = args.first_line + args.max_lines
    count, more = 0, False
    async with aclosing(text_lines(context.workspace, file)) as lines:
        async for number, line in lines:
            if number >= args.first_line and number > count:  # a very long line comes in parts: its first is shown
                more = number == end_line or not page.add(f"{number:>6}\t{shown(line)}")
            count = number
            if more:
                break
    heading = f"{file.path}, version {file.version}, {file.size_bytes} bytes"
    footing = (
        f"there is more: read on with first_line={count}" if more else f"end of the file, which has {count} lines"
    )
    return "\n".join([heading, *page.lines, f"[{footing}]"])


@tool(effect="idempotent")
async def write_file(args: Writing, context: ToolContext) -> ToolResult:
    """Write a whole file. A new file has base_version 0; to replace one, give the version you have read.

    Refused where somebody else has written a newer version: read that one first.
    """
    return written(await context.workspace.write(args.path, args.content, base_version=args.base_version))


@tool(effect="idempotent")
async def edit_file(args: Editing, context: ToolContext) -> ToolResult:
    """Replace a text that occurs exactly once in a file. Give the version you have read.

    Refused where somebody else has written a newer version, or where the text occurs not at all or more than once.
    """
    # Read at base_version and never at the newest: what is committed follows from the arguments alone, so a retry
    # after a lost outcome commits the same bytes under the same key, and gets the version it made the first time.
    content = await editable_text(args, context.workspace)
    changed = replaced_once(content, args)
    return written(await context.workspace.write(args.path, changed, base_version=args.base_version))


@tool(effect="read")
async def search_files(args: Searching, context: ToolContext) -> str:
    """Find lines that match a regular expression, as `path:line: text`. It cannot look around or refer back."""
    search = Search(matcher(args.pattern), args.max_matches)
    for file in await context.workspace.files(args.prefix):
        await search.through(file, context.workspace)
        if search.ended:
            break
    return search.report()


@tool(effect="read")
async def file_history(args: Past, context: ToolContext) -> list[dict[str, Any]]:
    """All versions of a file, oldest first: who wrote each, in which thread, when, its size and SHA-256 digest."""
    return [
        {
            "version": version.version,
            "author": version.agent,
            "thread": version.thread,
            "at": datetime.fromtimestamp(version.at_ms / 1000, UTC).isoformat(timespec="milliseconds"),
            "size_bytes": version.size_bytes,
            "digest": version.digest,
        }
        for version in await context.workspace.history(args.path)
    ]


class Page:
    """Lines for the model, up to a size it can take at once."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._room_bytes = MAX_RESULT_BYTES

    def add(self, line: str) -> bool:
        """Whether there was room for the line."""
        self._room_bytes -= len(line.encode()) + 1
        if self._room_bytes < 0:
            return False
        self.lines.append(line)
        return True


class Search:
    """One search through many files. `ended` says why it stopped before their end."""

    def __init__(self, matches: Callable[[str], bool], max_matches: int) -> None:
        self.ended = ""
        self._matches = matches
        self._max_matches = max_matches
        self._page = Page()
        self._not_text: list[str] = []
        self._until = time.monotonic() + MAX_SEARCH_S

    async def through(self, file: FileVersion, workspace: Workspace) -> None:
        try:
            async with aclosing(text_lines(workspace, file)) as lines:
                async for number, line in lines:
                    if self._matches(line):
                        self._found(f"{file.path}:{number}: {shown(line)}")
                    if (number == 1 or number % BREATH_LINES == 0) and time.monotonic() > self._until:
                        self.ended = f"it took {MAX_SEARCH_S:.0f} s to come to {file.path} line {number}"
                    if self.ended:
                        return
        except NotText:
            self._not_text.append(file.path)

    def _found(self, match: str) -> None:
        if len(self._page.lines) == self._max_matches:
            self.ended = f"there are more than {self._max_matches} matches"
        elif not self._page.add(match):
            self.ended = "there are more matches than fit here"

    def report(self) -> str:
        notes = [f"[{self.ended}: narrow the pattern or the prefix]"] if self.ended else []
        notes += [f"[binary files not searched: {', '.join(self._not_text[:10])}]"] if self._not_text else []
        return "\n".join([*(self._page.lines or ["no line matches"]), *notes])


class NotText(ToolError):
    def __init__(self, file: FileVersion) -> None:
        super().__init__(f"{file.path} is a binary file of {file.size_bytes} bytes: only text can be read")


async def text_lines(workspace: Workspace, file: FileVersion) -> AsyncGenerator[tuple[int, str], None]:
    """Numbered lines of a file that begins as text does. Raises NotText; gives way to other work now and then."""
    checked_characters = 0
    async with aclosing(workspace.lines(file.path, file.version)) as lines:
        async for number, line in lines:
            # Only the beginning decides: logs that were cut off by a crash hold blocks of NUL further on.
            if checked_characters < BINARY_CHECK_CHARACTERS:
                if "\0" in line[:BINARY_CHECK_CHARACTERS]:
                    raise NotText(file)
                checked_characters += len(line) + 1
            yield number, line
            if number % BREATH_LINES == 0:
                await asyncio.sleep(0)


def shown(line: str) -> str:
    """A line as the model sees it."""
    line = line.replace("\0", "\ufffd")
    if len(line) <= MAX_SHOWN_CHARACTERS:
        return line
    return f"{line[:MAX_SHOWN_CHARACTERS]}… [{len(line) - MAX_SHOWN_CHARACTERS} more characters]"


async def editable_text(args: Editing, workspace: Workspace) -> str:
    data = await workspace.read(args.path, args.base_version)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ToolError(f"{args.path} is not UTF-8 text: write it whole with write_file") from error


def replaced_once(content: str, args: Editing) -> str:
    old, new = args.old_text, args.new_text
    if old not in content and "\r\n" in content:
        # read_file shows lines without their ends, so a text of several lines was copied with plain ones.
        old, new = old.replace("\n", "\r\n"), new.replace("\n", "\r\n")
    count = content.count(old)
    if count != 1:
        where = f"{args.path} at version {args.base_version}"
        raise ToolError(
            f"old_text is not in {where}: copy it exactly, without line numbers"
            if count == 0
            else f"old_text occurs {count} times in {where}: give more of what is around the place you mean"
        )
    return content.replace(old, new)


def written(version: FileVersion) -> ToolResult:
    return ToolResult(content=msgspec.json.encode(version.ref).decode(), files=(version.ref,))


def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a line matches, in time that grows with the line only, whatever the pattern. Raises ToolError."""
    # Python's own engine backtracks: one pattern of a dozen characters can hold the process for hours. The engine
    # that checks `pattern` in JSON Schemas cannot.
    try:
        linear = jsonschema_rs.RegexOptions()
        return jsonschema_rs.validator_for({"pattern": pattern}, pattern_options=linear).is_valid
    except (jsonschema_rs.ValidationError, ValueError) as error:
        raise ToolError(f"the pattern cannot be used: {what_is_wrong(pattern)}") from error


def what_is_wrong(pattern: str) -> str:
    """Where a refused pattern is wrong, by Python's parser: the engine itself does not say."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(pattern)
    except re.error as error:
        place = "" if error.pos is None else f" at character {error.pos + 1}"
        return f"{error.msg}{place}"
    except (OverflowError, RecursionError) as error:
        return str(error)
    return "it looks around, refers back to a group, escapes a letter that needs no escape, or is too large"


WORKSPACE_TOOLS = (list_files, read_file, write_file, edit_file, search_files, file_history)
"""What every agent has unless its file says otherwise."""
