"""An event loop in which nothing happens by chance: its time is virtual, and a seed chooses what runs next.

Every callback belongs to a process of the simulation, or to the world around them all. Those of a process that was
killed never run again, whatever they waited for; those of a process that is paused run when it goes on. Time moves
only when nothing is left to run, to the moment of the next timer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


class Process:
    """Something that can be killed or paused as a whole. Its tasks know it by their context."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.paused = False
        self.parked: list[Callback] = []
        """What would have run while it was paused."""
        self.tasks: list[tuple[asyncio.Task[Any], Context]] = []


current: ContextVar[Process | None] = ContextVar("process", default=None)


class Callback(msgspec.Struct, eq=False):
    """What a loop calls once. Stands in for `asyncio.Handle`."""

    call: Callable[..., object]
    args: tuple[Any, ...]
    context: Context | None
    process: Process | None
    when_s: float = 0.0
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def cancelled(self) -> bool:
        return self.is_cancelled

    def when(self) -> float:
        return self.when_s


class SimulatedLoop(asyncio.AbstractEventLoop):
    def __init__(self, chance: random.Random) -> None:
        self.now_s = 0.0
        self.process: Process | None = None
        """Whose callback is running."""
        self.steps = 0
        self.errors: list[str] = []
        """What callbacks and tasks raised that nobody took."""
        self.closing = False
        self.over = False
        """Nothing more has to happen."""
        self._pick = chance.random
        self._ready: list[Callback] = []
        self._timers: list[tuple[float, int, Callback]] = []
        self._count = 0

    # What asyncio asks of a loop

    def time(self) -> float:
        return self.now_s

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]  # the base class names no context in every version
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        context = copy_context() if context is None else context
        process = context.get(current)
        if process is None and self.process is not None:  # what has heard a message begins it
            process = self.process
            context.run(current.set, process)
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, name=name or "", context=context)
        # A task that vanishes with its process is meant to.
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        if process is not None:
            process.tasks.append((task, context))
        return task

    def call_soon(  # type: ignore[override]  # a Callback is all that anybody needs of a Handle
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Callback:
        made = Callback(callback, args, context, self.process if context is None else context.get(current))
        self._ready.append(made)
        return made

    def call_at(  # type: ignore[override]  # as above
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Callback:
        process = self.process if context is None else context.get(current)
        made = Callback(callback, args, context, process, when)
        self._count += 1
        heappush(self._timers, (when, self._count, made))
        return made

    def call_later(  # type: ignore[override]  # as above
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Callback:
        process = self.process if context is None else context.get(current)
        made = Callback(callback, args, context, process, self.now_s + delay)
        self._count += 1
        heappush(self._timers, (made.when_s, self._count, made))
        return made

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.closing:
            self.errors.append(f"{context.get('message')}: {context.get('exception')!r}")

    # What the simulation asks of it

    def call_for(
        self,
        process: Process | None,
        when_s: float,
        call: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> Callback:
        """Have something called at a time, as part of a process, or of the world."""
        made = Callback(call, args, context, process, when_s)
        self._count += 1
        heappush(self._timers, (when_s, self._count, made))
        return made

    def spawn(self, process: Process, work: Coroutine[Any, Any, None]) -> None:
        """Begin the main task of a process."""
        context = Context()
        context.run(current.set, process)
        self.create_task(work, context=context)

    def resume(self, process: Process) -> None:
        process.paused = False
        self._ready += process.parked
        process.parked = []

    def run(self, *, until_s: float, most_steps: int) -> str:
        """Run until `over` is set. Returns why it ended otherwise: nothing to do, the time, or too many steps."""
        asyncio._set_running_loop(self)
        ready, timers, pick, steps = self._ready, self._timers, self._pick, self.steps
        try:
            while not self.over:
                while not ready:
                    while timers and timers[0][2].is_cancelled:
                        heappop(timers)
                    if not timers:
                        return "nothing is left to happen"
                    if timers[0][0] > until_s:
                        return "the time is over"
                    when_s, _, due = heappop(timers)
                    if when_s > self.now_s:
                        self.now_s = when_s
                    ready.append(due)
                    while timers and timers[0][0] <= self.now_s:
                        ready.append(heappop(timers)[2])
                count = len(ready)
                if count > 1:
                    chosen = int(pick() * count)
                    ready[chosen], ready[-1] = ready[-1], ready[chosen]
                made = ready.pop()
                if made.is_cancelled:
                    continue
                process = made.process
                if process is not None:
                    if process.dead:
                        continue
                    if process.paused:
                        process.parked.append(made)
                        continue
                steps += 1
                if steps > most_steps:
                    return "it does not come to an end"
                self.process = process
                context = made.context
                if context is None:
                    made.call(*made.args)
                else:
                    context.run(made.call, *made.args)
            return ""
        finally:
            self.steps = steps
            self.process = None
            asyncio._set_running_loop(None)

    def bury(self, process: Process) -> None:
        """End what is left of a process, without any of it being able to do anything more."""
        self.closing = True
        asyncio._set_running_loop(self)
        try:
            for task, context in process.tasks:  # what is closed may begin something
                if not task.done():
                    _close(task.get_coro(), context)
                    task.cancel()  # so that what it waited for lets go of it
        finally:
            asyncio._set_running_loop(None)
            process.tasks.clear()
            process.parked.clear()
            self.closing = False

    def forget(self) -> None:
        """Let go of all that has not happened."""
        self._ready.clear()
        self._timers.clear()
        self.process = None


def _close(coroutine: Any, context: Context) -> None:
    for _ in range(8):  # a coroutine may wait once more while it is being closed
        try:
            context.run(coroutine.close)
        except BaseException:  # whatever it has to say, it is dead
            continue
        return
