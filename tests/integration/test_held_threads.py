"""Before a model is asked, whoever has a thread has read all of its journal, or writes to it first."""

from __future__ import annotations

import pytest

from shanty_protocol import EntryAddress, MailReceived, ThreadOpened
from shanty_protocol.ids import LOG
from shanty_runtime.bus import Bus, EmbeddedServer, Lease
from shanty_runtime.errors import Fenced
from shanty_runtime.testing import until
from shanty_runtime.worker.held import HeldThread
from shanty_runtime.worker.workplace import Workplace
from support.player import RUN, SPECIALIST

THREAD = "0-1"


def place(n: int) -> EntryAddress:
    return EntryAddress(LOG, RUN, THREAD, SPECIALIST.agent, n)


@pytest.fixture
async def held(bus: Bus) -> HeldThread:
    """A thread with one entry, by somebody of whom the bus knows nothing."""
    workplace = Workplace(bus, SPECIALIST, "worker-2", lambda stored: None)
    await bus.journals.append(place(0), ThreadOpened(at_ms=1, by="worker-1"))
    return await taken(workplace)


async def taken(workplace: Workplace) -> HeldThread:
    lease = await workplace.bus.leases.take(workplace.name_of(RUN, THREAD), workplace.replica)
    assert isinstance(lease, Lease)
    return HeldThread(workplace, lease, (await workplace.load(RUN, THREAD)).state, {})


def lease_of(held: HeldThread) -> Lease:
    assert held.lease is not None
    return held.lease


async def grow_old(lease: Lease) -> None:
    await until(lambda: not lease.may_be_one_of_two)


async def test_on_a_new_connection_another_may_have_the_thread_too(held: HeldThread) -> None:
    assert not await held.has_read_all()


async def test_on_one_that_is_older_than_a_lease_nobody_else_has_it(held: HeldThread) -> None:
    await grow_old(lease_of(held))
    assert await held.has_read_all()


async def test_what_a_server_that_lags_has_not_shown_is_found(held: HeldThread, bus: Bus) -> None:
    await grow_old(lease_of(held))
    await bus.journals.append(place(1), MailReceived(at_ms=2, by="worker-1"))
    with pytest.raises(Fenced, match="not all of it"):
        await held.has_read_all()


async def test_after_a_lost_connection_another_may_have_it_again(held: HeldThread, server: EmbeddedServer) -> None:
    await grow_old(lease_of(held))
    await server.restart()
    await until(lambda: lease_of(held).may_be_one_of_two)
    assert not await held.has_read_all()


async def given_back_and_taken_again(held: HeldThread) -> HeldThread:
    lease_of(held).traced = True  # as by whoever has written to its journal
    await held.release()
    return await taken(held.workplace)


async def test_nobody_is_asked_where_the_last_holder_has_said_how_long_the_journal_is(held: HeldThread) -> None:
    assert await (await given_back_and_taken_again(held)).has_read_all()


async def test_a_journal_that_is_longer_than_he_has_said_was_gone_on_with_by_another(
    held: HeldThread, bus: Bus
) -> None:
    await bus.journals.append(place(1), MailReceived(at_ms=2, by="worker-3"))
    assert not await (await given_back_and_taken_again(held)).has_read_all()
