"""Runs that nobody starts by hand, on real processes: alerts, schedules, and whoever is killed meanwhile."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shanty_cli.lookup import view_of
from shanty_protocol import DelegationSent, ScheduleArmed, TriggerFailed
from shanty_protocol.codec import encode
from shanty_protocol.ids import DEAD
from shanty_protocol.triggers import armed_address
from shanty_runtime.bus import Stored
from shanty_runtime.bus.jetstream import manage, publish
from shanty_runtime.errors import BusError
from support.crew import Crew, crew, until

SEEDS = range(20)
ALERT = {"fingerprint": "f-1", "labels": {"name": "HighErrorRate", "service": "orders"}}
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
HOUR_MS = 3_600_000


@pytest.fixture
async def watchers(tmp_path: Path) -> AsyncIterator[Crew]:
    async with crew("watchers", tmp_path, {"lead": 2, "scout": 1}) as running:
        yield running


async def send(running: Crew, subject: str, payload: Any, **headers: str) -> None:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    await publish(
        running.bus.connection, subject, data, {name.replace("_", "-"): value for name, value in headers.items()}
    )


async def started(running: Crew) -> list[Stored]:
    """The first entries of all runs that triggers have started."""
    mails = [stored async for stored in running.bus.journals.mail_entries("0", "lead")]
    return [stored for stored in mails if stored.address.agent == "trigger"]


async def letters(running: Crew) -> list[TriggerFailed]:
    found = [stored.entry async for stored in running.bus.journals.mail_entries("0", DEAD)]
    assert all(isinstance(entry, TriggerFailed) for entry in found), found
    return [entry for entry in found if isinstance(entry, TriggerFailed)]


def keys(runs: list[Stored], trigger: str) -> list[str]:
    orders = [stored.entry for stored in runs]
    return [
        order.occurrence.key
        for order in orders
        if isinstance(order, DelegationSent) and order.occurrence and order.occurrence.trigger == trigger
    ]


async def ended(running: Crew, run: str) -> str:
    """The summary of a run that is over."""
    seen: list[str] = []

    async def over() -> bool:
        seen.append((await view_of(running.bus, run)).status)
        return seen[-1] not in ("starting", "running", "waiting")

    await until(over, 90, f"run {run} is over")
    view = await view_of(running.bus, run)
    assert view.status == "completed" and view.outcome is not None, (view.status, view.outcome)
    return view.outcome.summary


async def nothing_waits(running: Crew) -> None:
    """Every message that started a run, or could not, is acked."""

    async def acked() -> bool:
        connection, call = running.bus.connection, "CONSUMER.INFO.SHANTY_TRIGGERS_watchers.triggers"
        info = await connection.persist("looking", lambda: manage(connection, call))
        return int(info["num_pending"]) + int(info["num_ack_pending"]) == 0

    await until(acked, 90, "every message is taken")


async def test_an_alert_starts_one_run_however_often_it_comes_and_whatever_comes_before_it(watchers: Crew) -> None:
    await send(watchers, "alerts.orders", b'{"fingerprint": ')
    await send(watchers, "alerts.orders", {"fingerprint": "f-0", "labels": {"service": "orders"}})
    await send(watchers, "alerts.orders", {"fingerprint": "f-0", "labels": {"name": "x", "service": 7}})
    await send(watchers, "alerts.orders", b"[" * 100_000)
    await asyncio.gather(
        *(send(watchers, "alerts.orders", ALERT, Nats_Msg_Id=f"id-{n}", traceparent=TRACEPARENT) for n in range(5))
    )
    await send(watchers, "orders.failed", b"", Nats_Msg_Id="order-1")
    await nothing_waits(watchers)
    runs = await started(watchers)
    assert (keys(runs, "alert"), keys(runs, "order")) == (["f-1"], ["order-1"])
    assert sorted(letter.code for letter in await letters(watchers)) == ["invalid_input", *["invalid_message"] * 3]
    (alert,) = [stored for stored in runs if stored.address.run.startswith("0-alert-")]
    order = alert.entry
    assert isinstance(order, DelegationSent) and order.occurrence is not None and order.occurrence.untrusted
    assert order.brief.objective == 'Find the cause of "HighErrorRate" on "orders".'
    assert order.brief.input == {"service": "orders", "tags": ["alert", "HighErrorRate"]}
    assert order.brief.budget is not None and order.brief.budget.model_calls == 20
    assert alert.headers["traceparent"].split("-")[1] == TRACEPARENT.split("-")[1]
    assert await ended(watchers, alert.address.run) == order.brief.objective


async def arm(running: Crew, trigger: str, hours_ago: float) -> None:
    """The schedule is in force since then, as the journals say."""
    schedule = next(each.schedule for each in running.team.triggers if each.name == trigger)
    assert schedule is not None
    at_ms = int(time.time() * 1000 - hours_ago * HOUR_MS)
    place = armed_address("0", "watchers", trigger, schedule.cron, schedule.timezone)
    entry = ScheduleArmed(
        at_ms=at_ms, team="watchers", trigger=trigger, schedule=schedule.cron, timezone=schedule.timezone
    )
    await running.bus.journals.append(place, entry)


async def test_three_replicas_that_come_back_make_up_for_what_was_missed_once_and_as_the_team_says(
    tmp_path: Path,
) -> None:
    async with crew("watchers", tmp_path, {}) as running:
        for trigger in ("hourly", "weekly", "yearly"):
            await arm(running, trigger, 15 * 24)
        for _ in range(3):
            running.add("lead")
        await running.ready()

        async def all_there() -> bool:
            return len(await started(running)) >= 4

        await until(all_there, 90, "what was missed is made up for")
        leads = [each for each in running.replicas if each.agent == "lead"]
        for replica in leads:
            replica.stop()
        leads[0].respawn()
        await send(running, "orders.failed", {}, Nats_Msg_Id="after")
        await nothing_waits(running)
        runs = await started(running)
        hours = [order.occurrence.due_at_ms for order in orders(runs, "hourly") if order.occurrence]
        newest_ms = int(time.time() * 1000) // HOUR_MS * HOUR_MS
        # Three were made up for; an hour may have passed meanwhile, and was obeyed then.
        last_three = [newest_ms + n * HOUR_MS for n in (-2, -1, 0)]
        assert hours in (last_three, [last_three[0] - HOUR_MS, *last_three])
        assert len(keys(runs, "weekly")) == 1 and keys(runs, "yearly") == []
        assert await letters(running) == []


def orders(runs: list[Stored], trigger: str) -> list[DelegationSent]:
    found = [stored.entry for stored in runs if stored.address.run.startswith(f"0-{trigger}-")]
    return [entry for entry in found if isinstance(entry, DelegationSent)]


async def test_in_zones_an_alert_starts_a_run_and_no_specialist_can_write_as_a_trigger(tmp_path: Path) -> None:
    async with crew("watchers", tmp_path, {"lead": 1, "scout": 1}, zones=True) as running:
        await send(running, "alerts.orders", ALERT)

        async def there() -> bool:
            return keys(await started(running), "alert") == ["f-1"]

        await until(there, 90, "the alert starts a run")
        (alert,) = [stored for stored in await started(running) if stored.address.run.startswith("0-alert-")]
        assert await ended(running, alert.address.run) == 'Find the cause of "HighErrorRate" on "orders".'
        assert running.logins is not None and isinstance(alert.entry, DelegationSent)
        forged = encode(DelegationSent(at_ms=1, to_thread="0", brief=alert.entry.brief))
        async with running.logins.bus(running.server.url, "scout") as scout:
            for subject in ("shanty.0.lead.0-alert-x.on-alert-x.trigger.0", "alerts.orders"):
                with pytest.raises(BusError):
                    await publish(scout.connection, subject, forged, {}, timeout_s=2)
        assert keys(await started(running), "alert") == ["f-1"]
        async with running.logins.bus(running.server.url, "gateway") as gateway:
            other = json.dumps({**ALERT, "fingerprint": "f-2"}).encode()
            await publish(gateway.connection, "alerts.orders", other, {})

        async def both() -> bool:
            return sorted(keys(await started(running), "alert")) == ["f-1", "f-2"]

        await until(both, 90, "what the gateway sends starts a run")


async def test_people_see_triggers_and_try_them(tmp_path: Path) -> None:
    async with crew("watchers", tmp_path, {}) as running:
        team = str(running.team.folder)
        tried = await running.told("triggers", "fire", team, "alert", "--payload", json.dumps(ALERT))
        assert tried["started"]
        listed = {line["trigger"]: line for line in await running.told("triggers", "ls", team)}
        assert listed["alert"]["run"] == tried["run"] and listed["alert"]["status"] == "running"
        assert listed["hourly"]["next_at_ms"] > time.time() * 1000 and listed["hourly"]["run"] == ""
        refused = await running.shanty("triggers", "fire", team, "alerts")
        assert refused.code == 2 and "did you mean alert?" in refused.complaint


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_whoever_is_killed_while_alerts_come_in_each_alert_starts_exactly_one_run(tmp_path: Path) -> None:
    async with crew("watchers", tmp_path, {"lead": 3, "scout": 2}) as running:
        for seed in SEEDS:
            chance = random.Random(seed)
            kills = [asyncio.create_task(running.kill_one(chance, 1.5, "lead")) for _ in range(3)]
            if seed % 5 == 0:
                kills.append(asyncio.create_task(kill_server(running, chance)))
            for n in range(8):
                payload = {**ALERT, "fingerprint": f"s-{seed}-{n}"}
                for _ in range(chance.choice((1, 1, 2))):
                    await send_on(running, "alerts.orders", payload)
                await send_on(running, "alerts.orders", b"{" * chance.choice((1, 3)))
            await asyncio.gather(*kills)
            await nothing_waits(running)
        runs = await started(running)
        wanted = sorted(f"s-{seed}-{n}" for seed in SEEDS for n in range(8))
        assert sorted(keys(runs, "alert")) == wanted
        for stored in runs:
            await ended(running, stored.address.run)
        assert {letter.code for letter in await letters(running)} == {"invalid_message"}


async def send_on(running: Crew, subject: str, payload: Any) -> None:
    """A careful sender sends again until it has an ack."""
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    connection = running.bus.connection
    await connection.persist(f"sending to {subject}", lambda: publish(connection, subject, data, {}))


async def kill_server(running: Crew, chance: random.Random) -> None:
    await asyncio.sleep(chance.uniform(0, 1.0))
    await running.server.kill9()
    await running.server.start()
