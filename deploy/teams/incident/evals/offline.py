"""Runs the rehearsed team on a folder without a bus: the same tools, rehearsal and schemas, one process.

    python deploy/teams/incident/evals/offline.py DIR
    python deploy/teams/incident/evals/offline.py --seeds 1-50 [--kind KIND]

The first writes `memo.md` and `result.json` beside the input and prints where. The second generates an incident for
each seed in a temporary folder, scores the results and prints who was taken for whom.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from shanty_protocol import Brief, FileVersion
from shanty_runtime.agent.context import brief_text
from shanty_runtime.agent.schema import problems_with
from shanty_runtime.errors import EditConflict, ShantyError
from shanty_runtime.models.base import Message, ModelRequest
from shanty_runtime.models.rehearsal import RehearsalModel
from shanty_runtime.team import Team, load_team
from shanty_runtime.tools.base import Tool, ToolContext, ToolResult, failure, to_result
from shanty_runtime.tools.files import WORKSPACE_TOOLS
from shanty_runtime.tools.workspace import Workspace

TEAM_FOLDER = Path(__file__).resolve().parent.parent
CHUNK_BYTES = 2**18
MOST_TURNS = 40
RUN = "0-offline"


class FolderStore:
    """A FileStore over a folder: what is there is version 1; what is written stays in memory."""

    def __init__(self, folder: Path) -> None:
        self.paths: dict[str, Path] = {
            path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()
        }
        self.written: dict[str, list[tuple[FileVersion, bytes]]] = {}

    async def latest(self, run: str, path: str) -> FileVersion | None:
        versions = await self.versions(run, path)
        return versions[-1] if versions else None

    async def versions(self, run: str, path: str | None = None) -> tuple[FileVersion, ...]:
        paths = [path] if path is not None else sorted({*self.paths, *self.written})
        return tuple(version for each in paths for version in self._versions_of(each))

    def _versions_of(self, path: str) -> list[FileVersion]:
        given = [version_of(path, self.paths[path])] if path in self.paths else []
        return given + [version for version, _ in self.written.get(path, [])]

    async def content(self, run: str, version: FileVersion) -> AsyncIterator[bytes]:
        for known, data in self.written.get(version.path, []):
            if known.version == version.version:
                yield data
                return
        with self.paths[version.path].open("rb") as file:
            while part := file.read(CHUNK_BYTES):
                yield part

    async def commit(
        self,
        run: str,
        path: str,
        content: AsyncIterable[bytes],
        *,
        base_version: int,
        agent: str,
        thread: str,
        key: str,
    ) -> FileVersion:
        data = b"".join([part async for part in content])
        versions = self._versions_of(path)
        for version in versions:
            if version.key == key:
                return version
        newest = versions[-1] if versions else None
        if newest is not None and newest.version != base_version:
            raise EditConflict(path, base_version, newest.version, newest.agent)
        digest = hashlib.sha256(data).hexdigest()
        made = FileVersion(
            path=path,
            version=base_version + 1,
            digest=digest,
            size_bytes=len(data),
            agent=agent,
            thread=thread,
            key=key,
            at_ms=int(time.time() * 1000),
        )
        self.written.setdefault(path, []).append((made, data))
        return made


def version_of(path: str, on_disk: Path) -> FileVersion:
    found = on_disk.stat()
    return FileVersion(
        path=path,
        version=1,
        digest="",
        size_bytes=found.st_size,
        agent="cli",
        thread="0",
        key=f"given.{path}",
        at_ms=int(found.st_mtime * 1000),
    )


class Thread:
    """One agent's conversation: asks its rehearsal, calls its tools, until it hands something in."""

    def __init__(self, room: Room, agent: str, name: str) -> None:
        self.room, self.agent, self.name = room, agent, name
        self.messages: list[Message] = []
        self.model = RehearsalModel(room.team.rehearsal_for(agent))
        self.handed_in: list[dict[str, Any]] = []
        self.tool_calls = 0

    async def work(self, text: str) -> dict[str, Any]:
        """Say something to the agent and let it go on until it hands in."""
        self.messages.append(Message("user", ({"type": "text", "text": text},)))
        before = len(self.handed_in)
        for _ in range(MOST_TURNS):
            request = ModelRequest(agent=self.agent, system="", messages=tuple(self.messages), tools=())
            reply = await self.model.reply(request)
            self.messages.append(Message("assistant", reply.blocks))
            calls = [block for block in reply.blocks if block["type"] == "tool_use"]
            results = [await self._call(block) for block in calls]
            if results:
                self.messages.append(Message("user", tuple(results)))
            if len(self.handed_in) > before:
                return self.handed_in[-1]
        raise RuntimeError(f"{self.agent} did not hand anything in within {MOST_TURNS} turns")

    async def _call(self, block: dict[str, Any]) -> dict[str, Any]:
        self.tool_calls += 1
        name, arguments = block["name"], block["input"]
        begin = time.perf_counter()
        if name in ("submit_result", "report_progress"):
            result = self._hand_in(arguments) if name == "submit_result" else ToolResult(content="noted")
        elif name in ("delegate", "wait_for_replies", "send_to_specialist"):
            result = to_result(await getattr(self.room, name)(arguments))
        else:
            result = await self._use(self.room.tools[name], arguments, block["id"])
        self.room.slowest = max(self.room.slowest, (time.perf_counter() - begin, name))
        return {
            "type": "tool_result",
            "tool_use_id": block["id"],
            "content": result.content,
            "is_error": result.is_error,
        }

    async def _use(self, used: Tool, arguments: dict[str, Any], identity: str) -> ToolResult:
        key = f"{RUN}.{self.name}.{identity}"
        workspace = Workspace(self.room.store, RUN, agent=self.agent, thread=self.name, key=key)
        context = ToolContext(key=key, run=RUN, thread=self.name, agent=self.agent, workspace=workspace)
        if used.name not in self.room.team.agent(self.agent).tools:
            raise RuntimeError(f"{self.agent} has no tool {used.name}")
        try:
            return to_result(await used.function(msgspec.convert(arguments, used.arguments), context))
        except ShantyError as error:
            return failure(used.name, error)

    def _hand_in(self, arguments: dict[str, Any]) -> ToolResult:
        schema = self.room.team.agent(self.agent).output_schema
        wrong = problems_with(arguments.get("result"), schema) if schema else ""
        if wrong:
            return ToolResult(content=wrong, is_error=True)
        self.handed_in.append(arguments)
        return ToolResult(content="handed in")


class Room:
    """The lead, the specialists it opened, and the files they share."""

    def __init__(self, team: Team, folder: Path) -> None:
        self.team, self.store = team, FolderStore(folder)
        self.tools: dict[str, Tool] = {**{each.name: each for each in WORKSPACE_TOOLS}, **team.tools}
        self.lead = Thread(self, team.lead.name, "0")
        self.threads: dict[str, Thread] = {}
        self.inbox: dict[str, str] = {}
        self.slowest: tuple[float, str] = (0.0, "")

    async def run(self) -> dict[str, Any]:
        return await self.lead.work(brief_text(Brief(objective=self.team.goal)))

    async def delegate(self, arguments: dict[str, Any]) -> dict[str, Any]:
        specialist = arguments["specialist"]
        name = f"0-{len(self.threads) + 1}"
        self.threads[name] = Thread(self, specialist, name)
        known = {key: arguments[key] for key in arguments if key in Brief.__struct_fields__}
        self.inbox[name] = brief_text(msgspec.convert(known, Brief))
        schema = self.team.agent(specialist).input_schema
        wrong = problems_with(arguments.get("input"), schema) if schema else ""
        if wrong:
            raise RuntimeError(f"the brief of {specialist} does not fit its schema: {wrong}")
        return {"thread": name, "specialist": specialist}

    async def send_to_specialist(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self.inbox[arguments["thread"]] = arguments["message"]
        return {"thread": arguments["thread"]}

    async def wait_for_replies(self, arguments: dict[str, Any]) -> dict[str, Any]:
        replies = []
        for name in arguments["threads"]:
            thread = self.threads[name]
            said = await thread.work(self.inbox.pop(name))
            replies.append({"thread": name, "specialist": thread.agent, "files": [], **said})
        # Through JSON, as on the bus.
        decoded: dict[str, Any] = msgspec.json.decode(
            msgspec.json.encode({"satisfied": True, "replies": replies, "waiting_for": []})
        )
        return decoded


async def analyse(folder: Path, team: Team | None = None) -> tuple[dict[str, Any], Room]:
    """What the lead handed in, and the room for whoever wants to see more."""
    room = Room(team or load_team(TEAM_FOLDER), folder)
    return await room.run(), room


def contents(room: Room, path: str) -> bytes:
    return room.store.written[path][-1][1]


def measure(seeds: range, kind: str | None) -> None:
    # Run as a script, this file does not have the repository on its path.
    sys.path.insert(0, str(TEAM_FOLDER.parents[2]))
    from deploy.teams.incident.evals.generate import generate
    from deploy.teams.incident.evals.score import answer_of, is_right

    team = load_team(TEAM_FOLDER)
    taken: Counter[tuple[str, str]] = Counter()
    right, begin = 0, time.perf_counter()
    for seed in seeds:
        with tempfile.TemporaryDirectory() as name:
            generate(seed, Path(name), kind)
            said, _ = asyncio.run(analyse(Path(name), team))
            truth = json.loads((Path(name) / "truth.json").read_text(encoding="utf-8"))
        answer = answer_of(said["result"])
        taken[
            truth["kind"],
            answer[0] if is_right(said["result"], truth) or answer[0] != truth["kind"] else "other service",
        ] += 1
        right += is_right(said["result"], truth)
        if not is_right(said["result"], truth):
            print(
                f"seed {seed}: said {answer[0]} at {answer[1]}, true is {truth['kind']} at {truth['service']}",
                flush=True,
            )
    for (true, guess), count in sorted(taken.items()):
        print(f"{true:22} -> {guess:22} {count}")
    print(f"{right} of {len(seeds)} right, {(time.perf_counter() - begin) / len(seeds):.2f} s each")


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the rehearsed incident team without a bus.")
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--seeds", help="FIRST-LAST: generate and score instead")
    parser.add_argument("--kind")
    arguments = parser.parse_args()
    if arguments.seeds:
        first, _, last = arguments.seeds.partition("-")
        measure(range(int(first), int(last or first) + 1), arguments.kind)
        return
    if arguments.folder is None:
        parser.error("give a folder, or --seeds")
    said, room = asyncio.run(analyse(arguments.folder))
    for path in ("memo.md", "result.json"):
        (arguments.folder / path).write_bytes(contents(room, path))
        print(arguments.folder / path)
    print(said["summary"])


if __name__ == "__main__":
    main()
