from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shanty_protocol import EntryAddress, ProtocolError
from shanty_protocol.ids import is_agent_thread
from shanty_protocol.streams import trigger_consumer, trigger_stream
from shanty_protocol.subjects import parse
from shanty_protocol.triggers import (
    MAX_TRIGGER_NAME,
    Cause,
    armed_address,
    failure_address,
    first_entry_address,
    started_filter,
)
from support.patterns import covers


def test_the_places_are_those_that_other_services_work_out_too() -> None:
    # Bytes of the protocol: they never change within version 1.
    first = first_entry_address("0", "lead", "incident", "alert", "on", "f-1")
    assert first.subject == "shanty.0.lead.0-alert-62120c7562408539eb3280fb.on-alert-d4191834.trigger.0"
    timed = first_entry_address("7", "lead", "incident", "nightly", "at", "2026-11-21T08:00:00Z")
    assert timed.subject == "shanty.7.lead.7-nightly-949d2a8e74af5a559cbcbac0.at-nightly-d4191834.trigger.0"
    failed = failure_address("0", "incident", "alert", "209@1795000000300")
    assert failed.subject == "shanty.0.dead.0-alert-e6622231f10660fa284386df.on-alert-d4191834.trigger.0"
    armed = armed_address("0", "incident", "nightly", "30 2 * * mon-fri", "Europe/Berlin")
    assert armed.subject == "shanty.0.log.0-nightly-e847574ff2e944c91e5d8a81.at-nightly-d4191834.trigger.0"


def test_another_team_trigger_cause_or_key_is_another_run() -> None:
    asked: list[tuple[str, str, str, Cause, str]] = [
        ("lead", "incident", "alert", "on", "k"),
        ("lead", "incidents", "alert", "on", "k"),
        ("lead", "incident", "alerts", "on", "k"),
        ("lead", "incident", "alert", "at", "k"),
        ("lead", "incident", "alert", "on", "k "),
    ]
    assert len({first_entry_address("0", *each).run for each in asked}) == len(asked)


@given(st.text(max_size=500))
def test_any_key_has_a_place_that_is_a_subject_of_this_protocol(key: str) -> None:
    address = first_entry_address("0", "lead", "incident", "x" * MAX_TRIGGER_NAME, "on", key)
    assert parse(address.subject) == address
    assert not is_agent_thread(address.thread)


def test_the_runs_of_a_trigger_are_found_by_one_filter_and_no_others() -> None:
    wanted = started_filter("0", "lead", "incident", "alert", "on")
    assert covers(wanted, first_entry_address("0", "lead", "incident", "alert", "on", "k").subject)
    others: list[EntryAddress] = [
        first_entry_address("0", "lead", "incident", "alert", "at", "k"),
        first_entry_address("0", "lead", "other", "alert", "on", "k"),
        first_entry_address("0", "lead", "incident", "alert-2", "on", "k"),
        failure_address("0", "incident", "alert", "k"),
        armed_address("0", "incident", "alert", "* * * * *", "UTC"),
    ]
    assert not any(covers(wanted, other.subject) for other in others)


@pytest.mark.parametrize(("team", "trigger"), [("a.b", "x"), ("a", "x.>"), ("a", ""), ("", "x")])
def test_what_is_no_id_is_refused(team: str, trigger: str) -> None:
    with pytest.raises(ProtocolError):
        first_entry_address("0", "lead", team, trigger, "on", "k")


def test_a_team_has_one_stream_for_what_starts_its_runs_and_one_consumer_on_it() -> None:
    stream, consumer = trigger_stream("incident", ("alerts.>", "orders")), trigger_consumer("incident")
    assert (stream.name, stream.subjects, stream.discard) == (
        "SHANTY_TRIGGERS_incident",
        ("alerts.>", "orders"),
        "new",
    )
    assert (consumer.stream, consumer.name, consumer.filter_subject) == (stream.name, "triggers", ">")
