"""`triggers:` of team.yaml: what starts runs of the team by itself.

triggers:
  - name: nightly
    schedule: 30 2 * * mon-fri        # cron; six fields begin with seconds
    timezone: Europe/Berlin           # UTC where it is left out
    catchUp: latest                   # of the times that were missed: none, latest or all
    goal: Look through what happened up to {time}.
  - name: alert
    subject: alerts.>                 # each message on it starts a run
    key: fingerprint                  # of the payload; else its Nats-Msg-Id, else its place in the stream
    goal: Find the cause of {labels.alertname}.
    input: {service: "{labels.service}"}
    budget: {usd: 2}
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, cast
from zoneinfo import available_timezones

from shanty_protocol.triggers import MAX_TRIGGER_NAME
from shanty_runtime.agent.schema import problems_with
from shanty_runtime.team.budgets import read_budget
from shanty_runtime.team.definition import AgentDefinition
from shanty_runtime.team.fields import Fields, both_spellings
from shanty_runtime.team.positions import Located
from shanty_runtime.team.problems import Problems, advice, described, nearest
from shanty_runtime.triggers.definition import PAYLOAD, CatchUp, Schedule, Trigger, overlap
from shanty_runtime.triggers.order import Terms, order_of_time
from shanty_runtime.triggers.schedule import check
from shanty_runtime.triggers.template import Field, NotATemplate, Template, parse, parse_field

KEYS = both_spellings(
    ("name", "schedule", "timezone", "catch_up", "catch_up_limit", "subject", "key", "goal", "input", "budget")
)
OF_SCHEDULES = ("timezone", "catch_up", "catch_up_limit")
OF_MESSAGES = ("key",)
CATCH_UPS = ("none", "latest", "all")
MOST_CAUGHT_UP = 1_000
FIELDS_OF_A_TIME = ("time",)

_SUBJECT = re.compile(r"[^\s.*>$_][^\s.*>]*(?:\.(?:\*|[^\s.*>]+))*(?:\.>)?")


def read_triggers(
    fields: Fields, problems: Problems, path: str, lead: AgentDefinition | None, goal: str
) -> tuple[Trigger, ...]:
    """What is right of `triggers`; the rest is reported. `goal` is the team's own, for those that name none."""
    given = fields.located("triggers")
    if given is None:
        return ()
    if not isinstance(given.value, list):
        message = f"triggers: expected a list, got {described(given.value)}"
        fields.report(given, message, "write an item `- name: nightly` for each, with a schedule or a subject")
        return ()
    found: dict[str, Trigger] = {}
    for item in given.items:
        reading = _Reading(Fields(problems, path, item, KEYS), problems, path, item, lead, goal)
        trigger = reading.trigger(found)
        if trigger is not None:
            found[trigger.name] = trigger
    return tuple(found.values())


class _Reading:
    """One item of the list."""

    def __init__(
        self, fields: Fields, problems: Problems, path: str, at: Located, lead: AgentDefinition | None, goal: str
    ) -> None:
        self.fields = fields
        self.problems = problems
        self.path = path
        self.at = at
        self.lead = lead
        self.team_goal = goal

    def trigger(self, others: dict[str, Trigger]) -> Trigger | None:
        if not isinstance(self.at.value, dict):
            return None  # reported by the fields
        name = self._name(others)
        kind = self._kind()
        if kind is None:
            return None
        schedule = self._schedule() if kind == "schedule" else None
        subject = self._subject(others) if kind == "subject" else ""
        goal = self._goal(kind)
        if name is None or goal is None or not (schedule or subject):
            return None
        trigger = Trigger(
            name=name,
            schedule=schedule,
            subject=subject,
            goal=goal,
            input=self._input(kind),
            key=self._key(),
            budget=read_budget(self.fields, self.problems, self.path),
        )
        self._check_input(trigger)
        return trigger

    def _name(self, others: dict[str, Trigger]) -> str | None:
        self.fields.require("name", "add `name:`, of lower-case letters, digits and dashes")
        given = self.fields.located("name")
        if given is None or not self.fields.text("name"):
            return None
        name = self.fields.identifier(given)
        if name is not None and len(name) > MAX_TRIGGER_NAME:
            self.fields.report(given, f"name: more than {MAX_TRIGGER_NAME} characters", "it is part of each run's id")
            return None
        if name in others:
            self.fields.report(given, f"there are two triggers {name}", "give one of them another name")
            return None
        return name

    def _kind(self) -> str | None:
        schedule, subject = self.fields.located("schedule"), self.fields.located("subject")
        if schedule is None and subject is None:
            self.fields.require("schedule", "add `schedule: 0 6 * * *`, or `subject: alerts.>`")
            return None
        if schedule is not None and subject is not None:
            self.fields.report(subject, "schedule and subject are two ways to start a run", "make two triggers of it")
            return None
        kind, foreign = ("subject", OF_SCHEDULES) if schedule is None else ("schedule", OF_MESSAGES)
        for key in foreign:
            given = self.fields.located(key)
            if given is not None:
                other = "a schedule" if kind == "subject" else "a subject"
                self.fields.report(
                    given, f"{self.fields.written(key)} is for triggers that have {other}", "leave it out"
                )
        return kind

    def _schedule(self) -> Schedule | None:
        given = self.fields.located("schedule")
        cron = " ".join(self.fields.text("schedule").split())
        if given is None or not cron:
            return None
        if wrong := check(cron):
            hint = "write minute, hour, day, month and weekday, as 30 2 * * mon-fri"
            self.fields.report(given, f"schedule: {described(cron)} is not a time for cron: {wrong}", hint)
            return None
        timezone = self.fields.text("timezone", "UTC")
        if timezone not in _timezones():
            at = self.fields.located("timezone") or given
            hint = nearest(timezone, _timezones()) or "write a name such as Europe/Berlin"
            self.fields.report(at, f"timezone: there is no {described(timezone)}", hint)
            return None
        return Schedule(
            cron=cron,
            timezone=timezone,
            catch_up=cast(CatchUp, self.fields.choice("catch_up", CATCH_UPS, "latest")),
            catch_up_limit=self.fields.whole("catch_up_limit", 10, low=1, high=MOST_CAUGHT_UP),
        )

    def _subject(self, others: dict[str, Trigger]) -> str:
        given = self.fields.located("subject")
        subject = self.fields.text("subject")
        if given is None or not subject:
            return ""
        if not _SUBJECT.fullmatch(subject) or subject.split(".")[0] == "shanty":
            message = f"subject: {described(subject)} is not one that may start runs"
            self.fields.report(
                given, message, "begin with a word other than shanty, as in alerts.> or orders.*.failed"
            )
            return ""
        for other in others.values():
            if other.subject and overlap(subject, other.subject):
                message = f"subject: some messages would be for trigger {other.name} ({other.subject}) as well"
                self.fields.report(given, message, "give each a subject of its own")
                return ""
        return subject

    def _goal(self, kind: str) -> Template | None:
        given = self.fields.located("goal")
        if given is None:
            if self.team_goal:
                return Template((self.team_goal,))
            self.fields.require("goal", "say what is to be done: the team has no goal of its own")
            return None
        text = self.fields.text("goal")
        return self._template(given, text, kind, "goal") if text else None

    def _template(self, given: Located, text: str, kind: str, key: str) -> Template | None:
        try:
            template = parse(text)
        except NotATemplate as error:
            self.fields.report(
                given, f"{key}: {error.message}", "a field is a path of the payload, as {labels.severity}"
            )
            return None
        for field in template.fields if kind == "schedule" else ():
            if field.path not in FIELDS_OF_A_TIME:
                hint = advice(field.path, FIELDS_OF_A_TIME, "a schedule has {time} alone")
                self.fields.report(given, f"{key}: a schedule has no field {{{field.path}}}", hint)
                return None
        return template

    def _input(self, kind: str) -> Any:
        given = self.fields.located("input")
        if given is None:
            return None
        if given.value == "payload" and kind == "subject":
            return PAYLOAD
        if not isinstance(given.value, dict):
            hint = 'write `input: {service: "{labels.service}"}`' + (", or payload" if kind == "subject" else "")
            self.fields.report(given, f"input: expected a mapping, got {described(given.value)}", hint)
            return None
        return self._filled(given, kind)

    def _filled(self, given: Located, kind: str) -> Any:
        match given.value:
            case str():
                return self._template(given, given.value, kind, "input")
            case dict():
                return {key.value: self._filled(value, kind) for key, value in given.entries}
            case list():
                return [self._filled(item, kind) for item in given.items]
            case _:
                return given.value

    def _key(self) -> Field | None:
        given = self.fields.located("key")
        text = self.fields.text("key")
        if given is None or not text:
            return None
        try:
            return parse_field(text)
        except NotATemplate as error:
            self.fields.report(
                given, f"key: {error.message}", "name the field of the payload that tells messages apart"
            )
            return None

    def _check_input(self, trigger: Trigger) -> None:
        """A lead that takes typed input needs some; what a schedule puts in is known beforehand."""
        schema = None if self.lead is None else self.lead.input_schema
        if schema is None or self.lead is None:
            return
        self.fields.require("input", f"{self.lead.name} takes typed input: add `input:`")
        given = self.fields.located("input")
        if given is not None and trigger.input is not None and trigger.schedule is not None:
            if problems := problems_with(order_of_time(trigger, 0, Terms()).brief.input, schema):
                self.fields.report(given, f"input: it is not what {self.lead.name} takes: {problems}")


@cache
def _timezones() -> frozenset[str]:
    return frozenset(available_timezones()) | {"UTC"}
