"""The ranked causes, written down for the person who leads the incident: a memo, and the same as data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from .mining import Place
from .ranking import Cause, Evidence, Harm, Verdict, reports, seconds
from .times import written

KIND_NAMES = {
    "bad_deploy": "a bad deploy",
    "config_change": "a configuration change",
    "dependency_outage": "an outage of a dependency",
    "memory_leak": "a memory leak",
    "traffic_surge": "a surge of traffic",
    "expired_certificate": "an expired certificate",
}
NEXT_STEPS = {
    "bad_deploy": (
        "Roll {service} back to the version before, if that has not been done.",
        "Add a test that fails on the new error before the version is shipped again.",
    ),
    "config_change": (
        "Take the change to {service} back, if that has not been done.",
        "Have such changes checked against a running instance before they reach all of them.",
    ),
    "dependency_outage": (
        "Ask the owners of {service} for its state and history around the onset.",
        "Check timeouts, retries and fallbacks of the services that call {service}.",
    ),
    "memory_leak": (
        "Restart {service} in turns to gain time, and take a heap dump before one of them goes.",
        "Compare what {service} keeps in memory with the version before the growth began.",
    ),
    "traffic_surge": (
        "Add capacity to {service} or limit the callers; find out who sends the extra traffic.",
        "Set a limit at the entry that is below what {service} can take.",
    ),
    "expired_certificate": (
        "Renew the certificate of {service} and reload everything that serves it.",
        "Alert on the remaining lifetime of every certificate, weeks ahead.",
    ),
}
MOST_EVENTS = 18


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    at: str
    what: str
    place: Place | None = None


class Complaints(msgspec.Struct, frozen=True, kw_only=True):
    """What the tickets say about the time of the trouble."""

    tickets: int = 0
    customers: tuple[str, ...] = ()
    examples: tuple[Place, ...] = ()


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the memo is made of."""

    verdict: Verdict
    evidence: Evidence
    complaints: Complaints = Complaints()
    missing: tuple[str, ...] = ()
    """What could not be looked at, in sentences."""


def timeline(findings: Findings) -> list[Happening]:
    """What happened, in order: changes nearby, first harm of each service, restarts, tickets, the end."""
    verdict = findings.verdict
    if verdict.onset is None:
        return []
    low, high = verdict.onset - 5400, (verdict.until or verdict.onset) + 3600
    events = [
        *change_events(findings.evidence, low, high),
        *cause_events(verdict.causes[:1]),
        *harm_events(verdict.harms),
        *restart_events(findings.evidence, verdict),
        *ticket_events(findings.evidence),
    ]
    if verdict.until is not None and has_ended(findings):
        events.append(Happening(at=written(verdict.until), what="error rates are back at their usual level"))
    unique = {(event.at, event.what): event for event in events}
    return sorted(unique.values(), key=lambda event: event.at)[:MOST_EVENTS]


def change_events(evidence: Evidence, low: float, high: float) -> list[Happening]:
    return [
        Happening(
            at=change.at,
            what=said_of_change(change.type, change.service, change.version, change.description),
            place=change.first,
        )
        for change in evidence.changes
        if low <= seconds(change.at) <= high
    ]


def said_of_change(kind: str, service: str, version: str, description: str) -> str:
    said = f"{kind} of {service or 'an unnamed service'} {version}".rstrip()
    return f"{said}: {description}" if description else said


def cause_events(causes: Sequence[Cause]) -> list[Happening]:
    """When a slow cause began: growth of memory and rise of traffic are older than the harm."""
    found = []
    for cause in causes:
        for reason in cause.reasons:
            at = reason.text.rpartition(" since ")[2] or ""
            if cause.kind == "memory_leak" and " since " in reason.text and reason.place is not None:
                found.append(Happening(at=at, what=f"memory of {cause.service} begins to grow", place=reason.place))
                break
            if cause.kind == "traffic_surge" and reason.place is not None and " at 2" in reason.text:
                found.append(Happening(at=reason.text.rpartition(" at ")[2], what=reason.text, place=reason.place))
                break
    return found


def harm_events(harms: Iterable[Harm]) -> list[Happening]:
    first: dict[str, Harm] = {}
    for harm in sorted(harms, key=lambda each: (each.at, -each.weight)):
        if harm.weight >= 1.0:
            first.setdefault(harm.service, harm)
    return [Happening(at=written(harm.at), what=harm.text, place=harm.place) for harm in list(first.values())[:8]]


def restart_events(evidence: Evidence, verdict: Verdict) -> list[Happening]:
    found = []
    for log, service in reports(evidence):
        for event in service.restarts:
            if verdict.onset is not None and verdict.onset - 600 <= seconds(event.at) <= (verdict.until or 0) + 1800:
                place = Place(file=log.file, line=event.line)
                found.append(Happening(at=event.at, what=f"{service.service} starts again", place=place))
    return found[:5]


def ticket_events(evidence: Evidence) -> list[Happening]:
    if evidence.tickets is None:
        return []
    return [
        Happening(
            at=group.at,
            what=f"customers begin to write: {group.in_rise} tickets about {', '.join(group.words[:4])}",
            place=group.examples[0] if group.examples else None,
        )
        for group in evidence.tickets.groups[:2]
        if group.rose and group.complaints >= 0.5
    ]


def has_ended(findings: Findings) -> bool:
    last = max((seconds(log.until) for log in findings.evidence.logs), default=0.0)
    return findings.verdict.until is not None and findings.verdict.until < last - 120


def unknowns(findings: Findings) -> list[str]:
    verdict, found = findings.verdict, list(findings.missing)
    logged = {service.service for _, service in reports(findings.evidence)}
    measured = {change.service for change in findings.evidence.metrics}
    if verdict.causes:
        first = verdict.causes[0]
        if first.service not in logged:
            found.append(f"There is no log of {first.service}: what happened inside it is not known.")
        elif first.service not in measured:
            found.append(f"No metric of {first.service} changed in a way that stands out.")
        if len(verdict.causes) > 1 and verdict.causes[1].confidence > 0.25 * first.confidence:
            second = verdict.causes[1]
            found.append(
                f"{KIND_NAMES[second.kind].capitalize()} ({second.service}) cannot be ruled out by these files."
            )
        if first.kind in ("bad_deploy", "config_change"):
            found.append(f"What exactly changed inside {first.service} is not in these files.")
        if first.kind == "traffic_surge":
            found.append("Where the additional traffic came from is not in these files.")
        if not has_ended(findings):
            found.append("The files end before the trouble does: whether it is over is not known.")
    elif verdict.harms:
        found.append("Something got worse, but no cause stands out in these files.")
    if verdict.harms and not findings.complaints.tickets:
        found.append("No ticket of that time speaks of it: how many customers noticed is not known.")
    return found


def headline(findings: Findings) -> str:
    verdict = findings.verdict
    if verdict.onset is None:
        return "No incident: nothing in these files got worse in a lasting way."
    affected = ", ".join(verdict.services_affected[:5])
    if not verdict.causes:
        return f"Trouble in {affected} since {written(verdict.onset)}; no cause stands out."
    first = verdict.causes[0]
    return (
        f"Most likely {KIND_NAMES[first.kind]} at {first.service} (confidence {first.confidence:.0%}): "
        f"trouble in {affected} from {written(verdict.onset)}."
    )


def result_of(findings: Findings) -> dict[str, Any]:
    """The run's typed result."""
    verdict = findings.verdict
    return {
        "summary": headline(findings),
        "incident": verdict.onset is not None,
        "causes": [
            {
                "kind": cause.kind,
                "service": cause.service,
                "confidence": cause.confidence,
                "evidence": [
                    {"file": each.file, "line": each.line, "text": each.text} for each in cause.evidence if each.text
                ],
                "reasons": [reason.text for reason in cause.reasons if reason.points > 0],
            }
            for cause in verdict.causes
        ],
        "timeline": [
            {"at": event.at, "what": event.what}
            | ({"file": event.place.file, "line": event.place.line} if event.place is not None else {})
            for event in timeline(findings)
        ],
        "services_affected": verdict.services_affected,
        "customers_affected": list(findings.complaints.customers),
        "confidence": confidence(verdict),
        "unknowns": unknowns(findings),
    }


def confidence(verdict: Verdict) -> float:
    if verdict.causes:
        return verdict.causes[0].confidence
    return 0.9 if verdict.onset is None else 0.2


def memo_of(findings: Findings) -> str:
    verdict = findings.verdict
    parts = [f"# {headline(findings)}"]
    if verdict.onset is not None:
        parts += [happened(findings), likely(verdict), alternatives(verdict), impact(findings)]
    else:
        parts += [looked_at(findings)]
    if verdict.dismissed:
        parts.append("## Looked at and set aside\n\n" + bullets(verdict.dismissed))
    open_questions = unknowns(findings)
    if open_questions:
        parts.append("## Not known\n\n" + bullets(open_questions))
    if verdict.causes:
        first = verdict.causes[0]
        parts.append(
            "## Next steps\n\n" + bullets(step.format(service=first.service) for step in NEXT_STEPS[first.kind])
        )
    return "\n\n".join(parts) + "\n"


def bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def happened(findings: Findings) -> str:
    rows = [f"| {event.at} | {cell(event.what)} | {reference(event.place)} |" for event in timeline(findings)]
    return "## What happened\n\nAll times are UTC.\n\n| when | what | where |\n|---|---|---|\n" + "\n".join(rows)


def likely(verdict: Verdict) -> str:
    if not verdict.causes:
        return "## Most likely cause\n\nNone stands out."
    first = verdict.causes[0]
    against = [reason.text for reason in first.reasons if reason.points < 0]
    said = [
        (
            f"## Most likely cause\n\n**{KIND_NAMES[first.kind].capitalize()}: {first.service}**, "
            f"confidence {first.confidence:.0%}."
        ),
        bullets(f"{reason.text}{shown(reason.place)}" for reason in first.reasons if reason.points > 0),
    ]
    if against:
        said.append("What speaks against it:\n\n" + bullets(against))
    lines = [f"{place.file}:{place.line}: {place.text}" for place in first.evidence if place.text]
    if lines:
        said.append(
            "Evidence, word for word:\n\n```\n" + "\n".join(line.replace("```", "'''") for line in lines) + "\n```"
        )
    return "\n\n".join(said)


def alternatives(verdict: Verdict) -> str:
    if len(verdict.causes) < 2:
        return "## Alternatives\n\nNo other explanation gathered enough evidence to be named."
    lines = []
    for cause in verdict.causes[1:5]:
        against = next((reason.text for reason in reversed(cause.reasons) if reason.points < 0), "")
        lead = next((reason.text for reason in cause.reasons if reason.points > 0), "")
        lower = f"It ranks lower because {against}." if against else "It ranks lower because less points at it."
        lines.append(
            f"{KIND_NAMES[cause.kind].capitalize()}, {cause.service} ({cause.confidence:.0%}): {lead}. {lower}"
        )
    return "## Alternatives\n\n" + bullets(lines)


def impact(findings: Findings) -> str:
    verdict, complaints = findings.verdict, findings.complaints
    lines = [f"Services: {', '.join(verdict.services_affected)}."]
    if verdict.onset is not None and verdict.until is not None:
        minutes = (verdict.until - verdict.onset) / 60
        lines.append(f"Duration: {minutes:.0f} min{'' if has_ended(findings) else ' so far'}.")
    if complaints.tickets:
        names = ", ".join(complaints.customers[:8]) + (" and others" if len(complaints.customers) > 8 else "")
        lines.append(
            f"Tickets: {complaints.tickets} complaints from {len(complaints.customers)} customers ({names})."
        )
        lines += [f"“{place.text[:160]}” ({place.file}:{place.line})" for place in complaints.examples[:2]]
    return "## Impact\n\n" + bullets(lines)


def looked_at(findings: Findings) -> str:
    logs = findings.evidence.logs
    lines = [
        f"{len(logs)} logs with {sum(log.lines for log in logs)} lines: no lasting rise of errors or latency.",
        f"{len(findings.evidence.changes)} changes: none is followed by trouble.",
    ]
    steady = [
        f"{service.service}: {each}" for _, service in reports(findings.evidence) for each in service.steady[:1]
    ]
    return (
        "## What was looked at\n\n"
        + bullets(lines)
        + (
            "\n\nErrors that are there all the time, at much the same rate:\n\n" + bullets(steady[:5])
            if steady
            else ""
        )
    )


def reference(place: Place | None) -> str:
    return f"`{place.file}:{place.line}`" if place is not None else ""


def shown(place: Place | None) -> str:
    return f" ({reference(place)})" if place is not None else ""


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


__all__ = ["Complaints", "Findings", "memo_of", "result_of", "timeline"]
