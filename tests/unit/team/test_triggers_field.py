from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from shanty_protocol import Budget
from shanty_runtime.team import TeamError, load_team
from shanty_runtime.triggers import Schedule
from shanty_runtime.triggers.definition import PAYLOAD
from shanty_runtime.triggers.template import parse, parse_field

Write = Callable[[Mapping[str, str | bytes | None]], Path]

HEAD = "apiVersion: shanty/v1\nname: harbour\ngoal: Load\ntriggers:\n"
TYPED_LEAD = """\
---
description: Decides
input: {type: object, properties: {ship: {type: string}}, required: [ship]}
---
You lead.
"""


def written(*lines: str, head: str = HEAD) -> dict[str, str | bytes | None]:
    return {"team.yaml": head + "".join(f"{line}\n" for line in lines)}


def test_a_schedule_and_a_subject_are_read_with_all_that_is_said_of_them(write_team: Write) -> None:
    team = load_team(
        write_team(
            written(
                "  - name: tide",
                "    schedule: 30  2 * * mon-fri",
                "    timezone: Europe/Berlin",
                "    catchUp: all",
                "    catch_up_limit: 5",
                "    goal: Load until {time}",
                "  - {name: ship, subject: ships.*.in, key: ship.id, input: payload, budget: {tokens: 9}}",
                '  - {name: gale, subject: "gales.>", input: {force: "{force}", why: [x, 3]}}',
            )
        )
    )
    tide, ship, gale = team.triggers
    assert tide.schedule == Schedule(
        cron="30 2 * * mon-fri", timezone="Europe/Berlin", catch_up="all", catch_up_limit=5
    )
    assert tide.goal == parse("Load until {time}") and tide.what == "30 2 * * mon-fri Europe/Berlin"
    assert (ship.subject, ship.key, ship.input) == ("ships.*.in", parse_field("ship.id"), PAYLOAD)
    assert ship.goal == parse("Load") and ship.budget == Budget(tokens=9)
    assert gale.input == {"force": parse("{force}"), "why": [parse("x"), 3]}
    assert team.mapped == {"harbour": ("ships.*.in", "gales.>")}


def test_braces_in_a_teams_own_goal_are_no_fields(write_team: Write) -> None:
    head = HEAD.replace("goal: Load", "goal: 'Load {all} of it'")
    (trigger,) = load_team(write_team(written("  - {name: a, subject: a}", head=head))).triggers
    assert trigger.goal.text({}, quoted=True) == "Load {all} of it"


def test_a_team_without_triggers_maps_nothing(write_team: Write) -> None:
    team = load_team(write_team({}))
    assert (team.triggers, team.mapped) == ((), {})


WRONG = {
    "no list": (("  name: x",), "5:3", "triggers: expected a list, got a mapping", "write an item"),
    "a word": (("  - tide",), "5:5", 'expected keys and values, got "tide"', "write `key: value` lines"),
    "no name": (("  - subject: a",), "5:5", "name is missing", "add `name:`"),
    "a name with a dot": (("  - {name: a.b, subject: a}",), "5:12", '"a.b" is not a name', "as in a-b"),
    "a long name": (
        (f"  - {{name: {'x' * 41}, subject: a}}",),
        "5:12",
        "more than 40 characters",
        "part of each run",
    ),
    "two of a name": (
        ("  - {name: a, subject: a}", "  - {name: a, subject: b}"),
        "6:12",
        "there are two triggers a",
        "another name",
    ),
    "an unknown key": (
        ("  - {name: a, subject: a, cron: 0 6 * * *}",),
        "5:27",
        "unknown key cron",
        "the keys are name, schedule",
    ),
    "neither": (("  - {name: a}",), "5:5", "schedule is missing", "or `subject: alerts.>`"),
    "both": (
        ("  - {name: a, schedule: 0 6 * * *, subject: a}",),
        "5:45",
        "two ways to start a run",
        "make two triggers",
    ),
    "a zone for a subject": (
        ("  - {name: a, subject: a, timezone: UTC}",),
        "5:37",
        "timezone is for triggers",
        "leave",
    ),
    "a key for a schedule": (("  - {name: a, schedule: 0 6 * * *, key: a}",), "5:41", "key is for triggers", "leave"),
    "no cron": (
        ("  - {name: a, schedule: daily}",),
        "5:25",
        '"daily" is not a time for cron: Wrong number',
        "write min",
    ),
    "no such minute": (("  - {name: a, schedule: 99 6 * * *}",), "5:25", "cron: Bad minute", "as 30 2 * * mon-fri"),
    "no such day": (("  - {name: a, schedule: 0 6 31 2 *}",), "5:25", "cron: Bad day-of-month", "minute, hour"),
    "no such zone": (
        ("  - {name: a, schedule: 0 6 * * *, timezone: Europe/Berln}",),
        "5:46",
        'timezone: there is no "Europe/Berln"',
        "did you mean Europe/Berlin?",
    ),
    "no such policy": (
        ("  - {name: a, schedule: 0 6 * * *, catchUp: last}",),
        "5:45",
        'catchUp: expected one of none, latest, all, got "last"',
        "did you mean latest?",
    ),
    "a subject of ours": (
        ("  - {name: a, subject: shanty.0.lead}",),
        "5:24",
        "is not one that may start runs",
        "begin",
    ),
    "a subject of the server's": (
        ("  - {name: a, subject: $JS.API}",),
        "5:24",
        "is not one that may start runs",
        "begin",
    ),
    "every subject": (('  - {name: a, subject: ">"}',), "5:24", "is not one that may start runs", "as in alerts.>"),
    "a wildcard first": (('  - {name: a, subject: "*.a"}',), "5:24", "is not one that may start runs", "begin with"),
    "no subject": (('  - {name: a, subject: "a..b"}',), "5:24", "is not one that may start runs", "begin with"),
    "a subject of two": (
        ('  - {name: a, subject: "a.>"}', "  - {name: b, subject: a.b}"),
        "6:24",
        "would be for trigger a (a.>) as well",
        "a subject of its own",
    ),
    "half a field": (
        ('  - {name: a, subject: a, goal: "go {x"}',),
        "5:33",
        "goal: a { without its other half",
        "{labels.",
    ),
    "no field": (('  - {name: a, subject: a, goal: "go {x y}"}',), "5:33", "goal: {x y} is not a field", "{labels."),
    "a field of no time": (
        ('  - {name: a, schedule: 0 6 * * *, goal: "go {tme}"}',),
        "5:42",
        "goal: a schedule has no field {tme}",
        "did you mean time?",
    ),
    "an input that is text": (
        ("  - {name: a, subject: a, input: all}",),
        "5:34",
        "input: expected a mapping",
        "or payload",
    ),
    "a field in an input": (
        ('  - {name: a, subject: a, input: {b: ["{"]}}',),
        "5:39",
        "input: a { without its other half",
        "{labels.",
    ),
    "no key": (("  - {name: a, subject: a, key: a b}",), "5:32", "key: 'a b' is not a field", "name the field"),
    "a wrong budget": (("  - {name: a, subject: a, budget: {token: 3}}",), "5:36", "unknown key token", "tokens"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_where_it_stands(write_team: Write, name: str) -> None:
    lines, at, says, hint = WRONG[name]
    with pytest.raises(TeamError) as caught:
        load_team(write_team(written(*lines)))
    (problem,) = caught.value.problems
    assert (problem.path, f"{problem.line}:{problem.column}") == ("team.yaml", at), problem
    assert says in problem.message and hint in problem.hint, problem


def test_without_a_goal_of_the_teams_a_trigger_has_to_say_one(write_team: Write) -> None:
    with pytest.raises(TeamError, match="goal is missing"):
        load_team(write_team(written("  - {name: a, subject: a}", head=HEAD.replace("goal: Load\n", ""))))


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ("{name: a, subject: a}", "input is missing"),
        ("{name: a, schedule: 0 6 * * *}", "input is missing"),
        ("{name: a, schedule: 0 6 * * *, input: {ship: 3}}", "input: it is not what lead takes: $.ship: 3 is not"),
    ],
)
def test_a_lead_that_takes_typed_input_gets_some_that_it_takes(write_team: Write, item: str, says: str) -> None:
    with pytest.raises(TeamError) as caught:
        load_team(write_team({**written(f"  - {item}"), "agents/lead.md": TYPED_LEAD}))
    (problem,) = caught.value.problems
    assert says in problem.message
