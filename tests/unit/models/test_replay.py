from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shanty_protocol import Usage
from shanty_runtime.errors import ConfigError, ModelError
from shanty_runtime.models.base import Message, ModelReply, ModelRequest, Stream
from shanty_runtime.models.replay import RecordingModel, ReplayModel, read_recording


class Scripted:
    """A model that gives these replies, one after the other."""

    name = provider = "scripted"

    def __init__(self, *replies: ModelReply) -> None:
        self.replies = list(replies)

    async def reply(self, request: ModelRequest, *, stream: Stream | None = None) -> ModelReply:
        return self.replies.pop(0)

    async def count_tokens(self, request: ModelRequest) -> int:
        return 7


class Ear:
    def __init__(self) -> None:
        self.heard: list[tuple[int, str]] = []

    def text(self, text: str, offset: int) -> None:
        self.heard.append((offset, text))


def said(*blocks: dict[str, Any], stop_reason: str = "end_turn") -> ModelReply:
    usage = Usage(input_tokens=3, cache_read_tokens=2, output_tokens=1)
    return ModelReply(blocks=blocks, stop_reason=stop_reason, model="claude-opus-5-5", usage=usage)


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def use(identity: str, n: int) -> dict[str, Any]:
    return {"type": "tool_use", "id": identity, "name": "look", "input": {"n": n}}


def result(identity: str, content: str) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": identity, "content": content}


def user(*blocks: dict[str, Any]) -> Message:
    return Message("user", blocks)


def request(*messages: Message, agent: str = "logs", thread: str = "0-1", system: str = "s") -> ModelRequest:
    return ModelRequest(agent=agent, thread=thread, system=system, messages=messages, tools=())


async def record(file: Path, *turns: tuple[ModelRequest, ModelReply]) -> None:
    for asked, replied in turns:
        assert await RecordingModel(Scripted(replied), file).reply(asked) == replied


BRIEF = user(text("count the lines"))
FIRST = said({"type": "thinking", "thinking": "hm", "signature": "s"}, use("toolu_1", 1), use("toolu_2", 2))
RESULTS = user(result("toolu_1", "one"), result("toolu_2", "two"))
SECOND = said(text("three"), text(" lines"))
NEXT = request(BRIEF, Message("assistant", FIRST.blocks), RESULTS)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "run.jsonl"


async def test_the_same_requests_get_the_recorded_replies_whole(file: Path) -> None:
    await record(file, (request(BRIEF), FIRST), (NEXT, SECOND))
    replay = ReplayModel(file)
    for _ in range(2):
        assert await replay.reply(request(BRIEF)) == FIRST
        assert await replay.reply(NEXT) == SECOND


async def test_a_replayed_reply_is_streamed(file: Path) -> None:
    await record(file, (request(BRIEF), SECOND))
    ear = Ear()
    await ReplayModel(file).reply(request(BRIEF), stream=ear)
    assert ear.heard == [(0, "three"), (5, " lines")]


async def test_the_system_prompt_and_the_ids_of_calls_do_not_matter(file: Path) -> None:
    await record(file, (NEXT, SECOND))
    other_ids = [block | ({"id": f"x{n}"} if "id" in block else {}) for n, block in enumerate(FIRST.blocks)]
    answers = user(result("x1", "one"), result("x2", "two"))
    asked = request(BRIEF, Message("assistant", tuple(other_ids)), answers, system="reworded")
    assert await ReplayModel(file).reply(asked) == SECOND


async def test_which_call_a_result_belongs_to_matters(file: Path) -> None:
    await record(file, (NEXT, SECOND))
    swapped = user(result("toolu_2", "one"), result("toolu_1", "two"))
    with pytest.raises(ModelError):
        await ReplayModel(file).reply(request(BRIEF, Message("assistant", FIRST.blocks), swapped))


async def test_threads_with_equal_briefs_are_told_apart(file: Path) -> None:
    one, two = said(text("one")), said(text("two"))
    await record(file, (request(BRIEF, thread="0-1"), one), (request(BRIEF, thread="0-2"), two))
    replay = ReplayModel(file)
    assert await replay.reply(request(BRIEF, thread="0-2")) == two
    assert await replay.reply(request(BRIEF, thread="0-1")) == one


@pytest.mark.parametrize("journaled", [0, 1, 2])
async def test_of_several_answers_the_one_the_thread_went_on_from_is_given(file: Path, journaled: int) -> None:
    answers = [said(use(f"toolu_{n}", n)) for n in range(3)]
    await record(file, *((request(BRIEF), answer) for answer in answers))
    chosen = answers[journaled]
    went_on = request(BRIEF, Message("assistant", chosen.blocks), user(result(f"toolu_{journaled}", "x")))
    await record(file, (went_on, SECOND))
    assert await ReplayModel(file).reply(request(BRIEF)) == chosen


async def test_of_several_last_answers_the_last_is_given(file: Path) -> None:
    await record(file, (request(BRIEF), said(text("lost"))), (request(BRIEF), said(text("kept"))))
    assert await ReplayModel(file).reply(request(BRIEF)) == said(text("kept"))


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (request(user(text("something else"))), "turn 1 of logs in thread 0-1: message 1 of 1 was never said there"),
        (request(BRIEF, agent="lead", thread=""), "turn 1 of lead: message 1 of 1 was never said there"),
        (
            request(BRIEF, Message("assistant", FIRST.blocks), user(result("toolu_1", "1"), result("toolu_2", "2"))),
            "turn 2 of logs in thread 0-1: message 3 of 3 was never said there",
        ),
    ],
)
async def test_a_request_that_is_not_in_the_recording_is_named(
    file: Path, asked: ModelRequest, sentence: str
) -> None:
    await record(file, (request(BRIEF), FIRST), (NEXT, SECOND))
    with pytest.raises(ModelError) as caught:
        await ReplayModel(file).reply(asked)
    assert str(caught.value) == f"{file} has no reply for {sentence}; record the run anew"
    assert caught.value.kind == "invalid"


async def test_a_recording_that_ends_before_a_request_says_so(file: Path) -> None:
    await record(file, (NEXT, SECOND))
    with pytest.raises(ModelError, match="turn 1 of logs in thread 0-1: it ends before"):
        await ReplayModel(file).reply(request(BRIEF))


async def test_a_line_that_was_not_written_whole_spoils_no_other(file: Path) -> None:
    await record(file, (request(BRIEF), FIRST))
    with file.open("ab") as torn:
        torn.write(b'{"version":1,"agent":"lo')
    await record(file, (NEXT, SECOND))
    assert [line.reply for line in read_recording(file)] == [FIRST, SECOND]


def test_a_recording_is_its_owners_alone(file: Path) -> None:
    RecordingModel(Scripted(), file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


WRITER = """
import asyncio, sys
from pathlib import Path
from shanty_runtime.models.base import Message, ModelReply, ModelRequest
from shanty_runtime.models.replay import RecordingModel

class Talker:
    name = provider = "talker"
    async def reply(self, request, *, stream=None):
        return ModelReply(blocks=({"type": "text", "text": "x" * 20_000},), stop_reason="end_turn", model="m")

async def main():
    model = RecordingModel(Talker(), Path(sys.argv[1]))
    for n in range(50):
        message = Message("user", ({"type": "text", "text": str(n)},))
        await model.reply(ModelRequest(agent=sys.argv[2], system="", messages=(message,), tools=()))

asyncio.run(main())
"""


def test_processes_that_write_at_once_lose_nothing(file: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(file), f"agent-{n}"]) for n in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len(list(read_recording(file))) == 150


def put_a_folder_in_its_place(file: Path) -> None:
    file.unlink()
    file.mkdir()


async def test_a_reply_is_given_even_where_it_cannot_be_written_down(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = RecordingModel(Scripted(FIRST), file)
    put_a_folder_in_its_place(file)
    assert await model.reply(request(BRIEF)) == FIRST
    assert "a reply is missing in the recording" in caplog.text


def test_a_recording_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the recording .*none/run\.jsonl cannot be written: No such file"):
        RecordingModel(Scripted(), tmp_path / "none" / "run.jsonl")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"not a recording\n" * 3])
def test_a_file_without_replies_is_refused_in_one_sentence(
    file: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="has no replies"):
        ReplayModel(file)
    assert not caplog.text


def test_a_recording_that_is_not_there_is_refused_at_once(file: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        ReplayModel(file)


async def test_a_recording_model_counts_as_its_model_does(file: Path) -> None:
    model = RecordingModel(Scripted(), file)
    assert (model.name, await model.count_tokens(request(BRIEF))) == ("scripted", 7)
