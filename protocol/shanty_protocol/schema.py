"""JSON Schema 2020-12 of every channel, generated from the Structs: one file a channel, for other languages.

    python -m shanty_protocol.schema --check protocol/schema/v1      exit 1 where a file is not what the code says
    python -m shanty_protocol.schema --write protocol/schema/v1      bring the files up to date

The schemas are as open as the decoders: unknown fields are allowed. They are looser in one place, because 1.0 is an
integer to JSON Schema and not to a decoder.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import sys
import textwrap
from pathlib import Path
from typing import Any

import msgspec

from shanty_protocol.codec import CHANNELS, PROTOCOL_VERSION, kinds_of

TITLES = {
    "entries": "Entries of journals; the addressed ones are the mail",
    "timers": "What a durable timer sends when it is due",
    "live": "What happens right now; lossy",
    "cards": "Values of the roster bucket",
    "files": "Versions of workspace files",
    "memory": "Versions of documents that outlive runs, and their releases",
    "tools": "What agents ask of the tool gateway, and what it answers",
}


def schemas() -> dict[str, bytes]:
    """The text of every schema file, by file name: the same code always gives the same bytes."""
    return {f"{channel}.json": _formatted(schema(channel)) for channel in CHANNELS}


def schema(channel: str) -> dict[str, Any]:
    """The schema of all that can be received on a channel."""
    messages = kinds_of(CHANNELS[channel])
    _, definitions = msgspec.json.schema_components(messages.values(), ref_template="#/$defs/{name}")
    for message in _with_parts(messages.values()):
        _describe_fields(definitions[message.__name__], message)
    references = {kind: f"#/$defs/{message.__name__}" for kind, message in messages.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:shanty:protocol:v{PROTOCOL_VERSION}:{channel}",
        "title": TITLES[channel],
        "oneOf": [{"$ref": reference} for reference in references.values()],
        # Not a keyword of JSON Schema but of OpenAPI: code generators use it, validators pass over it.
        "discriminator": {"propertyName": "kind", "mapping": references},
        "$defs": definitions,
    }


def _with_parts(messages: Any) -> list[type[msgspec.Struct]]:
    """The Structs and those they are made of, each once."""
    found: dict[str, type[msgspec.Struct]] = {}

    def visit(described: Any) -> None:
        if isinstance(described, msgspec.inspect.StructType):
            if described.cls.__name__ in found:
                return
            found[described.cls.__name__] = described.cls
            for field in described.fields:
                visit(field.type)
        elif isinstance(described, msgspec.inspect.UnionType):
            for each in described.types:
                visit(each)
        elif isinstance(described, msgspec.inspect.CollectionType | msgspec.inspect.VarTupleType):
            visit(described.item_type)

    for described in msgspec.inspect.multi_type_info(messages):
        visit(described)
    return list(found.values())


def _describe_fields(definition: dict[str, Any], message: type[msgspec.Struct]) -> None:
    for name, sentence in _field_docs(message).items():
        definition["properties"][name]["description"] = sentence


def _field_docs(message: type[msgspec.Struct]) -> dict[str, str]:
    """The string under each field. Python keeps none of them at run time, so they are read from the source."""
    docs: dict[str, str] = {}
    for base in reversed(message.__mro__):
        if not base.__module__.startswith("shanty_protocol."):
            continue
        (class_body,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(class_body, ast.ClassDef)
        for field, doc in zip(class_body.body, class_body.body[1:], strict=False):
            match field, doc:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    docs[name] = inspect.cleandoc(text)
    return docs


def _formatted(schema: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(schema), indent=2) + b"\n"


def drift(folder: Path) -> list[str]:
    """What is wrong with a folder of schema files, one sentence a file."""
    expected = schemas()
    problems = []
    for name, text in expected.items():
        path = folder / name
        if not path.exists():
            problems.append(f"{path} is missing")
        elif path.read_bytes() != text:
            problems.append(f"{path} is not what the code says")
    strangers = sorted(path for path in folder.glob("*.json") if path.name not in expected)
    return problems + [f"{path} belongs to no channel" for path in strangers]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m shanty_protocol.schema", description="the schema files")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--check", metavar="DIR", type=Path, help="exit 1 where a file is not what the code says")
    action.add_argument("--write", metavar="DIR", type=Path, help="bring the files up to date")
    given = parser.parse_args(arguments)
    if given.write is not None:
        given.write.mkdir(parents=True, exist_ok=True)
        for name, text in schemas().items():
            (given.write / name).write_bytes(text)
        return 0
    problems = drift(given.check)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print(f"to bring them up to date: python -m shanty_protocol.schema --write {given.check}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
