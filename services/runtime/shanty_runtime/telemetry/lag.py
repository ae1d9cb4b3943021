"""How late the event loop is: everything a process has promised (leases, acks, probes) waits for it."""

from __future__ import annotations

import asyncio

from shanty_runtime.telemetry import metrics

INTERVAL_S = 0.5


async def watch_event_loop() -> None:
    """Until cancelled: ask to be woken at a time, and note how much later that was."""
    loop = asyncio.get_running_loop()
    while True:
        due_s = loop.time() + INTERVAL_S
        await asyncio.sleep(INTERVAL_S)
        metrics.event_loop_late(max(0.0, loop.time() - due_s))
