from __future__ import annotations

import pytest

from shanty_protocol import (
    ChunkAddress,
    DocumentAddress,
    EntryAddress,
    FileAddress,
    LiveAddress,
    ProtocolError,
    ReleaseAddress,
    TimerAddress,
)
from shanty_protocol.zones import Access, Grant, Zone, Zones, inbox_of, zones_of
from support.patterns import covers

ZONES = zones_of(
    "night-watch", "lead", {"logs": Access(), "notes": Access(memory="write"), "ref": Access(memory="read")}
)
TWO_LANES = zones_of("night-watch", "lead", {"logs": Access()}, ("0", "7"))
NESTED = zones_of(
    "night-watch",
    "lead",
    {"evidence": Access(), "logs": Access(leads=("evidence",)), "metrics": Access(leads=("lead", "evidence"))},
)


def zone_of(zones: Zones, principal: str) -> Zone:
    return next(zone for zone in zones.all if zone.principal == principal)


def may(principal: str, verb: str, subject: str) -> bool:
    return any(grant.verb == verb and covers(grant.subject, subject) for grant in zone_of(ZONES, principal).grants)


def test_accounts_have_the_name_of_the_team_and_a_guests_that_of_the_guest_as_well() -> None:
    assert ZONES.control == "NIGHT_WATCH"
    assert [(zone.account, zone.principal) for zone in ZONES.all] == [
        ("NIGHT_WATCH", "lead"),
        ("NIGHT_WATCH", "installer"),
        ("NIGHT_WATCH_LOGS", "logs"),
        ("NIGHT_WATCH_NOTES", "notes"),
        ("NIGHT_WATCH_REF", "ref"),
        ("NIGHT_WATCH_OPERATORS", "operators"),
        ("NIGHT_WATCH_GATEWAY", "gateway"),
        ("NIGHT_WATCH_CONSOLE", "console"),
    ]


def test_a_specialist_publishes_what_it_is_the_author_of_and_only_to_whom_it_may_speak() -> None:
    own = {
        *(EntryAddress(to, "0-r", "0-1", "logs", 3).subject for to in ("log", "lead", "dead", "operators")),
        FileAddress("0-r", "logs", "memo.md", 1).subject,
        ChunkAddress("0-r", "logs", "0" * 64, 0).subject,
        LiveAddress("0-r", "0-1", "logs").subject,
        "$KV.SHANTY_LEASE.logs.0-r.0-1",
        "$KV.SHANTY_ROSTER.logs.logs-1",
    }
    foreign = {
        *(EntryAddress(to, "0-r", "0-1", "logs", 3).subject for to in ("notes", "logs", "cli", "gateway")),
        EntryAddress("lead", "0-r", "0-2", "notes", 0).subject,
        EntryAddress("log", "0-r", "0", "lead", 0).subject,
        EntryAddress("lead", "0-r", "request", "operators", 0).subject,
        FileAddress("0-r", "notes", "memo.md", 1).subject,
        TimerAddress("set", "logs", "0-r", "0-1", "due").subject,
        DocumentAddress("night-watch", "logs", "a", 1).subject,
        ReleaseAddress("night-watch", "a", 1).subject,
        LiveAddress("0-r", "0", "lead").subject,
        "$KV.SHANTY_LEASE.notes.0-r.0-2",
        "$KV.SHANTY_ROSTER.lead.lead-1",
    }
    assert {subject for subject in own | foreign if may("logs", "publish", subject)} == own


def test_a_specialist_that_leads_others_writes_to_them_and_each_of_them_to_whoever_may_ask_it() -> None:
    agents = ("lead", "evidence", "logs", "metrics")
    heard_by = {
        agent: {
            to
            for to in agents
            for grant in zone_of(NESTED, agent).grants
            if grant.verb == "publish" and covers(grant.subject, EntryAddress(to, "0-r", "0-1", agent, 3).subject)
        }
        for agent in agents[1:]
    }
    assert heard_by == {
        "evidence": {"lead", "logs", "metrics"},
        "logs": {"evidence"},
        "metrics": {"lead", "evidence"},
    }


def test_a_specialist_that_leads_others_sees_who_is_up_and_whether_they_have_begun_and_nothing_else_of_them() -> None:
    get = "$JS.API.DIRECT.GET.SHANTY_0"
    asked = {
        zone.principal: {
            what
            for what, subject in {
                "begun": f"{get}.{EntryAddress('log', '0-r', '0-1-1', 'logs', 0).subject}",
                "second entry": f"{get}.{EntryAddress('log', '0-r', '0-1-1', 'logs', 1).subject}",
                "reply to another": f"{get}.{EntryAddress('lead', '0-r', '0-1-1', 'metrics', 0).subject}",
                "who is up": "$JS.API.DIRECT.GET.KV_SHANTY_ROSTER",
            }.items()
            if any(grant.verb == "request" and covers(grant.subject, subject) for grant in zone.grants)
        }
        for zone in NESTED.guests[:3]
    }
    assert asked == {
        "evidence": {"begun", "who is up"},
        "logs": {"begun", "second entry"},  # its own
        "metrics": {"reply to another"},  # its own
    }


def test_documents_are_for_those_whose_definition_says_so() -> None:
    writes = {
        name: may(name, "publish", DocumentAddress("night-watch", name, "a", 1).subject)
        for name in ("logs", "ref", "notes", "lead", "operators")
    }
    reads = {
        name: may(name, "request", "$JS.API.DIRECT.GET.SHANTY_MEMORY")
        for name in ("logs", "ref", "notes", "lead", "operators", "gateway", "console")
    }
    assert writes == {"logs": False, "ref": False, "notes": True, "lead": True, "operators": True}
    assert [name for name, may_read in reads.items() if not may_read] == ["logs", "gateway"]
    released = {
        zone.principal
        for zone in ZONES.all
        if may(zone.principal, "publish", "shanty.memory.night-watch.operators.release.mi.1")
    }
    assert released == {"operators"}


def test_nobody_but_a_resident_can_write_into_a_stream_of_schedules() -> None:
    writers = {
        zone.principal
        for zone in ZONES.all
        if any(grant.verb == "publish" and grant.subject.startswith("shanty.timer.") for grant in zone.grants)
    }
    assert writers == {"lead"}


def test_a_console_publishes_nothing() -> None:
    assert {grant.verb for grant in zone_of(ZONES, "console").grants} == {"request", "subscribe"}


def test_every_lane_is_granted_alike() -> None:
    for zone in TWO_LANES.all:
        lanes = {
            lane: sorted(_in_lane(grant, lane) for grant in zone.grants if _is_in(grant, lane)) for lane in ("0", "7")
        }
        assert [each.replace("LANE", "0") for each in lanes["7"]] == [
            each.replace("LANE", "0") for each in lanes["0"]
        ]
        assert lanes["0"] or zone.principal == "installer"


def _is_in(grant: Grant, lane: str) -> bool:
    tokens = grant.subject.replace("_", ".").split(".")
    return lane in tokens


def _in_lane(grant: Grant, lane: str) -> str:
    return grant.subject.replace(f".{lane}.", ".LANE.").replace(f"_{lane}", "_LANE")


def test_whoever_hears_live_events_hears_each_at_its_source() -> None:
    heard = {
        (grant.subject, ZONES.source_of(grant))
        for grant in zone_of(ZONES, "console").grants
        if "live" in grant.subject
    }
    assert heard == {
        ("shanty.live.>", "NIGHT_WATCH"),
        ("shanty.live.*.*.logs", "NIGHT_WATCH_LOGS"),
        ("shanty.live.*.*.notes", "NIGHT_WATCH_NOTES"),
        ("shanty.live.*.*.ref", "NIGHT_WATCH_REF"),
    }
    assert [(grant.subject, whom) for grant, whom in ZONES.exports_of("NIGHT_WATCH_LOGS")] == [
        ("shanty.live.*.*.logs", ("NIGHT_WATCH_OPERATORS", "NIGHT_WATCH_CONSOLE"))
    ]
    assert "shanty.live.*.*.logs" not in {grant.subject for grant in ZONES.imports_of(zone_of(ZONES, "logs"))}


def test_what_is_imported_is_exported_to_exactly_those_who_import_it() -> None:
    imported = {
        (grant.verb == "subscribe", grant.subject, ZONES.source_of(grant), guest.account)
        for guest in ZONES.guests
        for grant in ZONES.imports_of(guest)
    }
    exported = {
        (grant.verb == "subscribe", grant.subject, account, importer)
        for account in (ZONES.control, *(guest.account for guest in ZONES.guests))
        for grant, importers in ZONES.exports_of(account)
        for importer in importers
    }
    assert imported == exported


def test_no_principal_has_a_grant_twice_and_every_grant_says_why() -> None:
    for zone in (*ZONES.all, *TWO_LANES.all, *NESTED.all):
        subjects = [(grant.verb == "subscribe", grant.subject) for grant in zone.grants]
        assert len(subjects) == len(set(subjects)), zone.principal
        assert all(grant.why for grant in zone.grants)


def test_every_principal_has_an_inbox_of_its_own() -> None:
    inboxes = [f"{inbox_of(zone.principal)}.>" for zone in ZONES.all]
    assert not [(a, b) for a in inboxes for b in inboxes if a != b and covers(a, b)]


@pytest.mark.parametrize(
    ("team", "lead", "specialist", "said"),
    [
        ("sys", "lead", "logs", "the system account"),
        ("crew", "console", "logs", "another user of the bus"),
        ("crew", "lead", "gateway", "another user of the bus"),
        ("crew", "lead", "operators", "a reserved recipient"),
        ("crew", "lead", "lead", "both the lead and a specialist"),
    ],
)
def test_a_name_that_means_something_else_is_refused(team: str, lead: str, specialist: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        zones_of(team, lead, {specialist: Access()})


@pytest.mark.parametrize("above", ["logs", "nobody", "operators"])
def test_nobody_is_led_by_itself_or_by_whoever_is_no_agent(above: str) -> None:
    with pytest.raises(ValueError, match=f"{above} cannot lead logs"):
        zones_of("crew", "lead", {"logs": Access(leads=(above,))})


def test_a_name_that_is_no_id_is_refused() -> None:
    with pytest.raises(ProtocolError):
        zones_of("crew", "lead", {"logs.>": Access()})


def test_a_tool_gateway_is_there_for_those_who_need_it_and_hears_each_in_its_own_name() -> None:
    fenced = zones_of("night-watch", "lead", {"logs": Access(), "notes": Access()}, fenced=("lead", "logs"))
    asked = {
        zone.principal: [grant.subject for grant in zone.grants if grant.subject.startswith("shanty.tool.")]
        for zone in fenced.all
    }

    assert {principal: subjects for principal, subjects in asked.items() if subjects} == {
        "lead": ["shanty.tool.night-watch.lead"],
        "logs": ["shanty.tool.night-watch.logs"],
        "toolgateway": ["shanty.tool.night-watch.*"],
    }
    assert zone_of(fenced, "toolgateway").account == fenced.control
    assert not [grant for zone in ZONES.all for grant in zone.grants if "tool" in grant.subject]


def test_no_agent_is_called_as_the_tool_gateway() -> None:
    with pytest.raises(ValueError, match="toolgateway"):
        zones_of("night-watch", "lead", {"toolgateway": Access()})
