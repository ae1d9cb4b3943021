"""Making tool calls: what has an effect is announced before it is made, and what a call gave is written down.

A call that is found announced but not answered was begun by a worker that died. It is made again if its tool says
that this is harmless, looked up if the tool can do that, and otherwise left alone: its outcome is unknown. Where the
tool gateway makes the call, that is asked, and can tell.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

from shanty_protocol import ToolCalled, ToolReturned
from shanty_protocol.ids import LOG
from shanty_runtime.agent.schema import problems_with
from shanty_runtime.errors import Fenced, OutcomeUnknown, ToolError
from shanty_runtime.telemetry import metrics, tool_span
from shanty_runtime.thread.decide import Draft
from shanty_runtime.thread.dialogue import Call
from shanty_runtime.tools.base import Tool, ToolContext, ToolResult, failure, to_result
from shanty_runtime.tools.results import journaled, result_path
from shanty_runtime.worker.fenced import fenced_outcome, is_fenced
from shanty_runtime.worker.held import HeldThread

logger = logging.getLogger("shanty.thread")

UNKNOWN_OUTCOME = (
    "The outcome of this call is unknown: its answer was not heard, because whoever made it died or because it did "
    "not come in time. It may have happened or not. It was not repeated. Find out before you do it again."
)


async def run_calls(held: HeldThread, calls: Sequence[Call], tools: Mapping[str, Tool]) -> None:
    """Make calls side by side."""
    found_open = {call.id for call in calls if call.intended}
    await announce(held, [call for call in calls if call.id not in found_open], tools)
    async with _first_error_wins() as group:
        for call in calls:
            group.create_task(run_call(held, call, tools.get(call.name), recovered=call.id in found_open))


async def announce(held: HeldThread, calls: Iterable[Call], tools: Mapping[str, Tool]) -> None:
    """Write the intent of every call that has an effect."""
    stamp = held.stamp()
    intents = [
        ToolCalled(
            at_ms=stamp.at_ms,
            by=stamp.by,
            fence=stamp.fence,
            call_id=call.id,
            name=call.name,
            arguments=call.arguments,
            fenced=is_fenced(held, call),
        )
        for call in calls
        if (tool := tools.get(call.name)) is not None and tool.effect != "read"
    ]
    await held.write([Draft(LOG, intent) for intent in intents])


async def run_call(held: HeldThread, call: Call, tool: Tool | None, *, recovered: bool) -> None:
    """Make one call and write down what it gave. `recovered`: it was announced by a worker that died."""
    if tool is None:
        gone = ToolResult(content=f"{call.name} is not a tool of this agent any more", is_error=True)
        metrics.tool_called(held.profile.agent, metrics.UNKNOWN_TOOL, 0.0, "unknown_tool")
        await _note_result(held, call, gone)
        return
    await held.show("tool", call.name)
    held.check_lease(f"{call.name} was called")
    with tool_span(
        held.profile.agent,
        held.state.run,
        call.name,
        call.id,
        name=held.profile.name,
        description=tool.description,
    ) as span:
        span.tool_asked(call.arguments)
        result = await _outcome(held, call, tool, recovered=recovered)
        span.tool_gave(UNKNOWN_OUTCOME if result is None else result.content)
        if result is None:
            span.failed("unknown")
        elif result.is_error:
            span.failed("tool_error")
    await _note_result(held, call, result)


async def _outcome(held: HeldThread, call: Call, tool: Tool, *, recovered: bool) -> ToolResult | None:
    """What a call gives; None where it may have been made before a crash and nobody can tell."""
    key = f"{held.state.run}.{held.state.thread}.{call.id}"
    context = ToolContext(
        key=key,
        run=held.state.run,
        thread=held.state.thread,
        agent=held.profile.agent,
        workspace=held.workspace(key),
        tainted=held.state.tainted,
        hired=tuple(each.hired for each in held.profile.contracts.values() if each.hired is not None),
    )
    try:
        if call.approval is not None and call.approval.edited:
            if problem := problems_with(call.arguments, tool.input_schema):
                return failure(call.name, ToolError(f"the arguments a person gave do not fit: {problem}"))
        arguments = tool.decode(call.arguments)
        if is_fenced(held, call):
            return await fenced_outcome(held, call, recovered=recovered)
        held.check_lease(f"{call.name} acted")
        if recovered and tool.effect == "irreversible":
            found = None if tool.lookup is None else await tool.lookup(arguments, context)
            return None if found is None else to_result(found)
        return to_result(await tool.function(arguments, context))
    except Fenced:
        raise
    except OutcomeUnknown as error:
        logger.warning("the outcome of %s is unknown: %s", call.name, error)
        return None
    except Exception as error:
        # Whatever a tool raises is its result: the model reads it and decides.
        logger.info("tool %s failed: %s", call.name, type(error).__name__)
        return failure(call.name, error)


async def _note_result(held: HeldThread, call: Call, result: ToolResult | None) -> None:
    content = UNKNOWN_OUTCOME
    if result is not None:
        workspace = held.workspace(f"{held.state.run}.{held.state.thread}.{call.id}.result")
        content = await journaled(result.content, workspace, result_path(held.state.thread, call.id))
    stamp = held.stamp()
    entry = ToolReturned(
        at_ms=stamp.at_ms,
        by=stamp.by,
        fence=stamp.fence,
        call_id=call.id,
        name=call.name,
        content=content,
        status="unknown" if result is None else "error" if result.is_error else "ok",
        files=() if result is None else result.files,
    )
    await held.write((Draft(LOG, entry),))


@asynccontextmanager
async def _first_error_wins() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group that raises the first error itself, not a group of one."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
