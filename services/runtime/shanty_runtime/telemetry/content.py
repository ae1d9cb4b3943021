"""What models and tools are told and say, as attributes of spans: without secrets, and cut to a size.

The form is that of the conventions for generative AI: a message is a role and its parts. What is captured is for
people who look for why an agent did something; the journal has all of it, whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from shanty_runtime.redaction import redact

MAX_TEXT_CHARACTERS = 4_000
"""Most of one text that is shown."""
MAX_MESSAGES_CHARACTERS = 48_000
"""Most of a transcript that is shown; the oldest messages go first."""
MAX_DEPTH = 12

Block = dict[str, Any]
"""One content block in the form of Anthropic's Messages API."""


class Said(Protocol):
    @property
    def role(self) -> str: ...

    @property
    def content(self) -> Sequence[Block]: ...


Transcript = Sequence[Said]


def instructions(system: str) -> str:
    return _json([{"type": "text", "content": shown(system)}])


def messages(transcript: Transcript) -> str:
    """The newest messages of a transcript, as many as there is room for, and how many went before."""
    told: list[str] = []
    room = MAX_MESSAGES_CHARACTERS
    for message in reversed(transcript):
        encoded = _json({"role": message.role, "parts": _parts(message.content)})
        room -= len(encoded)
        if room < 0:
            break
        told.append(encoded)
    if left := len(transcript) - len(told):
        note = {"type": "text", "content": f"[{left} earlier messages are not shown]"}
        told.append(_json({"role": "system", "parts": [note]}))
    return f"[{','.join(reversed(told))}]"


def reply(blocks: Sequence[Block], stop_reason: str) -> str:
    return _json([{"role": "assistant", "parts": _parts(blocks), "finish_reason": stop_reason}])


def arguments(given: Mapping[str, Any]) -> str:
    return _json(_shown(given))


def shown(text: str) -> str:
    """A text as it may be shown."""
    # Cut after the secrets are out: half of one would not be known for one.
    clean = redact(text)
    if len(clean) <= MAX_TEXT_CHARACTERS:
        return clean
    return f"{clean[:MAX_TEXT_CHARACTERS]} [cut here; the whole text has {len(clean)} characters]"


def _parts(blocks: Iterable[Block]) -> list[dict[str, Any]]:
    return [_part(block) for block in blocks]


def _part(block: Block) -> dict[str, Any]:
    match block:
        case {"type": "text", "text": str(text)}:
            return {"type": "text", "content": shown(text)}
        case {"type": "thinking", "thinking": str(text)}:
            return {"type": "reasoning", "content": shown(text)}
        case {"type": "tool_use", "id": call_id, "name": name, "input": given}:
            return {"type": "tool_call", "id": call_id, "name": name, "arguments": _shown(given)}
        case {"type": "tool_result", "tool_use_id": call_id, "content": given}:
            return {"type": "tool_call_response", "id": call_id, "response": _shown(given)}
        case _:
            return {"type": str(block.get("type", "unknown"))}


def _shown(value: Any, depth: int = 0) -> Any:
    """A value of JSON with each text in it as it may be shown."""
    if depth > MAX_DEPTH:
        return "[nested too deep to be shown]"
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, Mapping):
        return {shown(str(key)): _shown(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(each, depth + 1) for each in value]
    return value


def _json(value: Any) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode()
