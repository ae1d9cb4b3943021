"""Delegations to a code-backed specialist: the requester keeps a journal, and so does the specialist.

The specialist is the real service in a process of its own. The requester writes each delegation into its own
journal, and pulls, checks and acks the reply, as any service that speaks the protocol does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from shanty_protocol import Brief, DelegationSent, EntryAddress, ThreadReplied
from shanty_protocol.ids import ROOT_THREAD, child_thread
from shanty_protocol.subjects import parse_entry
from shanty_runtime.bus import Bus, BusSettings, EmbeddedServer, Pull, Stored, create_layout, written

TEAM = Path(__file__).parent / "team"
LEAD, SPECIALIST = "lead", "echo"
TEXT = "x" * 1024
LANES = ("0", "1", "2", "3")
IN_HAND = 512
READY_WITHIN_S = 60.0


class Requester:
    """Plays the lead: it delegates, and takes replies in."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: dict[tuple[str, str], asyncio.Future[None]] = {}
        self._chained: dict[str, str] = {}
        """What the next entry of each journal is chained to."""
        self._taking: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        for lane in LANES:
            pull = await self._bus.pull(lane, LEAD, "mail", IN_HAND)
            self._taking.append(asyncio.create_task(self._take(pull)))

    async def stop(self) -> None:
        for task in self._taking:
            task.cancel()
        await asyncio.gather(*self._taking, return_exceptions=True)

    async def _take(self, pull: Pull) -> None:
        async for delivery in pull:
            stored = Stored(parse_entry(delivery.subject), delivery.seq, delivery.data, delivery.headers)
            entry = stored.entry
            assert isinstance(entry, ThreadReplied) and entry.outcome.status == "ok", entry
            assert entry.outcome.result == {"text": TEXT}
            self._waiting.pop((stored.address.run, stored.address.thread)).set_result(None)
            await delivery.ack()

    async def delegate(self, conversation: str, number: int) -> None:
        await self._delegate(f"0-{conversation}", number)

    async def delegate_over_lanes(self, conversation: str, number: int) -> None:
        """The same, with each conversation in one of all lanes."""
        await self._delegate(f"{LANES[sum(conversation.encode()) % len(LANES)]}-{conversation}", number)

    async def _delegate(self, run: str, number: int) -> None:
        thread = child_thread(ROOT_THREAD, number + 1)
        answered = self._waiting[run, thread] = asyncio.get_running_loop().create_future()
        order = DelegationSent(
            at_ms=int(time.time() * 1000),
            by="bench",
            to_thread=thread,
            brief=Brief(objective="Give it back", input={"text": TEXT}),
        )
        address = EntryAddress(SPECIALIST, run, ROOT_THREAD, LEAD, number)
        entry = written(address, order, self._chained.get(run, ""))
        self._chained[run] = entry.own
        placed = await self._bus.journals.place(entry)
        assert placed.ours, "each conversation is held once"
        await answered


def start_specialist(url: str) -> subprocess.Popen[bytes]:
    settings = {
        "SHANTY_NATS_URL": url,
        "SHANTY_TEAM": str(TEAM),
        "SHANTY_AGENT": SPECIALIST,
        "SHANTY_MODEL": "rehearsal",
        "SHANTY_LANES": ",".join(LANES),
        "SHANTY_CONCURRENCY": "256",
        "SHANTY_HTTP_PORT": "0",
        "SHANTY_LOG_LEVEL": "error",
    }
    return subprocess.Popen([sys.executable, "-m", "shanty_specialist"], env={**os.environ, **settings})


@contextlib.asynccontextmanager
async def requester(server: EmbeddedServer) -> AsyncIterator[tuple[Requester, Bus, int]]:
    """A requester, its bus, and the process of a specialist that is ready."""
    async with Bus(BusSettings(url=server.url, name="bench")) as bus:
        await create_layout(bus, lanes=LANES, agents=(LEAD, SPECIALIST), max_bytes=2**30)
        specialist = start_specialist(server.url)
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                while not await bus.roster.cards():
                    assert specialist.poll() is None, "the specialist ended at once"
                    await asyncio.sleep(0.02)
            side = Requester(bus)
            await side.start()
            yield side, bus, specialist.pid
            await side.stop()
        finally:
            specialist.kill()
            specialist.wait()
