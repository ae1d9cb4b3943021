"""What an audit of a run has found, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from shanty_cli.exits import DONE, FAILED
from shanty_cli.output import Output
from shanty_cli.text import one_line
from shanty_runtime.errors import ArchiveError
from shanty_runtime.verify import Audit, Finding


def show(audit: Audit, problem: ArchiveError | None, out: Output, *, all_of_it: bool) -> int:
    """Say what an audit has found. Gives the exit code."""
    sound = audit.is_sound and problem is None
    if out.json:
        out.data(for_programs(audit, problem))
    else:
        for line in told(audit, problem, all_of_it=all_of_it):
            print(line, file=out.stdout)
    return DONE if sound else FAILED


def for_programs(audit: Audit, problem: ArchiveError | None) -> dict[str, Any]:
    first = audit.findings[0] if audit.findings else None
    known = msgspec.to_builtins(audit)
    return {
        "run": audit.run,
        "sound": audit.is_sound and problem is None,
        "first": None if first is None else msgspec.to_builtins(first),
        "archive_problem": None if problem is None else str(problem),
        **{name: value for name, value in known.items() if name != "run"},
    }


def told(audit: Audit, problem: ArchiveError | None, *, all_of_it: bool) -> Iterator[str]:
    """An audit in lines."""
    unchained = audit.entries - audit.chained
    verdict = "sound" if audit.is_sound else f"{len(audit.findings)} wrong"
    yield f"run {audit.run}: {audit.entries} entries in {audit.journals} journals: {verdict}"
    if problem is not None:
        yield f"the archive itself is not as it was written: {one_line(str(problem))}"
    findings = audit.findings if all_of_it else audit.findings[:1]
    for number, finding in enumerate(findings):
        yield from _finding("first" if number == 0 else "then", finding)
    if len(audit.findings) > len(findings):
        yield f"{len(audit.findings) - len(findings)} more: `--all` names them"
    if unchained:
        yield f"entries that are not chained, as in releases before 0.2.0: {unchained}"
    if all_of_it:
        for note in audit.notes:
            yield f"note   {one_line(note.subject, 200)}: {one_line(note.what)}"
    for each in audit.open_delegations:
        yield f"open   {each.subject}: {each.agent}, thread {each.thread}, has not replied to it"
    for subject in audit.waiting_mail:
        yield f"open   {subject}: nobody has taken it in"
    for key in audit.unsettled_calls:
        yield f"open   {key}: a call that was begun, and whose outcome is not noted"
    if not audit.replied:
        yield "the run has not answered yet"


def _finding(label: str, finding: Finding) -> Iterator[str]:
    yield f"{label:<6} {one_line(finding.subject, 200)} ({finding.seq} in its stream)"
    yield f"       {finding.rule}: {one_line(finding.what)}"
    if finding.expected:
        yield f"       expected: {one_line(finding.expected)}"
