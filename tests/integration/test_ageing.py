"""How long entries are kept, and who is told before an open run loses its first ones."""

from __future__ import annotations

import time

import pytest

from shanty_cli.ageing import ages
from shanty_cli.dev_bus import Found
from shanty_cli.exits import UsageError
from shanty_cli.init_bus import init_bus
from shanty_cli.output import Output
from shanty_cli.sickness import Check, streams_of
from shanty_protocol import Brief, DelegationSent, EntryAddress, ThreadOpened
from shanty_protocol.ids import LOG
from shanty_protocol.streams import DAY_S, MEMORY_STREAM, entry_stream, file_stream, timer_stream
from shanty_runtime.bus import Bus, EmbeddedServer
from shanty_runtime.bus.jetstream import manage
from support.filling import fill, run_ids


async def begin(bus: Bus, run: str) -> None:
    order = EntryAddress("lead", run, "request-1", "cli", 0)
    brief = Brief(objective="wait for a person")
    await bus.journals.append(order, DelegationSent(at_ms=1, to_thread="0", brief=brief))
    await bus.journals.append(
        EntryAddress(LOG, run, "0", "lead", 0), ThreadOpened(at_ms=1, consumed=(order.subject,))
    )


async def checked(bus: Bus, in_days: float) -> Check:
    streams = await streams_of(bus, ("0",))
    found = await ages(bus, ("0",), streams, time.time() + in_days * DAY_S)
    assert found is not None
    return found


async def test_an_open_run_is_named_before_its_first_entries_are_dropped(bus: Bus, server: EmbeddedServer) -> None:
    await fill(server.url, run_ids(3))
    await begin(bus, "0-open")
    assert (await checked(bus, 71)).state == "ok"
    near = await checked(bus, 80)
    assert near.state == "bad" and near.found == "run 0-open is open, and its first entries are dropped in 10.0 days"
    await begin(bus, "0-another")
    assert "1 other run" in (await checked(bus, 80)).found


async def test_runs_that_have_ended_may_grow_as_old_as_they_like(bus: Bus, server: EmbeddedServer) -> None:
    await fill(server.url, run_ids(100))
    assert (await checked(bus, 89)).state == "ok"


async def test_how_long_entries_are_kept_can_be_chosen_and_what_belongs_to_no_run_stays(
    bus: Bus, server: EmbeddedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    async def days_of(stream: str) -> float:
        config = (await manage(bus.connection, f"STREAM.INFO.{stream}"))["config"]
        return float(config["max_age"] / 10**9 / DAY_S)

    of_runs = (entry_stream("0"), timer_stream("0"), file_stream("0"))
    found = Found(nats_url=server.url, monitor_url=server.monitor_url, ours=False)

    async def init(keep_days: int | None) -> None:
        await init_bus(found, None, ("lead",), "", ("0",), None, Output("text"), keep_days=keep_days)

    assert {await days_of(stream) for stream in of_runs} == {90}
    await init(180)
    assert {await days_of(stream) for stream in of_runs} == {180} and await days_of(MEMORY_STREAM) == 0
    await init(None)
    assert {await days_of(stream) for stream in of_runs} == {180}, "what operators have chosen stays"
    await begin(bus, "0-open")
    assert (await checked(bus, 80)).state == "ok" and (await checked(bus, 150)).state == "bad"
    with pytest.raises(UsageError, match="--keep-days"):
        await init(0)
    capsys.readouterr()
