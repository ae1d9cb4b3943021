"""What four specialists found -> causes, ranked.

First the harm: when did errors or latency rise, and in which services. Then every pair of a kind of cause and a
service is a hypothesis. Each fact that speaks for or against one adds points to it, with a sentence and, where
there is one, the line that shows it. The points are in the manner of log-odds: they add up, and the confidence of
a cause is its share among all, "none of these" included.

Two rules carry most of the weight. Who is blamed and blames nobody is nearer to the cause than who logs most:
victims are louder than culprits. And a change explains only trouble of its own service that begins just after it.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from .changes import ChangeEvent
from .mining import Finding, LogReport, Place, Rise, ServiceReport, since_ever
from .series import Change
from .tickets import TicketReport
from .times import parse_time, written

KINDS = (
    "bad_deploy",
    "config_change",
    "dependency_outage",
    "memory_leak",
    "traffic_surge",
    "expired_certificate",
)
LEAST_SCORE = 2.5
"""The points of "none of these": a hypothesis below it is not worth naming."""
TEMPERATURE = 1.3
EPISODE_GAP_S = 1800.0
LEAST_HARM = 5.0
CLEAR_HARM = 9.0
UNCONFIRMED_LEAK = 1.0
"""What a steady growth of memory loses when nothing else points at it."""
WEAK_SCORE = 1.0
"""Where something clearly got worse, a weak explanation is worth naming: with the low confidence it has."""


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    points: float
    text: str
    place: Place | None = None


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    service: str
    score: float
    confidence: float
    reasons: tuple[Reason, ...] = ()

    @property
    def evidence(self) -> list[Place]:
        """The lines that speak for it, the strongest first, each once."""
        found: dict[tuple[str, int], Place] = {}
        for reason in sorted(self.reasons, key=lambda each: -each.points):
            if reason.place is not None and reason.points > 0:
                found.setdefault((reason.place.file, reason.place.line), reason.place)
        return list(found.values())[:6]


class Harm(msgspec.Struct, frozen=True, kw_only=True):
    """Something got worse for users: where, when, how much."""

    at: float
    until: float
    service: str
    weight: float
    text: str
    place: Place | None = None


class Evidence(msgspec.Struct, kw_only=True):
    """What the specialists replied, decoded. A part that is missing is empty."""

    logs: tuple[LogReport, ...] = ()
    metrics: tuple[Change, ...] = ()
    changes: tuple[ChangeEvent, ...] = ()
    tickets: TicketReport | None = None
    answers: tuple[dict[str, Any], ...] = ()
    """Answers to follow-up questions: {"service", "kind", "answer": confirmed|denied|unclear, "why"}."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    causes: tuple[Cause, ...]
    onset: float | None = None
    until: float | None = None
    harms: tuple[Harm, ...] = ()
    dismissed: tuple[str, ...] = ()
    """What looks like trouble at first and is not, with the reason."""

    @property
    def services_affected(self) -> list[str]:
        order: dict[str, None] = {}
        for harm in sorted(self.harms, key=lambda each: each.at):
            order.setdefault(harm.service)
        return list(order)


def rank(evidence: Evidence) -> Verdict:
    harms = all_harms(evidence)
    episode, dismissed = main_episode(harms)
    if not episode:
        return Verdict(causes=(), dismissed=tuple(dismissed + quiet_changes(evidence)))
    case = Case(evidence, episode)
    hypotheses = case.hypotheses()
    causes = ranked(hypotheses, evidence.answers, LEAST_SCORE if weight_of(episode) < CLEAR_HARM else WEAK_SCORE)
    return Verdict(
        causes=causes,
        onset=case.onset,
        until=case.until,
        harms=tuple(sorted(episode, key=lambda harm: harm.at)),
        dismissed=tuple(dismissed + case.innocent_changes(causes)),
    )


def seconds(text: str) -> float:
    return parse_time(text) or 0.0


def reports(evidence: Evidence) -> Iterable[tuple[LogReport, ServiceReport]]:
    for log in evidence.logs:
        for service in log.services:
            yield log, service


def all_harms(evidence: Evidence) -> list[Harm]:
    harms = []
    for log, service in reports(evidence):
        rises = service.error_rises
        if len(rises) >= 3 and is_habit(rises, seconds(log.at)):
            continue
        for rise in rises:
            begin, end = seconds(rise.at), seconds(rise.until)
            minutes = max((end - begin) / 60, 0.17)
            excess = rise.count - rise.per_min_before * minutes
            ratio = rise.per_min / max(rise.per_min_before, 0.05)
            lasting = min(1.0, minutes / 4)
            weight = math.log2(1 + excess) * min(1.0, math.log2(max(ratio, 1)) / 2) * lasting
            harms.append(
                Harm(
                    at=begin,
                    until=end,
                    service=service.service,
                    weight=weight,
                    text=(
                        f"errors of {service.service} rose from {rise.per_min_before:.3g} to "
                        f"{rise.per_min:.3g} a minute"
                    ),
                    place=rise.first,
                )
            )
        if service.latency is not None and service.latency.after_ms > 2 * service.latency.before_ms:
            at = seconds(service.latency.at)
            text = (
                f"latency of {service.service} rose from {service.latency.before_ms:.0f} to "
                f"{service.latency.after_ms:.0f} ms"
            )
            harms.append(Harm(at=at, until=seconds(log.until), service=service.service, weight=1.0, text=text))
    for change in evidence.metrics:
        if change.shape == "step" and change.family in ("errors", "latency") and change.after > 1.8 * change.before:
            lasting = min(1.0, (seconds(change.until) - seconds(change.at)) / 240)
            weight = min(2.5, 0.5 * math.log2(max(change.score, 1.0))) * lasting
            text = f"{change.metric} of {change.service} rose from {change.before:.4g} to {change.after:.4g}"
            harms.append(
                Harm(
                    at=seconds(change.at),
                    until=seconds(change.until),
                    service=change.service,
                    weight=weight,
                    text=text,
                    place=change.first,
                )
            )
    return harms


def is_habit(rises: Sequence[Rise], begin: float) -> bool:
    """Three or more rises of the same size, each soon over, from the beginning on: a habit."""
    sizes = sorted(rise.count for rise in rises)
    lasting = [seconds(rise.until) - seconds(rise.at) for rise in rises]
    alike = sizes[-1] < 2.5 * sizes[0] and max(lasting) < 600
    return alike and since_ever([seconds(rise.at) for rise in rises], begin)


def main_episode(harms: Sequence[Harm]) -> tuple[list[Harm], list[str]]:
    """The harms that belong together and weigh most; and why others were set aside."""
    episodes: list[list[Harm]] = []
    end = -math.inf
    for harm in sorted(harms, key=lambda each: each.at):
        if episodes and harm.at <= end + EPISODE_GAP_S:
            episodes[-1].append(harm)
        else:
            episodes.append([harm])
            end = -math.inf
        end = max(end, harm.until)
    best = max(episodes, key=weight_of, default=[])
    small = [
        f"{harm.text} at {written(harm.at)}: short, small or alone, and not part of the main trouble"
        for episode in episodes
        if episode is not best or weight_of(best) < LEAST_HARM
        for harm in sorted(episode, key=lambda each: -each.weight)[:1]
    ]
    return (best if weight_of(best) >= LEAST_HARM else []), small[:4]


def weight_of(episode: Sequence[Harm]) -> float:
    return sum(harm.weight for harm in episode)


def quiet_changes(evidence: Evidence) -> list[str]:
    return [
        f"{change.type} of {change.service} at {change.at}: nothing got worse after it"
        for change in evidence.changes[-4:]
    ]


class Hypothesis:
    def __init__(self, kind: str, service: str) -> None:
        self.kind, self.service = kind, service
        self.reasons: list[Reason] = []

    def add(self, points: float, text: str, place: Place | None = None) -> None:
        if abs(points) >= 0.05:
            self.reasons.append(Reason(points=round(points, 2), text=text, place=place))

    @property
    def score(self) -> float:
        return sum(reason.points for reason in self.reasons)


class Case:
    """The main episode, seen from every side."""

    def __init__(self, evidence: Evidence, episode: Sequence[Harm]) -> None:
        self.evidence = evidence
        strong = [harm for harm in episode if harm.weight >= 1.5] or list(episode)
        self.onset = min(harm.at for harm in strong)
        self.until = max(harm.until for harm in strong)
        self.ended = self.until < max((seconds(log.until) for log in evidence.logs), default=self.until) - 120
        self.first_harm: dict[str, Harm] = {}
        for harm in sorted(strong, key=lambda each: each.at):
            self.first_harm.setdefault(harm.service, harm)
        self.logged = {service.service for _, service in reports(evidence)}
        self.findings = [
            finding
            for _, service in reports(evidence)
            for finding in service.findings
            for finding in service.findings
            if self.belongs(finding)
        ]
        self._name_the_unknown()
        self.blame: dict[str, dict[str, float]] = defaultdict(dict)
        """Who blames whom, as the share of the speaker's new errors."""
        self.blame_place: dict[tuple[str, str], Finding] = {}
        self._weigh_blame()

    def belongs(self, finding: Finding) -> bool:
        """Whether a finding is of this episode: it began in it, and is not a habit."""
        at = seconds(finding.at)
        return (
            not finding.recurring
            and self.onset - 900 <= at <= self.until
            and seconds(finding.until) >= self.onset - 60
        )

    def _name_the_unknown(self) -> None:
        """A name learnt from one message, such as a host in a URL, may stand in others that alone would not tell."""
        learnt = {name for finding in self.findings for name in finding.mentions} - self.logged
        if not learnt:
            return
        pattern = re.compile(
            rf"(?<![\w.-])(?:{'|'.join(re.escape(name) for name in sorted(learnt))})(?![\w-])", re.IGNORECASE
        )
        spelling = {name.lower(): name for name in sorted(learnt)}
        for index, finding in enumerate(self.findings):
            if not finding.mentions:
                named = {
                    spelling[word.lower()] for word in pattern.findall(f"{finding.template} {finding.first.text}")
                }
                mentions = {name: finding.count for name in sorted(named) if name != finding.service}
                self.findings[index] = msgspec.structs.replace(finding, mentions=mentions)

    def _weigh_blame(self) -> None:
        totals: dict[str, float] = defaultdict(float)
        blamed: dict[tuple[str, str], float] = defaultdict(float)
        for finding in self.findings:
            if finding.level not in ("error", "fatal", "warn"):
                continue
            weight = finding.count * (1.0 if finding.level != "warn" else 0.5)
            totals[finding.service] += weight
            named = sum(finding.mentions.values())
            for name, count in finding.mentions.items():
                share = weight * count / max(named, finding.count)
                blamed[finding.service, name] += share
                known = self.blame_place.get((finding.service, name))
                if known is None or known.count < finding.count:
                    self.blame_place[finding.service, name] = finding
        for (speaker, name), weight in blamed.items():
            self.blame[speaker][name] = weight / max(totals[speaker], 1.0)
        self.totals = totals

    def blamed_by(self, service: str) -> dict[str, float]:
        return {
            speaker: shares[service]
            for speaker, shares in self.blame.items()
            if speaker != service and shares.get(service, 0) >= 0.08
        }

    def blames(self, service: str) -> float:
        """The share of its own errors in which a service names another one that may be in trouble."""
        return min(
            1.0, sum(share for name, share in self.blame.get(service, {}).items() if self.in_trouble(name, service))
        )

    def in_trouble(self, service: str, asking: str) -> bool:
        others = {speaker for speaker in self.blamed_by(service) if speaker != asking}
        return (
            service in self.first_harm
            or service not in self.logged
            or bool(others)
            or self.is_silent(service) is not None
        )

    def is_silent(self, service: str) -> str | None:
        for _, report in reports(self.evidence):
            if report.service == service:
                for span in report.silent:
                    if self.onset - 300 <= seconds(span.at) <= self.until:
                        return span.at
        return None

    def services(self) -> list[str]:
        names = dict.fromkeys([*self.first_harm, *(finding.service for finding in self.findings)])
        for shares in self.blame.values():
            names.update(dict.fromkeys(name for name, share in shares.items() if share >= 0.08))
        for change in self.evidence.metrics:
            if change.shape == "ramp" and change.service:
                names.setdefault(change.service)
        return list(names)

    def hypotheses(self) -> list[Hypothesis]:
        found = self.certificates()
        for service in self.services():
            found += [self.leak(service), self.surge(service), self.outage(service), *self.changed(service)]
        return [each for each in found if each.score > 0]

    # Each method below is one kind of cause.

    def certificates(self) -> list[Hypothesis]:
        votes: dict[str, float] = defaultdict(float)
        shown: dict[str, Finding] = {}
        for finding in self.findings:
            if "certificate" not in finding.symptoms or finding.count < 2:
                continue
            strength = math.log2(1 + finding.count)
            named = sum(finding.mentions.values())
            for name, count in finding.mentions.items():
                votes[name] += strength * count / max(named, finding.count) * 1.2
                shown.setdefault(name, finding)
            votes[finding.service] += strength * (1 - min(1.0, named / finding.count))
            shown.setdefault(finding.service, finding)
        total = sum(votes.values())
        found = []
        for name, vote in votes.items():
            if vote < 0.5:
                continue
            hypothesis = Hypothesis("expired_certificate", name)
            finding = shown[name]
            hypothesis.add(
                5.0 + 4.0 * vote / total,
                (
                    f"from {finding.at} on, handshakes fail because of a certificate, and "
                    f"{vote / total:.0%} of that points at {name}"
                ),
                finding.first,
            )
            late = seconds(finding.at) - self.onset
            if late > 120:
                hypothesis.add(-min(4.0, late / 150), f"that began {late / 60:.0f} min after the first errors")
            found.append(hypothesis)
        return found

    def leak(self, service: str) -> Hypothesis:
        found = Hypothesis("memory_leak", service)
        for change in self.evidence.metrics:
            if change.service != service or change.family not in ("memory", "gc") or change.shape != "ramp":
                continue
            growth = change.after / max(change.before, 1e-9)
            if growth < 1.25 or seconds(change.at) > self.onset + 60:
                continue
            weight = 3.0 if change.family == "memory" else 1.0
            found.add(
                min(4.5, weight + 1.2 * math.log2(growth)),
                (
                    f"{change.metric} of {service} grew steadily from {change.before:.4g} to "
                    f"{change.after:.4g} since {change.at}"
                ),
                change.first,
            )
            if change.resets:
                found.add(
                    min(2.0, 0.8 * len(change.resets)), f"and fell back {len(change.resets)} times, as after restarts"
                )
            break
        for symptom, points in (("memory", 3.0), ("gc", 1.0)):
            telling = [f for f in self.findings if f.service == service and symptom in f.symptoms]
            if telling:
                first = min(telling, key=lambda finding: finding.at)
                found.add(points, f"{service} says so itself: {first.template[:100]}", first.first)
        if found.reasons:
            restarts = [
                event
                for _, report in reports(self.evidence)
                if report.service == service
                for event in report.restarts
            ]
            later = [event for event in restarts if self.onset - 1800 <= seconds(event.at) <= self.until + 600]
            if found.score > 0 and len(found.reasons) == 1 and not later:
                # Caches and heaps grow on many a good day; a leak that hurts shows in something else as well.
                found.add(-UNCONFIRMED_LEAK, "but neither a restart nor a word about memory goes with it")
            if later:
                found.add(
                    min(1.5, 0.6 * len(later)),
                    f"{service} was started again {len(later)} times, first at {later[0].at}",
                )
            self.add_origin(found, service, 0.4)
        return found

    def surge(self, service: str) -> Hypothesis:
        found = Hypothesis("traffic_surge", service)
        rise = self.traffic_rise(service)
        if rise is None:
            return found
        ratio, at, text, place = rise
        late = at - self.onset
        found.add(min(4.0, 2.6 * math.log2(ratio)), text, place)
        if late > 60:
            found.add(-min(4.0, late / 60), f"but that began {late / 60:.0f} min after the errors, as retries do")
        overload = [f for f in self.findings if f.service == service and "overload" in f.symptoms]
        if overload:
            share = sum(f.count for f in overload) / max(self.totals.get(service, 0.0), 1.0)
            biggest = max(overload, key=lambda finding: finding.count)
            found.add(1.5 + 2.0 * min(1.0, share), f"{service} says it has too much to do", biggest.first)
        self.add_origin(found, service, 0.9)
        return found

    def traffic_rise(self, service: str) -> tuple[float, float, str, Place | None] | None:
        """The clearest rise of traffic around the onset: ratio, when, sentence, where."""
        found: list[tuple[float, float, str, Place | None]] = []
        for change in self.evidence.metrics:
            at = seconds(change.at)
            if change.service == service and change.family == "traffic" and change.shape in ("step", "ramp"):
                ratio = change.after / max(change.before, 1e-9)
                if ratio >= 1.5 and self.onset - 1500 <= at <= self.onset + 300:
                    text = (
                        f"{change.metric} of {service} rose from {change.before:.4g} to "
                        f"{change.after:.4g} at {change.at}"
                    )
                    found.append((min(ratio, 20.0), at, text, change.first))
        for _, report in reports(self.evidence):
            for rise in report.traffic_rises if report.service == service else ():
                at, ratio = seconds(rise.at), rise.per_min / max(rise.per_min_before, 0.1)
                if ratio >= 1.5 and self.onset - 1500 <= at <= self.onset + 300:
                    text = (
                        f"{service} logged {rise.per_min:.0f} events a minute instead of "
                        f"{rise.per_min_before:.0f} from {rise.at} on"
                    )
                    found.append((min(ratio, 20.0), at, text, rise.first))
        return max(found, key=lambda each: each[0], default=None)

    def outage(self, service: str) -> Hypothesis:
        found = Hypothesis("dependency_outage", service)
        callers = self.blamed_by(service)
        if not callers:
            return found
        for speaker, share in sorted(callers.items(), key=lambda each: -each[1])[:4]:
            finding = self.blame_place[speaker, service]
            unreachable = bool({"connection", "timeout"} & set(finding.symptoms))
            found.add(
                min(1.6, 0.4 + 1.4 * share) * (1.0 if unreachable else 0.4),
                f"{speaker} cannot reach it" if unreachable else f"{speaker} names it in its errors",
                finding.first,
            )
        silent = self.is_silent(service)
        if silent:
            found.add(2.0, f"{service} logged nothing from {silent} on")
        down = [
            change
            for change in self.evidence.metrics
            if change.service == service
            and (change.family == "availability" or change.family == "traffic")
            and change.after < 0.5 * change.before
            and abs(seconds(change.at) - self.onset) < 300
        ]
        if down:
            found.add(
                1.5,
                f"{down[0].metric} of {service} fell from {down[0].before:.4g} to {down[0].after:.4g}",
                down[0].first,
            )
        crashed = [f for f in self.findings if f.service == service and "crash" in f.symptoms]
        if crashed:
            found.add(1.5, f"{service} itself reports going down", crashed[0].first)
        if service not in self.logged:
            found.add(0.8, f"{service} has no log here, as somebody else's service would not")
        elif not (silent or down or crashed or service in self.first_harm):
            found.add(-0.6, f"{service} itself looks well")
        faults = [f for f in self.findings if f.service == service and "fault" in f.symptoms and not f.mentions]
        if faults:
            found.add(-1.5, f"{service} answers, with faults of its own", faults[0].first)
        self.add_origin(found, service, 0.8)
        return found

    def changed(self, service: str) -> list[Hypothesis]:
        found = []
        for kind, types in (("bad_deploy", ("deploy",)), ("config_change", ("config", "infrastructure", "other"))):
            near = [c for c in self.evidence.changes if c.type in types and names_service(c, service)]
            began = self.first_harm[service].at if service in self.first_harm else self.onset
            timed = [(began - seconds(change.at), change) for change in near]
            timed = [(gap, change) for gap, change in timed if -45 <= gap <= 3600]
            if timed:
                gap, change = min(timed, key=lambda each: abs(each[0]))
                found.append(self.change_hypothesis(kind, service, gap, change))
        return found

    def change_hypothesis(self, kind: str, service: str, gap_s: float, change: ChangeEvent) -> Hypothesis:
        found = Hypothesis(kind, service)
        found.add(
            4.5 * math.exp(-max(gap_s, 0) / 720) + 0.3,
            f"{change.type} of {service} at {change.at}, {max(gap_s, 0) / 60:.1f} min before its trouble began",
            change.first,
        )
        telling = "fault" if kind == "bad_deploy" else "config"
        own = [f for f in self.findings if f.service == service and telling in f.symptoms and f.level != "info"]
        if own:
            biggest = max(own, key=lambda finding: finding.count)
            found.add(1.2, f"{service} then logs new errors of that sort", biggest.first)
        if service not in self.first_harm and not self.blamed_by(service):
            found.add(-3.0, f"nothing got worse in {service} itself")
        undone = [
            each
            for each in self.evidence.changes
            if each.type == "rollback" and names_service(each, service) and seconds(each.at) > self.onset
        ]
        if undone and self.ended and -60 <= self.until - seconds(undone[0].at) <= 900:
            found.add(2.5, f"the trouble ended after the rollback at {undone[0].at}", undone[0].first)
        elif undone:
            found.add(0.5, f"it was rolled back at {undone[0].at}", undone[0].first)
        self.add_origin(found, service, 1.0)
        return found

    def add_origin(self, found: Hypothesis, service: str, factor: float) -> None:
        """Whether trouble comes from a service or to it."""
        callers = self.blamed_by(service)
        pointing = min(2.5, sum(min(1.0, share * 1.6) for share in callers.values()))
        if pointing and found.kind != "dependency_outage":
            who = ", ".join(sorted(callers, key=lambda name: -callers[name])[:3])
            strongest = max(callers, key=lambda name: callers[name])
            found.add(1.0 * pointing * factor, f"{who} blame {service}", self.blame_place[strongest, service].first)
        passed_on = self.blames(service)
        if passed_on > 0.1:
            named = max(self.blame[service], key=lambda name: self.blame[service][name])
            found.add(
                -3.2 * passed_on * factor,
                f"{passed_on:.0%} of the errors of {service} name another service, mostly {named}",
                self.blame_place[service, named].first,
            )
        harm = self.first_harm.get(service)
        if harm is not None:
            late = harm.at - self.onset
            if late <= 30:
                found.add(
                    0.8 * factor, f"{service} was among the first in trouble, at {written(harm.at)}", harm.place
                )
            elif late > 90:
                found.add(
                    -min(2.0, late / 200) * factor, f"{service} got into trouble {late / 60:.0f} min after the first"
                )

    def innocent_changes(self, causes: Sequence[Cause]) -> list[str]:
        """Why changes that lie near are not the cause."""
        guilty = {
            (cause.kind, cause.service) for cause in causes[:1] if cause.kind in ("bad_deploy", "config_change")
        }
        said = []
        for change in self.evidence.changes:
            gap = self.onset - seconds(change.at)
            if change.type == "rollback" or abs(gap) > 5400 or any(names_service(change, s) for _, s in guilty):
                continue
            whose = f"{change.type} of {change.service} at {change.at}"
            if gap < -45:
                said.append(f"{whose}: {-gap / 60:.0f} min after the onset")
            elif change.service not in self.first_harm and not self.blamed_by(change.service):
                said.append(f"{whose}: {gap / 60:.0f} min before the onset, and {change.service} stayed well")
            else:
                said.append(
                    f"{whose}: {gap / 60:.0f} min before the onset, but the trouble of "
                    f"{change.service} is explained better"
                )
        return said[:4]


def names_service(change: ChangeEvent, service: str) -> bool:
    """Whether a change is of a service: as it says, or, where it does not say, as its description does."""
    if not change.service:
        return service.lower() in change.description.lower()
    parts = {part.strip().lower() for part in change.service.replace(";", ",").split(",")}
    return service.lower() in parts


def ranked(hypotheses: Sequence[Hypothesis], answers: Sequence[dict[str, Any]], least: float) -> tuple[Cause, ...]:
    for answer in answers:
        for hypothesis in hypotheses:
            if (hypothesis.kind, hypothesis.service) == (answer.get("kind"), answer.get("service")):
                points = {"confirmed": 1.0, "denied": -2.5}.get(str(answer.get("answer")), 0.0)
                hypothesis.add(points, f"asked again, the logs say: {answer.get('why', '')}"[:300])
    worth = sorted((h for h in hypotheses if h.score >= least), key=lambda h: (-h.score, h.kind, h.service))
    total = math.exp(LEAST_SCORE / TEMPERATURE) + sum(math.exp(h.score / TEMPERATURE) for h in worth)
    return tuple(
        Cause(
            kind=h.kind,
            service=h.service,
            score=round(h.score, 2),
            confidence=round(math.exp(h.score / TEMPERATURE) / total, 3),
            reasons=tuple(sorted(h.reasons, key=lambda reason: -reason.points)),
        )
        for h in worth[:6]
    )
