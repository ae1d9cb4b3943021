"""Specialists that die or are not there: what the lead is told, what is done later, and what people can do then."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from pathlib import Path

import pytest

import shanty_protocol
from shanty_cli.letters import drop, letters, retry, shown
from shanty_protocol import (
    PROTOCOL_VERSION,
    Brief,
    DelegationSent,
    EntryAddress,
    MessageSent,
    ModelReplied,
    ThreadFailed,
    ThreadReplied,
    ToolReturned,
    headers,
)
from shanty_runtime.bus.jetstream import manage
from support.commands import Done, Shanty
from support.crew import Crew, crew, until

SEEDS = range(20)


async def shanty(running: Crew, *arguments: str) -> Done:
    command = (*arguments, "--nats-url", running.server.url, "-o", "json")
    return await asyncio.to_thread(Shanty(running.folder), *command)


async def replies_of(running: Crew, run: str, thread: str) -> list[ThreadReplied]:
    stored = [one for one in await running.entries(run) if one.address.thread == thread]
    return [one.entry for one in stored if isinstance(one.entry, ThreadReplied)]


@pytest.mark.slow
async def test_a_thread_that_was_given_up_goes_on_where_it_was_once_somebody_has_mended_what_killed_it(
    tmp_path: Path,
) -> None:
    async with crew("trouble", tmp_path, {"lead": 1, "bomber": 1}, {"LEDGER_FILE": ""}) as running:
        await running.start("0-r", "bomber")
        bomber = running.replicas[-1]
        for _ in range(3):

            async def died() -> bool:
                return bomber.process.poll() is not None

            await until(died, 90, "the bomber dies")
            bomber.respawn()
        outcome = await running.reply("0-r")
        assert outcome.result is not None and outcome.result["bomber"][0] == "failed"
        (letter,) = (await shanty(running, "dead", "ls")).json
        assert (letter["run"], letter["agent"], letter["thread"], letter["code"], letter["fate"]) == (
            "0-r",
            "bomber",
            "0-1",
            "crash_loop",
            "open",
        )
        shown = (await shanty(running, "dead", "show", letter["letter"])).json
        assert shown["letter"] == letter
        assert [one["entry"]["kind"] for one in shown["journal"]][-2:] == ["thread.failed", "thread.replied"]

        bomber.kill()
        running.replicas.remove(bomber)
        running.add("bomber", DEFUSED="1")
        retried = (await shanty(running, "dead", "retry", letter["letter"], "--wait", "60")).json
        assert (retried["thread"], retried["read_by"]) == ("0-1", "bomber-2")

        async def answered() -> bool:
            return len(await replies_of(running, "0-r", "0-1")) == 2

        await until(answered, 60, "the thread replies")
        told, went_on = await replies_of(running, "0-r", "0-1")
        assert (told.outcome.code, told.to_thread) == ("crash_loop", "0")
        assert (went_on.outcome.status, went_on.outcome.summary) == ("ok", "defused after 1 requests to go on")
        assert went_on.answers == retried["said"] and went_on.to_thread.startswith("letter-")
        stored = await running.entries("0-r")
        assert sum(isinstance(one.entry, ThreadFailed) for one in stored) == 1
        assert (await shanty(running, "dead", "ls")).json == []
        again = await shanty(running, "dead", "drop", letter["letter"])
        assert again.code == 2 and "was retried already" in again.err


async def test_what_a_specialist_that_was_not_there_is_still_wanted_for_it_does_when_it_comes_back(
    tmp_path: Path,
) -> None:
    async with crew("trouble", tmp_path, {"lead": 1}, {"LEDGER_FILE": ""}) as running:
        await running.start("0-gone", "nobody within 2")
        await running.start("0-patient", "patient nobody within 2")
        outcome = await running.reply("0-gone")
        assert outcome.result is not None and outcome.result["nobody"][0] == "unreachable"

        async def asked_again() -> bool:
            return any(isinstance(one.entry, MessageSent) for one in await running.entries("0-patient"))

        await until(asked_again, 30, "the patient lead asks again")
        # Each lead was woken by its goal and by its deadline, and by nothing in between.
        for consumer in ("SHANTY_0.mail-lead", "SHANTY_TIMERS_0.timers-lead"):
            found = await manage(running.bus.connection, f"CONSUMER.INFO.{consumer}")
            assert found["delivered"]["consumer_seq"] == 2, consumer

        running.add("nobody")
        outcome = await running.reply("0-patient", within_s=90)
        assert outcome.result == {"nobody": ["ok", "I am here after all"]}

        async def stopped() -> bool:
            return len(await replies_of(running, "0-gone", "0-1")) == 1

        await until(stopped, 30, "the thread nobody waits for replies")
        (reply,) = await replies_of(running, "0-gone", "0-1")
        assert reply.outcome.status == "cancelled"
        assert not any(isinstance(entry, ModelReplied) for entry in await running.journal("0-gone", "0-1", "nobody"))
        assert len(await replies_of(running, "0-patient", "0-1")) == 1


def older_version(folder: Path) -> str:
    """A path of modules among which the protocol does not know delegations."""
    package = folder / "older" / "shanty_protocol"
    shutil.copytree(Path(shanty_protocol.__file__).parent, package)
    entries = package / "entries.py"
    known = entries.read_text()
    assert known.count('"delegation.sent"') == 1
    entries.write_text(known.replace('"delegation.sent"', '"work.ordered"'))
    return os.pathsep.join((str(package.parent), os.environ.get("PYTHONPATH", "")))


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_mail_that_an_older_version_could_not_read_is_done_once_by_this_one_whoever_is_killed(
    tmp_path: Path,
) -> None:
    environment = {"GATES_FOLDER": str(tmp_path), "SHANTY_REHEARSAL_PACE_S": "0.1"}
    async with crew("slowly", tmp_path, {}, environment) as running:
        old = running.add("slow", PYTHONPATH=older_version(tmp_path))
        await running.ready()
        for seed in SEEDS:
            (tmp_path / f"gate-{seed}").touch()
            order = DelegationSent(at_ms=1, to_thread="0-1", brief=Brief(objective=f"ring gate-{seed}"))
            await running.bus.journals.append(EntryAddress("slow", f"0-seed-{seed}", "0", "lead", 0), order)

        async def all_rejected() -> bool:
            return len(await letters(running.bus, ["0"])) == len(SEEDS)

        await until(all_rejected, 90, "the older version has put every delegation away")
        assert old.stop() == 0
        running.replicas.remove(old)
        for _ in range(2):
            running.add("slow")
        await running.ready()
        for seed, found in enumerate(await letters(running.bus, ["0"])):
            assert found.letter.code == "unknown_kind"
            killing = asyncio.create_task(running.kill_one(random.Random(seed), 0.6))
            done = await retry(running.bus, found, "ann", wait_s=60)
            assert (done.thread, done.read_at_entry, done.rejected) == ("0-1", 0, "")

            async def answered(run: str = found.letter.run) -> bool:
                return bool(await replies_of(running, run, "0-1"))

            await until(answered, 60, "the thread replies")
            await killing
        assert await letters(running.bus, ["0"]) == []
        for seed in SEEDS:
            (reply,) = await replies_of(running, f"0-seed-{seed}", "0-1")
            assert (reply.outcome.status, reply.outcome.summary) == ("ok", "done")
            journal = await running.journal(f"0-seed-{seed}", "0-1", "slow")
            (rang,) = [entry for entry in journal if isinstance(entry, ToolReturned)]
            assert rang.status in ("ok", "unknown")
        rings = [line.split()[0] for line in (tmp_path / "ledger.txt").read_text().splitlines() if "began" in line]
        assert len(rings) == len(set(rings)), "an effect was repeated"


@pytest.mark.slow
async def test_in_zones_people_retry_and_drop_letters_and_a_specialist_reads_the_mail_again(tmp_path: Path) -> None:
    async with crew("slowly", tmp_path, {"slow": 1}, {"GATES_FOLDER": str(tmp_path)}, zones=True) as running:
        assert running.logins is not None
        newer = {headers.VERSION: str(PROTOCOL_VERSION + 1)}
        order = DelegationSent(at_ms=1, to_thread="0-1", brief=Brief(objective="nothing to do"))
        async with running.logins.bus(running.server.url, "lead") as lead:
            await lead.journals.append(EntryAddress("slow", "0-r", "0", "lead", 0), order, newer)

        async def rejected() -> bool:
            return bool(await letters(running.bus, ["0"]))

        await until(rejected, 60, "the mail is put away")
        (first,) = await letters(running.bus, ["0"])
        again = await retry(running.bus, first, "ann", wait_s=60)
        assert again.rejected.startswith("unsupported_version")
        (second,) = await letters(running.bus, ["0"])
        assert '"nothing to do"' in (await shown(running.bus, second)).content
        await drop(running.bus, second, "ann", "it is of the future")
        assert await letters(running.bus, ["0"]) == []
