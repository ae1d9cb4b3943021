"""A thread's conversation with its model: what is shown to it, and what its replies and failures mean.

tool_use, end_turn, stop_sequence   the reply stands; its calls are carried out, or its words are the answer
max_tokens                          a call at its end is cut: the turn is dropped and asked again with more room
pause_turn                          the provider's own tools want another round: asked on, unchanged
refusal                             the turn is dropped, and the thread answers `refused`
model_context_window_exceeded       the view has to be made smaller first
anything else                       the thread fails: never loop on what is not understood
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from shanty_protocol import ModelFailed, ModelReplied, Outcome, ThreadCompacted
from shanty_runtime.models.base import Block, Message, estimated_tokens, marked_as_data

MAX_PAUSES = 10
MAX_CUT_TURNS = 2
MAX_EMPTY_REPLIES = 2
MAX_COMPACTIONS = 3
"""Without a reply in between: more of them would not help."""

GO_ON = "Please continue."
GO_ON_AFTER_CUT = "Your reply was cut off at its length limit. Continue exactly where it stopped."
CLEARED = "[cleared to save space; call the tool again if you need it]"
THINKING = frozenset({"thinking", "redacted_thinking"})

Meaning = Literal["calls", "words", "again"] | Outcome
"""What a reply asks for: carry out its calls, take its words as the answer, ask again, or end the thread so."""


class Approval(msgspec.Struct):
    """What a call waits for from a person, or has been given."""

    request: str
    """Subject of the request."""
    digest: str
    expires_at_ms: int
    waiting: bool = True
    edited: bool = False
    """A person put other arguments in place of those that were asked about."""


class Call(msgspec.Struct):
    """One tool call of the newest model reply, or one step of a handler."""

    id: str
    name: str
    arguments: dict[str, Any]
    intended: bool = False
    """Its intent is in the journal: whoever finds it so without an outcome does not know whether it was made."""
    fenced: bool = False
    """Its intent says that the tool gateway makes it."""
    status: Literal["open", "ok", "error", "unknown"] = "open"
    content: str = ""
    approval: Approval | None = None
    """Where a person was asked before it is made."""
    ruled: bool = False
    """It was allowed without asking a person."""
    held: str = ""
    """Of a delegation: why it is not made before a person has allowed it. Empty once it is."""

    @property
    def decided(self) -> bool:
        """Whether nobody has to be asked any more."""
        return self.ruled or (self.approval is not None and not self.approval.waiting)

    @property
    def settled(self) -> bool:
        return self.status != "open"

    def settle(self, content: str, status: Literal["ok", "error", "unknown"] = "ok") -> None:
        self.content, self.status = content, status


class Note(msgspec.Struct, frozen=True):
    """A text for the next user message, and the place in the journal it came with."""

    text: str
    place: int


class Dialogue(msgspec.Struct):
    messages: list[Message] = []
    notes: list[Note] = []
    """What was said to the thread and its model has not been shown yet."""
    calls: dict[str, Call] = {}
    """Those of the newest reply."""

    paused: bool = False
    pauses: int = 0
    cut_turns: int = 0
    empty_replies: int = 0
    failures: int = 0
    """Model calls that failed since the last reply, those that only had to wait not counted."""
    retry_at_ms: int = 0
    too_large: bool = False
    compactions: int = 0
    """Since the last reply."""
    context_tokens: int = 0
    """About how large the next request is."""

    @property
    def open_calls(self) -> list[Call]:
        return [call for call in self.calls.values() if call.status == "open"]

    def next_messages(self) -> list[Message]:
        """The transcript the next model call answers.

        All results of a turn stand in one message and nothing else does: text beside them teaches a model to answer
        with nothing.
        """
        if self.paused:
            return list(self.messages)
        said = list(self.messages)
        if self.calls:
            said.append(Message("user", tuple(map(result_block, self.calls.values()))))
        if self.notes:
            said.append(Message("user", tuple(text_block(note.text) for note in self.notes)))
        return said

    def expected_tokens(self) -> int:
        """About how many tokens the next request has."""
        fresh = [call.content for call in self.calls.values()] + [note.text for note in self.notes]
        return self.context_tokens + sum(map(estimated_tokens, fresh))

    # What came back

    def take_reply(self, entry: ModelReplied, place: int) -> Meaning:
        """Take a reply in, and say what it asks for. What was said while it was being made waits for the next."""
        unshown = [note for note in self.notes if entry.shown is not None and note.place >= entry.shown]
        if self.paused:  # it was asked on unchanged, without any note
            unshown = self.notes
        self.notes = [note for note in self.notes if note not in unshown]
        meaning = self._take_reply(entry, place)
        self.notes += unshown
        return meaning

    def _take_reply(self, entry: ModelReplied, place: int) -> Meaning:
        self.failures, self.retry_at_ms, self.compactions, self.too_large = 0, 0, 0, False
        calls = [block for block in entry.blocks if block["type"] == "tool_use"]
        match entry.stop_reason:
            case "tool_use" | "end_turn" | "stop_sequence":
                if not any(_says_something(block) for block in entry.blocks):
                    return self._empty(place)
                self._keep(entry)
                return "calls" if calls else "words"
            case "pause_turn":
                self._keep(entry)
                self.calls = {}
                self.paused, self.pauses = True, self.pauses + 1
                return "again" if self.pauses <= MAX_PAUSES else _failed(f"it paused {self.pauses} times in a row")
            case "max_tokens" | "model_context_window_exceeded" as reason:
                self.too_large = reason == "model_context_window_exceeded"
                return self._cut(entry, place, bool(calls))
            case "refusal":
                return Outcome(status="refused", code="model_refused", summary="the model declined to answer")
            case unknown:
                return _failed(f"its reply stopped for a reason this version does not know: {unknown!r}")

    def take_failure(self, entry: ModelFailed) -> None:
        self.retry_at_ms = entry.retry_at_ms or 0
        if entry.failure != "rate_limited":
            self.failures += 1
        if entry.failure == "too_large":
            self.too_large = True

    def _keep(self, entry: ModelReplied) -> None:
        asked = self.next_messages()
        self.messages = [*asked, Message("assistant", entry.blocks)]
        self.notes, self.calls, self.paused = [], {}, False
        self.cut_turns = self.empty_replies = 0
        if entry.stop_reason != "pause_turn":
            self.pauses = 0
        usage = entry.usage
        self.context_tokens = (
            usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens + usage.output_tokens
        )

    def _cut(self, entry: ModelReplied, place: int, has_call: bool) -> Meaning:
        """A call at the end of a cut reply is incomplete and must not be made, nor may the reply be shown again."""
        if has_call or not entry.blocks:
            self.cut_turns += 1
            return "again" if self.cut_turns < MAX_CUT_TURNS else _failed("its calls are cut off at the length limit")
        self._keep(entry)
        self.notes.append(Note(GO_ON_AFTER_CUT, place))
        return "again"

    def _empty(self, place: int) -> Meaning:
        self.empty_replies += 1
        if self.empty_replies >= MAX_EMPTY_REPLIES:
            return _failed("it answers with nothing")
        self.notes.append(Note(GO_ON, place))
        return "again"

    def settle(self) -> None:
        """The thread has answered: whatever went wrong before is behind it."""
        self.failures = self.compactions = self.cut_turns = self.empty_replies = self.pauses = self.retry_at_ms = 0
        self.paused = self.too_large = False

    # Making it smaller

    def clearable(self, keep_messages: int) -> int:
        """About how many tokens would be saved by clearing the tool results of all but the newest messages."""
        old = self.messages[: max(0, len(self.messages) - keep_messages)]
        return sum(
            estimated_tokens(block["content"])
            for message in old
            for block in message.content
            if block["type"] == "tool_result" and block["content"] != CLEARED
        )

    def compact(self, entry: ThreadCompacted, opening: str) -> None:
        """Replace what is old, by nothing or by a summary. `opening` is what the thread must never forget."""
        self.compactions += 1
        self.too_large = False
        keep = self.messages[len(self.messages) - entry.keep_messages :]
        old = self.messages[: len(self.messages) - entry.keep_messages]
        # Thinking is bound to the conversation before it, which is not what it was any more.
        keep = [without_thinking(message) for message in keep]
        if entry.summary:
            told = Message("user", (text_block(opening), text_block(f"<summary>\n{entry.summary}\n</summary>")))
            self.messages = [told, *keep]
        else:
            self.messages = [*map(cleared, map(without_thinking, old)), *keep]
        self.context_tokens = sum(estimated_tokens(message.content) for message in self.messages)


def _says_something(block: Block) -> bool:
    return block["type"] != "text" or bool(block["text"].strip())


def _failed(reason: str) -> Outcome:
    return Outcome(status="failed", code="model_failed", summary=f"the model gives no usable reply: {reason}")


def result_block(call: Call) -> Block:
    content = marked_as_data(call.name, call.content)
    block: Block = {"type": "tool_result", "tool_use_id": call.id, "content": content}
    return block if call.status == "ok" else {**block, "is_error": True}


def text_block(text: str) -> Block:
    return {"type": "text", "text": text}


def without_thinking(message: Message) -> Message:
    return Message(message.role, tuple(block for block in message.content if block["type"] not in THINKING))


def cleared(message: Message) -> Message:
    return Message(message.role, tuple(_cleared(block) for block in message.content))


def _cleared(block: Block) -> Block:
    return {**block, "content": CLEARED} if block["type"] == "tool_result" else block


def last_turn(messages: Sequence[Message]) -> int:
    """How many of the newest messages make up the last turn: the model's newest words and what follows them."""
    for back, message in enumerate(reversed(messages), 1):
        if message.role == "assistant":
            return back
    return 0
