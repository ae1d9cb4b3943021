"""The release before this one and this one, side by side on one bus, as they are while an upgrade rolls."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from shanty_protocol import (
    Brief,
    DelegationSent,
    EntryAddress,
    MessageSent,
    ModelReplied,
    ThreadOpened,
    ThreadReplied,
    ThreadTakenOver,
)
from shanty_runtime.bus.wire import Incoming
from shanty_runtime.errors import BusUnavailable
from support.audit import audit
from support.crew import Crew, Replica, crew, until

PREVIOUS = "0.1.0"
WHEELS = Path(__file__).parent.parent / "releases" / PREVIOUS
RUN = "0-r"
DEADLINE_S = 90


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Settings that make a service run the code of the previous release."""
    return {"PYTHONPATH": str(unpacked(tmp_path_factory.mktemp("previous")))}


def unpacked(folder: Path) -> Path:
    wheels = sorted(WHEELS.glob("*.whl"))
    assert [wheel.name.split("-")[0] for wheel in wheels] == [
        f"shanty_{member}" for member in ("lead", "protocol", "runtime", "specialist")
    ]
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    return folder


async def versions(running: Crew) -> dict[str, str]:
    """Which version each replica says that it is."""
    found: dict[str, str] = {}

    def hear(answer: Incoming) -> bool:
        said = json.loads(answer.data)
        found[said["metadata"]["replica"]] = said["version"]
        return len(found) == len(running.replicas)

    async def all_answered() -> bool:
        try:
            await running.bus.connection.converse("$SRV.PING", b"", hear, timeout_s=5)
        except BusUnavailable:
            return False
        return True

    await until(all_answered, DEADLINE_S, "every replica says its version")
    return found


async def written_by(running: Crew, replica: Replica) -> None:
    """Return when a model's reply by this replica is in the run's journals."""
    async with asyncio.timeout(DEADLINE_S):
        async for stored in running.bus.feed.follow(RUN):
            if isinstance(stored.entry, ModelReplied) and stored.entry.by == replica.name:
                return


@pytest.mark.parametrize("first", ["previous", "this"])
async def test_a_thread_that_one_version_begins_the_other_ends(
    tmp_path: Path, previous: Mapping[str, str], first: str
) -> None:
    environment = {
        "LEDGER_FILE": str(tmp_path / "ledger.txt"),
        "MODEL_CALLS_FILE": str(tmp_path / "model-calls.txt"),
        "SHANTY_REHEARSAL_PACE_S": "0.1",
    }
    begins, ends = (previous, {}) if first == "previous" else ({}, previous)
    async with crew("ledger", tmp_path, {}, environment) as running:
        lead = running.add("lead", **begins)
        # Slow enough to be killed in the middle of its turn.
        clerk = running.add("clerk", SHANTY_REHEARSAL_PACE_S="0.5", **begins)
        counter = running.add("counter", **ends)
        await running.ready()
        said = await versions(running)
        previous_ones = {replica for replica, version in said.items() if version == PREVIOUS}
        assert previous_ones == ({lead.name, clerk.name} if first == "previous" else {counter.name})
        await running.start(RUN, objective=RUN)
        await asyncio.gather(written_by(running, lead), written_by(running, clerk))
        for killed in (lead, clerk):
            killed.kill()
            running.replicas.remove(killed)
            running.add(killed.agent, **ends)
        outcome = await running.reply(RUN, DEADLINE_S)
        await audit(running, RUN, outcome, tmp_path / "ledger.txt", tmp_path / "model-calls.txt")
        for agent, thread in (("lead", "0"), ("clerk", "0-1")):
            entries = await running.journal(RUN, thread, agent)
            assert {entry.by for entry in entries} == {f"{agent}-1", f"{agent}-2"}
        clerks = await running.journal(RUN, "0-1", "clerk")
        (taken_over,) = [entry for entry in clerks if isinstance(entry, ThreadTakenOver)]
        assert taken_over.by == "clerk-2"


async def test_a_replica_that_does_not_know_a_kind_of_entry_leaves_its_thread_to_one_that_does(
    tmp_path: Path, previous: Mapping[str, str]
) -> None:
    """The previous release is made to know one kind less, so that this one has a kind that it does not know."""
    older = tmp_path / "older"
    shutil.copytree(previous["PYTHONPATH"], older)
    entries_py = older / "shanty_protocol" / "entries.py"
    known = entries_py.read_text()
    assert known.count('"thread.taken_over"') == 1
    entries_py.write_text(known.replace('"thread.taken_over"', '"thread.snatched"'))
    environment = {"GATES_FOLDER": str(tmp_path), "SHANTY_LEASE_S": "15"}
    async with crew("slowly", tmp_path, {}, environment, ack_wait_s=60) as running:
        journals, at_ms = running.bus.journals, int(time.time() * 1000)
        order = EntryAddress("slow", RUN, "0", "lead", 0)
        await journals.append(
            order, DelegationSent(at_ms=at_ms, to_thread="0-1", brief=Brief(objective="nothing to do"))
        )
        opened = ThreadOpened(at_ms=at_ms, by="ghost", consumed=(order.subject,))
        await journals.append(EntryAddress("log", RUN, "0-1", "slow", 0), opened)
        await journals.append(EntryAddress("log", RUN, "0-1", "slow", 1), ThreadTakenOver(at_ms=at_ms, by="ghost"))

        old = running.add("slow", PYTHONPATH=str(older))
        await running.ready()

        async def left_alone() -> bool:
            return "does not know: thread.taken_over" in old.log.read_text()

        await until(left_alone, DEADLINE_S, "the replica that does not know the kind says so")
        assert len(await running.journal(RUN, "0-1", "slow")) == 2
        assert not [stored for stored in await running.entries(RUN) if stored.address.to == "dead"]
        # What it put back comes again in half a minute. Other mail for the thread wakes it sooner.
        assert old.stop() == 0
        running.replicas.remove(old)
        new = running.add("slow")
        more = MessageSent(
            at_ms=at_ms, to_thread="0-1", after=order.subject, purpose="follow_up", text="and hand it in"
        )
        await journals.append(EntryAddress("slow", RUN, "0", "lead", 1), more)
        async with asyncio.timeout(DEADLINE_S):
            async for stored in running.bus.feed.follow(RUN):
                if isinstance(stored.entry, ThreadReplied):
                    break
        entries = await running.journal(RUN, "0-1", "slow")
        assert [entry.by for entry in entries] == ["ghost", "ghost", *[new.name] * (len(entries) - 2)]
        assert sum(isinstance(entry, ThreadTakenOver) for entry in entries) == 1, "leaving it is not a death"
