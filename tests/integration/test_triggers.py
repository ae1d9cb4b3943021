"""Triggers on a real server, with a clock of our own: what is stored decides, whoever looks and however often."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import msgspec
import pytest

from shanty_cli.dev_bus import Found
from shanty_cli.exits import UsageError
from shanty_cli.init_bus import init_bus
from shanty_cli.letters import drop, letters, retry, shown
from shanty_cli.output import Output
from shanty_cli.team_values import values_of
from shanty_cli.triggers import fire, lines
from shanty_protocol import DelegationSent, TriggerFailed
from shanty_protocol.ids import DEAD
from shanty_runtime.bus import Bus, EmbeddedServer, check_layout, create_layout
from shanty_runtime.bus.jetstream import manage, publish
from shanty_runtime.errors import LayoutDrift
from shanty_runtime.team import Team, load_team
from shanty_runtime.testing import bus_settings
from shanty_runtime.triggers import Firing, Message, Schedule, Terms, Trigger, TriggerWatch, Unusable
from shanty_runtime.triggers import watch as watching
from shanty_runtime.triggers.definition import PAYLOAD, CatchUp
from shanty_runtime.triggers.template import parse, parse_field
from support.crew import until

ALERT = Trigger(name="alert", subject="alerts.>", goal=parse("Look at {name}."), key=parse_field("id"))
MAPPED = {"crew": ("alerts.>",)}
HOUR_MS = 3_600_000


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.fixture
async def ground(server: EmbeddedServer) -> AsyncIterator[Bus]:
    async with Bus(bus_settings(server)) as bus:
        await create_layout(bus, agents=("lead",), mapped=MAPPED, max_bytes=2**28, ack_wait_s=1)
        yield bus


class Clock:
    def __init__(self, text: str) -> None:
        self.now = ms(text)

    def __call__(self) -> int:
        return self.now


def firing(bus: Bus, by: str = "lead-1", team: str = "crew") -> Firing:
    return Firing(bus, team=team, lead="lead", lane="0", by=by, terms=Terms())


def watch(bus: Bus, clock: Clock, *triggers: Trigger, by: str = "lead-1") -> TriggerWatch:
    return TriggerWatch(firing(bus, by), triggers, clock)


def hourly(catch_up: CatchUp = "all", cron: str = "0 * * * *") -> Trigger:
    return Trigger(name="hourly", schedule=Schedule(cron=cron, catch_up=catch_up), goal=parse("Go."))


async def keys(bus: Bus) -> list[str]:
    """Of all runs that were started, in the order they were."""
    entries = [stored.entry async for stored in bus.journals.mail_entries("0", "lead")]
    return [each.occurrence.key for each in entries if isinstance(each, DelegationSent) and each.occurrence]


def clock_times(found: list[str]) -> list[str]:
    return [key[11:16] for key in found]


async def test_a_schedule_is_obeyed_from_when_it_was_first_seen_and_not_before(ground: Bus) -> None:
    clock, trigger = Clock("2026-11-21T12:20"), hourly()
    lead = watch(ground, clock, trigger)
    assert await lead.look(trigger) == ms("2026-11-21T13:00")
    assert await keys(ground) == []
    clock.now = ms("2026-11-21T13:00")
    await lead.look(trigger)
    clock.now += 1
    await lead.look(trigger)
    assert clock_times(await keys(ground)) == ["13:00"]


async def test_a_lead_that_was_never_there_when_a_time_came_makes_up_for_it_all_the_same(ground: Bus) -> None:
    clock, trigger = Clock("2026-11-21T12:20"), hourly()
    await watch(ground, clock, trigger).look(trigger)
    clock.now = ms("2026-11-21T15:30")
    await watch(ground, clock, trigger, by="lead-2").look(trigger)
    assert clock_times(await keys(ground)) == ["13:00", "14:00", "15:00"]


@pytest.mark.parametrize(("catch_up", "expected"), [("none", []), ("latest", ["15:00"])])
async def test_a_time_that_is_not_made_up_for_is_not_made_up_for_later(
    ground: Bus, catch_up: CatchUp, expected: list[str]
) -> None:
    clock, trigger = Clock("2026-11-21T12:20"), hourly(catch_up)
    await watch(ground, clock, trigger).look(trigger)
    for now in ("2026-11-21T15:30", "2026-11-21T15:31"):
        clock.now = ms(now)
        await watch(ground, clock, trigger).look(trigger)
    assert clock_times(await keys(ground)) == expected
    clock.now = ms("2026-11-21T16:00")
    await watch(ground, clock, trigger).look(trigger)
    assert clock_times(await keys(ground)) == [*expected, "16:00"]


async def test_a_schedule_that_was_changed_begins_anew(ground: Bus) -> None:
    clock, trigger = Clock("2026-11-21T12:20"), hourly()
    await watch(ground, clock, trigger).look(trigger)
    clock.now = ms("2026-11-21T15:30")
    changed = hourly(cron="10 * * * *")
    await watch(ground, clock, changed).look(changed)
    assert await keys(ground) == []
    clock.now = ms("2026-11-21T16:10")
    await watch(ground, clock, changed).look(changed)
    assert clock_times(await keys(ground)) == ["16:10"]


async def test_ten_replicas_that_look_at_once_start_one_run_a_time(ground: Bus) -> None:
    clock, trigger = Clock("2026-11-21T12:20"), hourly()
    leads = [watch(ground, clock, trigger, by=f"lead-{n}") for n in range(10)]
    await leads[0].look(trigger)
    clock.now = ms("2026-11-21T17:05")
    await asyncio.gather(*(lead.look(trigger) for lead in leads))
    assert sorted(clock_times(await keys(ground))) == ["13:00", "14:00", "15:00", "16:00", "17:00"]


async def test_a_replica_that_slept_through_the_last_hours_takes_nothing_back(ground: Bus) -> None:
    clock, trigger = Clock("2026-11-21T12:20"), hourly("latest")
    await watch(ground, clock, trigger).look(trigger)
    clock.now = ms("2026-11-21T14:30")
    await watch(ground, clock, trigger).look(trigger)
    late = watch(ground, clock, trigger, by="lead-2")
    # It had made up its mind at 13:00, and writes only now.
    await late.firing.at(trigger, ms("2026-11-21T13:00"))
    await late.look(trigger)
    assert clock_times(await keys(ground)) == ["14:00", "13:00"]


async def test_two_teams_with_the_same_names_do_not_obey_for_each_other(ground: Bus) -> None:
    clock, trigger = Clock("2026-11-21T12:20"), hourly()
    leads = [TriggerWatch(firing(ground, team=team), (trigger,), clock) for team in ("crew", "other")]
    for lead in leads:
        await lead.look(trigger)
    clock.now = ms("2026-11-21T13:00")
    for lead in leads:
        await lead.look(trigger)
    assert clock_times(await keys(ground)) == ["13:00", "13:00"]


async def test_a_running_watch_wakes_at_the_time(ground: Bus) -> None:
    trigger = hourly(cron="* * * * * *")
    lead = TriggerWatch(firing(ground), (trigger,))
    await lead.start()
    await until(lambda: has_runs(ground, 2), 30, "two runs are started")
    await lead.stop()
    await lead.stop()
    found = await keys(ground)
    assert len(found) == len(set(found))


async def has_runs(bus: Bus, count: int) -> bool:
    return len(await keys(bus)) >= count


# Messages


async def send(bus: Bus, subject: str, data: bytes, **headers: str) -> None:
    said = {name.replace("_", "-"): value for name, value in headers.items()}
    await publish(bus.connection, subject, data, said)


async def failures(bus: Bus) -> list[TriggerFailed]:
    found = [stored.entry async for stored in bus.journals.mail_entries("0", DEAD)]
    return [entry for entry in found if isinstance(entry, TriggerFailed)]


async def all_taken(bus: Bus) -> bool:
    info = await manage(bus.connection, "CONSUMER.INFO.SHANTY_TRIGGERS_crew.triggers")
    return int(info["num_pending"]) + int(info["num_ack_pending"]) == 0


async def test_what_cannot_be_used_is_a_dead_letter_with_its_trace_and_the_next_message_is_taken(ground: Bus) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await send(ground, "alerts.a", b"{", traceparent=trace)
    await send(ground, "alerts.a", b'{"id": "1", "name": "x"}')
    lead = watch(ground, Clock("2026-11-21T12:20"), ALERT)
    await lead.start()
    await until(lambda: all_taken(ground), 30, "every message is taken")
    await lead.stop()
    assert await keys(ground) == ["1"]
    (letter,) = await failures(ground)
    assert (letter.trigger, letter.code, letter.subject, letter.seq, letter.traceparent) == (
        *("alert", "invalid_message", "alerts.a"),
        *(1, trace),
    )
    (found,) = await letters(ground, ("0",))
    assert found.letter.message == "alerts.a, 1 of SHANTY_TRIGGERS_crew" and found.letter.trace == trace.split("-")[1]
    assert (await shown(ground, found)).content == "{"
    with pytest.raises(UsageError, match="starts no run however often"):
        await retry(ground, found, "mara", 1)
    await drop(ground, found, "mara", "seen")
    assert await letters(ground, ("0",)) == []


async def test_a_dead_letter_quotes_a_message_in_part_and_without_its_secrets(ground: Bus) -> None:
    schema = {"type": "object", "properties": {"key": {"type": "integer"}}}
    lead = firing(ground)
    lead.terms = Terms(input_schema=schema)
    whole = msgspec.structs.replace(ALERT, input=PAYLOAD)
    data = msgspec.json.encode({"id": "1", "name": "x", "key": "sk-ant-api03-" + "a" * 80 + " y" * 100_000})
    message = Message(subject="alerts.a", data=data, seq=1)
    found = await lead.on(whole, message)
    assert isinstance(found, Unusable) and len(found.reason) > 100_000
    await lead.put_away("alert", message, found)
    (letter,) = await failures(ground)
    assert letter.code == "invalid_input" and len(letter.reason) == 2_000 and "sk-ant" not in letter.reason


async def test_a_message_whose_replica_died_before_its_ack_starts_no_second_run(ground: Bus) -> None:
    await send(ground, "alerts.a", b'{"id": "1", "name": "x"}')
    dying = await ground.pull_from("SHANTY_TRIGGERS_crew", "triggers", 1)
    delivery = await dying.next()
    await firing(ground).on(ALERT, watching.message_of(delivery))
    await dying.stop()
    lead = watch(ground, Clock("2026-11-21T12:20"), ALERT, by="lead-2")
    await lead.start()
    await until(lambda: all_taken(ground), 30, "every message is taken")
    await lead.stop()
    assert await keys(ground) == ["1"] and await failures(ground) == []


async def test_a_subject_that_no_trigger_has_is_left_to_a_newer_replica_and_then_put_away(
    ground: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "UNKNOWN_DELAY_S", 0.01)
    await send(ground, "alerts.new", b'{"id": "1", "name": "x"}')
    older = watch(ground, Clock("2026-11-21T12:20"), msgspec.structs.replace(ALERT, subject="alerts.old"))
    await older.start()
    await until(lambda: all_taken(ground), 30, "every message is taken")
    await older.stop()
    (letter,) = await failures(ground)
    assert (letter.trigger, letter.reason) == ("", "no trigger of team crew has this subject")


async def test_a_message_that_no_code_of_ours_can_bear_comes_again_and_then_is_put_away(
    ground: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watching, "FAILED_DELAY_S", 0.01)

    async def burst(*given: object) -> None:
        raise ZeroDivisionError

    lead = watch(ground, Clock("2026-11-21T12:20"), ALERT)
    monkeypatch.setattr(lead.firing, "on", burst)
    await send(ground, "alerts.a", b"{}")
    with caplog.at_level(logging.CRITICAL, logger="shanty.triggers"):
        await lead.start()
        await until(lambda: all_taken(ground), 30, "every message is taken")
        await lead.stop()
    assert [letter.reason for letter in await failures(ground)] == ["it could not be worked on 5 times; see the log"]


async def test_a_message_that_was_copied_by_the_server_counts_as_any_other(ground: Bus) -> None:
    lead = watch(ground, Clock("2026-11-21T12:20"), ALERT)
    await lead.start()
    copied = {"Nats-Subject": "raw.alerts", "Nats-Stream": "RAW", "Nats-Sequence": "9"}
    await publish(ground.connection, "alerts.a", b'{"id": "1", "name": "x"}', copied)
    await until(lambda: all_taken(ground), 30, "every message is taken")
    await lead.stop()
    assert await keys(ground) == ["1"]


# The layout


async def test_the_stream_of_a_team_is_made_once_checked_and_follows_what_the_team_maps(ground: Bus) -> None:
    assert await create_layout(ground, agents=("lead",), mapped=MAPPED) == ()
    await check_layout(ground, ("0",), ("lead",), MAPPED)
    more = {"crew": ("alerts.>", "orders.failed")}
    with pytest.raises(LayoutDrift, match="SHANTY_TRIGGERS_crew"):
        await check_layout(ground, ("0",), ("lead",), more)
    (change,) = await create_layout(ground, agents=("lead",), mapped=more)
    assert (change.name, change.action) == ("SHANTY_TRIGGERS_crew", "updated")
    await check_layout(ground, ("0",), ("lead",), more)


async def test_a_subject_that_another_stream_has_is_told(ground: Bus) -> None:
    with pytest.raises(LayoutDrift, match="subjects overlap"):
        await create_layout(ground, agents=("lead",), mapped={"other": ("alerts.a",)})


# The command line


@pytest.fixture
def watchers() -> Team:
    return load_team(Path(__file__).parent.parent / "teams" / "watchers")


async def test_what_a_person_tries_counts_as_a_message_with_that_key(ground: Bus, watchers: Team) -> None:
    # Two people: the same words by the same one in the same millisecond are the same entry, tried again.
    ann, ben = firing(ground, "ann"), firing(ground, "ben")
    tried = [await fire(each, ALERT, b'{"id": "7", "name": "x"}', "") for each in (ann, ben)]
    assert [each.started for each in tried] == [True, False] and tried[0].run == tried[1].run
    by_header = msgspec.structs.replace(ALERT, name="order", key=None)
    assert (await fire(ann, by_header, b'{"name": "x"}', "mine")).started
    assert not (await fire(ben, by_header, b'{"name": "x"}', "mine")).started
    assert await keys(ground) == ["7", "mine"]


async def test_what_a_person_tries_of_a_schedule_takes_none_of_its_times(ground: Bus) -> None:
    clock, trigger = Clock("2026-11-21T12:20"), hourly()
    lead = watch(ground, clock, trigger)
    await lead.look(trigger)
    assert (await fire(firing(ground), trigger, b"", "2026-11-21T13:00:00Z")).started
    clock.now = ms("2026-11-21T13:00")
    await lead.look(trigger)
    assert clock_times(await keys(ground)) == ["13:00", "13:00"]


@pytest.mark.parametrize(
    ("data", "key", "says"),
    [
        (b"{}", "", "needs the field id of the payload"),
        (b"{", "", "the payload is not JSON"),
        (b'{"id": "1", "name": "x"}', "k", "leave out --key"),
    ],
)
async def test_what_cannot_be_tried_is_told(ground: Bus, data: bytes, key: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        await fire(firing(ground), ALERT, data, key)
    assert await keys(ground) == []


async def test_a_list_of_triggers_says_what_each_waits_for_and_its_newest_run(ground: Bus, watchers: Team) -> None:
    listed = {line.trigger: line for line in await lines(ground, watchers)}
    assert list(listed) == ["alert", "order", "hourly", "weekly", "yearly"]
    assert listed["hourly"].waits_for == "0 * * * * Europe/Berlin" and listed["alert"].waits_for == "alerts.>"
    assert listed["weekly"].next_at_ms is not None and listed["alert"].next_at_ms is None
    assert {line.run for line in listed.values()} == {""}


@pytest.mark.parametrize("given", ["--team", "--starts-on"])
async def test_init_bus_makes_what_a_teams_triggers_need(server: EmbeddedServer, watchers: Team, given: str) -> None:
    found = Found(nats_url=server.url, monitor_url=server.monitor_url, ours=True)
    folder = watchers.folder if given == "--team" else None
    starts_on = "" if folder else values_of(watchers)["initBus"]["startsOn"]
    out = Output("json", stdout=StringIO())
    assert await init_bus(found, folder, ("lead",), starts_on, ("0",), None, out) == 0
    async with Bus(bus_settings(server)) as bus:
        await check_layout(bus, ("0",), ("lead",), {"watchers": ("alerts.>", "orders.failed")})


@pytest.mark.parametrize("starts_on", ["alerts.>", "crew=", "=alerts.>", "crew=,"])
async def test_init_bus_is_told_a_team_and_its_subjects(starts_on: str) -> None:
    found = Found(nats_url="nats://127.0.0.1:1", monitor_url="", ours=True)
    with pytest.raises(UsageError, match="write the team's name and subjects"):
        await init_bus(found, None, ("lead",), starts_on, ("0",), None, Output("json"))


def test_a_team_that_maps_nothing_has_no_values_for_it() -> None:
    team = load_team(Path(__file__).parent.parent / "teams" / "hello")
    assert "initBus" not in values_of(team)
