"""Tickets: groups of similar ones, when each group rose above its usual rate, and who wrote them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from .bursts import Burst, find_bursts
from .lexicon import COMPLAINT
from .mentions import Mentions
from .mining import MAX_TEXT, Place
from .tables import Row, column, read_rows, time_column
from .times import parse_time, written

CUSTOMER_COLUMN = (
    r"^(?:customer|account|client|org|tenant|company|user|requester|reporter)(?:_?(?:id|name|email))?$",
    r"customer|account|tenant|client",
)
SUBJECT_COLUMN = (r"^(?:subject|title|summary|headline)$", r"subject|title|summary")
BODY_COLUMN = (
    r"^(?:body|text|description|message|content|details|comment|note)s?$",
    r"body|text|descr|messag|content",
)
STOPWORDS = frozenset(
    "the a an and or but is are was were be been to of in on at for from with by as it its this that "
    "we our you your i my me "
    "have has had do does did not no can could will would please help hi hello thanks thank there "
    "here when since get getting "
    "got all any some very just still also again they them us he she what why how which who if so "
    "than then too about into "
    "after before over under out up".split()
)
SIMILAR = 0.28
MOST_GROUPS = 40
MOST_TICKETS = 50_000


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    at: float | None
    customer: str
    text: str
    line: int
    raw: str


class TicketGroup(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Similar tickets. `at` and `until` bound the rise, where there is one."""

    words: tuple[str, ...]
    count: int
    rose: bool = False
    at: str = ""
    until: str = ""
    in_rise: int = 0
    per_hour_before: float = 0.0
    per_hour: float = 0.0
    customers: int = 0
    complaints: float = 0.0
    """Share of tickets that speak of something not working."""
    mentions: dict[str, int] = {}
    examples: tuple[Place, ...] = ()


class TicketReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    file: str
    tickets: int
    customers: int
    at: str = ""
    until: str = ""
    rose: bool = False
    rise_at: str = ""
    groups: tuple[TicketGroup, ...] = ()
    problems: tuple[str, ...] = ()


class Group:
    def __init__(self) -> None:
        self.words: Counter[str] = Counter()
        self.tickets: list[Ticket] = []

    def add(self, words: frozenset[str], ticket: Ticket) -> None:
        self.words.update(words)
        self.tickets.append(ticket)

    def likeness(self, words: frozenset[str]) -> float:
        """Share of the ticket's words that are usual in this group, and the other way round."""
        if not words:
            return 1.0 if not self.words else 0.0
        usual = {word for word, count in self.words.items() if count >= 0.4 * len(self.tickets)}
        return len(words & usual) / len(words | usual) if usual else 0.0


def read_tickets(path: str, lines: Iterable[tuple[int, str]], year: int = 1970) -> tuple[list[Ticket], list[str]]:
    rows = read_rows(lines)
    header = next(rows, None)
    if header is None:
        return [], [f"{path} is empty"]
    found = [row for _, row in zip(range(MOST_TICKETS), rows, strict=False)]
    names = header.cells
    when = time_column(names, found, year)
    who = column(names, *CUSTOMER_COLUMN)
    subject, body = column(names, *SUBJECT_COLUMN), column(names, *BODY_COLUMN)
    texts = [each for each in (subject, body) if each is not None] or widest(names, found, {when, who})
    problems = (
        [] if when is not None else [f"{path} has no column of times; its columns are {', '.join(names)[:200]}"]
    )
    return [ticket_of(row, when, who, texts, year) for row in found], problems


def widest(names: Sequence[str], rows: Sequence[Row], taken: set[int | None]) -> list[int]:
    """Where no column is called subject or body: the one with the longest text."""
    free = [position for position in range(len(names)) if position not in taken]
    sizes = {
        position: sum(len(row.cells[position]) for row in rows[:50] if position < len(row.cells)) for position in free
    }
    return [max(sizes, key=lambda position: sizes[position])] if sizes else []


def ticket_of(row: Row, when: int | None, who: int | None, texts: Sequence[int], year: int) -> Ticket:
    def cell(position: int | None) -> str:
        return row.cells[position] if position is not None and position < len(row.cells) else ""

    return Ticket(
        at=parse_time(cell(when), year),
        customer=cell(who),
        text=" ".join(cell(position) for position in texts)[:2000],
        line=row.line,
        raw=row.text.split("\n")[0],
    )


def report_of(
    path: str, tickets: Sequence[Ticket], problems: Sequence[str], names: Iterable[str] = ()
) -> TicketReport:
    groups = grouped(tickets)
    mentions = Mentions(names)
    dated = sorted(ticket.at for ticket in tickets if ticket.at is not None)
    begin, end = (dated[0], dated[-1]) if dated else (0.0, 0.0)
    reports = [group_report(path, group, begin, end, mentions) for group in groups]
    reports.sort(key=lambda each: (not each.rose, -each.complaints * each.in_rise, -each.count))
    whole = rise_of(tickets, begin, end)
    return TicketReport(
        file=path,
        tickets=len(tickets),
        customers=len({ticket.customer for ticket in tickets if ticket.customer}),
        at=written(begin) if dated else "",
        until=written(end) if dated else "",
        rose=whole is not None,
        rise_at=written(begin + whole[0].start * whole[1]) if whole else "",
        groups=tuple(reports[:8]),
        problems=tuple(problems),
    )


def grouped(tickets: Sequence[Ticket]) -> list[Group]:
    groups: list[Group] = []
    for ticket in tickets:
        words = content_words(ticket.text)
        best = max(groups, key=lambda group: group.likeness(words), default=None)
        if best is not None and (best.likeness(words) >= SIMILAR or len(groups) >= MOST_GROUPS):
            best.add(words, ticket)
        else:
            groups.append(Group())
            groups[-1].add(words, ticket)
    return groups


def content_words(text: str) -> frozenset[str]:
    words = re.findall(r"[a-z][a-z'-]{2,}", text.lower())
    return frozenset(stem(word) for word in words if word not in STOPWORDS)


def stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


def group_report(path: str, group: Group, begin: float, end: float, mentions: Mentions) -> TicketGroup:
    rise = rise_of(group.tickets, begin, end)
    chosen = list(group.tickets)
    if rise is not None:
        burst, width = rise
        low, high = begin + burst.start * width, begin + burst.end * width
        chosen = [ticket for ticket in group.tickets if ticket.at is not None and low <= ticket.at <= high]
    named: Counter[str] = Counter()
    for ticket in chosen:
        named.update(mentions.find(ticket.text, ""))
    found = TicketGroup(
        words=tuple(word for word, _ in group.words.most_common(6)),
        count=len(group.tickets),
        customers=len({ticket.customer for ticket in chosen if ticket.customer}),
        complaints=round(sum(bool(COMPLAINT.search(ticket.text)) for ticket in chosen) / max(len(chosen), 1), 2),
        mentions=dict(named.most_common(4)),
        examples=tuple(Place(file=path, line=each.line, text=each.raw[:MAX_TEXT]) for each in chosen[:2]),
    )
    if rise is None:
        return found
    return msgspec.structs.replace(
        found,
        rose=True,
        at=written(low),
        until=written(high),
        in_rise=len(chosen),
        per_hour_before=round(burst.baseline * 3600 / width, 2),
        per_hour=round(burst.rate * 3600 / width, 2),
    )


def rise_of(tickets: Sequence[Ticket], begin: float, end: float) -> tuple[Burst, float] | None:
    """The biggest rise above the usual rate, and the width of a bin in seconds."""
    dated = [ticket.at for ticket in tickets if ticket.at is not None]
    if len(dated) < 4 or end <= begin:
        return None
    width = max((end - begin) / 120, 1.0)
    counts = [0.0] * (int((end - begin) / width) + 1)
    for at in dated:
        counts[int((at - begin) / width)] += 1
    _, bursts = find_bursts(counts, least_ratio=2.5, least_excess=3.0, penalty=6.0)
    best = max(bursts, key=lambda each: each.excess, default=None)
    return None if best is None else (best, width)


def complaints_between(
    path: str, tickets: Sequence[Ticket], begin: float, end: float
) -> tuple[int, list[str], list[Place]]:
    """How many tickets of that time speak of something not working, from which customers, and the first few."""
    chosen = [
        ticket
        for ticket in tickets
        if ticket.at is not None and begin <= ticket.at <= end and COMPLAINT.search(ticket.text)
    ]
    customers = sorted({ticket.customer for ticket in chosen if ticket.customer})
    return len(chosen), customers, [Place(file=path, line=each.line, text=each.raw[:MAX_TEXT]) for each in chosen[:3]]


__all__ = ["Ticket", "TicketGroup", "TicketReport", "complaints_between", "read_tickets", "report_of"]
