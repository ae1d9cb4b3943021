"""A tool is an async function with a Struct argument.

    class Lookup(msgspec.Struct, frozen=True, kw_only=True):
        "What to look up."
        sku: str

    @tool(effect="read")
    async def stock(args: Lookup, context: ToolContext) -> dict[str, int]:
        "How many of an article are in stock."
        return {"pieces": 12}

The model sees the function's name, its docstring and the JSON Schema of the Struct. What the function returns
is the result: text as it is, anything else as JSON. Raise `ToolError` to tell the model what went wrong.

`effect` decides what happens when a worker dies between the call and its outcome:

    read         nothing outside changed: the call is made again
    idempotent   the tool honours `context.key`, so making the call again changes nothing: it is made again
    irreversible the call is never made again; `lookup` is asked what became of it, and if there is no
                 lookup, or it does not know, the model is told that the outcome is unknown

A worker can be frozen just before it acts, and go on after another has taken its thread. So an irreversible tool is
`fenced`: the tool gateway makes its calls, a process of its own that starts each call once, and for nobody who has
lost the thread. It has the secrets such a tool needs in its environment; the agents need none of them.
`fenced=False` has the agent's own process make the calls; `fenced=True` has the gateway make those of another tool.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

import msgspec

from shanty_protocol import FileRef, HiredSpecialist
from shanty_runtime.errors import DocumentError, ToolError, WorkspaceError

if TYPE_CHECKING:
    from shanty_runtime.tools.workspace import Workspace

Effect = Literal["read", "idempotent", "irreversible"]


class ToolContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool may know about the call it serves."""

    key: str
    """`<run>.<thread>.<call id>`: the same on every retry of this call, different for every other call."""
    run: str
    thread: str
    agent: str
    workspace: Workspace
    """The run's shared files, written in this agent's name."""
    tainted: bool = False
    """This thread has read what an `untrusted` tool gave: what it writes for later runs is kept apart."""
    hired: tuple[HiredSpecialist, ...] = ()
    """Whom the thread has hired so far."""


class ToolResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a call gave. Returned by a tool itself only where text alone is not enough."""

    content: str
    is_error: bool = False
    files: tuple[FileRef, ...] = ()


ToolFunction = Callable[[Any, ToolContext], Awaitable[Any]]
Lookup = Callable[[Any, ToolContext], Awaitable[Any]]
"""Called instead of the tool on recovery: returns what the call gave, or None if it was never made or is unknown."""


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    description: str
    effect: Effect
    arguments: type[msgspec.Struct] | None = None
    """None for a tool of another service, which says in `schema` what it takes and gets a plain dict."""
    function: ToolFunction
    lookup: Lookup | None = None
    schema: dict[str, Any] | None = None
    untrusted: bool = False
    """What it gives comes from outside and may have been written to mislead a model."""
    fenced: bool = False
    """The tool gateway makes its calls."""

    @property
    def input_schema(self) -> dict[str, Any]:
        """The JSON Schema of the arguments."""
        if self.arguments is not None:
            return _known_schema(self.arguments)
        return self.schema or {"type": "object"}

    def decode(self, arguments: dict[str, Any]) -> Any:
        """A model's arguments as the function takes them. Raises msgspec.ValidationError."""
        return arguments if self.arguments is None else msgspec.convert(arguments, self.arguments)

    async def __call__(self, args: Any, context: ToolContext) -> Any:
        """Tools stay callable as the functions they were written as, for tests."""
        return await self.function(args, context)


def tool(
    *, effect: Effect, lookup: Lookup | None = None, untrusted: bool = False, fenced: bool | None = None
) -> Callable[[ToolFunction], Tool]:
    """Make an async function with a Struct argument a tool. Raises TypeError where it is not one."""

    def decorate(function: ToolFunction) -> Tool:
        name = getattr(function, "__name__", "tool")
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"tool {name} must be an async function")
        if not function.__doc__:
            raise TypeError(f"tool {name} needs a docstring: it is what the model reads")
        hints = get_type_hints(function)
        first = next(iter(inspect.signature(function).parameters), None)
        arguments = hints.get(first or "")
        if not (isinstance(arguments, type) and issubclass(arguments, msgspec.Struct)):
            raise TypeError(f"tool {name}: its first parameter must be annotated with a msgspec.Struct")
        return Tool(
            name=name,
            description=inspect.cleandoc(function.__doc__),
            effect=effect,
            arguments=arguments,
            function=function,
            lookup=lookup,
            untrusted=untrusted,
            fenced=effect == "irreversible" if fenced is None else fenced,
        )

    return decorate


def argument_schema(arguments: type[msgspec.Struct]) -> dict[str, Any]:
    """The JSON Schema of a Struct, self-contained: one object, with `$defs` for what it refers to."""
    (reference,), components = msgspec.json.schema_components([arguments], ref_template="#/$defs/{name}")
    own = reference["$ref"].rpartition("/")[2]
    schema = dict(components.pop(own))
    schema["additionalProperties"] = False
    if components:
        schema["$defs"] = components
    return schema


_known_schema = functools.cache(argument_schema)
"""A model is told of every tool at every turn."""


def to_result(value: Any) -> ToolResult:
    """What a tool function returned, as the result that is journaled and shown to the model."""
    if isinstance(value, ToolResult):
        return value
    if isinstance(value, str):
        return ToolResult(content=value)
    return ToolResult(content=msgspec.json.encode(value).decode())


def failure(name: str, error: Exception) -> ToolResult:
    """An error the model can act on: our own sentences whole, anything else by its type."""
    ours = isinstance(error, ToolError | WorkspaceError | DocumentError)
    sentence = str(error) if ours else f"{name} failed: {type(error).__name__}: {error}"
    return ToolResult(content=sentence, is_error=True)
