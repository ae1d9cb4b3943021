"""What a trigger of a team is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from shanty_protocol import Budget
from shanty_runtime.triggers.template import Field, Template

CatchUp = Literal["none", "latest", "all"]
"""What becomes of the times of a schedule at which nobody was there."""


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    cron: str
    timezone: str = "UTC"
    """IANA's name."""
    catch_up: CatchUp = "latest"
    catch_up_limit: int = 10
    """Of `all`: how many of the newest are made up for at most."""


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """It has a schedule or a subject."""

    name: str
    schedule: Schedule | None = None
    subject: str = ""
    """As NATS writes it, with wildcards."""
    goal: Template
    input: Any = None
    """The lead's typed input: a Template, lists and mappings of them; `PAYLOAD` for all that came; None for none."""
    key: Field | None = None
    """Which field of a payload says which message it is; None: its header, else its place in the stream."""
    budget: Budget | None = None
    """What a run may spend; what it does not limit is limited as the team says."""

    @property
    def what(self) -> str:
        """What it waits for, for people."""
        if self.schedule is None:
            return self.subject
        return f"{self.schedule.cron} {self.schedule.timezone}"


PAYLOAD = Template(())
"""Of `input`: the whole payload."""


def subjects_of(triggers: Iterable[Trigger]) -> tuple[str, ...]:
    """The subjects whose messages start runs."""
    return tuple(trigger.subject for trigger in triggers if trigger.subject)


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject is one of those a pattern stands for."""
    wanted, given = pattern.split("."), subject.split(".")
    for place, token in enumerate(wanted):
        if token == ">":
            return len(given) > place
        if place >= len(given) or token not in ("*", given[place]):
            return False
    return len(wanted) == len(given)


def overlap(one: str, other: str) -> bool:
    """Whether some subject is one of both patterns."""
    first, second = one.split("."), other.split(".")
    for mine, theirs in zip(first, second, strict=False):
        if ">" in (mine, theirs):
            return True
        if "*" not in (mine, theirs) and mine != theirs:
            return False
    return len(first) == len(second)
