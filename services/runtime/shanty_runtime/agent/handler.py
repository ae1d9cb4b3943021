"""A specialist that is Python code in place of a model.

    class Order(msgspec.Struct, frozen=True, kw_only=True):
        sku: str
        pieces: int

    class Quote(msgspec.Struct, frozen=True, kw_only=True):
        total_cents: int

    async def handle(order: Order, context: Context) -> Quote:
        "Prices an order."
        stock = await context.call(reserve, Reservation(sku=order.sku, pieces=order.pieces))
        return Quote(total_cents=100 * order.pieces)

When its process dies, the handler is run again from its start by another replica. Calls made through
`context.call` that had returned are not made again: they give what they gave. So between two calls a handler
must do the same thing each time it is run.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Any, Protocol, get_type_hints

import msgspec

from shanty_protocol import Brief
from shanty_runtime.agent.schema import checker
from shanty_runtime.tools.base import Tool, argument_schema
from shanty_runtime.tools.workspace import Workspace


class Context(Protocol):
    """What a handler may use besides its input."""

    run: str
    thread: str
    brief: Brief
    """The whole delegation: objective, guidance, files."""

    @property
    def workspace(self) -> Workspace:
        """The run's files. A write made again after a crash gives the version it made the first time."""

    async def call(self, tool: Tool, arguments: msgspec.Struct) -> Any:
        """Call a tool as a step of this thread: journaled, and not repeated once it has returned.

        Gives the decoded result. Raises ToolError where the tool failed, or where the outcome of an irreversible
        call from before a crash is unknown.

        Where a person has to agree first, the handler is stopped here, and run again from its start once somebody
        has decided: with the arguments that were agreed to, or with a ToolError.
        """

    async def progress(self, text: str, percent: int | None = None) -> None:
        """Tell whoever waits for this thread how far it is."""


HandlerFunction = Callable[[Any, Context], Awaitable[Any]]


class Handler(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    function: HandlerFunction
    input_type: type[msgspec.Struct]
    output_type: type[msgspec.Struct] | None

    @cached_property
    def input_schema(self) -> dict[str, Any]:
        return argument_schema(self.input_type)

    @cached_property
    def problems_with_input(self) -> Callable[[Any], str]:
        """What is wrong with a value as input, in one sentence; empty where nothing is."""
        return checker(self.input_schema)

    @cached_property
    def output_schema(self) -> dict[str, Any] | None:
        return None if self.output_type is None else argument_schema(self.output_type)


def handler_from(function: Any) -> Handler:
    """A handler from `async def handle(input: Struct, context) -> Struct | None`. Raises TypeError."""
    name = getattr(function, "__name__", repr(function))
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"{name} must be an async function")
    parameters = list(inspect.signature(function).parameters)
    if len(parameters) != 2:
        raise TypeError(f"{name} must take two arguments, its input and a context, not {len(parameters)}")
    hints = get_type_hints(function)
    input_type, output_type = hints.get(parameters[0]), hints.get("return", None)
    if not (isinstance(input_type, type) and issubclass(input_type, msgspec.Struct)):
        raise TypeError(f"the first argument of {name} must be annotated with a msgspec.Struct")
    if output_type in (None, type(None)):
        return Handler(function=function, input_type=input_type, output_type=None)
    if not (isinstance(output_type, type) and issubclass(output_type, msgspec.Struct)):
        raise TypeError(f"{name} must return a msgspec.Struct or None")
    return Handler(function=function, input_type=input_type, output_type=output_type)
