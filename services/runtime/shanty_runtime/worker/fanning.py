"""The two ends of a fan-out: what its items are, and the file that says what became of each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Literal

import msgspec

from shanty_protocol import FanOutStarted, FileRef, FileVersion, ToolReturned
from shanty_protocol.ids import LOG
from shanty_runtime.errors import EditConflict, WorkspaceError
from shanty_runtime.thread import fanout
from shanty_runtime.thread.decide import Draft
from shanty_runtime.thread.dialogue import Call
from shanty_runtime.thread.fanout import FanOut, Item
from shanty_runtime.thread.sending import room_problem
from shanty_runtime.thread.verbs import DelegateEach
from shanty_runtime.worker.held import HeldThread

PART_BYTES = 256 * 1024
"""The file is stored in parts of about this size."""


async def start_fan_out(held: HeldThread, call: Call) -> None:
    """Find out what the items are, and write down which list it is; or why there is none."""
    await held.show("tool", call.name)
    order = msgspec.convert(call.arguments, DelegateEach)
    try:
        source, items = await _listed(held, order)
        problem = room_problem(held.state, len(items)) if items else f"{order.file} has no items"
    except WorkspaceError as error:
        source, items, problem = None, [], str(error)
    if problem:
        await _return(held, call.id, problem, "error")
        return
    stamp = held.stamp()
    if source is not None:
        held.state.items[call.id] = tuple(item.value for item in items)
    entry = FanOutStarted(
        at_ms=stamp.at_ms,
        by=stamp.by,
        fence=stamp.fence,
        call_id=call.id,
        specialist=order.specialist,
        items=len(items),
        at_most=order.at_most,
        retries=order.retries,
        source=source,
        refused=fanout.refused_items(held.profile, order, items),
    )
    await held.write((Draft(LOG, entry),))


async def read_items(held: HeldThread, call_id: str) -> None:
    """Read the items of a fan-out again, from the same version of the same file."""
    await _items_of(held, held.state.fan_outs[call_id])


async def finish_fan_out(held: HeldThread, call_id: str) -> None:
    """Write the file with a line for each item, and tell the model how many went well."""
    fan = held.state.fan_outs[call_id]
    items = await _items_of(held, fan)
    try:
        version = await _write(held, fan, items)
    except WorkspaceError as error:
        await _return(held, call_id, fanout.summary(fan, None, str(error)), "error")
        return
    await _return(held, call_id, fanout.summary(fan, version.ref), files=(version.ref,))


async def _write(held: HeldThread, fan: FanOut, items: Sequence[Any]) -> FileVersion:
    """A new version of the output. Whoever does it again after a crash gets the version that was made first."""
    state, path = held.state, fan.order.output
    while True:
        newest = await held.bus.files.latest(state.run, path)
        try:
            return await held.bus.files.commit(
                state.run,
                path,
                _parts(fanout.lines(fan, items)),
                base_version=newest.version if newest else 0,
                agent=held.profile.agent,
                thread=state.thread,
                key=f"{state.run}.{state.thread}.{fan.call_id}",
            )
        except EditConflict:
            continue  # somebody else has written there since


async def _listed(held: HeldThread, order: DelegateEach) -> tuple[FileRef | None, list[Item]]:
    """The items, and the file they are in. Raises WorkspaceError where it cannot be read as a list."""
    if order.items is not None:
        return None, [Item(value) for value in order.items]
    workspace = held.workspace("")
    version = await workspace.stat(order.file)
    return version.ref, await _read(held, version.ref)


async def _items_of(held: HeldThread, fan: FanOut) -> Sequence[Any]:
    if fan.order.items is not None:
        return fan.order.items
    if fan.call_id not in held.state.items:
        assert fan.source is not None, "items that are not arguments are in a file"
        items = await _read(held, fan.source)
        held.state.items[fan.call_id] = tuple(item.value for item in items)
    return held.state.items[fan.call_id]


async def _read(held: HeldThread, file: FileRef) -> list[Item]:
    content = await held.workspace("").read(file.path, file.version)
    try:
        return fanout.read_items(content)
    except ValueError as error:
        raise WorkspaceError(f"{file.path} is not a list of items: {error}") from error


async def _parts(lines: Iterator[bytes]) -> AsyncIterator[bytes]:
    part = bytearray()
    for line in lines:
        part += line
        if len(part) >= PART_BYTES:
            yield bytes(part)
            part.clear()
    yield bytes(part)


async def _return(
    held: HeldThread,
    call_id: str,
    content: str,
    status: Literal["ok", "error"] = "ok",
    files: tuple[FileRef, ...] = (),
) -> None:
    stamp = held.stamp()
    entry = ToolReturned(
        at_ms=stamp.at_ms,
        by=stamp.by,
        fence=stamp.fence,
        call_id=call_id,
        name=fanout.NAME,
        content=content,
        status=status,
        files=files,
    )
    await held.write((Draft(LOG, entry),))
