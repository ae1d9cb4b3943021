"""Replies written down as they come, and a model that gives them again: a paid run, played once more for nothing.

The replies of a run that was not recorded are those of its journals, see `shanty_runtime.worker.replies`.

`RecordingModel` stands before any model and appends a line of JSON for each reply. Several processes may write one
file, since a line is one write at its end. The file holds what agents and models said to each other, in the clear:
it is created for its owner alone.

A reply is found by what led up to it: the agent, its thread where the request names one, and every message so far.
System prompt, tools and settings are not part of that, so that a recording survives their wording. Neither are the
ids of tool calls: each is known by its place in its turn.

One question may have been answered twice: a worker dies between the reply and the journal, and whoever goes on asks
again. Only one of the answers became part of the thread, and the thread's next request quotes it. So an answer that
a later line of the recording goes on from is preferred to one that none does, and among equals the last. Where no
request follows, at the end of a thread, the last answer is taken. It can be another than the journal's only if the
worker that was given up for dead wrote its line after the one that took over.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from shanty_runtime.errors import ConfigError, ModelError
from shanty_runtime.models.base import Block, Message, Model, ModelReply, ModelRequest, Stream, estimated_tokens

logger = logging.getLogger("shanty.models")


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """One line: a reply, and what it replies to."""

    version: Literal[1] = 1
    agent: str
    thread: str = ""
    said: tuple[str, ...]
    """A digest of each message that led up to the reply, one building on the other."""
    reply: ModelReply

    @property
    def question(self) -> Question:
        return self.agent, self.thread, self.said[-1] if self.said else ""


Question = tuple[str, str, str]

_decoder = msgspec.json.Decoder(Recorded)


class RecordingModel:
    """A model whose replies are written down. Raises ConfigError at once where the file cannot be written."""

    def __init__(self, model: Model, file: Path) -> None:
        self.name, self.provider = model.name, model.provider
        self.model = model
        self.file = file
        try:
            _append(file, b"")
        except OSError as error:
            raise ConfigError(f"the recording {file} cannot be written: {error.strerror}") from error

    async def reply(self, request: ModelRequest, *, stream: Stream | None = None) -> ModelReply:
        reply = await self.model.reply(request, stream=stream)
        line = Recorded(
            agent=request.agent, thread=request.thread, said=tuple(digests(request.messages)), reply=reply
        )
        try:
            _append(self.file, msgspec.json.encode(line) + b"\n")
        except OSError as error:
            # The reply is paid for and the run wants it, whatever becomes of the recording.
            logger.error("a reply is missing in the recording %s: %s", self.file, error.strerror)
        return reply

    async def count_tokens(self, request: ModelRequest) -> int:
        return await self.model.count_tokens(request)


class ReplayModel:
    """Answers by a recording, and nothing that is not in it."""

    def __init__(self, file: Path, replies: Sequence[Recorded] | None = None) -> None:
        """`replies` are given where the file is no recording but has the run itself, from which they follow."""
        self.name = self.provider = "replay"
        self.file = file
        self._mend = (
            "record the run anew" if replies is None else "play it with the goal, the files and the team of that run"
        )
        lines = list(read_recording(file)) if replies is None else replies
        self._replies = _journaled(lines)
        self._known = {(line.agent, line.thread, digest) for line in lines for digest in line.said}

    async def reply(self, request: ModelRequest, *, stream: Stream | None = None) -> ModelReply:
        said = list(digests(request.messages))
        reply = self._replies.get((request.agent, request.thread, said[-1] if said else ""))
        if reply is None:
            raise ModelError(self._missing(request, said))
        if stream is not None:
            offset = 0
            for text in (block["text"] for block in reply.blocks if block["type"] == "text"):
                stream.text(text, offset)
                offset += len(text)
        return reply

    async def count_tokens(self, request: ModelRequest) -> int:
        return estimated_tokens([message.content for message in request.messages])

    def _missing(self, request: ModelRequest, said: Sequence[str]) -> str:
        """Which request the recording has no reply for, and from which message on it is another conversation."""
        who = f"{request.agent} in thread {request.thread}" if request.thread else request.agent
        turn = 1 + sum(message.role == "assistant" for message in request.messages)
        unknown = [
            n for n, digest in enumerate(said, 1) if (request.agent, request.thread, digest) not in self._known
        ]
        differs = f"message {unknown[0]} of {len(said)} was never said there" if unknown else "it ends before"
        return f"{self.file} has no reply for turn {turn} of {who}: {differs}; {self._mend}"


def read_recording(file: Path) -> Iterator[Recorded]:
    """The lines of a recording, oldest first. A line that was not written whole, by a process that died, is left out.
    Raises ConfigError where the file cannot be read or is something else."""
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(f"the recording {file} cannot be read: {error.strerror}") from error
    found, left_out = 0, []
    for number, line in enumerate(lines, 1):
        try:
            recorded = _decoder.decode(line) if line else None
        except msgspec.DecodeError as error:
            left_out.append(f"line {number}: {error}")
            continue
        if recorded is not None:
            found += 1
            yield recorded
    if not found:
        because = f"; {left_out[0]}" if left_out else ""
        raise ConfigError(f"{file} is no recording of a model: it has no replies{because}")
    if left_out:
        logger.warning("lines of the recording %s that are left out: %d; %s", file, len(left_out), left_out[0])


def _journaled(lines: Sequence[Recorded]) -> dict[Question, ModelReply]:
    """For each question the reply its thread went on from."""
    gone_on_from = {(line.agent, line.thread, digest) for line in lines for digest in line.said}
    chosen: dict[Question, tuple[bool, ModelReply]] = {}
    for line in lines:
        *_, answered = digests([Message("assistant", line.reply.blocks)], after=line.said)
        went_on = (line.agent, line.thread, answered) in gone_on_from
        before = chosen.get(line.question)
        if before is None or went_on >= before[0]:
            chosen[line.question] = went_on, line.reply
    return {question: reply for question, (_, reply) in chosen.items()}


def digests(messages: Sequence[Message], after: Sequence[str] = ()) -> Iterator[str]:
    """For each message a digest of it and of all before it."""
    last = after[-1] if after else ""
    places: dict[str, str] = {}
    for message in messages:
        uses = [block["id"] for block in message.content if block["type"] == "tool_use"]
        places |= {identity: str(place) for place, identity in enumerate(uses)}
        content = [_without_id(block, places) for block in message.content]
        encoded = msgspec.json.encode([message.role, content], order="deterministic")
        last = hashlib.sha256(last.encode() + encoded).hexdigest()[:32]
        yield last


def _without_id(block: Block, places: dict[str, str]) -> Block:
    """The block with the place of its tool call in its turn instead of the id the provider made up."""
    match block["type"]:
        case "tool_use":
            return {**block, "id": places[block["id"]]}
        case "tool_result":
            return {**block, "tool_use_id": places.get(block["tool_use_id"], "")}
        case _:
            return block


def _append(file: Path, line: bytes) -> None:
    """One write at the end of the file, whoever else writes there. After a piece of a line it begins a new one."""
    handle = os.open(file, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        size_bytes = os.fstat(handle).st_size
        torn = size_bytes > 0 and os.pread(handle, 1, size_bytes - 1) != b"\n"
        if line:
            os.write(handle, b"\n" + line if torn else line)
    finally:
        os.close(handle)
