"""Whether something has come, for one who does something else meanwhile. Waiting for it takes no task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class News:
    def __init__(self) -> None:
        self.come = False
        """Since `clear`."""
        self.tell: Callable[[], None] | None = None
        """Called at once with every news."""
        self._arrival: asyncio.Future[None] | None = None

    def put(self) -> None:
        self.come = True
        if self.tell is not None:
            self.tell()
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def clear(self) -> None:
        self.come = False

    def arrival(self) -> asyncio.Future[None]:
        """Done once there is news; for any number of waits."""
        if self._arrival is None or (self._arrival.done() and not self.come):
            self._arrival = asyncio.get_running_loop().create_future()
        if self.come and not self._arrival.done():
            self._arrival.set_result(None)
        return self._arrival
