"""What a scripted Claude answers: replies, every way in which one can go wrong, and the bytes they become."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import msgspec

from shanty_protocol import Usage
from shanty_runtime.models.base import Block

EVENT_STREAM = "text/event-stream; charset=utf-8"
PIECE = 12
"""Characters of text, or of a tool call's JSON, in one event."""
SOME = Usage(input_tokens=10, output_tokens=5)

_numbers = itertools.count(1)


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One assistant message."""

    content: tuple[Block, ...]
    stop_reason: str
    usage: Usage = SOME
    stop_details: dict[str, Any] | None = None
    pause_s: float = 0.0
    """Before each event of the stream."""


class Status(msgspec.Struct, frozen=True):
    """An HTTP error in the API's form."""

    status: int
    type: str
    message: str = "scripted"
    error_code: str = ""
    headers: dict[str, str] = {}


class Cut(msgspec.Struct, frozen=True):
    """The reply, and after so many bytes of its body nothing more. `clean` ends the response as if it were whole;
    otherwise the connection breaks."""

    reply: Reply
    at_byte: int
    clean: bool = False


class ErrorEvent(msgspec.Struct, frozen=True):
    """The reply, and after so many of its events an error in a stream that began with status 200."""

    reply: Reply
    type: str
    after_events: int = 2
    message: str = "scripted"


class Hang(msgspec.Struct, frozen=True):
    """The reply up to that byte, and then silence for as long as the client waits. Without a reply not even headers
    are sent."""

    reply: Reply | None = None
    at_byte: int = 0


class Raw(msgspec.Struct, frozen=True):
    """Exactly these bytes, with status 200."""

    body: bytes
    content_type: str = EVENT_STREAM


Fault = Status | Cut | ErrorEvent | Hang | Raw
Answer = Reply | Fault


def text(words: str) -> Block:
    return {"type": "text", "text": words}


def thinking(words: str, signature: str = "c2lnbmVk") -> Block:
    return {"type": "thinking", "thinking": words, "signature": signature}


def tool_use(name: str, /, _id: str = "", **arguments: Any) -> Block:
    return {"type": "tool_use", "id": _id or f"toolu_{next(_numbers):04}", "name": name, "input": arguments}


def reply(
    *blocks: Block,
    stop_reason: str = "",
    usage: Usage = SOME,
    stop_details: dict[str, Any] | None = None,
    pause_s: float = 0.0,
) -> Reply:
    """A reply with the stop reason that goes with its blocks, unless another is asked for."""
    calls = any(block["type"] == "tool_use" for block in blocks)
    return Reply(
        content=blocks,
        stop_reason=stop_reason or ("tool_use" if calls else "end_turn"),
        usage=usage,
        stop_details=stop_details,
        pause_s=pause_s,
    )


def refusal(category: str | None = None, explanation: str = "") -> Reply:
    details = {"type": "refusal", "category": category, "explanation": explanation or None}
    return reply(stop_reason="refusal", stop_details=details)


def error_body(status: Status, request_id: str) -> dict[str, Any]:
    error: dict[str, Any] = {"type": status.type, "message": status.message}
    if status.error_code:
        error["details"] = {"error_code": status.error_code}
    return {"type": "error", "error": error, "request_id": request_id}


def whole_message(answer: Reply, model: str) -> dict[str, Any]:
    """The reply as it is sent to a client that does not stream."""
    return {
        "id": f"msg_{next(_numbers):04}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": list(answer.content),
        "stop_reason": answer.stop_reason,
        "stop_sequence": None,
        "stop_details": answer.stop_details,
        "usage": usage_fields(answer.usage),
    }


def usage_fields(usage: Usage) -> dict[str, int]:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
    }


def stream_events(answer: Reply, model: str) -> Iterator[dict[str, Any]]:
    """The events of a streamed reply, in the API's order."""
    message = whole_message(answer, model)
    started = {**message["usage"], "output_tokens": 1}
    yield {
        "type": "message_start",
        "message": {**message, "content": [], "stop_reason": None, "stop_details": None, "usage": started},
    }
    yield {"type": "ping"}
    for index, block in enumerate(answer.content):
        empty, deltas = _in_pieces(block)
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    delta = {"stop_reason": answer.stop_reason, "stop_sequence": None, "stop_details": answer.stop_details}
    yield {"type": "message_delta", "delta": delta, "usage": message["usage"]}
    yield {"type": "message_stop"}


def _in_pieces(block: Block) -> tuple[Block, list[dict[str, Any]]]:
    """A block as it starts, and the deltas that fill it. A block of an unknown type comes whole."""
    match block["type"]:
        case "text":
            return {**block, "text": ""}, [{"type": "text_delta", "text": piece} for piece in _pieces(block["text"])]
        case "thinking":
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(block["thinking"])]
            sign = {"type": "signature_delta", "signature": block["signature"]}
            return {**block, "thinking": "", "signature": ""}, [*deltas, sign]
        case "tool_use":
            # Text in place of an object stands for JSON as it is: the test writes what no model should.
            given = block["input"]
            encoded = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *_pieces(encoded))]
            return {**block, "input": {}}, deltas
        case _:
            return block, []


def _pieces(words: str) -> list[str]:
    return [words[start : start + PIECE] for start in range(0, len(words), PIECE)]


def event_bytes(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n".encode()


def stream_bytes(answer: Reply, model: str = "claude-opus-5-5") -> bytes:
    """The whole body of a streamed reply."""
    return b"".join(map(event_bytes, stream_events(answer, model)))
