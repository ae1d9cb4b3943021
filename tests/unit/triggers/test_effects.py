"""What a run that nobody started by hand is to everybody else: to the engine, to zones, to people."""

from __future__ import annotations

import msgspec
import pytest

from shanty_protocol import Brief, DelegationSent, EntryAddress, Occurrence
from shanty_protocol.zones import TRIGGER, Access, zones_of
from shanty_runtime.config import Settings
from shanty_runtime.service import AgentService
from shanty_runtime.team import load_team
from shanty_runtime.team.fields import RESERVED_NAMES
from shanty_runtime.telemetry import metrics, names
from shanty_runtime.thread.decide import Received
from support import metered
from support.crew import TEAMS
from support.patterns import covers
from support.player import LEAD, Player
from support.script import Script

PLACE = EntryAddress("lead", "0-r", "on-alert-1", TRIGGER, 0)


def order(occurrence: Occurrence | None) -> DelegationSent:
    return DelegationSent(at_ms=1_000, to_thread="0", brief=Brief(objective="Look."), occurrence=occurrence)


@pytest.mark.parametrize("untrusted", [True, False])
def test_a_thread_that_was_opened_with_words_from_outside_has_read_untrusted_content(untrusted: bool) -> None:
    player = Player(LEAD, "0")
    occurrence = Occurrence(trigger="alert", key="k", untrusted=untrusted)
    player.mail[PLACE.subject] = Received(PLACE, order(occurrence))
    player.go_on()
    assert player.state.owes_reply and player.state.tainted is untrusted


def test_only_the_lead_and_the_operators_write_as_a_trigger() -> None:
    zones = zones_of("crew", "lead", {"logs": Access()})
    writers = {
        zone.principal
        for zone in zones.all
        if any(grant.verb == "publish" and covers(grant.subject, PLACE.subject) for grant in zone.grants)
    }
    assert writers == {"lead", "operators"}
    assert TRIGGER in RESERVED_NAMES


def test_who_may_send_what_starts_runs_take_it_and_look_at_it() -> None:
    zones = zones_of("crew", "lead", {"logs": Access()}, starts_on=("alerts.>",))
    asked = {
        "send": ("publish", "alerts.orders"),
        "take": ("request", "$JS.API.CONSUMER.MSG.NEXT.SHANTY_TRIGGERS_crew.triggers"),
        "ack": ("publish", "$JS.ACK.SHANTY_TRIGGERS_crew.triggers.1.1.1.1.1"),
        "look": ("request", "$JS.API.DIRECT.GET.SHANTY_TRIGGERS_crew"),
    }
    may = {
        what: {
            zone.principal
            for zone in zones.all
            if zone.principal != "installer"
            and any(grant.verb == verb and covers(grant.subject, subject) for grant in zone.grants)
        }
        for what, (verb, subject) in asked.items()
    }
    assert may == {"send": {"operators", "gateway"}, "take": {"lead"}, "ack": {"lead"}, "look": {"operators"}}


def test_triggers_are_counted_from_nothing_on_by_what_became_of_them() -> None:
    metered.begin()
    metrics.trigger_begins("alert-m")
    assert metered.values(names.TRIGGERS_FIRED, shanty_trigger="alert-m") == {(): 0}
    metrics.trigger_fired("alert-m")
    metrics.trigger_failed("alert-m", "invalid_input")
    assert metered.values(names.TRIGGERS_FIRED, shanty_trigger="alert-m") == {(): 1}
    assert metered.values(names.TRIGGERS_FAILED, shanty_trigger="alert-m") == {
        ("invalid_message",): 0,
        ("invalid_input",): 1,
    }


def test_whoever_watches_a_run_sees_what_started_it() -> None:
    script = Script()
    occurrence = Occurrence(trigger="alert", key="f-1")
    script.write("on-alert-1", TRIGGER, order(occurrence), to="lead")
    assert script.told == [("0", "started", "Look. (by trigger alert: f-1)")]


@pytest.mark.parametrize(
    ("agent", "said", "watches"), [("lead", "on", True), ("lead", "off", False), ("scout", "on", False)]
)
async def test_a_lead_watches_unless_it_is_told_not_to_and_a_specialist_never_does(
    agent: str, said: str, watches: bool
) -> None:
    team = load_team(TEAMS / "watchers")
    settings = msgspec.convert({"triggers": said, "model": "rehearsal", "replica": "r", "http_port": 0}, Settings)
    service = AgentService(settings, team, team.agent(agent))
    assert (service.triggers is not None) is watches
    await service.stop()
