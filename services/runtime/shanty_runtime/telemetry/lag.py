"""How late the event loop is: everything a process has promised (leases, acks, probes) waits for it."""

from __future__ import annotations

import asyncio

from shanty_runtime.telemetry import metrics

INTERVAL_S = 0.5


async def watch_event_loop() -> None:
    """Until cancelled: ask to be woken at a time, and note how much later that was. The first time is at once."""
    loop = asyncio.get_running_loop()
    pause_s = 0.0
    while True:
        due_s = loop.time() + pause_s
        await asyncio.sleep(pause_s)
        metrics.event_loop_late(max(0.0, loop.time() - due_s))
        pause_s = INTERVAL_S
