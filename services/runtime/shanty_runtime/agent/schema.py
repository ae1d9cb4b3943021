"""JSON Schema checks that answer with a sentence."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import msgspec

MAX_PROBLEMS = 5


def problems_with(value: Any, schema: dict[str, Any]) -> str:
    """What is wrong with a value, in one sentence with JSON paths; empty where it fits the schema."""
    return _problems(_validator(msgspec.json.encode(schema, order="deterministic")), value)


def checker(schema: dict[str, Any]) -> Callable[[Any], str]:
    """`problems_with` for many values and one schema."""
    return functools.partial(_problems, jsonschema_rs.validator_for(schema))


def _problems(validator: Any, value: Any) -> str:
    if validator.is_valid(value):
        return ""
    found = [f"{_path(error.instance_path)}: {error.message}" for error in validator.iter_errors(value)]
    more = f" (and {len(found) - MAX_PROBLEMS} more)" if len(found) > MAX_PROBLEMS else ""
    return "; ".join(found[:MAX_PROBLEMS]) + more


@functools.lru_cache(maxsize=256)
def _validator(schema: bytes) -> Any:
    return jsonschema_rs.validator_for(msgspec.json.decode(schema))


def _path(parts: Any) -> str:
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
