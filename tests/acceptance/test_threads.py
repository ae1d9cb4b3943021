from __future__ import annotations

from pathlib import Path

import nats
import pytest

from shanty_protocol import (
    Brief,
    DelegationSent,
    EntryAddress,
    MailRejected,
    ModelReplied,
    ThreadReplied,
)
from support.audit import audit
from support.crew import crew


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"LEDGER_FILE": str(tmp_path / "ledger.txt"), "MODEL_CALLS_FILE": str(tmp_path / "model-calls.txt")}


async def test_a_follow_up_is_answered_by_another_replica_with_the_context_of_the_first_turn(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    async with crew("ledger", tmp_path, {"lead": 1, "clerk": 1, "counter": 1}, environment) as running:
        first = next(each for each in running.replicas if each.agent == "clerk")
        # Slow enough for the first replica to be gone before the lead has read its reply and written again.
        lead = next(each for each in running.replicas if each.agent == "lead")
        lead.kill()
        lead.environment = {**lead.environment, "SHANTY_REHEARSAL_PACE_S": "1"}
        lead.respawn()
        await running.start("0-r")
        async for stored in running.bus.feed.follow("0-r"):
            if stored.address.agent == "clerk" and isinstance(stored.entry, ThreadReplied):
                break
        first.kill()
        second = running.add("clerk")
        outcome = await running.reply("0-r")
        assert outcome.summary == "booked 29; counted 16"
        entries = await running.journal("0-r", "0-1", "clerk")
        first_turn_ends = next(n for n, entry in enumerate(entries) if isinstance(entry, ThreadReplied)) + 1
        before, after = entries[:first_turn_ends], entries[first_turn_ends:]
        assert {entry.by for entry in before} == {first.name}
        assert {entry.by for entry in after} == {second.name}
        # What was booked in the first turn is not booked again: the second replica knew it.
        booked = [block["input"] for entry in after if isinstance(entry, ModelReplied) for block in entry.blocks]
        assert {"amount": 13} in booked and {"amount": 3} not in booked


async def test_a_replica_that_is_told_to_stop_hands_back_its_work_and_leaves_without_an_error(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    slow = {**environment, "SHANTY_REHEARSAL_PACE_S": "0.2"}
    async with crew("ledger", tmp_path, {"lead": 1, "clerk": 1, "counter": 1}, slow) as running:
        first = next(each for each in running.replicas if each.agent == "clerk")
        running.add("clerk")
        await running.ready()
        await running.start("0-r", objective="0-r")
        async for stored in running.bus.feed.follow("0-r"):
            if stored.address.agent == "clerk" and isinstance(stored.entry, ModelReplied):
                break
        holder = next(each for each in running.replicas if each.name == stored.entry.by)
        assert holder.stop() == 0
        outcome = await running.reply("0-r")
        await audit(running, "0-r", outcome, tmp_path / "ledger.txt", tmp_path / "model-calls.txt")
        assert holder.name in {first.name, running.replicas[-1].name}


async def test_a_mail_that_cannot_be_processed_ends_in_the_dead_letters_and_the_next_one_is_processed(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    async with crew("ledger", tmp_path, {"lead": 1, "clerk": 1, "counter": 1}, environment) as running:
        hostile_client = await nats.connect(running.server.url)
        for n, hostile in enumerate(
            (b"\xff\xfe", b"[" * 100_000, b'{"kind":"new.thing"}', b'{"kind":"mail.received"}')
        ):
            await hostile_client.jetstream().publish(f"shanty.0.clerk.0-r.0.mallory.{n}", hostile)
        await hostile_client.close()
        order = DelegationSent(at_ms=1, to_thread="0-1", brief=Brief(objective="forged"))
        await running.bus.journals.append(EntryAddress("clerk", "0-r", "0-7", "mallory", 0), order)
        await running.start("0-r", objective="0-r")
        outcome = await running.reply("0-r")
        assert outcome.summary == "booked 29; counted 16"
        dead = [one.entry for one in await running.entries("0-r") if one.address.to == "dead"]
        codes = sorted(entry.code for entry in dead if isinstance(entry, MailRejected))
        assert codes == ["invalid_message"] * 3 + ["unknown_kind"] + ["wrong_recipient"]
