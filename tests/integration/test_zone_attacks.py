"""What a specialist tries whose code or key is in the wrong hands: everybody else's streams, consumers and ears stay
as they are.

Each attack is made by each of two specialists, once under the configuration as it is generated, and once with nothing
but the accounts in their way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from shanty_cli.lookup import newest_runs, view_of
from shanty_protocol import (
    Brief,
    DelegationSent,
    Entry,
    EntryAddress,
    LiveAddress,
    Outcome,
    StepStarted,
    ThreadOpened,
    ThreadReplied,
)
from shanty_protocol.codec import encode
from shanty_protocol.ids import LOG
from shanty_protocol.zones import Access, inbox_of, zones_of
from shanty_runtime.bus import Bus, Busy, EmbeddedServer, Lease, create_layout
from shanty_runtime.bus.connection import NO_RESPONDERS, Listening
from shanty_runtime.bus.jetstream import EXPECT_SEQ, Taken, get, get_batch, manage, publish
from shanty_runtime.errors import BusError
from support.patterns import matches
from support.zones import WITNESS, Logins

pytestmark = pytest.mark.asyncio(loop_scope="module")

ZONES = zones_of("crew", "lead", {"logs": Access(), "notes": Access(memory="write")})
ATTACKERS = (("logs", "notes"), ("notes", "logs"))
"""Each with one of those it is after; the lead and the operators are the others."""
STREAMS = ("SHANTY_0", "SHANTY_TIMERS_0", "SHANTY_FILES_0", "SHANTY_MEMORY", "KV_SHANTY_LEASE", "KV_SHANTY_ROSTER")
AGENTS = ("lead", "logs", "notes")
NEW = {EXPECT_SEQ: "0"}
PULL = msgspec.json.encode({"batch": 1, "expires": 10**8})

Facts = dict[str, Any]


class Stage:
    """One server for all of it. Each attack is made in a run of its own, in which the lead has asked everybody."""

    def __init__(self, buses: Mapping[str, Bus]) -> None:
        self.buses = buses
        self.heard: list[tuple[str, str, bytes]] = []
        self._runs = 0

    def connection(self, principal: str) -> Any:
        return self.buses[principal].connection

    async def listen(self) -> None:
        """Everybody hears what its zone lets it hear, and notes what comes."""
        for principal in (*AGENTS, "operators", "gateway", "console"):
            for grant in next(zone for zone in ZONES.all if zone.principal == principal).grants:
                if grant.verb == "subscribe":
                    await self._note(principal, grant.subject)
            await self._note(principal, f"{inbox_of(principal)}.>")

    async def _note(self, principal: str, subject: str) -> None:
        connection = self.connection(principal)

        def note(message: Any) -> None:
            if not message.subject.startswith(connection._answers):
                self.heard.append((principal, message.subject, message.data))
            elif message.status == NO_RESPONDERS:
                # The server says so once, to whichever subscription it finds first.
                connection._on_answer(message)

        await connection.listen(subject, note)

    async def run(self) -> str:
        """A run the lead has begun, with a delegation to each specialist."""
        self._runs += 1
        run = f"0-r{self._runs}"
        order = DelegationSent(at_ms=1, to_thread="0", brief=Brief(objective="go"))
        await self.buses["operators"].journals.append(EntryAddress("lead", run, "request", "cli", 0), order)
        lead = self.buses["lead"].journals
        await lead.append(EntryAddress(LOG, run, "0", "lead", 0), ThreadOpened(at_ms=2))
        for place, agent in enumerate(("logs", "notes"), 1):
            sent = DelegationSent(at_ms=3, to_thread=f"0-{place}", brief=Brief(objective=f"secret of {agent}"))
            await lead.append(EntryAddress(agent, run, "0", "lead", place), sent)
        return run

    async def facts(self, attacker: str) -> Facts:
        """All that is stored and was not written under the attacker's own name, and where others' consumers are."""
        witness = self.connection(WITNESS)
        found: Facts = {}
        for stream in STREAMS:
            messages, more = await get_batch(witness, stream, ">", max_messages=2_000)
            assert not more
            found[stream] = [
                (each.subject, each.seq, each.data) for each in messages if not owns(attacker, each.subject)
            ]
        for agent in AGENTS:
            if agent != attacker:
                for consumer in (f"SHANTY_0.mail-{agent}", f"SHANTY_TIMERS_0.timers-{agent}"):
                    info = await manage(witness, f"CONSUMER.INFO.{consumer}")
                    found[consumer] = (
                        info["delivered"]["consumer_seq"],
                        info["ack_floor"],
                        info["num_ack_pending"],
                        info["num_redelivered"],
                        # What the attacker may send to the lead is pending there.
                        info["num_pending"] if agent != "lead" else "",
                    )
        found["streams"] = (await manage(witness, "INFO"))["streams"]
        found["consumers"] = (await manage(witness, "INFO"))["consumers"]
        return found

    @asynccontextmanager
    async def without_effect(self, attacker: str, *, stored_too: bool = True) -> AsyncIterator[None]:
        before = await self.facts(attacker)
        self.heard.clear()
        yield
        await self.settle(attacker)
        after = await self.facts(attacker)
        if stored_too:
            assert after == before, f"{attacker} changed something"
        others = [each for each in self.heard if each[0] != attacker and not _from(attacker, each[1])]
        assert others == [], f"{attacker} was heard"

    async def settle(self, attacker: str) -> None:
        """Until the server has done what was asked of it: requests of one kind are answered in their order."""
        own, name = self.connection(attacker), attacker
        with suppress(BusError):
            await get(own, "SHANTY_0", f"shanty.0.log.0-none.0.{name}.0")
        await manage(own, f"CONSUMER.INFO.SHANTY_0.mail-{name}")
        await self.flush()

    async def flush(self) -> None:
        await asyncio.gather(*(bus.connection.flush() for bus in self.buses.values()))


def owns(agent: str, subject: str) -> bool:
    """Whether this is the agent's to write."""
    zone = next(zone for zone in ZONES.guests if zone.principal == agent)
    return any(grant.verb == "publish" and matches(grant.subject, subject) for grant in zone.grants)


def _from(agent: str, subject: str) -> bool:
    """Whether somebody heard this as the agent's own word: an entry it wrote, or a live event of its own."""
    return owns(agent, subject.replace("shanty.feed.", "shanty.", 1)) or owns(agent, subject)


@pytest.fixture(scope="module", params=["as it is generated", "by accounts alone"], autouse=True)
def generated(request: pytest.FixtureRequest) -> Iterator[bool]:
    logging.getLogger("shanty.bus").setLevel(logging.CRITICAL)  # denials are what this is about
    yield request.param == "as it is generated"
    logging.getLogger("shanty.bus").setLevel(logging.NOTSET)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(generated: bool, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    folder: Path = tmp_path_factory.mktemp("zones")
    logins = Logins(ZONES, folder / "keys")
    extra = logins.configuration(witness=True, permissions=generated)
    async with EmbeddedServer(store_dir=folder / "nats", extra=extra) as server, AsyncExitStack() as stack:
        buses = {
            principal: await stack.enter_async_context(logins.bus(server.url, principal, request_timeout_s=0.5))
            for principal in (*logins.principals, WITNESS)
        }
        await create_layout(buses["installer"], agents=AGENTS)
        made = Stage(buses)
        await made.listen()
        yield made


async def tried(attempt: Awaitable[object]) -> object:
    """What came of it, or nothing."""
    try:
        return await attempt
    except (BusError, Taken):
        return None


# The twelve


async def test_nobody_decides_for_the_operators(stage: Stage) -> None:
    for attacker, _ in ATTACKERS:
        run = await stage.run()
        async with stage.without_effect(attacker):
            for author in ("operators", "cli", "gateway"):
                subject = f"shanty.0.lead.{run}.request-2.{author}.0"
                assert await tried(publish(stage.connection(attacker), subject, b"yes", NEW)) is None


async def test_nobody_pulls_what_is_for_another(stage: Stage) -> None:
    for attacker, victim in ATTACKERS:
        await stage.run()
        async with stage.without_effect(attacker):
            for agent in (victim, "lead"):
                for consumer in (f"SHANTY_0.mail-{agent}", f"SHANTY_TIMERS_0.timers-{agent}"):
                    pulling = stage.connection(attacker).request(f"$JS.API.CONSUMER.MSG.NEXT.{consumer}", PULL)
                    assert await tried(pulling) is None


async def test_nobody_acks_or_ends_what_another_has_in_hand(stage: Stage) -> None:
    for attacker, victim in ATTACKERS:
        await stage.run()
        pull = await stage.buses[victim].pull("0", victim, "mail", 1)
        in_hand = await pull.next()
        async with stage.without_effect(attacker):
            for verdict in (b"+ACK", b"-NAK", b"+TERM", b"+NXT"):
                await stage.connection(attacker).publish(in_hand.reply, verdict)
        await in_hand.ack()
        await pull.stop()


async def test_nobody_reads_what_is_neither_his_nor_for_him(stage: Stage) -> None:
    for attacker, victim in ATTACKERS:
        run = await stage.run()
        place = {"logs": 1, "notes": 2}[victim]
        own = f"shanty.0.*.*.*.{attacker}.*"
        asked = [
            ("$JS.API.STREAM.MSG.GET.SHANTY_0", {"last_by_subj": "shanty.>"}),
            ("$JS.API.STREAM.MSG.GET.SHANTY_0", {"seq": 1}),
            ("$JS.API.STREAM.MSG.GET.KV_SHANTY_LEASE", {"last_by_subj": "$KV.>"}),
            ("$JS.API.DIRECT.GET.SHANTY_0", {"batch": 100, "seq": 1, "next_by_subj": "shanty.>"}),
            ("$JS.API.DIRECT.GET.SHANTY_0", {"multi_last": ["shanty.>"]}),
            ("$JS.API.DIRECT.GET.SHANTY_TIMERS_0", {"last_by_subj": ">"}),
            (f"$JS.API.DIRECT.GET.SHANTY_0.shanty.0.{victim}.{run}.0.lead.{place}", None),
            (f"$JS.API.DIRECT.GET.SHANTY_0.shanty.0.log.{run}.0.lead.0", None),
            (f"$JS.API.DIRECT.GET.SHANTY_0.shanty.0.*.{run}.0.lead.*", None),
            (f"$JS.API.DIRECT.GET.SHANTY_0.shanty.0.*.*.*.*.{place}", None),
            ("$JS.API.DIRECT.GET.SHANTY_0.shanty.0.>", None),
            ("$JS.API.DIRECT.GET.SHANTY_0.>", None),
            (f"$JS.API.DIRECT.GET.SHANTY_0.shanty.0.>.{attacker}.*", None),
            (f"$JS.API.DIRECT.GET.SHANTY_0.shanty.0.*.*.>.{attacker}.>", None),
            (f"$JS.API.DIRECT.GET.SHANTY_0.shanty.0.>.*.*.{attacker}.*", None),
            (f"$JS.API.DIRECT.GET.SHANTY_0.shanty.>.*.*.*.{attacker}.*", None),
            (f"$JS.API.DIRECT.GET.SHANTY_0.{own}", {"batch": 100, "seq": 1, "next_by_subj": "shanty.>"}),
            (f"$JS.API.DIRECT.GET.SHANTY_0.{own}", {"multi_last": ["shanty.>"]}),
            (f"$JS.API.DIRECT.GET.SHANTY_0.{own}", {"last_by_subj": "shanty.>"}),
            (f"$JS.API.DIRECT.GET.SHANTY_0.{own}", {"seq": 1}),
            (f"$JS.API.CONSUMER.INFO.SHANTY_0.mail-{victim}", None),
            ("$JS.API.STREAM.INFO.SHANTY_0", {"subjects_filter": ">"}),
        ]
        async with stage.without_effect(attacker):
            for subject, request in asked:
                body = b"" if request is None else msgspec.json.encode(request)
                await tried(stage.connection(attacker).converse(subject, body, partial(shows, attacker)))


def shows(attacker: str, answer: Any) -> bool:
    subject = answer.headers.get("Nats-Subject", "")
    own = owns(attacker, subject) or subject.startswith(f"shanty.0.{attacker}.")
    assert subject == "" or own, f"{attacker} was shown {subject}"
    assert subject or b'"error"' in answer.data or not answer.data, f"{attacker} was told {answer.data[:200]}"
    return True


async def test_nobody_makes_streams_or_consumers_of_his_own(stage: Stage) -> None:
    for attacker, victim in ATTACKERS:
        await stage.run()
        stolen = f"shanty.0.{victim}.0-r.0.lead.9"
        consumer = {"durable_name": "mine", "ack_policy": "none", "filter_subject": "shanty.0.>"}
        asked = [
            ("STREAM.CREATE.MINE", {"name": "MINE", "subjects": ["mine"], "republish": {"src": ">", "dest": stolen}}),
            ("STREAM.CREATE.MINE", {"name": "MINE", "sources": [{"name": "SHANTY_0"}]}),
            ("STREAM.UPDATE.SHANTY_0", {"name": "SHANTY_0", "subjects": ["shanty.0.>"]}),
            ("STREAM.PURGE.SHANTY_0", None),
            ("STREAM.DELETE.SHANTY_0", None),
            ("STREAM.MSG.DELETE.SHANTY_0", {"seq": 1}),
            ("CONSUMER.CREATE.SHANTY_0.mine", {"stream_name": "SHANTY_0", "config": consumer}),
            ("CONSUMER.DURABLE.CREATE.SHANTY_0.mine", {"stream_name": "SHANTY_0", "config": consumer}),
            (f"CONSUMER.CREATE.SHANTY_0.mail-{attacker}", {"stream_name": "SHANTY_0", "config": consumer}),
            (f"CONSUMER.DELETE.SHANTY_0.mail-{victim}", None),
            (f"CONSUMER.PAUSE.SHANTY_0.mail-{victim}", {"pause_until": "2099-01-01T00:00:00Z"}),
        ]
        async with stage.without_effect(attacker):
            for call, request in asked:
                assert await tried(manage(stage.connection(attacker), call, request)) is None, call


async def test_what_the_server_answers_to_a_publish_reaches_nobody_else(stage: Stage) -> None:
    await forge_by_reply(stage, lambda run, name: (f"shanty.0.log.{run}.0-9.{name}.0", b"chosen words"))


async def test_what_the_server_delivers_to_a_pull_reaches_nobody_else(stage: Stage) -> None:
    await forge_by_reply(stage, lambda _, name: (f"$JS.API.CONSUMER.MSG.NEXT.SHANTY_0.mail-{name}", PULL))


async def test_what_the_server_reads_out_reaches_nobody_else(stage: Stage) -> None:
    await forge_by_reply(
        stage, lambda run, name: (f"$JS.API.DIRECT.GET.SHANTY_0.shanty.0.{name}.{run}.0.lead.{PLACES[name]}", b"")
    )
    await forge_by_reply(stage, lambda _, name: (f"$JS.API.CONSUMER.INFO.SHANTY_0.mail-{name}", b""))


PLACES = {"logs": 1, "notes": 2}


async def forge_by_reply(stage: Stage, ask: Any) -> None:
    """Have the server answer where only others may write, and where others listen: once for each such place."""
    for attacker, victim in ATTACKERS:
        run = await stage.run()
        targets = [
            f"shanty.0.{victim}.{run}.0.lead.7",
            f"shanty.0.lead.{run}.request-2.operators.0",
            f"shanty.0.log.{run}.0.lead.7",
            "shanty.memory.crew.operators.release.mi.1",
            f"shanty.timer.0.set.lead.{run}.0.due",
            f"shanty.feed.0.{victim}.{run}.0.lead.7",
            f"shanty.live.{run}.0.lead",
            f"$KV.SHANTY_LEASE.{victim}.{run}.0-1",
            "$JS.API.STREAM.PURGE.SHANTY_0",
            f"$JS.ACK.SHANTY_0.mail-{victim}.1.1.1.1.0",
            f"{inbox_of('lead')}.1",
            f"{inbox_of('operators')}.1",
            f"{inbox_of(victim)}.1",
        ]
        async with stage.without_effect(attacker):
            for target in targets:
                subject, data = ask(run, attacker)
                await stage.connection(attacker).publish(subject, data, reply=target)
                await stage.settle(attacker)


async def test_nobody_reaches_the_streams_through_the_api_of_his_own_account(stage: Stage) -> None:
    for attacker, _ in ATTACKERS:
        async with stage.without_effect(attacker):
            for call in ("STREAM.NAMES", "STREAM.LIST", "CONSUMER.NAMES.SHANTY_0", "CONSUMER.LIST.SHANTY_0"):
                told = await tried(manage(stage.connection(attacker), call))
                assert told is None, f"{attacker} is told {told}"


async def test_nobody_hears_the_answers_others_get(stage: Stage) -> None:
    for attacker, victim in ATTACKERS:
        run = await stage.run()
        overheard: list[str] = []
        connection = stage.connection(attacker)
        answers = connection._answers
        listening = [
            await tried(connection.listen(subject, partial(_note_subject, overheard)))
            for subject in ("_INBOX.>", f"{inbox_of('lead')}.>", f"{inbox_of(victim)}.>", "_R_.>", ">", "*.>")
        ]
        await stage.buses["lead"].journals.get(f"shanty.0.log.{run}.0.lead.0")
        await stage.buses[victim].journals.get(f"shanty.0.{victim}.{run}.0.lead.{PLACES[victim]}")
        await stage.buses["operators"].roster.cards()
        await stage.flush()
        for each in listening:
            if isinstance(each, Listening):
                await each.stop()
        feed = f"shanty.feed.0.{attacker}."
        assert [each for each in overheard if not each.startswith((answers, feed))] == []


def _note_subject(found: list[str], message: Any) -> None:
    found.append(message.subject)


async def test_forged_headers_make_nobody_else_the_author(stage: Stage) -> None:
    for attacker, _ in ATTACKERS:
        run = await stage.run()
        forged = {
            "Agent-Id": "lead",
            "Shanty-Agent": "lead",
            "Nats-Sequence": "1",
            "Nats-Client-Info": '{"acc":"CREW"}',
        }
        reply = ThreadReplied(at_ms=1, to_thread="0", outcome=Outcome(status="ok"), answers="")
        subject = f"shanty.0.lead.{run}.0-{PLACES[attacker]}.{attacker}.0"
        await publish(stage.connection(attacker), subject, encode(reply), {**NEW, **forged})
        async for stored in stage.buses["lead"].journals.run_entries(run):
            if stored.address.subject == subject:
                break
        assert stored.address.agent == attacker
        assert not stored.headers.keys() & {"Nats-Sequence", "Nats-Client-Info"}


# And more


@pytest.mark.parametrize("to", ["log", "lead", "*", ">"])
async def test_a_subject_with_a_wildcard_in_it_reaches_nobody_it_is_not_for_and_breaks_no_reader(
    stage: Stage, to: str
) -> None:
    for attacker, victim in ATTACKERS:
        run = await stage.run()
        operators = stage.buses["operators"]
        hostile = [
            f"shanty.0.{to}.*.0.{attacker}.0",
            f"shanty.0.{to}.{run}.*.{attacker}.1",
            f"shanty.0.{to}.{run}.0.{attacker}.*",
            f"shanty.0.{to}.{run}.>.{attacker}.2",
            f"shanty.0.{to}.{run}.0.{attacker}.>",
            f"shanty.0.{to}.{run}.{victim}\x01.{attacker}.3",
            f"shanty.0.{to}.{run.upper()}.0.{attacker}.0",
            f"shanty.0.{to}.{run}.0.{attacker}.{10**30}",
        ]
        seen = [stored.address.subject async for stored in operators.journals.run_entries(run)]
        listed = await newest_runs(operators, ("0",), 1_000)
        shown = await view_of(operators, run)
        async with stage.without_effect(attacker), aclosing(operators.feed.follow(run)) as following:
            stored_hostile = [subject for subject in hostile if await tried(_put(stage, attacker, subject))]
            for subject in seen:
                assert (await anext(following)).address.subject == subject
            for reader in (operators, stage.buses["console"]):
                assert [each.address.subject async for each in reader.journals.run_entries(run)] == seen
                assert await newest_runs(reader, ("0",), 1_000) == listed
                assert await view_of(reader, run) == shown
            assert (await stage.buses["lead"].journals.read(run, "0", "lead")).entries
            assert (await stage.buses[victim].journals.read(run, "0", victim)).entries == ()
        assert bool(stored_hostile) == (to in ("log", "lead")), "what it may write under its own name is stored"
        heard = {each[:2] for each in stage.heard if each[0] in (victim, "gateway")}
        assert heard == set()


async def _put(stage: Stage, attacker: str, subject: str) -> int:
    return await publish(stage.connection(attacker), subject, b"{}", {})


async def test_a_specialist_that_writes_into_anothers_thread_changes_no_view_of_the_run(stage: Stage) -> None:
    for attacker, _ in ATTACKERS:
        run = await stage.run()
        operators = stage.buses["operators"]
        shown = await view_of(operators, run)
        listed = await newest_runs(operators, ("0",), 1_000)
        done = ThreadReplied(at_ms=9, to_thread="request", outcome=Outcome(status="ok", summary="forged"), answers="")
        more = DelegationSent(at_ms=9, to_thread="0-9", brief=Brief(objective="forged"))
        order = DelegationSent(at_ms=9, to_thread="0", brief=Brief(objective="forged"))
        own = stage.buses[attacker].journals
        forged: tuple[tuple[str, Entry], ...] = (("lead", done), ("lead", more), (LOG, ThreadOpened(at_ms=9)))
        for n, (to, entry) in enumerate(forged):
            await own.append(EntryAddress(to, run, "0", attacker, n), entry)
        await own.append(EntryAddress("lead", "0-forged", "request", attacker, 0), order)
        await own.append(EntryAddress(LOG, "0-forged", "0", attacker, 0), ThreadOpened(at_ms=9))
        after = await view_of(operators, run)
        shown.entries = after.entries
        shown.newest_at_ms = after.newest_at_ms
        assert after == shown
        assert await newest_runs(operators, ("0",), 1_000) == listed


async def test_whoever_empties_the_leases_and_cards_of_all_gets_nobodys_thread(stage: Stage) -> None:
    for attacker, victim in ATTACKERS:
        run = await stage.run()
        key = f"{victim}.{run}.0-1"
        held = await stage.buses[victim].leases.take(key, "worker")
        assert isinstance(held, Lease)
        for own in (f"$KV.SHANTY_LEASE.{attacker}.{run}.0", f"$KV.SHANTY_ROSTER.{attacker}.1"):
            await publish(stage.connection(attacker), own, b"", {"Nats-Rollup": "all"})
        # Its holder finds it forgotten and takes it again; if somebody else was faster, the journal decides.
        stage.buses[victim].leases._at_once.set()
        async with asyncio.timeout(10):
            while held.revision == held.fence:
                await stage.connection(victim).flush()
        assert held.held()
        assert await stage.buses[victim].leases.take(key, "other") == Busy("worker")
        await held.release()


async def test_nobody_empties_another_stream_or_sets_anybodys_timer(stage: Stage) -> None:
    for attacker, victim in ATTACKERS:
        run = await stage.run()
        rollup = {"Nats-Rollup": "all"}
        at_once = {"Nats-Schedule": "@at 2020-01-01T00:00:00Z"}
        asked: list[tuple[str, dict[str, str]]] = [
            (f"shanty.0.log.{run}.0-9.{attacker}.0", rollup),
            (f"shanty.file.0.{run}.{attacker}.version.mi.1", rollup),
            (f"shanty.memory.crew.{attacker}.version.mi.1", rollup),
            (f"shanty.timer.0.set.{attacker}.{run}.0.due", rollup),
            *(
                (f"shanty.timer.0.set.{name}.{run}.0.due", {**at_once, "Nats-Schedule-Target": target})
                for name in (attacker, victim, "lead")
                for target in (f"shanty.timer.0.due.lead.{run}.0.due", f"shanty.timer.0.due.{victim}.{run}.0.due")
            ),
            (f"shanty.timer.0.due.lead.{run}.0.due", {}),
        ]
        async with stage.without_effect(attacker):
            for subject, headers in asked:
                assert await tried(publish(stage.connection(attacker), subject, b"{}", headers)) is None, subject


async def test_nobody_writes_files_documents_cards_or_leases_under_another_name(stage: Stage) -> None:
    for attacker, victim in ATTACKERS:
        run = await stage.run()
        asked = [
            *(f"shanty.file.0.{run}.{name}.version.mi.1" for name in (victim, "lead", "cli", "operators")),
            f"shanty.file.0.{run}.{victim}.chunk.{'0' * 64}.0",
            *(f"shanty.memory.crew.{name}.version.mi.1" for name in (victim, "lead", "operators")),
            "shanty.memory.crew.operators.release.mi.1",
            f"shanty.memory.crew.{attacker}.release.mi.1",
            f"shanty.memory.another-team.{attacker}.version.mi.1",
            f"$KV.SHANTY_ROSTER.{victim}.1",
            f"$KV.SHANTY_LEASE.{victim}.{run}.0",
            f"$KV.SHANTY_LEASE.lead.{run}.0",
        ]
        async with stage.without_effect(attacker):
            for subject in asked:
                assert await tried(publish(stage.connection(attacker), subject, b"{}", {})) is None, subject


async def test_nobody_traces_his_messages_into_somebody_elses_mail(stage: Stage) -> None:
    for attacker, victim in ATTACKERS:
        run = await stage.run()
        async with stage.without_effect(attacker):
            for target in (f"shanty.0.{victim}.{run}.0.lead.8", f"shanty.live.{run}.0.lead", f"{inbox_of('lead')}.1"):
                headers = {"Nats-Trace-Dest": target}
                subject = f"shanty.0.log.{run}.0-8.{attacker}.0"
                await stage.connection(attacker).publish(subject, b"", headers, reply=f"{inbox_of(attacker)}.traced")


async def test_nobody_speaks_for_another_while_the_run_goes_on(stage: Stage) -> None:
    for attacker, _ in ATTACKERS:
        run = await stage.run()
        event = StepStarted(agent="lead", replica="1", step="tool", name="pay", at_ms=1)
        following = stage.buses["operators"].live.follow(run)
        hearing = asyncio.create_task(anext(following))
        await stage.settle(attacker)
        await stage.buses[attacker].live.publish(LiveAddress(run, "0", "lead"), event)
        await stage.buses[attacker].live.publish(LiveAddress(run, "0", attacker), event)
        async with asyncio.timeout(10):
            address, _ = await hearing
        assert address.agent == attacker
        await following.aclose()


async def test_the_rest_of_the_bus_works_for_everybody_else_after_all_that(stage: Stage) -> None:
    run = await stage.run()
    for agent, place in PLACES.items():
        address = EntryAddress("lead", run, f"0-{place}", agent, 0)
        outcome = Outcome(status="ok", summary=agent)
        reply = ThreadReplied(
            at_ms=1, to_thread="0", outcome=outcome, answers=f"shanty.0.{agent}.{run}.0.lead.{place}"
        )
        assert (await stage.buses[agent].journals.append(address, reply)).ours
        assert (await stage.buses[agent].journals.append(address, reply)).ours
        part = await stage.buses[agent].journals.read(run, f"0-{place}", agent)
        assert [stored.entry for stored in part.entries] == [reply]
    view = await view_of(stage.buses["operators"], run)
    assert {thread: each.status for thread, each in view.threads.items()}["0-2"] == "ok"
