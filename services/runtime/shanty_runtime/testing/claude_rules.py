"""What the Messages API takes: the shape of a request by the SDK's own types, and the rules about its transcript."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_type_hints

import pydantic
from anthropic.types import (
    MessageCountTokensToolParam,
    MessageParam,
    ToolUnionParam,
    message_count_tokens_params,
    message_create_params,
)

MAX_CACHE_MARKS = 4
TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
CALL_ID = re.compile(r"[a-zA-Z0-9_-]+")
REMOVED = ("temperature", "top_p", "top_k")


def problems_with_request(path: str, headers: Mapping[str, str], body: bytes) -> Iterator[str]:
    """Every reason for which the API would refuse a request."""
    for name, form in (("authorization", r"Bearer .+"), ("anthropic-version", r"\d{4}-\d{2}-\d{2}")):
        if not re.fullmatch(form, headers.get(name, "")):
            yield f"header {name} is missing or not of the form {form}"
    try:
        content = json.loads(body)
    except ValueError as error:
        yield f"the body is not JSON: {error}"
        return
    yield from problems_with_shape(path, content)
    messages = content.get("messages")
    if isinstance(messages, list):
        yield from problems_with_transcript(messages)
    names = [tool.get("name", "") for tool in content.get("tools", [])]
    yield from (f"tool name {name!r} is not allowed" for name in names if not TOOL_NAME.fullmatch(name))
    if len(set(names)) < len(names):
        yield "two tools have the same name"
    if (marks := cache_marks(content)) > MAX_CACHE_MARKS:
        yield f"there are {marks} cache marks, and at most {MAX_CACHE_MARKS} are allowed"


def problems_with_shape(path: str, content: Any) -> Iterator[str]:
    """By the types the SDK gives for the request's parameters."""
    if not isinstance(content, dict):
        yield "the body is not an object"
        return
    counting = path.endswith("/count_tokens")
    whole: Any = (
        message_count_tokens_params.MessageCountTokensParams
        if counting
        else message_create_params.MessageCreateParamsStreaming
        if content.get("stream")
        else message_create_params.MessageCreateParamsNonStreaming
    )
    unknown = sorted(content.keys() - _fields(whole))
    yield from (f"{name}: extra inputs are not permitted" for name in unknown)
    yield from (f"{name} was removed" for name in REMOVED if name in content)
    yield from _mismatches(whole, content)
    # Lists are checked by their items, because pydantic says nothing helpful about an iterable.
    for number, message in enumerate(content.get("messages", [])):
        yield from (f"messages.{number}: {problem}" for problem in _mismatches(MessageParam, message))
    tool_type: Any = MessageCountTokensToolParam if counting else ToolUnionParam
    for number, tool in enumerate(content.get("tools", [])):
        yield from (f"tools.{number}: {problem}" for problem in _mismatches(tool_type, tool))


@functools.cache
def _fields(whole: Any) -> frozenset[str]:
    return frozenset(get_type_hints(whole))


@functools.cache
def _adapter(shape: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(shape)


def _mismatches(shape: Any, value: Any) -> list[str]:
    try:
        _exhaust(_adapter(shape).validate_python(value))
    except pydantic.ValidationError as error:
        return [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:3]]
    return []


def _exhaust(value: Any) -> None:
    """Go through all of it: pydantic checks the items of an iterable when they are asked for."""
    if isinstance(value, Mapping):
        for item in value.values():
            _exhaust(item)
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for item in value:
            _exhaust(item)


def problems_with_transcript(messages: list[Any]) -> Iterator[str]:
    """Who speaks when, and that every tool call is answered at once, in the next message, and exactly once."""
    if not messages or messages[0].get("role") != "user":
        yield "messages: the first message must be the user's"
    if messages and messages[-1].get("role") == "assistant" and not _is_paused(messages[-1]):
        yield "messages: the last message must not be the assistant's"
    open_calls: list[str] = []
    called: set[str] = set()
    for number, message in enumerate(messages):
        blocks = _blocks(message)
        if not blocks:
            yield f"messages.{number}: content must not be empty"
        results = [block.get("tool_use_id") for block in blocks if block.get("type") == "tool_result"]
        yield from _problems_with_results(number, open_calls, results)
        if results and any(block.get("type") != "tool_result" for block in blocks[: len(results)]):
            yield f"messages.{number}: tool_result blocks must come first"
        open_calls = [block.get("id", "") for block in blocks if block.get("type") == "tool_use"]
        if open_calls and message.get("role") != "assistant":
            yield f"messages.{number}: only the assistant uses tools"
        for call in open_calls:
            if call in called or not CALL_ID.fullmatch(call):
                yield f"messages.{number}: tool_use id {call!r} is used twice or not allowed"
            called.add(call)
        if any(block.get("type") == "text" and not block.get("text", "").strip() for block in blocks):
            yield f"messages.{number}: text content blocks must contain non-whitespace text"
    if open_calls:
        yield f"messages: tool_use {', '.join(open_calls)} has no tool_result"


def _problems_with_results(number: int, open_calls: list[str], results: list[Any]) -> Iterator[str]:
    missing = [call for call in open_calls if call not in results]
    strange = [result for result in results if result not in open_calls]
    if missing:
        yield f"messages.{number}: tool_use {', '.join(missing)} has no tool_result in the next message"
    if strange:
        yield f"messages.{number}: tool_result for {', '.join(map(str, strange))} without such a tool_use before it"
    if len(set(results)) < len(results):
        yield f"messages.{number}: two tool_results for one tool_use"


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [block for block in content or [] if isinstance(block, dict)]


def cache_marks(content: dict[str, Any]) -> int:
    """How often a request says `cache_control`, at whatever depth."""
    waiting: list[Any] = [content]
    found = 0
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            found += isinstance(part.get("cache_control"), dict)
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    return found


def _is_paused(message: dict[str, Any]) -> bool:
    """A turn that the API broke off in the middle of its own tools' work is sent back as it is."""
    content = message.get("content")
    return isinstance(content, list) and any(block.get("type") == "server_tool_use" for block in content)
