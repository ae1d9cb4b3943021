"""Trust zones: who of a team may do what on the bus, as plain data.

A zone is a NATS account. The streams live in the team's control account; the lead, the installer and the tool gateway
are users of it.
Every specialist, the operators, the gateway and the console have an account of their own, which imports from the
control account exactly what is listed here, and nothing else exists for it. Publish permissions inside one account
would not do: the server answers a request wherever its sender wants the answer, in the server's own name. Between
accounts such an answer stays in the account of whoever asked.

Specialists have no timers. Whoever may write into a stream of schedules may empty it (the server lets any message of
such a stream roll all of it up), so a specialist that waits leaves its mail with the server, to be delivered again.

`zones_of` says what a team needs. Configurations are written from that, and tests try every subject with every user.
Each user hears its answers under a prefix of its own, `inbox_of(principal)`; that comes on top of its grants.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from shanty_protocol.ids import DEAD, LOG, OPERATORS, RESERVED_AGENTS, TOOL_GATEWAY, checked, checked_lane
from shanty_protocol.streams import (
    LEADER_ELECTED,
    LEASE_BUCKET,
    MEMORY_STREAM,
    ROSTER_BUCKET,
    entry_stream,
    file_stream,
    timer_stream,
    trigger_consumer,
)

INSTALLER = "installer"
GATEWAY = "gateway"
CONSOLE = "console"
CLI = "cli"
"""The author of what people do from a terminal, in the operators' account."""
TRIGGER = "trigger"
"""The author of what schedules and messages start, by way of the lead; or of people who try one."""
ADMIN = "admin"
"""The user of the system account."""
SYSTEM_ACCOUNT = "SYS"
NOT_AGENTS = RESERVED_AGENTS | {INSTALLER, GATEWAY, TOOL_GATEWAY, CONSOLE, CLI, TRIGGER, ADMIN}
"""Names that mean something else in an account of a team, so no agent of it can have them."""

Answers = Literal["none", "one", "many"]


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """One thing a user may do: a permission, and for a guest also an export and an import."""

    verb: Literal["publish", "request", "subscribe"]
    """`publish`: a message is stored, or heard by others; `request`: answers come; `subscribe`: messages come."""
    subject: str
    """As NATS writes it, with wildcards."""
    answers: Answers = "one"
    """How many messages come back to one that was sent; of no meaning for `subscribe`."""
    why: str
    source: str = ""
    """The account that others import this from, where it is not the control account. What a guest publishes with its
    own account here does not leave it by itself: whoever may hear it imports it."""


class Zone(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    principal: str
    """The name of the zone's user."""
    grants: tuple[Grant, ...]


class Zones(msgspec.Struct, frozen=True, kw_only=True):
    control: str
    """The account that holds the streams."""
    residents: tuple[Zone, ...]
    """Users of the control account: their grants are permissions there."""
    guests: tuple[Zone, ...]
    """Accounts of their own: they import their grants from the control account."""

    @property
    def all(self) -> tuple[Zone, ...]:
        return (*self.residents, *self.guests)

    def source_of(self, grant: Grant) -> str:
        return grant.source or self.control

    def imports_of(self, guest: Zone) -> tuple[Grant, ...]:
        """What a guest's account gets from other accounts, all of it."""
        return tuple(grant for grant in guest.grants if grant.source != guest.account)

    def exports_of(self, account: str) -> tuple[tuple[Grant, tuple[str, ...]], ...]:
        """What an account lets others have, each subject once, and who they are."""
        first: dict[tuple[bool, str], Grant] = {}
        importers: dict[tuple[bool, str], list[str]] = {}
        for guest in self.guests:
            for grant in self.imports_of(guest):
                if self.source_of(grant) == account:
                    key = (grant.verb == "subscribe", grant.subject)
                    first.setdefault(key, grant)
                    importers.setdefault(key, []).append(guest.account)
        return tuple((grant, tuple(importers[key])) for key, grant in first.items())


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """What a specialist may do besides what every specialist does."""

    memory: Literal["none", "read", "write"] = "none"
    leads: tuple[str, ...] = ()
    """Who may delegate to it; none: the lead of the team. A specialist that is named here leads others itself."""


def zones_of(
    team: str,
    lead: str,
    specialists: Mapping[str, Access],
    lanes: Sequence[str] = ("0",),
    *,
    starts_on: Sequence[str] = (),
    fenced: Collection[str] = (),
) -> Zones:
    """The zones of a team. `starts_on`: subjects whose messages start its runs; the gateway and people may send them.
    `fenced`: the agents that have a tool gateway make calls; where there are none, there is none.

    Raises ValueError for names that cannot be told apart from those of others.
    """
    _check_names(team, lead, specialists)
    lanes = tuple(checked_lane(lane) for lane in lanes)
    control = _account(team)
    guests: dict[str, Iterable[Grant]] = {
        name: (*_specialist(team, lead, name, specialists, lanes), *_have_calls_made(team, name, fenced))
        for name in specialists
    }
    guests |= {
        OPERATORS: (
            *_operators(team, lead, specialists, lanes),
            *_send(starts_on),
            *_see_what_was_sent(team, starts_on),
        ),
        GATEWAY: (*_gateway(lead, lanes), *_send(starts_on)),
        CONSOLE: _console(team, specialists, lanes),
    }
    return Zones(
        control=control,
        residents=(
            Zone(
                account=control,
                principal=lead,
                grants=(
                    *_lead(team, lead, lanes, messages=bool(starts_on)),
                    *_have_calls_made(team, lead, fenced),
                    _ELECTIONS,
                ),
            ),
            Zone(account=control, principal=INSTALLER, grants=(*_installer(), _ELECTIONS)),
            *(
                [
                    Zone(
                        account=control,
                        principal=TOOL_GATEWAY,
                        grants=(*_tool_gateway(team, lead, lanes), _ELECTIONS),
                    )
                ]
                if fenced
                else []
            ),
        ),
        guests=tuple(
            Zone(account=_guest(team, name), principal=name, grants=(*grants, _ONE_ANSWER, _ELECTIONS))
            for name, grants in guests.items()
        ),
    )


# An account without JetStream has the server's own API unless it imports this. It would answer whatever the control
# account answers a second time, that there is no JetStream here, and the first answer counts.
_ONE_ANSWER = Grant(
    verb="request",
    subject="$JS.API.INFO",
    why="the API of this account is the control account's; this tells how many streams there are and how full",
)


_ELECTIONS = Grant(
    verb="subscribe",
    subject=LEADER_ELECTED,
    answers="none",
    why="it hears when a stream has a leader again, and tries again what nobody answered",
)


def inbox_of(principal: str) -> str:
    """Where a user hears its answers: nobody else may listen below this."""
    return f"_INBOX_{principal}"


def _check_names(team: str, lead: str, specialists: Mapping[str, Access]) -> None:
    if _account(checked("team", team)) == SYSTEM_ACCOUNT:
        raise ValueError(f"a team called {team} would have the name of the system account: give it another")
    for name in (lead, *specialists):
        if checked("agent", name) in NOT_AGENTS:
            raise ValueError(f"an agent called {name} would have the name of {_somebody(name)}: give it another")
    if lead in specialists:
        raise ValueError(f"{lead} is both the lead and a specialist")
    for name, access in specialists.items():
        for above in access.leads:
            if above == name or above not in (lead, *specialists):
                raise ValueError(f"{above} cannot lead {name}: it is no other agent of the team")


def _somebody(name: str) -> str:
    return "a reserved recipient" if name in RESERVED_AGENTS else "another user of the bus"


def _account(name: str) -> str:
    return name.upper().replace("-", "_")


def _guest(team: str, name: str) -> str:
    return _account(f"{team}-{name}")


# Who may do what


def _specialist(
    team: str, lead: str, agent: str, specialists: Mapping[str, Access], lanes: Sequence[str]
) -> Iterator[Grant]:
    access = specialists[agent]
    below = [name for name, other in specialists.items() if agent in other.leads]
    for lane in lanes:
        for to in (LOG, *(access.leads or (lead,)), *below, DEAD, OPERATORS):
            yield _publish(f"shanty.{lane}.{to}.*.*.{agent}.*", f"it writes its journal, here what goes to {to}")
        yield from _consumer(entry_stream(lane), f"mail-{agent}")
        yield from _own_entries(lane, agent)
        standing = f"$JS.API.DIRECT.GET.{entry_stream(lane)}.shanty.{lane}.{LOG}.*.*.{OPERATORS}.*"
        yield _request(standing, "it sees what people have allowed for a whole run")
        yield from _files(lane, agent)
        yield from _read_files(lane)
        for name in below:
            begun = f"$JS.API.DIRECT.GET.{entry_stream(lane)}.shanty.{lane}.{LOG}.*.*.{name}.0"
            yield _request(begun, f"it sees whether {name} has begun on what it was asked")
    if below:
        yield _request(f"$JS.API.DIRECT.GET.KV_{ROSTER_BUCKET}", "it sees which of its specialists are up", "many")
    yield from _presence(agent, live_in=_guest(team, agent))
    yield from _memory(team, agent, access)


def _lead(team: str, lead: str, lanes: Sequence[str], *, messages: bool) -> Iterator[Grant]:
    for lane in lanes:
        yield _publish(f"shanty.{lane}.*.*.*.{lead}.*", "it writes its journal and sends mail to anybody")
        for to in (lead, LOG, DEAD):
            why = f"it starts runs that schedules and messages ask for, here what goes to {to}"
            yield _publish(f"shanty.{lane}.{to}.*.*.{TRIGGER}.*", why)
        yield from _consumer(entry_stream(lane), f"mail-{lead}")
        yield from _consumer(timer_stream(lane), f"timers-{lead}")
        yield _subscribe(f"shanty.feed.{lane}.{lead}.>", "it hears its own mail as it is stored")
        yield from _read_entries(lane)
        yield _publish(f"shanty.timer.{lane}.set.{lead}.*.*.*", "it sets its timers")
        yield from _files(lane, lead)
        yield from _read_files(lane)
        for stream, kind in ((entry_stream(lane), "mail"), (timer_stream(lane), "timers")):
            why = f"it checks its consumer and sees how much {kind} waits for the team"
            yield _request(f"$JS.API.CONSUMER.INFO.{stream}.*", why)
    yield from _presence(lead)
    yield from _memory(team, lead, Access(memory="write"))
    yield _request(f"$JS.API.DIRECT.GET.KV_{ROSTER_BUCKET}", "it sees which specialists are up", "many")
    if messages:
        consumer = trigger_consumer(team)
        yield from _consumer(consumer.stream, consumer.name)
        yield _request(f"$JS.API.STREAM.INFO.{consumer.stream}", "it checks the layout when it starts")
    for stream in _streams(lanes):
        yield _request(f"$JS.API.STREAM.INFO.{stream}", "it checks the layout when it starts")


def _have_calls_made(team: str, agent: str, fenced: Collection[str]) -> Iterator[Grant]:
    if agent in fenced:
        yield _request(f"shanty.tool.{team}.{agent}", "it has the tool gateway make calls, in its own name only")


def _tool_gateway(team: str, lead: str, lanes: Sequence[str]) -> Iterator[Grant]:
    yield _subscribe(f"shanty.tool.{team}.*", "it hears what agents want called; the server says which agent asks")
    yield _publish("_R_.>", "it answers specialists; the server makes up where, for each question", "none")
    yield _publish(f"{inbox_of(lead)}.>", "it answers the lead", "none")
    for lane in lanes:
        yield _publish(
            f"shanty.{lane}.{LOG}.*.*.{TOOL_GATEWAY}.*", "it writes down what it starts and what came of it"
        )
        own = f"$JS.API.DIRECT.GET.{entry_stream(lane)}.shanty.{lane}.*.*.*.{TOOL_GATEWAY}.*"
        yield _request(own, "it reads what it wrote, and nothing else of any journal")
        yield from _files(lane, TOOL_GATEWAY)
        yield from _read_files(lane)
    lease = f"$KV.{LEASE_BUCKET}.{TOOL_GATEWAY}.*.*"
    yield _publish(lease, "its replicas agree on who makes which call")
    yield _request(f"$JS.API.DIRECT.GET.KV_{LEASE_BUCKET}.{lease}", "it sees which of its replicas has a call")
    yield _publish(f"$KV.{ROSTER_BUCKET}.{TOOL_GATEWAY}.*", "each of its replicas shows a card")
    for stream in _streams(lanes):
        yield _request(f"$JS.API.STREAM.INFO.{stream}", "it checks the layout when it starts")


def _installer() -> Iterator[Grant]:
    yield _request("$JS.API.>", "it creates and updates the streams and consumers of the team", "many")


def _operators(team: str, lead: str, specialists: Iterable[str], lanes: Sequence[str]) -> Iterator[Grant]:
    for lane in lanes:
        for author in (OPERATORS, CLI):
            yield _publish(f"shanty.{lane}.*.*.*.{author}.*", f"people start runs, answer and decide as {author}")
        yield _publish(f"shanty.{lane}.{lead}.*.*.{TRIGGER}.*", "people try what a schedule or a message starts")
        for author in (OPERATORS, CLI):
            yield from _files(lane, author)
        yield from _read_files(lane)
    yield _publish(f"shanty.memory.{team}.{OPERATORS}.>", "people release and restore documents")
    yield from _look_on(team, specialists, lanes)


def _gateway(lead: str, lanes: Sequence[str]) -> Iterator[Grant]:
    for lane in lanes:
        for to in (lead, LOG):
            why = f"it starts runs and speaks with the lead for others, here what goes to {to}"
            yield _publish(f"shanty.{lane}.{to}.*.*.{GATEWAY}.*", why)
        yield from _own_entries(lane, GATEWAY)
        yield from _files(lane, GATEWAY)
        yield from _read_files(lane)


def _see_what_was_sent(team: str, starts_on: Sequence[str]) -> Iterator[Grant]:
    if starts_on:
        yield from _read_all(trigger_consumer(team).stream, "they look at messages that started runs, or could not")


def _send(starts_on: Sequence[str]) -> Iterator[Grant]:
    for subject in starts_on:
        yield _publish(subject, "it sends messages that start runs")


def _console(team: str, specialists: Iterable[str], lanes: Sequence[str]) -> Iterator[Grant]:
    for lane in lanes:
        yield from _read_files(lane)
    yield from _look_on(team, specialists, lanes)


# What it consists of


def _consumer(stream: str, consumer: str) -> Iterator[Grant]:
    name = f"{stream}.{consumer}"
    yield _request(f"$JS.API.CONSUMER.INFO.{name}", "it checks its consumer when it starts")
    yield _request(f"$JS.API.CONSUMER.MSG.NEXT.{name}", "it pulls from its consumer", "many")
    yield _publish(f"$JS.ACK.{name}.>", "it acks what it pulled, or puts it back", "none")


def _own_entries(lane: str, author: str) -> Iterator[Grant]:
    get = f"$JS.API.DIRECT.GET.{entry_stream(lane)}"
    yield _request(f"{get}.shanty.{lane}.*.*.*.{author}.*", "it reads the entries it wrote")
    yield _request(f"{get}.shanty.{lane}.{author}.*.*.*.*", "it reads the entries addressed to it")
    yield _subscribe(f"shanty.feed.{lane}.{author}.>", "it hears its own mail as it is stored")


def _read_entries(lane: str) -> Iterator[Grant]:
    get = f"$JS.API.DIRECT.GET.{entry_stream(lane)}"
    yield _request(get, "it reads journals by filter, a page at a time", "many")
    yield _request(f"{get}.>", "it reads entries by subject")


def _files(lane: str, author: str) -> Iterator[Grant]:
    for kind in ("version", "chunk"):
        yield _publish(f"shanty.file.{lane}.*.{author}.{kind}.*.*", "it writes files of the workspace under its name")


def _read_files(lane: str) -> Iterator[Grant]:
    yield from _read_all(file_stream(lane), "it reads the workspace, which all agents of a team share")


def _presence(agent: str, *, live_in: str = "") -> Iterator[Grant]:
    lease = f"$KV.{LEASE_BUCKET}.{agent}.*.*"
    yield _publish(lease, "its replicas agree on who works on which thread")
    yield _request(f"$JS.API.DIRECT.GET.KV_{LEASE_BUCKET}.{lease}", "it sees which of its replicas has a thread")
    yield _publish(f"$KV.{ROSTER_BUCKET}.{agent}.*", "each of its replicas shows a card")
    why = "it tells observers what its threads do right now"
    yield Grant(verb="publish", subject=f"shanty.live.*.*.{agent}", answers="none", why=why, source=live_in)


def _memory(team: str, agent: str, access: Access) -> Iterator[Grant]:
    if access.memory != "none":
        yield from _read_all(MEMORY_STREAM, "it reads documents that outlive runs")
    if access.memory == "write":
        yield _publish(f"shanty.memory.{team}.{agent}.version.*.*", "it writes documents that outlive runs")


def _read_all(stream: str, why: str) -> Iterator[Grant]:
    yield _request(f"$JS.API.DIRECT.GET.{stream}", why, "many")
    yield _request(f"$JS.API.DIRECT.GET.{stream}.>", why)
    yield _request(f"$JS.API.STREAM.MSG.GET.{stream}", f"{why}; the newest message, from the server that cannot lag")


def _look_on(team: str, specialists: Iterable[str], lanes: Sequence[str]) -> Iterator[Grant]:
    """What people who watch need besides files: everything that is stored, and what happens right now."""
    for lane in lanes:
        yield from _read_entries(lane)
        yield _subscribe(f"shanty.feed.{lane}.>", "they watch entries as they are stored")
        for stream in (entry_stream(lane), timer_stream(lane)):
            yield _request(f"$JS.API.CONSUMER.INFO.{stream}.*", "they see how much work waits for an agent")
    yield _subscribe("shanty.live.>", "they watch what threads do right now")
    for name in specialists:
        # The server lets nothing that came into the control account from another one go on to a third.
        why = f"they watch what {name} does right now"
        yield Grant(
            verb="subscribe", subject=f"shanty.live.*.*.{name}", answers="none", why=why, source=_guest(team, name)
        )
    yield from _read_all(MEMORY_STREAM, "they read documents that outlive runs")
    yield _request(f"$JS.API.DIRECT.GET.KV_{ROSTER_BUCKET}", "they see which agents are up", "many")
    for stream in _streams(lanes):
        yield _request(f"$JS.API.STREAM.INFO.{stream}", "they check the layout, and see how full a stream is")


def _streams(lanes: Iterable[str]) -> Iterator[str]:
    for lane in lanes:
        yield from (entry_stream(lane), timer_stream(lane), file_stream(lane))
    yield from (MEMORY_STREAM, f"KV_{LEASE_BUCKET}", f"KV_{ROSTER_BUCKET}")


def _publish(subject: str, why: str, answers: Answers = "one") -> Grant:
    return Grant(verb="publish", subject=subject, answers=answers, why=why)


def _request(subject: str, why: str, answers: Answers = "one") -> Grant:
    return Grant(verb="request", subject=subject, answers=answers, why=why)


def _subscribe(subject: str, why: str) -> Grant:
    return Grant(verb="subscribe", subject=subject, answers="none", why=why)
