"""One log, streamed once: its templates over time, and what stands out of them.

    miner = LogMiner("logs/api.log", names=("orders", "billing"))
    for number, line in ...:
        miner.add(number, line)
    report = miner.report()

Memory depends on the number of templates and of time bins, not on the length of the log: both are bounded, and
bins are merged in pairs when there are too many of them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import PurePosixPath

import msgspec

from .bursts import Burst, find_bursts
from .lexicon import DEBUG, ERROR, LEVEL_NAMES, WARN, symptoms
from .mentions import Mentions
from .records import Record, RecordReader
from .segments import downsampled, split_counts, split_values
from .templates import TemplateMiner
from .times import written

FIRST_BIN_S = 10.0
MAX_BINS = 120_000
MAX_SPAN = 20_000
MAX_SERVICES = 60
STRAY_S = 45 * 86400.0
MOST_STRAYS = 20
"""A moment that far from the one before it is a misread or a broken clock, until it has been seen this often."""
MAX_TEXT = 240
TELLING = frozenset({"certificate", "memory", "gc", "crash"})
"""Symptoms worth reporting whatever the level of the line."""
RARE = 6
"""A telling template with no more occurrences than this has no rate worth estimating."""
RECURRING = 3
STREAM_SUFFIX = re.compile(
    r"[-_.](?:access|error|errors|err|stderr|stdout|out|slow|gc|app|application|server)$", re.IGNORECASE
)
"""One service may write several logs; these words say which, not whose."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence: a line of a file."""

    file: str
    line: int
    text: str = ""


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A template whose rate rose, or that is telling by itself."""

    service: str
    template: str
    level: str
    at: str
    until: str
    count: int
    per_min_before: float
    per_min: float
    new: bool = False
    """Not seen before the rise."""
    recurring: bool = False
    """It rises again and again: a habit rather than an event."""
    symptoms: tuple[str, ...] = ()
    mentions: dict[str, int] = {}
    first: Place


class Rise(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch in which something happened more often than before."""

    at: str
    until: str
    count: int
    per_min_before: float
    per_min: float
    first: Place | None = None


class Span(msgspec.Struct, frozen=True, kw_only=True):
    at: str
    until: str


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    at: str
    before_ms: float
    after_ms: float


class Event(msgspec.Struct, frozen=True, kw_only=True):
    at: str
    line: int


class ServiceReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    service: str
    lines: int
    errors: int
    warnings: int
    error_rises: tuple[Rise, ...] = ()
    findings: tuple[Finding, ...] = ()
    steady: tuple[str, ...] = ()
    """Errors that were there all the time at much the same rate."""
    traffic_per_min: float = 0.0
    traffic_rises: tuple[Rise, ...] = ()
    silent: tuple[Span, ...] = ()
    restarts: tuple[Event, ...] = ()
    latency: Latency | None = None


class LogReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    file: str
    lines: int
    format: str
    at: str = ""
    until: str = ""
    undated_lines: int = 0
    templates: int = 0
    services: tuple[ServiceReport, ...] = ()


class TemplateStats:
    __slots__ = ("bins", "count", "example", "first_line", "first_lines", "level", "mentions", "text")

    def __init__(self, text: str, record: Record) -> None:
        self.text = text
        self.level = record.level
        self.count = 0
        self.first_line = record.line
        self.example = record.message[:400]
        self.bins: dict[int, int] = {}
        self.first_lines: dict[int, int] = {}
        self.mentions: Counter[str] = Counter()


class ServiceLog:
    """What is counted of one service in one file."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.miner = TemplateMiner()
        self.mined: dict[int, TemplateStats] = {}
        self.given: dict[str, TemplateStats] = {}
        self.lines = self.errors = self.warnings = 0
        self.latency: dict[int, tuple[float, int]] = {}
        self.has_requests = False
        self.memo: dict[str, tuple[str, ...]] = {}

    def stats(self) -> Iterator[TemplateStats]:
        for template in self.miner.templates:
            if template.identity in self.mined:
                found = self.mined[template.identity]
                found.text = template.text
                yield found
        yield from self.given.values()


class LogMiner:
    def __init__(self, path: str, *, names: Iterable[str] = (), year: int = 1970, begin: float | None = None) -> None:
        self.path = path
        self.reader = RecordReader(service_of(path), year)
        self.mentions = Mentions(names)
        self.services: dict[str, ServiceLog] = {}
        self.bin_s = FIRST_BIN_S
        self.bins = 0
        self.lines = self.undated = 0
        # A log that holds only errors may begin with the incident: what came before is silence, not unknown.
        self.first_bin: int | None = None if begin is None else int(begin // FIRST_BIN_S)
        self.last_bin = self.first_bin or 0
        self._bin: int | None = None
        self.strays = 0
        self.dated = False

    def add(self, number: int, line: str) -> None:
        self.lines = number
        record = self.reader.feed(number, line)
        if record is not None:
            self.take(record)

    def take(self, record: Record) -> None:
        service = self.services.get(record.service)
        if service is None:
            name = record.service if len(self.services) < MAX_SERVICES else "others"
            service = self.services.setdefault(name, ServiceLog(name))
        place = self._place(record)
        stats, masked = self._stats(service, record)
        service.lines += 1
        stats.count += 1
        if record.level >= WARN:
            self._count_problem(service, stats, record, masked)
        if place is None:
            return
        if place in stats.bins:
            stats.bins[place] += 1
        else:
            stats.bins[place] = 1
            stats.first_lines[place] = record.line
            self.bins += 1
        if record.latency_ms >= 0:
            total, count = service.latency.get(place, (0.0, 0))
            service.latency[place] = (total + record.latency_ms, count + 1)
        if record.status:
            service.has_requests = True
        if self.bins > MAX_BINS:
            self._merge_bins()

    def _place(self, record: Record) -> int | None:
        """The time bin. A record without a moment is counted where the one before it was."""
        if record.at is None:
            self.undated += 1
            return self._bin
        place = int(record.at // self.bin_s)
        if self._bin is not None and abs(place - self._bin) * self.bin_s > STRAY_S and self.strays < MOST_STRAYS:
            self.strays += 1
            return self._bin
        self._bin, self.strays = place, 0
        if self.first_bin is not None and (place - self.first_bin) * self.bin_s > STRAY_S and not self.dated:
            self.first_bin = None
        self.dated = True
        if self.first_bin is None:
            self.first_bin = self.last_bin = place
            return place
        self.last_bin = max(self.last_bin, place)
        self.first_bin = min(self.first_bin, place)
        return place

    def _stats(self, service: ServiceLog, record: Record) -> tuple[TemplateStats, str]:
        if record.template:
            known = service.given.get(record.template)
            if known is None:
                text = record.template if len(service.given) < service.miner.max_templates else "<other requests>"
                known = service.given.setdefault(text, TemplateStats(text, record))
            return known, record.template
        template, masked = service.miner.add(record.message)
        known = service.mined.get(template.identity)
        if known is None:
            known = service.mined[template.identity] = TemplateStats("", record)
        return known, masked

    def _count_problem(self, service: ServiceLog, stats: TemplateStats, record: Record, masked: str) -> None:
        if record.level >= ERROR:
            service.errors += 1
        else:
            service.warnings += 1
        stats.level = max(stats.level, record.level)
        named = service.memo.get(masked) if self.mentions.by_masked_text else None
        if named is None:
            named = self.mentions.find(record.message, record.service)
            if len(service.memo) < 20_000:
                service.memo[masked] = named
        for name in named:
            if name in stats.mentions or len(stats.mentions) < 50:
                stats.mentions[name] += 1

    def _merge_bins(self) -> None:
        """Twice as wide, half as many: keeps memory bounded however long the log lasts."""
        self.bin_s *= 2
        self.bins = 0
        for service in self.services.values():
            for stats in service.stats():
                stats.bins = merged(stats.bins)
                lines: dict[int, int] = {}
                for place, line in stats.first_lines.items():
                    lines[place // 2] = min(line, lines.get(place // 2, line))
                stats.first_lines = lines
                self.bins += len(stats.bins)
            latency: dict[int, tuple[float, int]] = {}
            for place, (total, count) in service.latency.items():
                so_far = latency.get(place // 2, (0.0, 0))
                latency[place // 2] = (so_far[0] + total, so_far[1] + count)
            service.latency = latency
        if self.first_bin is not None:
            self.first_bin //= 2
            self.last_bin //= 2
        self._bin = None if self._bin is None else self._bin // 2

    def report(self, *, most_findings: int = 10) -> LogReport:
        record = self.reader.flush()
        if record is not None:
            self.take(record)
        while self.span > MAX_SPAN:
            self._merge_bins()
        services = sorted(self.services.values(), key=lambda service: (-service.errors, service.name))
        return LogReport(
            file=self.path,
            lines=self.lines,
            format=self.reader.format,
            at="" if self.first_bin is None else self.moment(0),
            until="" if self.first_bin is None else self.moment(self.span),
            undated_lines=self.undated,
            templates=sum(len(service.mined) + len(service.given) for service in services),
            services=tuple(self._service_report(service, most_findings) for service in services),
        )

    @property
    def span(self) -> int:
        """How many bins the log lasts."""
        return 0 if self.first_bin is None else self.last_bin - self.first_bin + 1

    def moment(self, position: int) -> str:
        return written(((self.first_bin or 0) + position) * self.bin_s)

    def per_min(self, rate: float) -> float:
        return round(rate * 60 / self.bin_s, 3)

    def counts(self, bins: dict[int, int]) -> list[float]:
        counts = [0.0] * self.span
        for place, count in bins.items():
            counts[place - (self.first_bin or 0)] += count
        return counts

    def _service_report(self, service: ServiceLog, most_findings: int) -> ServiceReport:
        all_stats = list(service.stats())
        harmful = [stats for stats in all_stats if is_harmful(stats)]
        calm = [stats for stats in all_stats if not is_harmful(stats) and stats.level > DEBUG]
        found: list[tuple[float, Finding]] = []
        steady: list[TemplateStats] = []
        for stats in all_stats:
            finding = self._finding(service.name, stats)
            if finding is not None:
                found.append(finding)
            elif stats.level >= WARN:
                steady.append(stats)
        found.sort(key=lambda each: (-each[0], each[1].at))
        steady.sort(key=lambda stats: -stats.count)
        traffic = self.counts(added(calm))
        return ServiceReport(
            service=service.name,
            lines=service.lines,
            errors=service.errors,
            warnings=service.warnings,
            error_rises=self._rises(harmful, least_ratio=2.5, least_excess=8.0, penalty=14.0),
            findings=tuple(finding for _, finding in found[:most_findings]),
            steady=tuple(f"{stats.count} x {stats.text[:120]}" for stats in steady[:3]),
            traffic_per_min=self.per_min(sum(traffic) / max(len(traffic), 1)),
            traffic_rises=self._rises(calm, least_ratio=1.45, least_excess=60.0, penalty=40.0),
            silent=self._silences(traffic),
            restarts=self._restarts(all_stats),
            latency=self._latency(service),
        )

    def _finding(self, service: str, stats: TemplateStats) -> tuple[float, Finding] | None:
        """What a template tells, with its weight for sorting; None where it tells nothing."""
        hints = symptoms(stats.example) if stats.level >= WARN else ()
        telling = bool(TELLING & set(hints or symptoms(stats.example)))
        if not stats.bins or not (stats.level >= WARN or telling):
            return None
        hints = hints or symptoms(stats.example)
        _, bursts = find_bursts(
            self.counts(stats.bins), least_excess=3.0 if telling else 5.0, penalty=8.0 if telling else 12.0
        )
        burst = max(bursts, key=lambda each: each.excess, default=None)
        if burst is None:
            if not (telling and stats.count <= RARE):
                return None
            places = sorted(place - (self.first_bin or 0) for place in stats.bins)
            burst = Burst(start=places[0], end=places[-1] + 1, count=stats.count, baseline=0.0, rate=0.0)
        weight = burst.excess * (3.0 if stats.level >= ERROR else 1.0) * (10.0 if telling else 1.0)
        return weight, Finding(
            service=service,
            template=stats.text[:MAX_TEXT],
            level=LEVEL_NAMES[stats.level],
            at=self.moment(burst.start),
            until=self.moment(burst.end),
            count=int(burst.count),
            per_min_before=self.per_min(burst.baseline),
            per_min=self.per_min(burst.rate),
            new=sum(self.counts(stats.bins)[: burst.start]) == 0 and burst.start > self.span * 0.05,
            recurring=is_recurring(bursts),
            symptoms=hints,
            mentions=dict(stats.mentions.most_common(6)),
            first=Place(file=self.path, line=self._first_line(stats, burst.start)),
        )

    def _first_line(self, stats: TemplateStats, start: int) -> int:
        begin = start + (self.first_bin or 0)
        later = [line for place, line in stats.first_lines.items() if place >= begin]
        return min(later, default=stats.first_line)

    def _rises(
        self, chosen: list[TemplateStats], *, least_ratio: float, least_excess: float, penalty: float
    ) -> tuple[Rise, ...]:
        _, bursts = find_bursts(
            self.counts(added(chosen)), least_ratio=least_ratio, least_excess=least_excess, penalty=penalty
        )
        biggest = sorted(bursts, key=lambda each: -each.excess)[:3]
        return tuple(
            Rise(
                at=self.moment(burst.start),
                until=self.moment(burst.end),
                count=int(burst.count),
                per_min_before=self.per_min(burst.baseline),
                per_min=self.per_min(burst.rate),
                first=Place(
                    file=self.path, line=min((self._first_line(stats, burst.start) for stats in chosen), default=1)
                ),
            )
            for burst in sorted(biggest, key=lambda each: each.start)
        )

    def _silences(self, traffic: list[float]) -> tuple[Span, ...]:
        coarse, factor = downsampled(traffic, 240)
        if sum(coarse) < 5 * max(len(coarse), 1):
            return ()
        usual = sorted(coarse)[len(coarse) // 2]
        quiet = [
            segment
            for segment in split_counts(coarse, penalty=20.0)
            if segment.mean < usual * 0.1 and segment.length >= 2
        ]
        return tuple(
            Span(at=self.moment(each.start * factor), until=self.moment(each.end * factor)) for each in quiet[:3]
        )

    def _restarts(self, all_stats: list[TemplateStats]) -> tuple[Event, ...]:
        events: dict[int, int] = {}
        for stats in all_stats:
            if stats.count <= 40 and "restart" in symptoms(stats.example):
                for place, line in stats.first_lines.items():
                    events.setdefault(place, line)
        ordered = sorted(events.items())
        # Several lines of one start count once.
        apart = [each for index, each in enumerate(ordered) if index == 0 or each[0] - ordered[index - 1][0] > 6]
        return tuple(Event(at=written(place * self.bin_s), line=line) for place, line in apart[:12])

    def _latency(self, service: ServiceLog) -> Latency | None:
        places = sorted(service.latency)
        if len(places) < 12:
            return None
        factor = max(1, len(places) // 240)
        groups = [places[index : index + factor] for index in range(0, len(places), factor)]
        means = [
            sum(service.latency[place][0] for place in group) / sum(service.latency[place][1] for place in group)
            for group in groups
        ]
        segments = split_values(means, penalty=25.0)
        rises = [(after.mean / max(before.mean, 1e-6), before, after) for before, after in pairwise(segments)]
        ratio, before, after = max(rises, key=lambda each: each[0], default=(0.0, None, None))
        if before is None or after is None or ratio < 1.5:
            return None
        return Latency(
            at=written(groups[after.start][0] * self.bin_s),
            before_ms=round(before.mean, 1),
            after_ms=round(after.mean, 1),
        )


def is_harmful(stats: TemplateStats) -> bool:
    if stats.level >= ERROR:
        return True
    hints = symptoms(stats.example) if stats.level >= WARN else ()
    return bool({"certificate", "connection", "timeout", "overload", "memory", "fault"} & set(hints))


def is_recurring(bursts: list[Burst]) -> bool:
    if len(bursts) < RECURRING:
        return False
    sizes = sorted(burst.excess for burst in bursts)
    return sizes[-1] < 3 * sizes[len(sizes) // 2] and since_ever([float(burst.start) for burst in bursts], 0.0)


def since_ever(starts: list[float], begin: float) -> bool:
    """Whether what comes again and again did so from the beginning; a crash loop begins after a calm time."""
    gaps = sorted(after - before for before, after in pairwise(sorted(starts)))
    return bool(gaps) and min(starts) - begin < 1.6 * gaps[len(gaps) // 2]


def added(chosen: Iterable[TemplateStats]) -> dict[int, int]:
    total: dict[int, int] = {}
    for stats in chosen:
        for place, count in stats.bins.items():
            total[place] = total.get(place, 0) + count
    return total


def merged(bins: dict[int, int]) -> dict[int, int]:
    wider: dict[int, int] = {}
    for place, count in bins.items():
        wider[place // 2] = wider.get(place // 2, 0) + count
    return wider


def service_of(path: str) -> str:
    """The file's stem: `logs/api.log`, `logs/api.log.1` and `logs/api-error.log` are of `api`."""
    name = PurePosixPath(path).name
    while "." in name and name.rpartition(".")[2].lower() in (
        "log",
        "txt",
        "json",
        "jsonl",
        "ndjson",
        "out",
        "err",
        "1",
        "2",
        "3",
    ):
        name = name.rpartition(".")[0]
    return STREAM_SUFFIX.sub("", name) or name


def wanted_lines(report: LogReport) -> set[int]:
    """The numbers of all lines a report gives as evidence."""
    lines = set()
    for service in report.services:
        lines |= {finding.first.line for finding in service.findings}
        lines |= {rise.first.line for rise in service.error_rises + service.traffic_rises if rise.first}
    return lines


def with_texts(report: LogReport, texts: dict[int, str]) -> LogReport:
    """The report with the text of its evidence filled in."""

    def filled(place: Place) -> Place:
        return msgspec.structs.replace(place, text=texts.get(place.line, "")[:MAX_TEXT])

    def rise(each: Rise) -> Rise:
        return each if each.first is None else msgspec.structs.replace(each, first=filled(each.first))

    services = tuple(
        msgspec.structs.replace(
            service,
            findings=tuple(msgspec.structs.replace(each, first=filled(each.first)) for each in service.findings),
            error_rises=tuple(rise(each) for each in service.error_rises),
            traffic_rises=tuple(rise(each) for each in service.traffic_rises),
        )
        for service in report.services
    )
    return msgspec.structs.replace(report, services=services)
